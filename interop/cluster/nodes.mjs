// Two nodes of examples/cluster: the published Phoenix client is on one, a plain
// WebSocket of realtime.v1 on the other, and an editor of one document on each. What
// one does, the other sees, in one order:
//
//   node nodes.mjs http://127.0.0.1:8080
//
// Exit status 1 when a step fails.
import assert from "node:assert/strict";
import { Presence, Socket } from "phoenix";
import WebSocket from "ws";

const base = process.argv[2];
if (!base) {
  console.error("usage: node nodes.mjs BASE-URL");
  process.exit(2);
}
const PATIENCE = 20_000; // ms
const MANY = 50;
const ROOM = "room:interop", DOCUMENT = "document:cluster:interop";

// until waits until look returns something.
async function until(what, look) {
  for (const end = Date.now() + PATIENCE; ; ) {
    const got = await look();
    if (got) return got;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((done) => setTimeout(done, 10));
  }
}

async function step(name, act) {
  try {
    await act();
    console.log(`ok    ${name}`);
  } catch (error) {
    console.log(`FAIL  ${name}\n      ${error.stack}`);
    process.exit(1);
  }
}

const nodes = async () => (await (await fetch(base + "/cluster/state")).json()).nodes;
const [one, two] = await until("two nodes", async () => {
  const up = (await nodes()).filter(({ state }) => state === "up");
  return up.length >= 2 && up;
});
const token = async (user, document = "") => {
  const answer = await fetch(`${base}/token?${new URLSearchParams({ user, document })}`);
  return (await answer.json()).token;
};

// ---- the two clients --------------------------------------------------------------

const socket = new Socket(`http://${one.addr}/socket`, { transport: WebSocket, params: { token: await token("ada") } });

/** Native is a client of realtime.v1. */
class Native {
  messages = [];
  answers = new Map();
  #ref = 0;

  async connect(addr, user) {
    this.socket = new WebSocket(`ws://${addr}/ws`, ["realtime.v1", "bearer." + await token(user)]);
    this.socket.on("message", (text) => {
      const message = JSON.parse(text);
      this.messages.push(message);
      if (message.ref) this.answers.set(message.ref, message);
    });
    await until("connected", () => this.messages.some(({ type }) => type === "connected"));
  }

  send(channel, type, data) {
    const ref = String(++this.#ref);
    this.socket.send(JSON.stringify({ channel, type, data, ref }));
    return until(`the answer to ${type}`, () => this.answers.get(ref));
  }

  on(channel, ...types) { return this.messages.filter((m) => m.channel === channel && types.includes(m.type)); }
}

const native = new Native();
const events = []; // of the room, as the Phoenix client got them
let channel, presence;

// join joins a channel of the Phoenix client and returns the response.
const join = (channel) => new Promise((ok, bad) => channel.join().receive("ok", ok).receive("error", bad).receive("timeout", bad));
const push = (channel, event, payload) =>
  new Promise((ok, bad) => channel.push(event, payload).receive("ok", ok).receive("error", bad).receive("timeout", bad));

await step("the clients are on different nodes", async () => {
  socket.connect();
  channel = socket.channel(ROOM, {});
  channel.on("said", (payload) => events.push(payload));
  presence = new Presence(channel);
  assert.equal((await join(channel)).node, one.name);
  await native.connect(two.addr, "bob");
  const answer = await native.send(ROOM, "subscribe", {});
  assert.equal(answer.data.response.node, two.name);
});

await step("each sees the other", async () => {
  await until("both in the Phoenix client's list", () => presence.list((key) => key).sort().join() === "ada,bob");
  const seen = () => {
    const users = new Set();
    for (const { type, data } of native.on(ROOM, "presence_state", "presence_diff")) {
      for (const user of Object.keys(type === "presence_state" ? data : data.joins)) users.add(user);
    }
    return [...users].sort().join() === "ada,bob";
  };
  await until("both in the native client's list", seen);
});

await step("what both say at once has one order", async () => {
  await Promise.all(Array.from({ length: MANY }, (_, n) => [
    push(channel, "say", { text: `ada ${n}` }), native.send(ROOM, "say", { text: `bob ${n}` }),
  ]).flat());
  const said = () => native.on(ROOM, "said");
  await until("all events", () => events.length === 2 * MANY && said().length === 2 * MANY);
  assert.deepEqual(said().map(({ data }) => data), events);
  assert.deepEqual(said().map(({ offset }) => offset), Array.from({ length: 2 * MANY }, (_, n) => n + 1));
  for (const user of ["ada", "bob"]) {
    const own = events.filter((event) => event.user === user);
    assert.deepEqual(own.map(({ text }) => text), Array.from({ length: MANY }, (_, n) => `${user} ${n}`));
    assert.ok(own.every(({ node }) => node === (user === "ada" ? one : two).name), "the node on which it was said");
  }
});

// ---- the document -----------------------------------------------------------------

const request = async (user) => ({
  tenantId: "cluster", id: "interop", token: await token(user, "interop"), mode: "write", versions: ["^0.1.0"],
  client: { mode: "write", details: { capabilities: { interactive: true } }, permission: [], user: { id: "" }, scopes: [] },
});
const messages = { ada: new Map(), bob: new Map() }; // number -> message, as it came
const signals = { ada: [], bob: [] };
const ids = {};
let paper;

function took(who, event, payload) {
  if (event === "connect_document_success") {
    ids[who] = payload.clientId;
    took(who, "op", { op: payload.initialMessages });
  }
  if (event === "op") for (const m of payload.op) messages[who].set(m.sequenceNumber, m);
  if (event === "signal") signals[who].push(payload);
  assert.ok(!["nack", "connect_document_error"].includes(event), JSON.stringify(payload));
}

const ops = (who) => [...messages[who].values()].filter(({ type }) => type === "op");

await step("an editor on each node is in one document", async () => {
  paper = socket.channel(DOCUMENT, {});
  for (const event of ["connect_document_success", "connect_document_error", "op", "signal", "nack"]) {
    paper.on(event, (payload) => took("ada", event, payload));
  }
  await join(paper);
  await push(paper, "connect_document", await request("ada"));
  native.socket.on("message", (text) => {
    const { channel, type, data } = JSON.parse(text);
    if (channel === DOCUMENT) took("bob", type, data);
  });
  await native.send(DOCUMENT, "subscribe", {});
  await native.send(DOCUMENT, "connect_document", await request("bob"));
  await until("both joins at both", () => messages.ada.size === 2 && messages.bob.size === 2);
});

await step("what both edit at once has one order", async () => {
  const submission = (who, n) => ({
    clientId: ids[who],
    messageBatches: [[{ type: "op", clientSequenceNumber: n + 1, referenceSequenceNumber: 2, contents: `${who} ${n}` }]],
  });
  for (let n = 0; n < MANY; n++) {
    paper.push("submitOp", submission("ada", n));
    native.socket.send(JSON.stringify({ channel: DOCUMENT, type: "submitOp", data: submission("bob", n) }));
  }
  await until("all ops", () => ops("ada").length === 2 * MANY && ops("bob").length === 2 * MANY);
  const [a, b] = ["ada", "bob"].map((who) => JSON.stringify([...messages[who]].sort(([x], [y]) => x - y)));
  assert.equal(a, b);
  assert.deepEqual([...messages.ada.keys()].sort((x, y) => x - y), Array.from({ length: 2 * MANY + 2 }, (_, n) => n + 1));
  for (const who of ["ada", "bob"]) {
    assert.deepEqual(ops("ada").filter(({ clientId }) => clientId === ids[who]).map(({ contents }) => contents),
      Array.from({ length: MANY }, (_, n) => `${who} ${n}`));
  }
});

await step("a signal crosses the nodes", async () => {
  native.socket.send(JSON.stringify({
    channel: DOCUMENT, type: "submitSignal", data: { clientId: ids.bob, contentBatches: [[{ content: '"hello"' }]] },
  }));
  await until("the signal", () => signals.ada.some(({ clientId, content }) => clientId === ids.bob && content === '"hello"'));
});

await step("who was on a killed node is gone from the other", async () => {
  socket.reconnectTimer.reset(); // the stock client would come back to nobody
  const killed = await fetch(`${base}/cluster/nodes/${one.name}/kill`, { method: "POST" });
  assert.equal(killed.status, 204);
  await until("the leave in the room", () => native.on(ROOM, "presence_diff").some(({ data }) => "ada" in (data.leaves ?? {})));
  await until("the leave in the document", () =>
    [...messages.bob.values()].some(({ type, data }) => type === "leave" && JSON.parse(data) === ids.ada));
  const answer = await native.send(ROOM, "say", { text: "alone" });
  assert.equal(answer.type, "reply");
});

process.exit(0);
