// Checks 120 to 126: the channels of Phoenix's client.
import assert from "node:assert/strict";
import { answer, bytes, ok, sleep, unbytes, until } from "./case.mjs";
import { phoenix } from "./clients.mjs";

const ECHO = { text: "hé 🎉", n: 1 };

// seconds expects what a timer of the client decides, on a machine that may be busy.
function seconds(ms, want, what) {
  assert.ok(ms > want * 500 && ms < want * 1000 + 3000, `${what} after ${Math.round(ms)} ms, want ${want} s`);
}

const joins = (c) => c.sent.filter((frame) => frame.includes('"phx_join"')).length;

export const checks = [
  {
    id: 120, name: "a push before the socket is open arrives", clients: phoenix,
    async run(c) {
      const socket = c.socket();
      const channel = socket.channel(c.room);
      const join = answer(channel.join());
      const echo = answer(channel.push("echo", ECHO));
      assert.equal(socket.isConnected(), false, "connected");
      assert.deepEqual(await join, ok());
      assert.deepEqual(await echo, ok(ECHO));
      assert.equal(channel.state, "joined");
    },
  },
  {
    id: 121, name: "bytes are pushed, answered and broadcast", clients: phoenix,
    async run(c) {
      const channels = await Promise.all([c.socket(), c.socket()].map((socket) => c.joined(socket)));
      const [a, b] = channels;
      const got = [];
      a.on("binpush", (payload) => got.push(unbytes(payload)));
      for (const channel of channels) channel.on("binb", (payload) => got.push(unbytes(payload)));
      const { status, response } = await answer(a.push("bin", bytes(1, 255)));
      assert.deepEqual([status, unbytes(response)], ["ok", ["bytes", 1, 255, 3, 4]]);
      assert.deepEqual(got, [["bytes", 0, 1]]);
      assert.deepEqual(unbytes((await answer(a.push("bin", bytes()))).response), ["bytes", 3, 4]);
      assert.deepEqual(await answer(b.push("bin_shout", {})), ok());
      await until("both broadcasts", () => got.length === 4);
      assert.deepEqual(got.slice(2), [["bytes", 7], ["bytes", 7]]);
    },
  },
  {
    id: 122, name: "a leave closes once", clients: phoenix,
    async run(c) {
      const socket = c.socket();
      const channel = await c.joined(socket);
      let closes = 0;
      channel.onClose(() => closes++);
      assert.equal(await c.members(c.room), 1, "members");
      assert.deepEqual(await answer(channel.leave()), ok());
      await sleep(300);
      assert.equal(closes, 1, "calls of onClose");
      assert.deepEqual(socket.channels, []);
      await c.left(c.room);
      assert.equal(socket.isConnected(), true, "connected");
    },
  },
  {
    id: 123, name: "a crashed channel is joined again", clients: phoenix,
    async run(c) {
      const channel = await c.joined(c.socket());
      const errors = [];
      channel.onError((reason) => errors.push(reason));
      channel.push("boom", {});
      await until("onError", () => errors.length > 0);
      const start = performance.now();
      await until("the next join", () => channel.count === 2);
      seconds(performance.now() - start, 1, "joined again");
      assert.deepEqual(errors, [{ reason: "channel_crash" }]);
      assert.equal(joins(c), 2, "joins sent");
      assert.deepEqual(await answer(channel.push("echo", ECHO)), ok(ECHO));
      assert.equal(await c.members(c.room), 1, "members");
    },
  },
  {
    id: 124, name: "a stopped channel stays closed", clients: phoenix,
    async run(c) {
      const channel = await c.joined(c.socket());
      let closes = 0;
      let errors = 0;
      channel.onClose(() => closes++);
      channel.onError(() => errors++);
      channel.push("stop", {});
      await until("onClose", () => closes > 0);
      await sleep(5000);
      assert.deepEqual({ state: channel.state, closes, errors, joins: channel.count }, { state: "closed", closes: 1, errors: 0, joins: 1 });
      assert.equal(joins(c), 1, "joins sent");
      assert.equal(await c.members(c.room), 0, "members");
    },
  },
  {
    id: 125, name: "a refused join is tried again after 1, 2 and 5 s", clients: phoenix,
    async run(c) {
      const channel = c.socket().channel(c.room, { deny: "not today" });
      const refusals = [];
      let admitted = false;
      channel.join()
        .receive("error", (response) => refusals.push({ at: performance.now(), response }))
        .receive("ok", () => { admitted = true; });
      for (const [n, want] of [[1, 0], [2, 1], [3, 2], [4, 5]]) {
        await until(`refusal ${n}`, () => refusals.length >= n);
        if (n > 1) seconds(refusals[n - 1].at - refusals[n - 2].at, want, `refusal ${n}`);
      }
      for (const { response } of refusals) assert.deepEqual(response, { reason: "not today" });
      assert.equal(admitted, false, "admitted");
      assert.equal(joins(c), 4, "joins sent");
      assert.equal(await c.members(c.room), 0, "members");
    },
  },
  {
    id: 126, name: "a second channel object takes the topic over", clients: phoenix,
    async run(c) {
      const socket = c.socket();
      const first = await c.joined(socket);
      let closes = 0;
      first.onClose(() => closes++);
      const second = await c.joined(socket);
      assert.deepEqual([first.state, second.state, closes], ["closed", "joined", 1]);
      const got = [];
      for (const channel of [first, second]) channel.on("shout", () => got.push(channel === second ? "second" : "first"));
      assert.deepEqual(await answer(second.push("shout", ECHO)), ok());
      await sleep(300);
      assert.deepEqual(got, ["second"]);
      assert.equal(second.state, "joined", "later");
      assert.equal(await c.members(c.room), 1, "members");
    },
  },
];
