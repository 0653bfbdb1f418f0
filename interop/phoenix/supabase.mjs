// Section 8 of the protocol: the clients of Supabase Realtime.
import assert from "node:assert/strict";
import { bytes, sleep, unbytes, until } from "./case.mjs";
import { atLeast, once, supabase } from "./clients.mjs";

const BINARY = "2.91.0"; // from here on clients speak V2 and broadcast bytes

// member subscribes to the topic of the case and notes what comes.
async function member(c, client, { broadcast = {}, key = "", topic = c.id } = {}) {
  const channel = client.channel(topic, { config: { broadcast, presence: { key } } });
  const m = { client, channel, statuses: [], got: [], joins: [], leaves: [] };
  channel.on("broadcast", { event: "*" }, ({ event, payload }) => m.got.push([event, unbytes(payload)]));
  channel.on("presence", { event: "sync" }, () => { m.synced = true; });
  channel.on("presence", { event: "join" }, ({ key }) => m.joins.push(key));
  channel.on("presence", { event: "leave" }, ({ key }) => m.leaves.push(key));
  channel.subscribe((status) => m.statuses.push(status));
  await until("SUBSCRIBED", () => m.statuses.includes("SUBSCRIBED"));
  await until("the first sync", () => m.synced);
  return m;
}

const subscribed = (m) => m.statuses.filter((status) => status === "SUBSCRIBED").length;
const say = (m, event, payload) => m.channel.send({ type: "broadcast", event, payload });

async function hears(m, ...want) {
  await until(`${want.length} broadcasts`, () => m.got.length >= want.length);
  assert.deepEqual(m.got, want);
  m.got.length = 0;
}

// silent expects nothing in the time in which anything would have come.
async function silent(...members) {
  await sleep(300);
  for (const m of members) assert.deepEqual(m.got, []);
}

// shows waits until the presence state is keys with their numbers.
async function shows(m, want) {
  const text = JSON.stringify(want);
  const seen = () => Object.fromEntries(Object.entries(m.channel.presenceState())
    .sort(([a], [b]) => a.localeCompare(b)).map(([key, metas]) => [key, metas.map(({ n }) => n)]));
  await until("presence " + text, () => JSON.stringify(seen()) === text);
  for (const metas of Object.values(m.channel.presenceState())) {
    for (const meta of metas) assert.equal(typeof meta.presence_ref, "string", "presence_ref");
  }
}

async function broadcasts(c) {
  const other = await member(c, c.supabase());
  for (const self of [false, true]) {
    for (const ack of [false, true]) {
      const m = await member(c, c.supabase(), { broadcast: { self, ack } });
      const payload = { self, ack, text: "hé 🎉" };
      assert.equal(await say(m, "cursor", payload), "ok");
      await hears(other, ["cursor", payload]);
      await hears(m, ...(self ? [["cursor", payload]] : []));
      await silent(m, other);
      assert.equal(await m.client.removeChannel(m.channel), "ok");
    }
  }
}

async function sendsBytes(c) {
  const [a, b] = [await member(c, c.supabase(), { broadcast: { self: true } }), await member(c, c.supabase())];
  const old = await member(c, c.supabase({ client: supabase[0] }));
  assert.ok(!atLeast(supabase[0].version, BINARY), "the oldest client does not know bytes");
  for (const payload of [bytes(0, 1, 255), bytes()]) {
    await say(a, "raw", payload);
    for (const m of [a, b]) await hears(m, ["raw", unbytes(payload)]);
  }
  await silent(a, b, old);
  await say(a, "text", { n: 1 });
  for (const m of [a, b, old]) await hears(m, ["text", { n: 1 }]);
}

async function tracks(c) {
  const relay = await c.relay();
  const a = await member(c, c.supabase({ base: relay.base }), { key: "ada" });
  const b = await member(c, c.supabase(), { key: "bob" });
  for (const m of [a, b]) await shows(m, {});
  assert.equal(await a.channel.track({ n: 1 }), "ok");
  for (const m of [a, b]) await shows(m, { ada: [1] });
  assert.equal(await b.channel.track({ n: 2 }), "ok");
  for (const m of [a, b]) await shows(m, { ada: [1], bob: [2] });
  assert.deepEqual([a.joins.sort(), b.joins.sort()], [["ada", "bob"], ["ada", "bob"]]);

  assert.equal(await a.channel.track({ n: 3 }), "ok");
  for (const m of [a, b]) await shows(m, { ada: [3], bob: [2] });
  const late = await member(c, c.supabase(), { key: "cleo" });
  await shows(late, { ada: [3], bob: [2] });

  assert.equal(await b.channel.untrack(), "ok");
  for (const m of [a, b, late]) await shows(m, { ada: [3] });
  relay.stop(); // and ada is gone, without a word
  for (const m of [b, late]) await shows(m, {});
  await sleep(300);
  await shows(late, {});
  assert.equal(late.leaves.at(-1), "ada", "the last to leave");
}

async function refreshes(c) {
  const m = await member(c, c.supabase(), { broadcast: { self: true, ack: true } });
  await m.client.setAuth("a.fresh.token");
  await until("access_token", () => c.sent.some((frame) => frame.includes('"access_token"') && frame.includes("a.fresh.token")));
  assert.equal(await say(m, "after", {}), "ok");
  await hears(m, ["after", {}]);
  assert.deepEqual(m.statuses, ["SUBSCRIBED"]);
}

async function ignored(c) {
  const m = await member(c, c.supabase(), { broadcast: { self: true } });
  assert.equal(await m.channel.send({ type: "no such event", event: "x", payload: {} }, { timeout: 400 }), "timed out");
  await say(m, "after", {});
  await hears(m, ["after", {}]);
  assert.deepEqual(m.statuses, ["SUBSCRIBED"]);
}

async function rejoins(c) {
  const relay = await c.relay();
  const m = await member(c, c.supabase({ base: relay.base }), { broadcast: { self: true }, key: "ada" });
  const watcher = await member(c, c.supabase(), { key: "w" });
  await m.channel.track({ n: 1 });
  await shows(watcher, { ada: [1] });
  relay.kill();
  await until("SUBSCRIBED again", () => subscribed(m) === 2);
  await shows(watcher, {});
  assert.equal(await m.channel.track({ n: 2 }), "ok");
  for (const one of [m, watcher]) await shows(one, { ada: [2] });
  await say(m, "back", {});
  for (const one of [m, watcher]) await hears(one, ["back", {}]);
  assert.equal(await c.members("realtime:" + c.id), 2, "members");
}

async function leaves(c) {
  const m = await member(c, c.supabase());
  await member(c, m.client, { topic: c.id + "-stays" }); // without any channel, a client disconnects
  assert.equal(await m.client.removeChannel(m.channel), "ok");
  await c.left("realtime:" + c.id);
  assert.equal(m.statuses.at(-1), "CLOSED");
  const again = await member(c, m.client, { broadcast: { self: true } });
  await say(again, "again", {});
  await hears(again, ["again", {}]);
}

// meet has every version of the client, and both protocols of those that speak two.
async function meet(c) {
  const kinds = supabase.flatMap((client) => (atLeast(client.version, BINARY) ? [{ client }, { client, vsn: "1.0.0" }] : [{ client }]));
  const all = [];
  for (const [n, kind] of kinds.entries()) all.push(await member(c, c.supabase(kind), { broadcast: { self: true }, key: `k${n}` }));
  for (const [n, m] of all.entries()) {
    await say(m, "hello", { n });
    for (const other of all) await hears(other, ["hello", { n }]);
  }
  for (const [n, m] of all.entries()) assert.equal(await m.channel.track({ n }), "ok");
  const want = Object.fromEntries(all.map((_, n) => [`k${n}`, [n]]));
  for (const m of all) await shows(m, want);
  for (const m of all) assert.deepEqual(m.statuses, ["SUBSCRIBED"]);
}

const each = { id: "supabase", clients: supabase };

export const checks = [
  { ...each, name: "broadcasts follow the flags self and ack", run: broadcasts },
  { ...each, name: "bytes are broadcast, and spare those who cannot read them", since: BINARY, run: sendsBytes },
  { ...each, name: "presence is tracked, updated, untracked, and ends with the connection", run: tracks },
  { ...each, name: "a fresh token is taken", run: refreshes },
  { ...each, name: "an event of no known name is ignored", run: ignored },
  { ...each, name: "after a killed TCP connection it is subscribed again", run: rejoins },
  { ...each, name: "a removed channel may be subscribed again", run: leaves },
  { ...each, name: "all versions and both protocols meet in a topic", clients: once, run: meet },
];
