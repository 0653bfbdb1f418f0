// One connection to the server that comes back by itself. No DOM here.
//
// States: closed, connecting, connected, waiting (to reconnect). The hooks:
//   state(name)            the state changed
//   frame(direction, text) one frame, "in" or "out"
//   message(message)       one decoded message
//   closed(why, delay)     the connection ended; delay in ms, null if it stays closed
//   latency(ms)            one round trip
import { explain } from "./closes.js";

const PING_EVERY = 5000; // ms
const PONG_WITHIN = 5000; // ms; later than this counts as lost
const STABLE_AFTER = 5000; // ms; a connection that held this long forgives earlier failures
const MAX_DELAY = 30000; // ms
const MAX_TOKENS = 3; // fresh tokens that may be refused in a row

export class Link {
  #url; #token; #hooks;
  #socket = null;
  #attempt = 0; // counts connects, so that a late answer of an old one is ignored
  #failures = 0; // in a row
  #refused = 0; // tokens refused in a row
  #closing = null; // the last closing message's data
  #timers = new Set();
  #pings = new Map(); // timestamp -> performance.now() when sent
  #waiting = null; // called by retryNow
  state = "closed";
  limits = null;

  /** token is a function that returns a promise of a token. */
  constructor(url, token, hooks) {
    this.#url = url;
    this.#token = token;
    this.#hooks = hooks;
  }

  /** connect opens the connection; token, if given, is used this one time. */
  async connect(token) {
    this.#drop();
    const attempt = ++this.#attempt;
    this.#set("connecting");
    let bearer = token;
    try {
      bearer ??= await this.#token();
    } catch {
      if (attempt === this.#attempt) this.#ended(1006, "");
      return;
    }
    if (attempt !== this.#attempt) return;
    // A browser cannot set headers; the token rides in the subprotocol list,
    // where no proxy logs it.
    let socket;
    try {
      socket = new WebSocket(this.#url, ["realtime.v1", "bearer." + bearer]);
    } catch {
      this.#ended(1006, ""); // not even a possible subprotocol
      return;
    }
    this.#socket = socket;
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => {
      this.#drop();
      this.#ended(event.code, event.reason);
    };
  }

  /** disconnect closes the connection for good. */
  disconnect() {
    this.#attempt++;
    const was = this.state;
    this.#socket?.close(1000);
    this.#drop();
    this.#failures = 0;
    this.#refused = 0;
    this.#set("closed");
    if (was !== "closed") this.#hooks.closed(explain(null, 1000, "client_closed"), null);
  }

  /** cut breaks the connection as a lost network would. */
  cut() {
    this.#socket?.close(4900);
    this.#drop();
    this.#ended(1006, "");
  }

  /** retryNow ends the waiting for the next attempt. */
  retryNow() {
    this.#waiting?.();
  }

  /** send returns whether the message went out. */
  send(channel, type, data, ref) {
    const message = { channel, type, data };
    if (ref) message.ref = ref;
    return this.raw(JSON.stringify(message));
  }

  /** raw sends text as it is; quiet keeps it out of the log. */
  raw(text, quiet = false) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(text);
    if (!quiet) this.#hooks.frame("out", text);
    return true;
  }

  #receive(text) {
    this.#hooks.frame("in", text);
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return; // in the log; nothing else can be done with it
    }
    switch (message.type) {
      case "connected":
        this.limits = message.data?.limits ?? null;
        this.#refused = 0;
        this.#set("connected");
        this.#after(STABLE_AFTER, () => { this.#failures = 0; });
        this.#ping();
        break;
      case "pong":
        this.#pong(message.data?.timestamp);
        return;
      case "closing":
        this.#closing = message.data;
        break;
    }
    this.#hooks.message(message);
  }

  #ping() {
    const timestamp = Date.now();
    this.#pings.set(timestamp, performance.now());
    this.send("global", "ping", { timestamp });
    this.#after(PONG_WITHIN, () => { if (this.#pings.has(timestamp)) this.cut(); });
    this.#after(PING_EVERY, () => this.#ping());
  }

  #pong(timestamp) {
    const sent = this.#pings.get(timestamp);
    if (sent === undefined) return;
    this.#pings.delete(timestamp);
    this.#hooks.latency(performance.now() - sent);
  }

  // ended decides what follows an ended connection, and says so.
  #ended(code, text) {
    const why = explain(this.#closing, code, text);
    this.#closing = null;
    const delay = this.#delay(why);
    this.#hooks.closed(why, delay);
    if (delay === null) {
      this.#set("closed");
      return;
    }
    this.#failures++;
    this.#set("waiting");
    this.#waiting = () => this.connect();
    this.#after(delay, () => this.retryNow());
  }

  // delay returns how long to wait before the next attempt in ms, null for never.
  #delay(why) {
    if (why.retry === "never") return null;
    if (why.retry === "new_token" && ++this.#refused > MAX_TOKENS) return null;
    const first = why.retry === "backoff" ? 1000 : 0;
    const least = why.minDelay ?? first;
    const spread = Math.random() * (why.jitter ?? 1000);
    // What the server asked for is a floor, whatever the cap is.
    const doubled = (least + spread) * 2 ** Math.min(this.#failures, 10);
    return Math.max(least, Math.min(MAX_DELAY, doubled));
  }

  // drop forgets the socket and everything that waits for it.
  #drop() {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#pings.clear();
    this.#waiting = null;
    if (this.#socket) {
      this.#socket.onmessage = null;
      this.#socket.onclose = null;
      if (this.#socket.readyState <= WebSocket.OPEN) this.#socket.close();
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
