// The page: a chat and a list of who is here, through the Phoenix client as it
// comes from npm. Everything that came from elsewhere enters the document as text,
// never as markup.
import { Socket, Presence } from "./phoenix/phoenix.mjs";

const FRAMES = 40; // kept in the log
const MOODS = ["well", "busy", "hungry", "away"];
const $ = (id) => document.getElementById(id);

// element returns a new element with a class and a text.
function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

let socket = null;
let room = null; // the channel for the chat; null while not joined
let presence = null;
let mood = 0;

// ---- what is shown -----------------------------------------------------------

function showState(id, state) {
  $(id).dataset.state = state;
  $(id).textContent = state;
}

// update shows the states of socket and channel, which the client changes by
// itself.
function update() {
  const connection = socket ? socket.connectionState() : "closed";
  showState("socket", connection);
  showState("channel", room ? room.state : "closed");
  const open = connection === "open";
  const joined = open && room?.state === "joined";
  $("disconnect").disabled = !socket;
  $("connect").textContent = socket ? "Reconnect" : "Connect";
  for (const button of document.querySelectorAll("#say button, #provoke button, #mood")) {
    button.disabled = !joined;
  }
  document.querySelector("[data-do=join]").disabled = !socket || room !== null;
  document.querySelector("[data-do=cut]").disabled = !open;
  $("mood").disabled = !open;
}

// The client tells of some changes of a channel's state, but not of all.
setInterval(update, 200);

function addMessage(by, text) {
  const item = element("li", by === $("name").value ? "mine" : "");
  item.append(element("span", "by", by), text);
  addToLog(item);
}

function addNote(text) {
  addToLog(element("li", "note", text));
}

function addToLog(item) {
  const log = $("log");
  const follow = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  log.append(item);
  if (follow) log.scrollTop = log.scrollHeight;
}

function showPresent() {
  const people = presence ? presence.list((key, { metas }) => ({ key, metas })) : [];
  people.sort((a, b) => a.key.localeCompare(b.key));
  $("count").textContent = people.length || "";
  $("present").replaceChildren(...people.map(({ key, metas }) => {
    const item = element("li", key === $("name").value ? "mine" : "", key);
    const tabs = metas.length > 1 ? `, ${metas.length} tabs` : "";
    item.append(element("small", "", metas.map((meta) => meta.mood).join(" and ") + tabs));
    return item;
  }));
}

function addFrame(direction, frame) {
  const text = typeof frame === "string" ? frame : `${frame.byteLength} bytes`;
  const list = $("frames");
  list.prepend(element("li", direction, text.slice(0, 300)));
  while (list.childElementCount > FRAMES) list.lastElementChild.remove();
}

// ---- the connection ------------------------------------------------------------

// Watched is the browser's WebSocket, with what goes through it shown.
class Watched extends WebSocket {
  constructor(...args) {
    super(...args);
    this.addEventListener("message", (event) => addFrame("in", event.data));
  }
  send(frame) {
    addFrame("out", frame);
    super.send(frame);
  }
}

function connect() {
  disconnect();
  socket = new Socket("/socket", { params: { user_id: $("name").value }, transport: Watched });
  socket.onClose((event) => addNote(`the connection closed with ${event.code}`));
  socket.connect();
  joinPresence();
  joinRoom();
}

function disconnect() {
  presence = null;
  room = null;
  socket?.disconnect();
  socket = null;
  showPresent();
}

function joinRoom() {
  const channel = room = socket.channel("room:" + $("room").value, {});
  channel.on("shout", ({ by, text }) => addMessage(String(by ?? "someone"), String(text)));
  // A lost connection is an error of the channel, too, and has its own note.
  channel.onError((reason) => {
    if (reason?.reason === "channel_crash") addNote("the room crashed (channel_crash)");
  });
  channel.onClose(() => {
    if (room !== channel) return;
    room = null;
    addNote("the room is left");
  });
  channel.join()
    .receive("ok", () => addNote("joined"))
    .receive("error", (reason) => addNote("refused: " + JSON.stringify(reason)));
}

function joinPresence() {
  const key = $("name").value;
  const channel = socket.channel("pres:" + $("room").value, () => ({ key, meta: { mood: MOODS[mood] } }));
  presence = new Presence(channel);
  presence.onSync(showPresent);
  channel.join();
}

// ask pushes an event to the room and shows the answer.
function ask(event, payload) {
  const show = (status) => (response) => { $("answer").textContent = `${event} → ${status} ${JSON.stringify(response)}`; };
  room.push(event, payload).receive("ok", show("ok")).receive("error", show("error"));
}

// ---- what the buttons do ---------------------------------------------------------

const provocations = {
  join: joinRoom,
  leave: () => room.leave(),
  echo: () => ask("echo", { hello: "world" }),
  crash: () => ask("boom", {}),
  stop: () => ask("stop", {}),
  cut: () => socket.conn.close(4000), // not by the client's own hand, so that it comes back
};

$("provoke").addEventListener("click", (event) => provocations[event.target.dataset?.do]?.());

$("mood").addEventListener("click", () => {
  mood = (mood + 1) % MOODS.length;
  presence.channel.push("update", { mood: MOODS[mood] });
});

$("who").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("name", $("name").value);
  sessionStorage.setItem("room", $("room").value);
  $("second").href = "?" + new URLSearchParams({ room: $("room").value });
  connect();
});

$("disconnect").addEventListener("click", disconnect);

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || !room) return;
  room.push("shout", { by: $("name").value, text });
  $("text").value = "";
});

const asked = new URLSearchParams(location.search);
$("name").value = asked.get("name") ?? sessionStorage.getItem("name") ?? "guest-" + Math.random().toString(36).slice(2, 5);
$("room").value = asked.get("room") ?? sessionStorage.getItem("room") ?? "lobby";
$("second").href = "?" + new URLSearchParams({ room: $("room").value });
update();
