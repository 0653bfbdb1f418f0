// Check 132: the Presence object of Phoenix's client.
import assert from "node:assert/strict";
import { answer, ok, sleep, until } from "./case.mjs";
import { phoenix } from "./clients.mjs";

// present joins with a key and returns the channel with its Presence object.
async function present(c, socket, key, meta) {
  const channel = socket.channel(c.pres, { key, meta });
  const presence = new c.client.Presence(channel);
  const member = { channel, presence, joins: [], leaves: [] };
  presence.onJoin((key, before) => member.joins.push(before ? `${key} again` : key));
  presence.onLeave((key, left) => member.leaves.push(left.metas.length ? `${key} in part` : key));
  assert.deepEqual(await answer(channel.join()), ok());
  return member;
}

// list is what the object shows: keys with their numbers.
const list = ({ presence }) =>
  Object.fromEntries(presence.list((key, { metas }) => [key, metas.map(({ n }) => n)]));

async function shows(member, want) {
  const text = JSON.stringify(want);
  await until(`${text}, not ${JSON.stringify(list(member))}`, () => JSON.stringify(list(member)) === text);
}

export const checks = [
  {
    id: 132, name: "presence shows no ghost", clients: phoenix,
    async run(c) {
      const ada = await present(c, c.socket(), "ada", { n: 1 });
      await shows(ada, { ada: [1] });
      const relay = await c.relay();
      const bob = await present(c, c.socket({ base: relay.base }), "bob", { n: 2 });
      await shows(ada, { ada: [1], bob: [2] });
      await shows(bob, { ada: [1], bob: [2] });

      assert.deepEqual(await answer(bob.channel.push("update", { n: 3 })), ok());
      await shows(ada, { ada: [1], bob: [3] });
      const twin = await present(c, c.socket(), "bob", { n: 4 });
      await shows(ada, { ada: [1], bob: [3, 4] });

      relay.stop();
      await shows(ada, { ada: [1], bob: [4] });
      assert.deepEqual(await answer(twin.channel.leave()), ok());
      await shows(ada, { ada: [1] });
      await sleep(500);
      assert.deepEqual(list(ada), { ada: [1] }, "later");
      assert.equal(ada.leaves.filter((key) => key === "bob").length, 1, "times that bob left for good");

      const cleo = await present(c, c.socket(), "cleo", { n: 5 });
      await shows(cleo, { ada: [1], cleo: [5] });
      assert.deepEqual(await answer(ada.channel.push("untrack", {})), ok());
      await shows(cleo, { cleo: [5] });
    },
  },
];
