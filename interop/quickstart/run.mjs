// Drives a running quickstart with a foreign client and prints what held:
//
//   node run.mjs http://127.0.0.1:8080 [--auth-code 1008] [--origin https://evil.example]
//
// Exit status 1 if anything failed.
import assert from "node:assert/strict";
import { parseArgs } from "node:util";
import { Peer } from "./peer.mjs";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    "auth-code": { type: "string", default: "4001" }, // what the server was started with
    origin: { type: "string", default: "https://evil.example" }, // one that is not allowed
  },
});
if (positionals.length !== 1) {
  console.error("usage: node run.mjs BASE-URL [--auth-code CODE] [--origin ORIGIN]");
  process.exit(2);
}
const base = new URL(positionals[0]);
const authCode = Number(flags["auth-code"]);
const socketURL = (path, query = {}) => {
  const url = new URL(path, base);
  url.protocol = base.protocol === "https:" ? "wss:" : "ws:";
  url.search = new URLSearchParams(query);
  return url.href;
};
const ws = socketURL("/ws");

async function token(user, ttl) {
  const url = new URL("/token", base);
  url.searchParams.set("user", user);
  if (ttl) url.searchParams.set("ttl", ttl);
  const response = await fetch(url);
  assert.equal(response.status, 200, "GET /token");
  return (await response.json()).token;
}

// member returns a ready client of a user.
const member = async (user) => new Peer(socketURL("/ws", { token: await token(user) })).ready();

const room = () => "chat:" + Math.random().toString(36).slice(2);

// ends expects a close: the code, the close frame's text and the explanation.
async function ends(peer, code, ...reasons) {
  const end = await peer.end();
  assert.equal(end.code, code, "close code");
  assert.ok(reasons.includes(end.reason), `close text ${end.reason}, want ${reasons.join(" or ")}`);
  assert.equal(end.closing?.data.code, code, "code in the closing message");
  assert.equal(end.closing.data.reason, end.reason, "reason in the closing message");
}

const steps = {
  async "query token connects"() {
    const peer = await member("query");
    assert.ok(peer.limits.message_bytes > 0);
    await peer.leave();
  },
  async "Authorization header connects"() {
    const headers = { Authorization: "Bearer " + (await token("header")) };
    await (await new Peer(ws, [], { headers }).ready()).leave();
  },
  async "subprotocol token connects, and only the protocol is echoed"() {
    const peer = await new Peer(ws, ["realtime.v1", "bearer." + (await token("sub"))]).ready();
    assert.equal(peer.socket.protocol, "realtime.v1");
    await peer.leave();
  },
  async "first message authenticates"() {
    const peer = await new Peer(ws).open();
    peer.send("global", "auth", { token: await token("first") }, "a");
    const success = await peer.next("auth_success");
    assert.equal(success.data.user, "first");
    assert.equal(success.ref, "a");
    assert.equal(peer.all[0].type, "connected", "connected comes first");
    await peer.leave();
  },
  async "ping is answered with its timestamp"() {
    const peer = await member("ping");
    const timestamp = Date.now();
    peer.send("global", "ping", { timestamp });
    assert.equal((await peer.next("pong")).data.timestamp, timestamp);
    await peer.leave();
  },
  async "echo, fail and boom are answered, and the connection stays"() {
    const peer = await member("events");
    const channel = room();
    await peer.join(channel);
    peer.send(channel, "echo", { deep: ["ü", 1.5, null] }, "1");
    assert.deepEqual((await peer.next("reply")).data.response, { deep: ["ü", 1.5, null] });
    peer.send(channel, "fail", null, "2");
    assert.equal((await peer.next("error")).ref, "2");
    peer.send(channel, "boom", null, "3");
    const boom = await peer.next("error");
    assert.equal(boom.ref, "3");
    assert.equal(boom.data.code, "internal");
    peer.send(channel, "echo", "still here", "4");
    assert.equal((await peer.next("reply")).data.response, "still here");
    await peer.leave();
  },
  async "a sleeping handler delays no ping"() {
    const peer = await member("sleeper");
    const channel = room();
    await peer.join(channel);
    peer.send(channel, "sleep", null, "s");
    peer.send("global", "ping", { timestamp: 1 });
    await peer.next("pong");
    await peer.next("reply", (m) => m.ref === "s");
    const order = peer.all.map((m) => m.type);
    assert.ok(order.indexOf("pong") < order.indexOf("reply"), "pong before the sleeper's reply");
    await peer.leave();
  },
  async "a private channel is its user's only"() {
    const peer = await member("alice");
    await peer.join("private:alice");
    await assert.rejects(peer.join("private:bob"), /forbidden/);
    await peer.leave();
  },
  async "three clients, one stalled and then dead: the others get everything in order"() {
    const channel = room();
    const [a, b, dead] = await Promise.all(["a", "b", "dead"].map(member));
    for (const peer of [a, b, dead]) await peer.join(channel);
    dead.socket.pause(); // it reads nothing any more
    for (let n = 1; n <= 20; n++) a.send(channel, "message", { n });
    for (const peer of [a, b]) await peer.next("message", (m) => m.data.n === 20);
    dead.socket.terminate(); // and now its socket is gone, without a close frame
    for (let n = 21; n <= 40; n++) b.send(channel, "message", { n });
    for (const peer of [a, b]) {
      await peer.next("message", (m) => m.data.n === 40);
      const got = peer.all.filter((m) => m.type === "message").length;
      assert.equal(got, 40, "messages");
    }
    const offsets = (peer) => peer.all.filter((m) => m.type === "message").map((m) => [m.offset, m.data.n]);
    assert.deepEqual(offsets(a), offsets(b), "the same order for both");
    await Promise.all([a.leave(), b.leave()]);
  },
  async "what was missed is replayed after a reconnect"() {
    const channel = room();
    const [stays, goes] = await Promise.all(["stays", "goes"].map(member));
    await stays.join(channel);
    const { epoch } = await goes.join(channel);
    stays.send(channel, "message", { n: 1 });
    const seen = await goes.next("message");
    goes.socket.terminate();
    for (let n = 2; n <= 5; n++) stays.send(channel, "message", { n });
    await stays.next("message", (m) => m.data.n === 5);

    const back = await member("goes");
    const join = await back.join(channel, { recover: { epoch, offset: seen.offset } });
    assert.equal(join.recovery, "replayed");
    assert.equal(join.epoch, epoch);
    await back.next("message", (m) => m.data.n === 5);
    const missed = back.all.filter((m) => m.type === "message");
    assert.deepEqual(missed.map((m) => m.data.n), [2, 3, 4, 5]);
    assert.deepEqual(missed.map((m) => m.offset), [2, 3, 4, 5].map((n) => seen.offset + n - 1));

    const again = await member("goes");
    assert.equal((await again.join(channel, { recover: { epoch, offset: join.offset } })).recovery, "complete");
    const lost = await member("goes");
    assert.equal((await lost.join(channel, { recover: { epoch: "no such epoch", offset: 1 } })).recovery, "reload");
    await Promise.all([stays, back, again, lost].map((peer) => peer.leave()));
  },
  async "POST /publish reaches a member"() {
    const channel = room();
    const peer = await member("worker");
    await peer.join(channel);
    const url = new URL("/publish", base);
    url.search = new URLSearchParams({ channel, type: "message" });
    const response = await fetch(url, { method: "POST", body: '{"from":"outside"}' });
    assert.ok(response.ok, `status ${response.status}`);
    assert.deepEqual((await peer.next("message")).data, { from: "outside" });
    await peer.leave();
  },
  async "flat: ping, message and user_response"() {
    const url = socketURL("/flat", { token: await token("flat") });
    const peer = await new Peer(url, ["realtime.flat"]).ready();
    assert.equal(peer.socket.protocol, "realtime.flat");
    peer.raw('{"type":"ping","timestamp":7}');
    assert.equal((await peer.next("pong")).timestamp, 7);
    peer.raw('{"type":"ping"}');
    assert.deepEqual(await peer.next("pong"), { type: "pong" });
    peer.raw('{"type":"message","text":"to all"}');
    assert.equal((await peer.next("message")).text, "to all");
    peer.raw('{"type":"user_response","session_id":"s1","response":"yes"}');
    assert.deepEqual(await peer.next("ack"), { type: "ack", session_id: "s1", status: "received" });
    await peer.leave();
  },
  async [`a bad token closes with ${authCode}`]() {
    await ends(new Peer(socketURL("/ws", { token: "not.a.token" })), authCode, "token_invalid");
  },
  async [`an expired token closes with ${authCode}`]() {
    await ends(new Peer(socketURL("/ws", { token: await token("late", "-1m") })), authCode, "token_expired");
  },
  async [`anything before the token closes with ${authCode}`]() {
    const peer = await new Peer(ws).open();
    peer.send("chat:lobby", "subscribe", {});
    await ends(peer, authCode, "unauthenticated");
  },
  async "a foreign origin closes with 4003"() {
    const peer = new Peer(socketURL("/ws", { token: await token("far") }), [], { origin: flags.origin });
    await ends(peer, 4003, "origin_not_allowed");
  },
  async "a flood closes with 4004, after soft answers"() {
    const peer = await member("flood");
    const { burst, messages_per_second: rate } = peer.limits;
    for (let i = 0; i < burst + rate + 50; i++) peer.send("global", "ping", i);
    await ends(peer, 4004, "rate_limited");
    const soft = peer.all.filter((m) => m.type === "error" && m.data.code === "rate_limited");
    assert.equal(soft.length, 10, "soft answers");
  },
  async "garbage closes with 4005, at the fifth"() {
    const peer = await member("garbage");
    for (let i = 0; i < 5; i++) peer.raw("this is not JSON");
    await ends(peer, 4005, "invalid_message");
  },
  async "an oversize message closes with 1009"() {
    const peer = await member("large");
    peer.send("global", "message", "x".repeat(peer.limits.message_bytes));
    await ends(peer, 1009, "message_too_large");
  },
};

let failed = 0;
for (const [name, step] of Object.entries(steps)) {
  const start = performance.now();
  let problem = "";
  try {
    await step();
  } catch (error) {
    failed++;
    problem = `\n        ${error.message.replaceAll("\n", "\n        ")}`;
  }
  const ms = Math.round(performance.now() - start);
  console.log(`${problem ? "FAIL" : "PASS"}  ${String(ms).padStart(6)} ms  ${name}${problem}`);
}
console.log(`${Object.keys(steps).length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0); // a failed step may have left sockets open
