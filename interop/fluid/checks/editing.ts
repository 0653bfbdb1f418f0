// Checks 124, 127 and 129: what works when nothing goes wrong.
import assert from "node:assert/strict";
import { setImmediate as tick } from "node:timers/promises";
import { until, type Case } from "../case.ts";
import type { Check } from "./check.ts";

const MANY = 1500; // more messages than a server keeps in memory
const FEW = 20; // requests for messages that were missed

/** edits has two containers edit one document, of that name, both ways. */
async function edits(c: Case, name = ""): Promise<void> {
  const ann = await c.create("ann", name, (pad) => {
    pad.board.set("before", "attach");
    pad.text.insertText(0, "hello");
  });
  if (name !== "") assert.equal(c.document, name);
  const bob = await c.load("bob");
  assert.equal(bob.pad.board.get("before"), "attach");
  assert.equal(bob.pad.text.getText(), "hello");

  ann.pad.board.set("ann", { deep: [1, 2 ** 40, null, "ü €"], snake_case: true });
  bob.pad.board.set("bob", 2);
  await c.settled();
  assert.deepEqual(bob.pad.board.get("ann"), { deep: [1, 2 ** 40, null, "ü €"], snake_case: true });
  assert.equal(ann.pad.board.get("bob"), 2);

  for (let i = 0; i < 20; i++) { // at once, and at the same places
    ann.pad.text.insertText(0, String(i % 10));
    bob.pad.text.insertText(bob.pad.text.getLength(), String(i % 10));
    if (i % 5 === 4) bob.pad.text.removeRange(0, 1);
    ann.pad.board.set("both", `ann ${i}`);
    bob.pad.board.set("both", `bob ${i}`);
    await tick();
  }
  await c.settled();

  ann.pad.signal("from ann");
  bob.pad.signal("from bob");
  await until("signals", () => ann.pad.signals.length > 0 && bob.pad.signals.length > 0);
  assert.deepEqual([ann.pad.signals, bob.pad.signals], [["from bob"], ["from ann"]]);
  const seen = [ann, bob].map(({ container }) => Object.fromEntries([...container.audience.getMembers()].sort()));
  assert.deepEqual(seen[0], seen[1], "audience");
  assert.deepEqual(Object.values(seen[0]!).map(({ user, mode }) => [user.id, mode]).sort(), [["ann", "write"], ["bob", "write"]]);
}

/** many has a container load a document of many messages and no summary. */
async function many(c: Case): Promise<void> {
  const ann = await c.create("ann");
  for (let i = 0; i < MANY; i++) {
    ann.pad.board.set(`key ${i % 100}`, i);
    await tick(); // each turn is a message of its own
  }
  await c.settled();
  assert.ok((await c.deltas()).length > MANY);

  const bob = await c.load("bob");
  await c.settled();
  assert.equal(bob.pad.board.get("key 99"), MANY - 1);
  const asked = bob.requests.filter((request) => request.includes("/deltas/"));
  assert.ok(asked.length < FEW, `${asked.length} requests:\n${asked.slice(0, FEW).join("\n")}`);
  await c.writing(ann, bob);
}

const own = () => `notes:${Math.random().toString(36).slice(2)} ü/1`;

export const checks: Check[] = [
  { id: 124, name: "create, attach, load, edit both ways", run: edits },
  { id: 124, name: "in a document with a name of its own", run: (c) => edits(c, own()) },
  { id: 124, name: "with what levee-driver does differently", variant: { levee: true }, run: edits },
  { id: 127, name: `${MANY} messages and no summary`, run: many },
  { id: 127, name: `${MANY} messages, and levee-driver's requests`, variant: { levee: true }, run: many },
  { id: 129, name: "create, attach, load, edit both ways by msgpack", variant: { format: "msgpack" }, run: edits },
  { id: 129, name: "by msgpack, with what levee-driver does differently", variant: { format: "msgpack", levee: true }, run: edits },
];
