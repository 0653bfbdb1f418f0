// What one check does with one version of a client: it makes sockets, waits for
// what they see, and looks at the server from outside.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import WebSocket from "ws";
import { Relay } from "./relay.mjs";

export { sleep };

const PATIENCE = 10_000; // ms until a wait counts as failed

/** until waits for test to be true. */
export async function until(what, test) {
  const end = Date.now() + PATIENCE;
  while (!test()) {
    if (Date.now() > end) throw new Error(`waited ${PATIENCE} ms for ${what}`);
    await sleep(5);
  }
}

/** answer waits for the answer to a push or join of Phoenix's client. */
export function answer(push) {
  return new Promise((resolve) => {
    for (const status of ["ok", "error", "timeout"]) {
      push.receive(status, (response) => resolve({ status, response }));
    }
  });
}

export const ok = (response = {}) => ({ status: "ok", response });
export const bytes = (...all) => new Uint8Array(all).buffer;

/** unbytes makes bytes comparable, and leaves anything else as it is. */
export const unbytes = (value) => (value instanceof ArrayBuffer ? ["bytes", ...new Uint8Array(value)] : value);

let cases = 0;
const run = Math.random().toString(36).slice(2, 8);

export class Case {
  id = `${run}-${++cases}`; // unique among the cases of all runs
  sent = []; // texts that went out through any socket of this case
  #ends = [];

  constructor(base, client, restart) {
    this.base = base;
    this.client = client;
    this.restart = restart; // restarts the server, and returns its new address
    const { sent } = this;
    this.Transport = class Watched extends WebSocket {
      constructor(url, protocols) {
        super(url, protocols);
        this.on("error", () => {}); // the client hears of it, unless it has let go of the socket
      }
      send(frame, ...more) {
        if (typeof frame === "string") sent.push(frame);
        super.send(frame, ...more);
      }
    };
  }

  get room() { return "room:" + this.id; }
  get pres() { return "pres:" + this.id; }

  endpoint(base = this.base) {
    return base.replace(/^http/, "ws") + "/socket";
  }

  /** socket returns a connecting socket of Phoenix's client. */
  socket({ base, client = this.client, ...options } = {}) {
    const socket = new client.Socket(this.endpoint(base), { transport: this.Transport, ...options });
    this.#ends.push(() => socket.disconnect());
    socket.connect();
    return socket;
  }

  /** joined joins a topic and returns the channel; its count is that of its joins. */
  async joined(socket, topic = this.room, params = {}) {
    const channel = socket.channel(topic, params);
    channel.count = 0;
    const push = channel.join().receive("ok", () => channel.count++);
    assert.equal((await answer(push)).status, "ok", "answer to the join");
    return channel;
  }

  /** supabase returns a client of Supabase's. */
  supabase({ base, client = this.client, ...options } = {}) {
    const made = new client.RealtimeClient(this.endpoint(base), {
      params: { apikey: "key" }, transport: this.Transport, logger() {}, ...options,
    });
    this.#ends.push(() => made.disconnect());
    return made;
  }

  /** plain returns an open WebSocket, and what comes through it, parsed. */
  async plain(path, ...protocols) {
    const socket = new WebSocket(this.base.replace(/^http/, "ws") + path, protocols);
    this.#ends.push(() => socket.terminate());
    socket.got = [];
    socket.on("message", (data) => socket.got.push(JSON.parse(data)));
    await new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject));
    return socket;
  }

  async relay() {
    const relay = await Relay.to(this.base);
    this.#ends.push(() => relay.stop());
    return relay;
  }

  /** post asks the admin handler for something. */
  async post(path, query, body) {
    const response = await fetch(`${this.base}/admin/${path}?${new URLSearchParams(query)}`, { method: "POST", body });
    assert.equal(response.status, 204, `POST ${path}`);
  }

  async get(path) {
    return (await fetch(`${this.base}/admin/${path}`)).json();
  }

  async members(topic) {
    return (await this.get("state")).members[topic] ?? 0;
  }

  /** left waits until nobody is in the topic. */
  async left(topic) {
    const end = Date.now() + PATIENCE;
    while ((await this.members(topic)) > 0) {
      assert.ok(Date.now() < end, `members are left in ${topic}`);
      await sleep(20);
    }
  }

  end() {
    for (const end of this.#ends.reverse()) end();
  }
}
