// Appendix A of the protocol: Phoenix's client over plain requests. The server has
// to run with -longpoll.
import assert from "node:assert/strict";
import { answer, bytes, ok, sleep, unbytes, until } from "./case.mjs";
import { atLeast, phoenix } from "./clients.mjs";

const WINDOW = 10_000; // ms that a poll waits at most
const SESSION = 15_000; // ms without a poll after which a session ends

const polling = (c, options = {}) => c.socket({ transport: c.client.LongPoll, ...options });

// storage keeps the client from asking Node for a session storage.
const storage = { getItem: () => null, setItem() {} };

// pair is a polling and a WebSocket client in the room of the case.
async function pair(c, options) {
  const members = [await c.joined(polling(c, options)), await c.joined(c.socket())];
  for (const channel of members) {
    channel.got = [];
    for (const event of ["shout", "binb"]) channel.on(event, (payload) => channel.got.push(unbytes(payload)));
  }
  return members;
}

async function talks(c) {
  const [poll, socket] = await pair(c);
  assert.deepEqual(await answer(poll.push("echo", { text: "hé 🎉\n" })), ok({ text: "hé 🎉\n" }));
  assert.deepEqual(await answer(poll.push("fail", {})), { status: "error", response: { why: "because" } });
  assert.deepEqual(await answer(poll.push("later", {})), ok({ late: true }));
  const want = [];
  for (const [n, from] of [poll, socket, poll, socket].entries()) {
    want.push({ n });
    assert.deepEqual(await answer(from.push("shout", { n })), ok());
    for (const channel of [poll, socket]) await until(`broadcast ${n}`, () => channel.got.length === want.length);
  }
  for (const channel of [poll, socket]) assert.deepEqual(channel.got, want);
  assert.deepEqual(await answer(poll.leave()), ok());
  await answer(socket.push("shout", { n: "behind its back" }));
  await sleep(300);
  assert.equal(poll.got.length, 4, "broadcasts before the leave");
  assert.equal(await c.members(c.room), 1, "members");
}

// batches sends many messages at once. From 1.8 on clients put no more than 100 into
// one request, which is all that a server has to take from it.
async function batches(c) {
  const [poll, socket] = await pair(c);
  const numbers = Array.from({ length: atLeast(c.client.version, "1.8.0") ? 250 : 100 }, (_, n) => n);
  const answers = await Promise.all(numbers.map((n) => answer(poll.push("shout", { n }))));
  assert.ok(answers.every(({ status }) => status === "ok"), "answers");
  await until("the broadcasts", () => [poll, socket].every((channel) => channel.got.length === numbers.length));
  for (const channel of [poll, socket]) assert.deepEqual(channel.got.map(({ n }) => n), numbers);
}

async function sendsBytes(c) {
  const [poll, socket] = await pair(c);
  poll.push("bin", bytes(1, 255)); // what is answered are bytes, which cannot be polled
  assert.deepEqual(await answer(poll.push("bin_shout", {})), ok());
  await until("the bytes", () => socket.got.length === 1);
  assert.deepEqual(socket.got, [["bytes", 7]]);
  await answer(socket.push("shout", { after: 1 }));
  await until("the text", () => poll.got.length > 0);
  assert.deepEqual(poll.got, [{ after: 1 }]);
  assert.equal(poll.count, 1, "joins");
}

async function comesBack(c) {
  const user = c.id;
  const [poll, socket] = await pair(c, { params: { user_id: user } });
  let closes = 0;
  poll.socket.onClose(() => closes++);
  await c.post("disconnect", { id: "user_sockets:" + user });
  await until("the next join", () => poll.count === 2);
  assert.ok(closes > 0, "no close was seen"); // before 1.8 it sees two
  await answer(socket.push("shout", { n: 1 }));
  await until("the broadcast", () => poll.got.length > 0);
  assert.deepEqual(poll.got, [{ n: 1 }]);
  assert.equal(await c.members(c.room), 2, "members");
}

async function fallsBack(c) {
  const relay = await c.relay();
  relay.webSockets = false;
  const socket = c.socket({ base: relay.base, longPollFallbackMs: 5000, sessionStorage: storage });
  const channel = await c.joined(socket);
  assert.equal(socket.transport, c.client.LongPoll, "transport");
  assert.deepEqual(await answer(channel.push("echo", { n: 1 })), ok({ n: 1 }));
  const paths = relay.requests.map((line) => line.split("?")[0]);
  assert.equal(paths[0], "GET /socket/websocket", "the first request");
  for (const path of ["GET /socket/longpoll", "POST /socket/longpoll"]) assert.ok(paths.includes(path), path);
}

async function brings(c) {
  const user = c.id;
  await c.joined(polling(c, { authToken: ">>>?", params: { user_id: user, o: { x: "y" } } }));
  const [{ params, token }] = (await c.get("connects")).filter(({ params }) => params.user_id === user);
  assert.deepEqual([token, params.vsn, params.o], [">>>?", "2.0.0", { x: "y" }]);
}

async function refused(c) {
  const errors = [];
  const socket = polling(c, { params: { reject: "true" } });
  socket.onError((error) => errors.push(error));
  await until("the refusal", () => errors.length > 0);
  assert.equal(errors[0], 403);
  assert.equal(socket.isConnected(), false);
}

async function waits(c) {
  const [poll, socket] = await pair(c);
  await sleep(WINDOW + 1000);
  await answer(socket.push("shout", { n: 1 }));
  await until("the broadcast", () => poll.got.length > 0);
  assert.deepEqual(await answer(poll.push("ok", {})), ok());
  assert.equal(poll.count, 1, "joins");
}

// vanishes has a polling client in a presence list until its session is over.
async function vanishes(c) {
  const relay = await c.relay();
  const watcher = c.socket().channel(c.pres, { key: "w", meta: {} });
  const presence = new c.client.Presence(watcher);
  watcher.join();
  const keys = () => presence.list((key) => key).sort().join();
  await c.joined(polling(c, { base: relay.base }), c.pres, { key: "ada", meta: {} });
  await until("ada", () => keys() === "ada,w");
  relay.stop();
  const start = performance.now();
  await sleep(SESSION - 5000);
  await until("ada's leave", () => keys() === "w");
  const ms = performance.now() - start;
  assert.ok(ms < SESSION + 3000, `ada left after ${Math.round(ms)} ms, want about ${SESSION}`);
}

const each = { id: "longpoll", clients: phoenix, alone: true };

export const checks = [
  { ...each, name: "pushes, answers and broadcasts both ways", run: talks },
  { ...each, name: "many messages at once keep their order", run: batches },
  { ...each, name: "bytes go out and are left out", run: sendsBytes },
  { ...each, name: "after a forced disconnect it is back", run: comesBack },
  { ...each, name: "where no WebSocket gets through it falls back", run: fallsBack },
  { ...each, name: "params and auth token arrive", since: "1.8.0", run: brings },
  { ...each, name: "a refusal is one", run: refused },
  { ...each, name: "a poll without a message is followed by the next", run: waits },
  { ...each, name: "who polls no more is gone when the session is over", run: vanishes },
];
