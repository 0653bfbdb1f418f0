// The page: a board of notes, who is connected, the messages, and a slider through
// them. Everything that came from elsewhere enters the document as text, never as
// markup.
import { DocumentClient } from "./client.js";
import { Storage } from "./storage.js";
import { COLORS, apply, describe, notes, overlay } from "./board.js";

const ROWS = 150; // of the log
const NOTES = 30; // lines under the buttons
const TYPING = 250; // ms from a key to an op
const MOVING = 40; // ms between signals of a pointer
const AWAY = 4000; // ms after which a pointer that rests is taken away
const $ = (id) => document.getElementById(id);

// element returns a new element with a class and a text.
function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const hue = (name) => [...name].reduce((sum, c) => (sum * 31 + c.codePointAt(0)) % 360, 7);
const tint = (target, name) => target.style.setProperty("--hue", hue(name));

let client = null;
let storage = null;
let board = new Map(); // as the numbered messages say
let head = null; // handle of the last acknowledged summary
let covered = 0; // the number that it covers
let base = null; // {sequenceNumber, board}: where time travel begins
let log = []; // messages after base, in order
let names = new Map(); // client id → name, of everybody who ever joined
let at = null; // sequence number that is shown; null means live
let selected = 0; // sequence number of the message shown whole
let dirty = false;

// ---- the document ----------------------------------------------------------------

async function open() {
  client?.offline();
  const name = $("name").value, id = $("document").value, mode = $("mode").value;
  const token = async () => {
    const answer = await fetch("/token?" + new URLSearchParams({ document: id, user: name, access: mode }));
    if (!answer.ok) throw new Error("this server gives no tokens: it has tenants of its own");
    return answer.json();
  };
  $("notes").replaceChildren();
  storage = new Storage(id, token);
  client = new DocumentClient(id, token, { message, signal, change, note });
  client.wanted = mode;
  names = new Map();
  pointers.clear();
  at = null;
  try {
    const loaded = await storage.load().catch(async (error) => {
      // A reader cannot create the document; it sees what others have written.
      if (mode !== "read" || error.status !== 403) throw error;
      return { handle: null, sequenceNumber: 0, board: new Map() };
    });
    head = loaded.handle;
    covered = loaded.sequenceNumber;
    board = new Map(loaded.board);
    log = await storage.deltas(0);
    // Of an older document only what came after a summary may be left.
    const whole = log[0]?.sequenceNumber === 1 || loaded.sequenceNumber === 0;
    base = whole ? { sequenceNumber: 0, board: new Map() } : { sequenceNumber: covered, board: loaded.board };
    log = log.filter((m) => m.sequenceNumber > base.sequenceNumber);
    log.forEach(remember);
    const rest = log.filter((m) => m.sequenceNumber > covered);
    rest.forEach((m) => apply(board, m.type === "op" ? m.contents : null));
    await client.start(log.at(-1)?.sequenceNumber ?? covered);
  } catch (error) {
    note(error.message);
  }
  change();
}

function remember(m) {
  if (m.type === "join" && m.clientId === null) {
    const { clientId, detail } = JSON.parse(m.data);
    names.set(clientId, String(detail.user?.name ?? detail.user?.id ?? "someone"));
  }
  if (m.type === "summaryAck") {
    const ack = JSON.parse(m.data);
    const proposed = log.find((one) => one.sequenceNumber === ack.summaryProposal.summarySequenceNumber);
    head = ack.handle;
    covered = proposed?.referenceSequenceNumber ?? covered;
  }
}

function message(m) {
  log.push(m);
  if (m.type === "op") apply(board, m.contents);
  remember(m);
  if (m.type === "summaryAck") note(`summary of 1–${covered} acknowledged`);
  if (m.type === "summaryNack") note(`summary refused: ${JSON.parse(m.data).message}`);
}

function note(text) {
  const list = $("notes");
  list.prepend(element("li", "", text));
  while (list.childElementCount > NOTES) list.lastElementChild.remove();
}

// shown returns the board at the slider, or live with the pending ops over it.
function shown() {
  if (at === null) return overlay(board, client?.pending ?? []);
  const then = new Map(base.board);
  for (const m of log) {
    if (m.sequenceNumber > at) break;
    if (m.type === "op") apply(then, m.contents);
  }
  return then;
}

const set = (changes) => client.submit({ set: changes });
const editable = () => at === null && client !== null && client.wanted === "write" && client.state !== "refused";

// summarize proposes the board as it is. What covers what is told by the reference
// number of the proposal: no op may have come between it and the upload.
async function summarize() {
  const upTo = client.sequenceNumber, text = `Board at ${upTo}`;
  try {
    const handle = await storage.upload(new Map(board), head, text);
    if (log.some((m) => m.sequenceNumber > upTo && m.type === "op")) return note("the board changed during the upload; try again");
    client.submit({ handle, head, message: text, parents: [head], details: { includesProtocolTree: false } }, "summarize");
  } catch (error) {
    note(error.message);
  }
}

// ---- what is shown ---------------------------------------------------------------

// change may be called as often as anybody likes: the page is drawn once a frame.
function change() {
  if (dirty) return;
  dirty = true;
  requestAnimationFrame(draw);
}

function draw() {
  dirty = false;
  const live = client?.state ?? "closed";
  $("status").dataset.state = live;
  $("status").textContent = live;
  $("sn").textContent = client?.sequenceNumber ?? "–";
  $("msn").textContent = client?.minimum ?? "–";
  $("pending").textContent = client?.pending.length ?? 0;
  $("pending").parentElement.classList.toggle("waiting", (client?.pending.length ?? 0) > 0);
  $("covered").textContent = covered > 0 ? `1–${covered}` : "–";
  drawTime();
  drawBoard();
  drawClients();
  drawLog();
  drawButtons(live);
}

function drawTime() {
  const last = log.at(-1)?.sequenceNumber ?? 0;
  const slider = $("slider");
  slider.min = base?.sequenceNumber ?? 0;
  slider.max = last;
  slider.disabled = last === 0;
  if (at === null) slider.value = last;
  $("live").disabled = at === null;
  $("when").textContent = at === null ? "live" : `${at} of ${last}`;
  $("board").classList.toggle("past", at !== null);
}

function drawButtons(live) {
  const connected = live === "connected", writes = connected && client.mode === "write";
  for (const button of document.querySelectorAll("#provoke button")) {
    const what = button.dataset.do;
    button.disabled = !client || (what === "offline" ? live === "refused" :
      ["gap", "summary"].includes(what) ? !writes || client.pending.length > 0 : !connected);
  }
  document.querySelector("[data-do=offline]").textContent = live === "closed" && client ? "Come back" : "Work offline";
  for (const button of $("colors").children) button.disabled = !editable();
  $("tip").textContent = at !== null ? `The board after message ${at}, to look at.` :
    client?.wanted === "read" ? "This tab only reads." : "Drag notes, type into them, open a second tab.";
}

// ---- the board -------------------------------------------------------------------

const cards = new Map(); // note id → its element
const typing = new Map(); // note id → timer
const pointers = new Map(); // client id → {element, timer}
let drag = null; // {id, dx, dy, at}

function drawBoard() {
  const all = notes(shown());
  const live = new Set(all.map(({ id }) => id));
  for (const [id, card] of cards) {
    if (live.has(id)) continue;
    card.remove();
    cards.delete(id);
  }
  const waiting = new Set((at === null && client?.pending || []).flatMap(({ type, contents }) =>
    type === "op" ? Object.keys(JSON.parse(contents).set).map((key) => key.slice(0, key.lastIndexOf("."))) : []));
  all.forEach((one) => drawNote(one, waiting.has(one.id)));
  $("empty").hidden = all.length > 0;
  for (const [id, { element }] of pointers) if (!client?.clients.has(id) || at !== null) forget(id, element);
}

function drawNote({ id, at: place, text = "", color = COLORS[0] }, waiting) {
  const card = cards.get(id) ?? makeCard(id);
  card.classList.toggle("unsent", waiting);
  card.dataset.color = COLORS.includes(color) ? color : COLORS[0];
  if (drag?.id !== id) position(card, place);
  const area = card.querySelector("textarea");
  area.readOnly = !editable();
  card.querySelector("button").hidden = !editable();
  if (area.value !== text && !typing.has(id)) {
    const { selectionStart, selectionEnd } = area;
    area.value = text;
    if (document.activeElement === area) area.setSelectionRange(selectionStart, selectionEnd);
  }
}

const clamp = (n) => Math.min(Math.max(n, 0), 100);

function position(card, [x, y]) {
  card.style.setProperty("--x", clamp(x));
  card.style.setProperty("--y", clamp(y));
}

function makeCard(id) {
  const card = element("div", "note");
  const bar = element("div", "bar"), remove = element("button", "", "×"), area = element("textarea");
  remove.type = "button";
  remove.setAttribute("aria-label", "Remove this note");
  area.setAttribute("aria-label", "Note");
  area.maxLength = 300;
  bar.append(remove);
  card.append(bar, area);
  card.dataset.id = id;
  remove.addEventListener("click", () => set({ [`${id}.at`]: null, [`${id}.text`]: null, [`${id}.color`]: null }));
  area.addEventListener("input", () => {
    clearTimeout(typing.get(id));
    typing.set(id, setTimeout(() => write(id, area), TYPING));
  });
  area.addEventListener("blur", () => typing.has(id) && write(id, area));
  bar.addEventListener("pointerdown", (event) => grab(event, id, card));
  $("board").append(card);
  cards.set(id, card);
  return card;
}

function write(id, area) {
  clearTimeout(typing.get(id));
  typing.delete(id);
  if (editable()) set({ [`${id}.text`]: area.value });
}

// place returns where a pointer is, in hundredths of the board, or of the room that
// a note has on it.
function place(event, note) {
  const box = $("board").getBoundingClientRect();
  const wide = box.width - (note?.offsetWidth ?? 0), high = box.height - (note?.offsetHeight ?? 0);
  return [100 * (event.clientX - box.left) / wide, 100 * (event.clientY - box.top) / high];
}

function grab(event, id, card) {
  if (!editable() || event.target.tagName === "BUTTON") return;
  event.preventDefault();
  card.setPointerCapture(event.pointerId);
  const [x, y] = place(event, card);
  const from = ["--x", "--y"].map((name) => Number(card.style.getPropertyValue(name)));
  drag = { id, dx: from[0] - x, dy: from[1] - y, at: null };
  card.classList.add("dragged");
  const move = (event) => {
    const [x, y] = place(event, card);
    drag.at = [clamp(x + drag.dx), clamp(y + drag.dy)].map((n) => Math.round(n * 10) / 10);
    position(card, drag.at);
  };
  const drop = () => {
    card.removeEventListener("pointermove", move);
    card.classList.remove("dragged");
    const { at } = drag;
    drag = null;
    if (at) set({ [`${id}.at`]: at });
  };
  card.addEventListener("pointermove", move);
  card.addEventListener("lostpointercapture", drop, { once: true });
}

// A drag is told by signals, which nobody keeps; where it ends is an op.
let told = 0;
$("board").addEventListener("pointermove", (event) => {
  const now = performance.now();
  if (now - told < MOVING || at !== null) return;
  told = now;
  const pointer = { at: place(event).map((n) => Math.round(n * 10) / 10) };
  if (drag?.at) pointer.note = { id: drag.id, at: drag.at };
  client?.signal(pointer);
});

function signal(id, { at: where, note: moved }) {
  if (!Array.isArray(where) || !where.every(Number.isFinite) || at !== null) return;
  const name = client.clients.get(id)?.name ?? "someone";
  let pointer = pointers.get(id);
  if (!pointer) {
    pointer = { element: element("div", "pointer", name) };
    tint(pointer.element, name);
    $("board").append(pointer.element);
    pointers.set(id, pointer);
  }
  position(pointer.element, where);
  clearTimeout(pointer.timer);
  pointer.timer = setTimeout(() => forget(id, pointer.element), AWAY);
  const card = cards.get(moved?.id);
  if (card && drag?.id !== moved.id && Array.isArray(moved.at) && moved.at.every(Number.isFinite)) position(card, moved.at);
}

function forget(id, pointer) {
  pointer.remove();
  pointers.delete(id);
}

// freeSpot returns the one of some random places that is farthest from all notes.
function freeSpot(taken) {
  const room = ([x, y]) => Math.min(Infinity, ...taken.map(({ at: [a, b] }) => Math.hypot((x - a) * 1.2, y - b)));
  const spots = Array.from({ length: 24 }, () => [2 + Math.random() * 96, 2 + Math.random() * 96].map((n) => Math.round(n * 10) / 10));
  return spots.reduce((best, spot) => room(spot) > room(best) ? spot : best);
}

function add(color) {
  const id = "n" + crypto.getRandomValues(new Uint32Array(1))[0].toString(36);
  const spot = freeSpot(notes(shown()));
  set({ [`${id}.at`]: spot, [`${id}.color`]: color, [`${id}.text`]: "" });
  drawBoard();
  cards.get(id)?.querySelector("textarea").focus();
}

// ---- clients and messages --------------------------------------------------------

function drawClients() {
  const present = [...(client?.clients ?? [])];
  $("count").textContent = present.length || "";
  $("clients").replaceChildren(...present.map(([id, { name, mode }]) => {
    const item = element("li", id === client.clientId ? "mine" : "", name);
    tint(item, name);
    item.append(element("small", "", `${mode === "read" ? "reads" : "writes"}${id === client.clientId ? ", this tab" : ""}`));
    item.title = id;
    return item;
  }));
}

function drawLog() {
  const end = at === null ? log.length : log.findIndex((m) => m.sequenceNumber > at);
  const until = end < 0 ? log.length : end;
  const rows = log.slice(Math.max(0, until - ROWS), until).reverse();
  $("log-count").textContent = log.length || "";
  $("log").replaceChildren(...rows.map((m) => {
    const row = element("li", m.sequenceNumber === selected ? "selected" : "");
    row.dataset.sn = m.sequenceNumber;
    row.dataset.type = m.type;
    const name = m.clientId === null ? subject(m) : names.get(m.clientId) ?? "someone";
    const who = element("span", "who", name);
    tint(who, name);
    row.append(element("span", "sn", m.sequenceNumber), element("span", "type", m.type), who, element("span", "what", describe(m)));
    return row;
  }));
  const whole = log.find((m) => m.sequenceNumber === selected);
  $("detail").hidden = !whole;
  $("detail").textContent = whole ? JSON.stringify(whole, null, 2) : "";
}

// subject returns whom a message of the server is about.
function subject(m) {
  if (m.type === "join") return names.get(JSON.parse(m.data).clientId) ?? "someone";
  if (m.type === "leave") return names.get(JSON.parse(m.data)) ?? "someone";
  return "server";
}

// ---- what the controls do ----------------------------------------------------------

const provocations = {
  offline: () => client.state === "closed" ? client.online() : client.offline(),
  cut: () => client.cut(),
  reconnect: () => client.reconnect(),
  gap: () => client.gap(),
  summary: summarize,
  crash: async () => {
    const answer = await fetch("/admin/crash?" + new URLSearchParams({ tenant: client.tenant, document: client.documentId }), { method: "POST" });
    note(answer.ok ? "the session was made to panic" : `crash: ${answer.status}`);
  },
};

$("provoke").addEventListener("click", (event) => provocations[event.target.dataset?.do]?.());

for (const color of COLORS) {
  const button = element("button", "swatch");
  button.type = "button";
  button.dataset.color = color;
  button.title = button.ariaLabel = `Add a note (${color})`;
  button.addEventListener("click", () => add(color));
  $("colors").append(button);
}

$("slider").addEventListener("input", () => {
  const value = Number($("slider").value);
  at = value === (log.at(-1)?.sequenceNumber ?? 0) ? null : value;
  change();
});

$("live").addEventListener("click", () => {
  at = null;
  change();
});

$("log").addEventListener("click", (event) => {
  const sn = Number(event.target.closest("li")?.dataset.sn ?? 0);
  selected = sn === selected ? 0 : sn;
  change();
});

function link() {
  $("second").href = "?" + new URLSearchParams({ document: $("document").value });
}

$("who").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("name", $("name").value);
  link();
  open();
});

const asked = new URLSearchParams(location.search);
$("name").value = asked.get("name") ?? sessionStorage.getItem("name") ?? "guest-" + Math.random().toString(36).slice(2, 5);
$("document").value = asked.get("document") ?? "board";
$("mode").value = asked.get("mode") === "read" ? "read" : "write";
link();
open();
