// The page: what the connection says becomes visible here. Everything that came
// from elsewhere enters the document as text, never as markup.
import { Link } from "./link.js";

const FRAMES = 50; // kept in the log
const SAMPLES = 40; // round trips in the sparkline
const KEPT = 100; // messages kept over a reload
const $ = (id) => document.getElementById(id);

// element returns a new element with a class and a text.
function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// ---- what survives a reload ------------------------------------------------

// One record per room: the position of the last event, and the messages.
const storage = {
  key: () => "room:" + $("room").value,
  load() {
    try {
      return JSON.parse(sessionStorage.getItem(this.key())) ?? { position: null, messages: [] };
    } catch {
      return { position: null, messages: [] };
    }
  },
  save(room) {
    room.messages = room.messages.slice(-KEPT);
    try {
      sessionStorage.setItem(this.key(), JSON.stringify(room));
    } catch {
      // Full or forbidden: a reload then starts with the server's history.
    }
  },
};

let room = { position: null, messages: [] };
const channel = () => "chat:" + $("room").value;

// ---- chat ------------------------------------------------------------------

function addMessage(message) {
  const data = message.data ?? {};
  const mine = data.user === $("name").value;
  const item = element("li", mine ? "mine" : "");
  item.append(element("span", "by", typeof data.user === "string" ? data.user : "someone"));
  item.append(typeof data.text === "string" ? data.text : JSON.stringify(message.data));
  const log = $("log");
  item.dataset.offset = message.offset ?? "";
  // Pages of history may arrive after live events: keep the order of offsets.
  let before = null;
  for (let last = log.lastElementChild; last; last = last.previousElementSibling) {
    if (!last.dataset.offset) continue;
    if (Number(last.dataset.offset) < message.offset) break;
    before = last;
  }
  const follow = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  log.insertBefore(item, before);
  if (follow || mine) log.scrollTop = log.scrollHeight;
}

function addNote(text) {
  const log = $("log");
  log.append(element("li", "note", text));
  log.scrollTop = log.scrollHeight;
}

// keep takes one message of the room, unless it is there already.
function keep(message) {
  if (message.offset !== undefined) {
    if (room.messages.some((one) => one.offset === message.offset)) return;
    room.messages.push({ data: message.data, offset: message.offset });
    room.messages.sort((a, b) => a.offset - b.offset);
    if (room.position && message.offset > room.position.offset) room.position.offset = message.offset;
    storage.save(room);
  }
  addMessage(message);
}

function showRoom() {
  room = storage.load();
  $("log").replaceChildren();
  for (const message of room.messages) addMessage(message);
}

function joined(data) {
  const words = {
    fresh: "joined", complete: "back; nothing was missed", replayed: "back; what was missed follows",
    reload: "back after too long; this is what the server still has",
  };
  if (data.recovery === "reload") {
    room.messages = [];
    $("log").replaceChildren();
  }
  addNote(words[data.recovery] ?? "joined");
  const replayed = data.recovery === "replayed" && room.position;
  // Replayed events advance the position themselves, one by one, so that a
  // connection lost among them resumes where it stopped.
  room.position = { epoch: data.epoch, offset: replayed ? room.position.offset : data.offset };
  storage.save(room);
  if (data.recovery === "fresh" || data.recovery === "reload") {
    ask("history", { from: Math.max(0, data.offset - KEPT), limit: KEPT }, (answer) => {
      for (const event of answer.data?.response?.events ?? []) if (event.type === "message") keep(event);
    });
  }
}

// ---- answers ---------------------------------------------------------------

let lastRef = 0;
const waiting = new Map(); // ref -> what to do with the answer

function ask(type, data, then) {
  const ref = String(++lastRef);
  waiting.set(ref, then);
  if (!link.send(channel(), type, data, ref)) waiting.delete(ref);
}

function answer(label, message) {
  const data = message.data ?? {};
  const text = message.type === "reply" ? JSON.stringify(data.response) : `${data.code}: ${data.error}`;
  $("answer").textContent = `${label} → ${message.type} ${text}`;
}

// ---- state, round trip, closes ----------------------------------------------

let countdown = 0;

function showState(state) {
  clearInterval(countdown);
  const badge = $("state");
  badge.dataset.state = state;
  if (state !== "waiting") badge.textContent = state;
  const active = state !== "closed";
  $("disconnect").disabled = !active;
  $("connect").textContent = active ? "Reconnect" : "Connect";
  for (const button of document.querySelectorAll("#say button, #provoke button")) {
    button.disabled = state !== "connected" && !["expired", "badtoken"].includes(button.dataset.do);
  }
  if (state !== "connected") waiting.clear();
  if (state === "closed") showLatency([]);
}

function showCountdown(delay) {
  const until = Date.now() + delay;
  const tick = () => {
    const left = Math.max(0, Math.ceil((until - Date.now()) / 1000));
    $("state").textContent = `reconnecting in ${left} s`;
  };
  // After the state changed to waiting, which stops an earlier countdown.
  queueMicrotask(() => { tick(); countdown = setInterval(tick, 250); });
}

const trips = [];

function showLatency(list) {
  $("latency").textContent = list.length ? `${list.at(-1).toFixed(1)} ms` : "– ms";
  const top = Math.max(1, ...list);
  const points = list.map((ms, i) => `${(i * 120) / (SAMPLES - 1)},${(26 - (ms / top) * 24).toFixed(1)}`);
  $("spark").firstElementChild.setAttribute("points", points.join(" "));
}

function showWhy(why, delay) {
  const head = element("p", "head");
  head.append(element("code", "", `${why.code} ${why.reason}`));
  if (why.said) head.append(` “${why.said}”`);
  let next = "The page stays disconnected: the same attempt would fail again.";
  if (why.reason === "client_closed") next = "The page stays disconnected until you press Connect.";
  else if (delay === null && why.retry === "new_token") next = "Fresh tokens were refused too, so the page gives up.";
  else if (delay !== null) {
    const how = why.retry === "new_token" ? "with a fresh token " : "";
    next = `The page reconnects ${how}in ${(delay / 1000).toFixed(1)} s.`;
  }
  const source = why.explained ? "" : " No closing message came, so this is read from the close code alone.";
  $("why").replaceChildren(head, element("p", "", why.what), element("p", "", why.todo), element("p", "next", next + source));
  $("why").dataset.reason = why.reason;
  $("why").dataset.code = why.code;
}

// ---- frames ----------------------------------------------------------------

function showFrame(direction, text) {
  let kind = "not JSON", body = text;
  try {
    const message = JSON.parse(text);
    kind = `${message.type} ${message.channel ?? ""}`;
    body = JSON.stringify(message, null, 2);
  } catch {
    // Shown as it is.
  }
  const row = element("details");
  const summary = element("summary");
  summary.append(
    element("span", direction, direction === "in" ? "↓" : "↑"),
    element("span", "kind", kind),
    element("span", "quiet", `${text.length} · ${new Date().toTimeString().slice(0, 8)}`),
  );
  const limit = 4000; // an oversize message would stall the page
  row.append(summary, element("pre", "", body.length > limit ? body.slice(0, limit) + " …" : body));
  $("frames").prepend(row);
  while ($("frames").childElementCount > FRAMES) $("frames").lastElementChild.remove();
}

// ---- connection ------------------------------------------------------------

async function token(life) {
  const query = new URLSearchParams({ user: $("name").value });
  if (life) query.set("ttl", life);
  const response = await fetch("token?" + query);
  if (!response.ok) throw new Error("token: " + response.status);
  return (await response.json()).token;
}

const address = new URL("ws", location.href);
address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
address.search = "";

const link = new Link(address.href, () => token(), {
  state: showState,
  frame: showFrame,
  closed(why, delay) {
    showWhy(why, delay);
    if (delay !== null) showCountdown(delay);
  },
  latency(ms) {
    trips.push(ms);
    if (trips.length > SAMPLES) trips.shift();
    showLatency(trips);
  },
  message(message) {
    if (message.type === "connected") {
      const data = room.position ? { recover: room.position } : {};
      link.send(channel(), "subscribe", data, "join");
    } else if (message.type === "subscription_success" && message.data?.channel === channel()) {
      joined(message.data);
    } else if (message.type === "message" && message.channel === channel()) {
      keep(message);
    } else if (message.type === "gap") {
      addNote(`${message.data?.dropped ?? "some"} messages are missing here`);
    } else if (message.type === "closing") {
      addNote("the server says goodbye: " + message.data?.reason);
    } else if (waiting.has(message.ref)) {
      waiting.get(message.ref)(message);
      waiting.delete(message.ref);
    } else if (message.type === "error" || message.type === "subscription_error") {
      answer("refused", message);
    }
  },
});

const provocations = {
  echo: () => ask("echo", { hello: "world" }, (m) => answer("echo", m)),
  fail: () => ask("fail", null, (m) => answer("fail", m)),
  boom: () => ask("boom", null, (m) => answer("panic", m)),
  sleep: () => ask("sleep", null, (m) => answer("sleep", m)),
  private: () => link.send("private:somebody-else", "subscribe", {}, "private"),
  cut: () => link.cut(),
  flood() {
    const { burst = 200, messages_per_second: rate = 100 } = link.limits ?? {};
    const text = JSON.stringify({ channel: "global", type: "ping", data: { flood: true } });
    const count = burst + rate + 50;
    for (let i = 0; i < count; i++) link.raw(text, true);
    $("answer").textContent = `flood: ${count} messages at once`;
  },
  garbage() {
    for (let i = 0; i < 5; i++) link.raw("this is not JSON");
  },
  oversize() {
    link.send(channel(), "message", { user: $("name").value, text: "x".repeat(link.limits?.message_bytes ?? 65536) });
  },
  async expired() {
    link.connect(await token("-1m").catch(() => "none"));
  },
  badtoken: () => link.connect("not.a.token"),
};

$("who").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("name", $("name").value);
  sessionStorage.setItem("room", $("room").value);
  $("second").href = "?" + new URLSearchParams({ room: $("room").value });
  showRoom();
  link.connect();
});
$("disconnect").addEventListener("click", () => link.disconnect());
$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  if (link.send(channel(), "message", { user: $("name").value, text })) $("text").value = "";
});
$("provoke").addEventListener("click", (event) => {
  const act = provocations[event.target.dataset?.do];
  if (act) act();
});
window.addEventListener("online", () => link.retryNow());

const asked = new URLSearchParams(location.search);
$("name").value = asked.get("name") ?? sessionStorage.getItem("name") ?? "guest-" + Math.random().toString(36).slice(2, 5);
$("room").value = asked.get("room") ?? sessionStorage.getItem("room") ?? "lobby";
$("second").href = "?" + new URLSearchParams({ room: $("room").value });
showState("closed");
showRoom();
