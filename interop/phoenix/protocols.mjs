// One topic for the clients of all protocols.
import assert from "node:assert/strict";
import { answer, ok, until } from "./case.mjs";
import { once, phoenix, supabase } from "./clients.mjs";

// What makes Phoenix's client speak V1, as its releases before 1.3 did.
const V1 = {
  vsn: "1.0.0",
  encode: (message, done) => done(JSON.stringify(message)),
  decode: (text, done) => done(JSON.parse(text)),
};

// phoenixMembers returns a channel of every version of the client, in both
// protocols, by name.
async function phoenixMembers(c, topic, params) {
  const members = {};
  for (const client of phoenix) {
    for (const [name, options] of [["V1", V1], ["V2", {}]]) {
      const key = `${client.version} ${name}`;
      const channel = c.socket({ client, ...options }).channel(topic, params(key));
      members[key] = { channel, got: [], presence: new client.Presence(channel) };
      channel.on("shout", (payload) => members[key].got.push(payload));
      assert.deepEqual(await answer(channel.join()), ok(), key);
    }
  }
  return members;
}

async function native(c, topic, params) {
  const socket = await c.plain("/ws", "realtime.v1");
  socket.send(JSON.stringify({ channel: topic, type: "subscribe", data: { params }, ref: "1" }));
  await until("subscription_success", () => socket.got.some(({ type }) => type === "subscription_success"));
  return socket;
}

async function flat(c, topic, params) {
  const socket = await c.plain("/flat", "realtime.flat");
  socket.send(JSON.stringify({ type: "enter", topic, ...params }));
  await until("entered", () => socket.got.some(({ type }) => type === "entered"));
  return socket;
}

async function onePublish(c) {
  const members = await phoenixMembers(c, c.room, () => ({}));
  const [v1, plain] = [await native(c, c.room, {}), await flat(c, c.room, {})];
  const publish = {
    "POST /admin/broadcast": (body) => c.post("broadcast", { topic: c.room, event: "shout" }, JSON.stringify(body)),
    "realtime.v1": (body) => v1.send(JSON.stringify({ channel: c.room, type: "shout", data: body, ref: "2" })),
    "realtime.flat": (body) => plain.send(JSON.stringify({ type: "say", topic: c.room, event: "shout", payload: body })),
  };
  for (const [name, { channel }] of Object.entries(members)) publish[name] = (body) => channel.push("shout", body);

  const want = [];
  for (const [name, send] of Object.entries(publish)) {
    want.push({ from: name });
    await send({ from: name });
    const heard = () => ({
      ...Object.fromEntries(Object.entries(members).map(([name, { got }]) => [name, got])),
      "realtime.v1": v1.got.filter(({ type }) => type === "shout").map(({ channel, data }) => (channel === c.room ? data : channel)),
      "realtime.flat": plain.got.filter(({ type }) => type === "shout").map(({ from }) => ({ from })),
    });
    await until(`the publish of ${name}`, () => Object.values(heard()).every((got) => got.length >= want.length));
    for (const [receiver, got] of Object.entries(heard())) assert.deepEqual(got, want, receiver);
  }
}

// plainState applies what presence has told a client without a library.
function plainState(got, fields) {
  const keys = new Map(); // key → Set of phx_ref
  const add = (all) => {
    for (const [key, { metas }] of Object.entries(all)) {
      for (const { phx_ref: ref } of metas) keys.set(key, (keys.get(key) ?? new Set()).add(ref));
    }
  };
  for (const message of got) {
    if (message.type === "presence_state") {
      keys.clear();
      add(fields(message));
    }
    if (message.type !== "presence_diff") continue;
    const { joins, leaves } = fields(message);
    add(joins);
    for (const [key, { metas }] of Object.entries(leaves)) {
      for (const { phx_ref: ref } of metas) keys.get(key)?.delete(ref);
      if (keys.get(key)?.size === 0) keys.delete(key);
    }
  }
  return [...keys.keys()].sort();
}

async function onePresence(c) {
  const person = (key) => ({ key, meta: { n: 1 } });
  const members = await phoenixMembers(c, c.pres, person);
  const v1 = await native(c, c.pres, person("nina"));
  const plain = await flat(c, c.pres, person("fred"));
  const seen = () => ({
    ...Object.fromEntries(Object.entries(members).map(([name, { presence }]) => [name, presence.list((key) => key).sort()])),
    nina: plainState(v1.got, ({ data }) => data),
    fred: plainState(plain.got, ({ type, ...fields }) => fields),
  });
  const agree = async (want) => {
    const text = JSON.stringify(want);
    await until(text, () => Object.values(seen()).every((keys) => JSON.stringify(keys) === text))
      .catch((error) => assert.deepEqual(seen(), {}, error.message));
  };
  const everyone = Object.keys(seen()).sort();
  await agree(everyone);
  const [gone] = Object.keys(members);
  assert.deepEqual(await answer(members[gone].channel.leave()), ok());
  delete members[gone];
  await agree(everyone.filter((key) => key !== gone));
}

// supabaseTopics shows that Supabase's clients share their topics, too.
async function supabaseTopics(c) {
  const topic = "realtime:" + c.id;
  const heard = {};
  const ready = [];
  for (const client of supabase) {
    const got = heard[client.version] = [];
    ready.push(new Promise((resolve) => c.supabase({ client }).channel(c.id)
      .on("broadcast", { event: "*" }, ({ event, payload }) => got.push([event, payload]))
      .subscribe((status) => { if (status === "SUBSCRIBED") resolve(); })));
  }
  await Promise.all(ready);
  const v1 = await native(c, topic, {});
  const channel = await c.joined(c.socket({ client: phoenix.at(-1) }), topic);
  heard.phoenix = [];
  channel.on("broadcast", ({ event, payload }) => heard.phoenix.push([event, payload]));
  await c.post("broadcast", { topic, event: "broadcast" }, '{"type":"broadcast","event":"news","payload":{"n":1}}');
  await until("the news", () => Object.values(heard).every((got) => got.length > 0) && v1.got.some(({ type }) => type === "broadcast"));
  for (const [name, got] of Object.entries(heard)) assert.deepEqual(got, [["news", { n: 1 }]], name);
  assert.deepEqual(v1.got.find(({ type }) => type === "broadcast").data, { type: "broadcast", event: "news", payload: { n: 1 } });
}

const each = { id: "protocols", clients: once };

export const checks = [
  { ...each, name: "one publish reaches every protocol, whoever publishes", run: onePublish },
  { ...each, name: "presence shows every protocol to each other", run: onePresence },
  { ...each, name: "Supabase's topics are open to the others", run: supabaseTopics },
];
