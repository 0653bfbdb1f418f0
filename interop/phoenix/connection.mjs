// Checks 127 to 131 and 133: the connection of Phoenix's client.
import assert from "node:assert/strict";
import { answer, ok, sleep, until } from "./case.mjs";
import { phoenix } from "./clients.mjs";

const TRIES = 3; // for what a busy machine may be late with

// returns loses the connection of three channels, and expects all of them back
// within a second of that and of the time that lose returns, after a close with
// that code.
async function returns(c, code, relay, lose, tries = TRIES) {
  const user = c.id;
  const socket = c.socket({ base: relay.base, params: { user_id: user } });
  const closes = [];
  socket.onClose((event) => closes.push({ code: event.code, at: performance.now() }));
  const topics = [1, 2, 3].map((n) => `${c.room}-${n}`);
  const channels = await Promise.all(topics.map((topic) => c.joined(socket, topic)));
  let errors = 0;
  for (const channel of channels) channel.onError(() => errors++);
  for (let lost = 1, ms = Infinity; ms >= 1000; lost++) {
    assert.ok(lost <= tries, `all were joined after ${Math.round(ms)} ms, want less than a second`);
    closes.length = 0; // failed attempts to connect are closes, too
    const back = await lose(user);
    await until("the close", () => closes.length > 0);
    await until("the joins", () => channels.every((channel) => channel.count === lost + 1));
    ms = performance.now() - Math.max(closes[0].at, back ?? 0);
    assert.equal(closes[0].code, code, "close code");
    assert.equal(errors, 3 * lost, "calls of onError");
  }
  for (const channel of channels) assert.deepEqual(await answer(channel.push("echo", { again: 1 })), ok({ again: 1 }));
  c.base = relay.target;
  for (const topic of topics) assert.equal(await c.members(topic), 1, `members of ${topic}`);
}

// fallback joins with a client that falls back after 500 ms, and reports whether it
// has stayed on WebSocket.
async function fallback(c) {
  const relay = await c.relay();
  const socket = c.socket({ base: relay.base, longPollFallbackMs: 500 });
  let joins = 0;
  const channel = socket.channel(c.room, {});
  channel.join().receive("ok", () => joins++);
  await sleep(1500);
  const requests = relay.requests.map((line) => line.split("?")[0]);
  if (requests.length === 1) {
    assert.equal(socket.transport, c.Transport, "transport");
    assert.deepEqual(requests, ["GET /socket/websocket"]);
    assert.deepEqual(await answer(channel.push("ok", {})), ok());
    assert.equal(joins, 1, "joins");
    return true;
  }
  socket.disconnect();
  return false;
}

// beats has a client send heartbeats for 3 s, and reports whether it was never
// disconnected: it gives up itself when an answer takes 200 ms.
async function beats(c) {
  const socket = c.socket({ heartbeatIntervalMs: 200 });
  const channel = await c.joined(socket);
  let ends = 0;
  let answers = 0;
  socket.onClose(() => ends++);
  socket.onError(() => ends++);
  socket.onMessage(({ topic, event }) => { if (topic === "phoenix" && event === "phx_reply") answers++; });
  await sleep(3000);
  const held = ends === 0;
  if (held) {
    assert.deepEqual([channel.count, socket.isConnected()], [1, true], "joins, connected");
    assert.ok(answers >= 8, `${answers} heartbeats were answered, want at least 8`);
  }
  socket.disconnect();
  return held;
}

export const checks = [
  {
    id: 127, name: "after a forced disconnect it is back within a second", clients: phoenix,
    async run(c) {
      await returns(c, 1001, await c.relay(), (user) => c.post("disconnect", { id: "user_sockets:" + user }));
    },
  },
  {
    id: 128, name: "after a restart it is back within a second", clients: phoenix, alone: true,
    async run(c) {
      const relay = await c.relay();
      await returns(c, 1012, relay, async () => {
        relay.target = await c.restart();
        return performance.now();
      }, 1);
    },
  },
  {
    id: 129, name: "the auth token arrives, and the protocol is phoenix", clients: phoenix, since: "1.8.0",
    async run(c) {
      // ">>>?" has a "+" in its base64, which URL-safe base64 has not.
      for (const [n, authToken] of ["1234", ">>>?", () => "from a function"].entries()) {
        const user = `${c.id}-${n}`;
        const socket = c.socket({ authToken, params: { user_id: user } });
        await until("the open socket", () => socket.isConnected());
        assert.equal(socket.conn.protocol, "phoenix");
        const seen = (await c.get("connects")).filter(({ params }) => params.user_id === user);
        const want = typeof authToken === "function" ? authToken() : authToken;
        assert.deepEqual(seen.map(({ token }) => token), [want]);
        await c.joined(socket);
      }
    },
  },
  {
    id: 130, name: "without long polling it stays on WebSocket", clients: phoenix,
    async run(c) {
      await c.joined(c.socket()); // what is slow for the first time has been done
      for (let tries = 1; !(await fallback(c)); tries++) assert.ok(tries < TRIES, "it fell back each time");
    },
  },
  {
    id: 131, name: "heartbeats every 200 ms keep it connected", clients: phoenix,
    async run(c) {
      for (let tries = 1; !(await beats(c)); tries++) assert.ok(tries < TRIES, "it was disconnected each time");
    },
  },
  {
    id: 133, name: "a killed TCP connection: every channel is joined again", clients: phoenix,
    async run(c) {
      const relay = await c.relay();
      await returns(c, 1006, relay, () => relay.kill());
    },
  },
];
