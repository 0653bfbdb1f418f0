// One client over the npm package ws, which shares no code with the server.
import WebSocket from "ws";

const PATIENCE = 10_000; // ms until a step counts as failed

/** within rejects with what if promise takes longer than PATIENCE. */
export function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${PATIENCE} ms for ${what}`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export class Peer {
  #messages = [];
  #waiters = [];
  all = []; // every message that came, in order
  limits = null;
  closed; // resolves to {code, reason}

  constructor(url, protocols = [], options = {}) {
    this.socket = new WebSocket(url, protocols, { handshakeTimeout: PATIENCE, ...options });
    this.socket.on("message", (bytes) => this.#take(JSON.parse(bytes.toString())));
    this.closed = new Promise((resolve) => {
      this.socket.on("close", (code, reason) => {
        resolve({ code, reason: reason.toString() });
        for (const waiter of this.#waiters) waiter.reject(new Error(`closed with ${code} ${reason}`));
        this.#waiters = [];
      });
    });
    this.opened = new Promise((resolve, reject) => {
      this.socket.on("open", resolve);
      this.socket.on("error", reject);
    });
    this.opened.catch(() => {}); // whoever waits for it sees the error
  }

  /** open waits for the handshake. */
  async open() {
    await within(this.opened, "the handshake");
    return this;
  }

  /** ready waits for the greeting. */
  async ready() {
    await this.open();
    this.limits = (await this.next("connected")).data?.limits ?? null;
    return this;
  }

  send(channel, type, data, ref) {
    this.raw(JSON.stringify({ channel, type, data, ref }));
  }

  raw(text) {
    this.socket.send(text);
  }

  /** next takes the first message, arrived or to come, of that type that passes test. */
  next(type, test = () => true) {
    const fits = (message) => message.type === type && test(message);
    const at = this.#messages.findIndex(fits);
    if (at >= 0) return Promise.resolve(this.#messages.splice(at, 1)[0]);
    const came = new Promise((resolve, reject) => this.#waiters.push({ fits, resolve, reject }));
    return within(came, type);
  }

  /** join subscribes and returns the success's data. */
  async join(channel, data = {}) {
    const ref = "join " + channel;
    this.send(channel, "subscribe", data, ref);
    const answer = await Promise.race([
      this.next("subscription_success", (m) => m.ref === ref),
      this.next("subscription_error", (m) => m.ref === ref),
    ]);
    if (answer.type !== "subscription_success") throw new Error(`join refused: ${answer.data.code}`);
    return answer.data;
  }

  /** end waits for the close and returns its code and the closing message before it. */
  async end() {
    const { code, reason } = await within(this.closed, "the close");
    return { code, reason, closing: this.all.find((m) => m.type === "closing") };
  }

  /** leave closes and waits. */
  async leave() {
    this.socket.close(1000);
    await within(this.closed, "our own close");
  }

  #take(message) {
    this.all.push(message);
    const at = this.#waiters.findIndex((waiter) => waiter.fits(message));
    if (at >= 0) this.#waiters.splice(at, 1)[0].resolve(message);
    else this.#messages.push(message);
  }
}
