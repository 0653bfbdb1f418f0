// One connection to the cluster that comes back by itself, on whatever node the proxy
// chooses. No DOM here. The hooks:
//   state(name)       closed, connecting, connected, waiting
//   message(message)  one decoded message
//   lost(words)       the connection ended, and why as far as is known
const PING_EVERY = 2500; // ms
const PONG_WITHIN = 2500; // ms; a node that is silent for longer counts as dead
const MAX_DELAY = 4000; // ms

export class Line {
  #user; #hooks;
  #socket = null;
  #attempt = 0; // counts connects, so that a late answer of an old one is ignored
  #failures = 0; // in a row
  #closing = null; // the last closing message's data
  #timers = new Set();
  #refs = new Map(); // ref -> what to do with the answer
  #ref = 0;
  state = "closed";

  constructor(user, hooks) {
    this.#user = user;
    this.#hooks = hooks;
  }

  async connect() {
    this.#drop();
    const attempt = ++this.#attempt;
    this.#set("connecting");
    let bearer;
    try {
      bearer = await token({ user: this.#user });
    } catch {
      if (attempt === this.#attempt) this.#ended(1006);
      return;
    }
    if (attempt !== this.#attempt) return;
    const url = new URL("/ws", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    this.#socket = new WebSocket(url, ["realtime.v1", "bearer." + bearer]);
    this.#socket.onmessage = (event) => this.#receive(JSON.parse(event.data));
    this.#socket.onclose = (event) => {
      this.#drop();
      this.#ended(event.code);
    };
    this.#after(5000, () => { if (this.state === "connecting") this.#cut(); });
  }

  disconnect() {
    this.#attempt++;
    this.#drop();
    this.#set("closed");
  }

  /** send returns whether the message went out; then is called with the answer. */
  send(channel, type, data, then) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    const message = { channel, type, data };
    if (then) this.#refs.set(message.ref = String(++this.#ref), then);
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  #receive(message) {
    switch (message.type) {
      case "connected":
        this.#failures = 0;
        this.#set("connected");
        this.#ping();
        break;
      case "pong":
        this.ponged = true;
        return;
      case "closing":
        this.#closing = message.data;
        break;
    }
    const then = message.ref && this.#refs.get(message.ref);
    if (then) {
      this.#refs.delete(message.ref);
      then(message);
    }
    this.#hooks.message(message);
  }

  // ping notices a node that is frozen, which no close frame tells.
  #ping() {
    this.ponged = false;
    this.send("global", "ping", {});
    this.#after(PONG_WITHIN, () => { if (!this.ponged) this.#cut(); });
    this.#after(PING_EVERY + 50, () => this.#ping());
  }

  #cut() {
    this.#drop();
    this.#ended(0);
  }

  #ended(code) {
    const why = this.#closing;
    this.#closing = null;
    const words = why ? `the node said “${why.reason}”` : code === 0 ? "the node fell silent" : `the line broke (${code})`;
    this.#hooks.lost(words);
    if (why?.retry === "never") return this.#set("closed");
    const floor = this.#failures === 0 ? 0 : 250;
    const delay = Math.min(MAX_DELAY, floor + Math.random() * 300 * 2 ** this.#failures++);
    this.#set("waiting");
    this.#after(delay, () => this.connect());
  }

  #drop() {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#refs.clear();
    if (this.#socket) {
      this.#socket.onmessage = this.#socket.onclose = null;
      this.#socket.close();
      this.#socket = null;
    }
  }

  #after(ms, act) {
    const timer = setTimeout(() => { this.#timers.delete(timer); act(); }, ms);
    this.#timers.add(timer);
  }

  #set(state) {
    this.state = state;
    this.#hooks.state(state);
  }
}

/** token fetches a token from any node. */
export async function token(of) {
  const answer = await fetch("/token?" + new URLSearchParams(of), { signal: AbortSignal.timeout(3000) });
  if (!answer.ok) throw new Error(await answer.text());
  return (await answer.json()).token;
}
