// The page: one connection, over which go the chat, who is here, and the picture.
// Everything that came from elsewhere enters the document as text, never as markup.
import { Line } from "./line.js";
import { Drawing } from "./drawing.js";
import { at, colored, look } from "./control.js";

const WIDE = 16, HIGH = 10, COLORS = 7; // of the picture; color 0 is the paper
const KEPT = 200; // messages shown
const query = new URLSearchParams(location.search);
const ROOM = "room:" + (query.get("room") ?? "lobby");
const $ = (id) => document.getElementById(id);

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

let line = null;
let drawing = null;
let node = null; // on which this tab is
let position = null; // in the room's stream: {epoch, offset}
let people = new Map(); // user -> metas

// ---- what this tab went through ------------------------------------------------

function tell(text, name) {
  const item = element("li");
  item.append(element("time", "", new Date().toLocaleTimeString([], { hour12: false })), " ");
  if (name) item.append(colored(element("b", "node-name", name), name), " ");
  item.append(text);
  $("story").prepend(item);
  while ($("story").childElementCount > 40) $("story").lastElementChild.remove();
}

function showState(state) {
  const badge = $("state");
  badge.dataset.state = state;
  badge.textContent = state === "connected" && node ? `on ${node}` : state;
  if (node) colored(badge, node);
  if (state !== "connected") {
    drawing?.closed();
    at(null);
  }
  $("say").querySelector("button").disabled = state !== "connected";
}

function lost(words) {
  for (const item of $("log").querySelectorAll(".unsent")) item.remove(); // nobody will say what became of it
  if (!node) return; // an attempt that failed is no story
  tell(words, node);
  node = null;
}

// ---- chat ----------------------------------------------------------------------

function addMessage({ data, offset }) {
  const item = element("li", data?.user === $("name").value ? "mine" : "");
  const by = element("span", "by", String(data?.user ?? "someone"));
  by.append(" ", colored(element("b", "node-name", String(data?.node ?? "")), data?.node));
  item.append(by, String(data?.text ?? ""));
  item.dataset.offset = offset;
  if (item.className && $("text").value.trim() === data.text) $("text").value = ""; // it was said after all
  addLine(item);
}

function addNote(text) { addLine(element("li", "note", text)); }

function addLine(item) {
  const log = $("log");
  const follow = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  log.append(item);
  while (log.childElementCount > KEPT) log.firstElementChild.remove();
  if (follow) log.scrollTop = log.scrollHeight;
}

const RECOVERED = {
  fresh: "came here", complete: "came here; nothing was missed", reload: "came here; what was missed is gone",
};

function joined({ type, data }) {
  if (type !== "subscription_success") {
    tell(`not let into the room: ${data.error}`);
    return setTimeout(subscribe, 1000);
  }
  node = data.response.node;
  at(node);
  showState("connected");
  tell(data.recovery === "replayed" ? `came here; ${data.offset - position.offset} missed, they follow` : RECOVERED[data.recovery], node);
  if (data.recovery === "reload") addNote("The server no longer has what came before.");
  if (data.recovery !== "replayed") position = { epoch: data.epoch, offset: data.offset };
  if (data.recovery === "fresh" && data.offset > 0) backlog(data.offset);
}

// backlog fetches what was said before this tab came.
function backlog(newest) {
  const from = Math.max(0, newest - 50);
  line.send(ROOM, "history", { from, limit: 50 }, ({ data }) => {
    const log = $("log"), live = [...log.children];
    log.replaceChildren();
    for (const event of data?.response?.events ?? []) if (event.type === "said" && event.offset <= newest) addMessage(event);
    live.forEach(addLine);
  });
}

function subscribe() {
  line.send(ROOM, "subscribe", position ? { recover: position } : {}, joined);
}

function gap({ data }) {
  if (data.policy === "reload") {
    position = { epoch: data.epoch, offset: data.offset };
    addNote("The stream began anew: nobody knows what is missing.");
    return tell("was told that the past is gone", node);
  }
  if (data.to) position.offset = Math.max(position.offset, data.to);
  addNote(data.dropped ? `${data.dropped} messages are missing here.` : "Messages may be missing here.");
  tell("was told of a gap", node);
}

// ---- who is here ----------------------------------------------------------------

function presence({ type, data }) {
  if (type === "presence_state") people = new Map();
  const joins = type === "presence_state" ? data : data.joins ?? {};
  const leaves = type === "presence_state" ? {} : data.leaves ?? {};
  const refs = ({ metas }) => new Set(metas.map((meta) => meta.phx_ref));
  for (const [key, change] of Object.entries(joins)) {
    const come = refs(change);
    people.set(key, [...(people.get(key) ?? []).filter((meta) => !come.has(meta.phx_ref)), ...change.metas]);
  }
  for (const [key, change] of Object.entries(leaves)) {
    const gone = refs(change);
    const left = (people.get(key) ?? []).filter((meta) => !gone.has(meta.phx_ref));
    if (left.length > 0) people.set(key, left);
    else people.delete(key);
  }
  $("people").replaceChildren(...[...people].sort(([a], [b]) => a.localeCompare(b)).map(([user, metas]) => {
    const item = element("li", "", user);
    for (const meta of metas) item.append(colored(element("b", "node-name", String(meta.node)), meta.node));
    return item;
  }));
}

// ---- the picture ----------------------------------------------------------------

let color = 1;
let dirty = false;

function draw() {
  if (dirty) return;
  dirty = true;
  requestAnimationFrame(() => {
    dirty = false;
    if (!drawing) return;
    const shown = drawing.shown();
    const waiting = new Set(drawing.pending.map(({ contents }) => JSON.parse(contents).cell));
    for (const cell of $("picture").children) {
      const number = Number(cell.dataset.cell);
      cell.dataset.color = shown.get(number) ?? 0;
      cell.classList.toggle("unsent", waiting.has(number));
    }
    $("document-state").textContent = drawing.state;
    $("sn").textContent = drawing.sequenceNumber || "–";
    $("pending").textContent = drawing.pending.length;
  });
}

let painted = 0; // when this tab painted last, until that has come back

function paint(target) {
  const cell = target?.dataset?.cell;
  if (cell === undefined || !drawing || drawing.shown().get(Number(cell)) === color) return;
  painted ||= performance.now();
  drawing.paint(Number(cell), color);
}

function changed() {
  if (painted && drawing?.pending.length === 0) {
    $("last").textContent = `${Math.round(performance.now() - painted)} ms`;
    painted = 0;
  }
  draw();
}

for (let n = 0; n < WIDE * HIGH; n++) {
  const cell = element("span");
  cell.dataset.cell = n;
  $("picture").append(cell);
}
for (let n = 0; n < COLORS; n++) {
  const button = element("button");
  button.type = "button";
  button.dataset.color = n;
  button.setAttribute("aria-label", n === 0 ? "Paper" : `Colour ${n}`);
  button.addEventListener("click", () => choose(n));
  $("colors").append(button);
}
function choose(n) {
  color = n;
  for (const button of $("colors").children) button.setAttribute("aria-pressed", String(Number(button.dataset.color) === n));
}
choose(1);
$("picture").addEventListener("pointerdown", (event) => {
  event.preventDefault();
  paint(event.target);
});
$("picture").addEventListener("pointermove", (event) => {
  if (event.buttons === 1) paint(document.elementFromPoint(event.clientX, event.clientY));
});

// ---- the connection --------------------------------------------------------------

function message(m) {
  switch (m.channel) {
    case "global":
      if (m.type === "connected") {
        subscribe();
        drawing.open();
      }
      if (m.type === "unsubscribed" && m.data.channel === drawing.channel && m.data.code !== "client") drawing.ended();
      if (m.type === "unsubscribed" && m.data.channel === ROOM) setTimeout(subscribe, 500);
      return;
    case ROOM:
      if (m.offset !== undefined) position = { epoch: position?.epoch, offset: m.offset };
      if (m.type === "said") addMessage(m);
      if (m.type === "gap") gap(m);
      if (m.type.startsWith("presence_")) presence(m);
      return;
    case drawing.channel:
      drawing.message(m);
  }
}

function open() {
  line?.disconnect();
  const name = $("name").value;
  position = node = null;
  $("log").replaceChildren();
  line = new Line(name, { state: showState, message, lost });
  drawing = new Drawing(line, name, query.get("room") ?? "picture", {
    change: changed, reset: () => tell("the picture began anew", node),
  });
  $("second").href = "?" + new URLSearchParams({ ...Object.fromEntries(query), name: name === "Ada" ? "Bob" : "Ada" });
  line.connect();
}

$("name").value = query.get("name") ?? ["Ada", "Bob", "Cleo", "Dan", "Eve"][Math.floor(Math.random() * 5)];
$("who").addEventListener("submit", (event) => { event.preventDefault(); $("name").blur(); });
$("name").addEventListener("change", () => $("name").reportValidity() && open());
$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  const kept = $("text").value;
  $("text").value = "";
  const item = element("li", "mine unsent", text);
  const sent = line.send(ROOM, "say", { text }, ({ type, data }) => {
    item.remove();
    if (type !== "error") return;
    addNote(data.code === "unavailable" ? "Redis gives no answer: not said, or not yet" : `not said: ${data.error}`);
    $("text").value ||= kept;
  });
  if (sent) addLine(item);
  else $("text").value = kept;
});
look();
open();
