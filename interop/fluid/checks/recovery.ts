// Checks 125 and 126: a connection is lost, an edit is not.
import assert from "node:assert/strict";
import { setImmediate as tick } from "node:timers/promises";
import { ConnectionState } from "@fluidframework/container-loader/legacy";
import { until, type Case, type Editor } from "../case.ts";
import type { Check } from "./check.ts";

/** pair returns two containers that write. */
async function pair(c: Case): Promise<[Editor, Editor]> {
  const ann = await c.create("ann");
  const bob = await c.load("bob");
  await c.writing(ann, bob);
  return [ann, bob];
}

/** recovers waits for an edit of ann's to survive, in a connection with a new clientId. */
async function recovers(c: Case, ann: Editor, bob: Editor, key: string, before: string): Promise<void> {
  await until(`the edit ${key} to arrive`, () => c.problems.length > 0 || bob.pad.board.has(key));
  await c.settled();
  assert.notEqual(ann.container.clientId, before, "clientId after the connection was lost");
  assert.equal(bob.pad.board.get(key), key);
  const text = bob.pad.text.getText();
  assert.equal(text.split(`[${key}]`).length, 2, `edit ${key} is in the text once: ${text}`);
}

/** edit leaves a trace that shows if it was applied twice. */
function edit({ pad }: Editor, key: string): void {
  pad.board.set(key, key);
  pad.text.insertText(0, `[${key}]`);
}

async function nackedForGap(c: Case): Promise<void> {
  const [ann, bob] = await pair(c);
  const before = ann.container.clientId!;
  ann.faults.gap();
  edit(ann, "gap");
  await recovers(c, ann, bob, "gap", before);
  assert.deepEqual(ann.faults.nacks.map(({ content, nacks }) => [content.code, content.message, nacks[0].content.code]),
    [[400, "Gap detected in incoming op", 400]]);
}

const nacked = (code: number, type: string, retryAfter?: number) => async (c: Case): Promise<void> => {
  const [ann, bob] = await pair(c);
  const before = ann.container.clientId!;
  const content = { code, type, message: "injected", ...(retryAfter && { retryAfter }) };
  ann.faults.mute();
  edit(ann, "nack");
  await tick();
  ann.faults.line.receive("nack", { clientId: "", nacks: [{ operation: null, sequenceNumber: -1, content }], operation: null, sequenceNumber: -1, content });
  await recovers(c, ann, bob, "nack", before);
};

type Loss = (c: Case, ann: Editor) => Promise<unknown>;

/** lost loses ann's connection around an edit, in every way that there is to miss one. */
const lost = (lose: Loss) => async (c: Case): Promise<void> => {
  const [ann, bob] = await pair(c);

  let before = ann.container.clientId!;
  ann.faults.mute();
  edit(ann, "never arrived");
  await tick();
  await lose(c, ann);
  await recovers(c, ann, bob, "never arrived", before);

  before = ann.container.clientId!;
  ann.faults.deaf();
  edit(ann, "arrived, but ann was not told");
  await until("the edit to arrive", () => c.problems.length > 0 || bob.pad.board.has("arrived, but ann was not told"));
  await lose(c, ann);
  await recovers(c, ann, bob, "arrived, but ann was not told", before);

  before = ann.container.clientId!;
  await lose(c, ann);
  await until("the loss to be noticed", () => ann.container.clientId !== before || !connected(ann));
  edit(ann, "made in between");
  bob.pad.board.set("made by bob", true);
  await recovers(c, ann, bob, "made in between", before);
};

const connected = ({ container }: Editor) => container.connectionState === ConnectionState.Connected;

const cut: Loss = (_, ann) => ann.faults.cut();
const crash: Loss = (c) => c.crash();
const restart: Loss = (c) => c.restart();
const close: Loss = async (_, ann) => ann.faults.line.receive("phx_close", {});
const error: Loss = async (_, ann) => ann.faults.line.receive("phx_error", {});

/** onNodes has containers on two nodes edit one document, until one node is killed. */
async function onNodes(c: Case): Promise<void> {
  await c.relayed();
  const ann = await c.create("ann", "", (pad) => pad.board.set("before", "attach"));
  const bob = await c.load("bob", { format: "msgpack" }, c.other);
  assert.equal(bob.pad.board.get("before"), "attach");
  await c.writing(ann, bob);
  for (let i = 0; i < 20; i++) {
    ann.pad.text.insertText(0, String(i % 10));
    bob.pad.text.insertText(bob.pad.text.getLength(), String(i % 10));
    ann.pad.board.set("both", `ann ${i}`);
    bob.pad.board.set("both", `bob ${i}`);
    await tick();
  }
  await c.settled();
  ann.pad.signal("from ann");
  bob.pad.signal("from bob");
  await until("signals", () => ann.pad.signals.length > 0 && bob.pad.signals.length > 0);
  assert.deepEqual([ann.pad.signals, bob.pad.signals], [["from bob"], ["from ann"]]);

  const before = ann.container.clientId!;
  ann.faults.mute();
  edit(ann, "node killed");
  await tick();
  c.kill();
  bob.pad.board.set("made by bob", true);
  await recovers(c, ann, bob, "node killed", before);
}

export const checks: Check[] = [
  { id: 125, name: "nacked by the server for a gap", run: nackedForGap },
  { id: 125, name: "nack 400", run: nacked(400, "BadRequestError") },
  { id: 125, name: "nack 429 with retryAfter", run: nacked(429, "ThrottlingError", 1) },
  { id: 125, name: "nacked by the server for a gap, by msgpack", variant: { format: "msgpack" }, run: nackedForGap },
  { id: 126, name: "socket cut", run: lost(cut) },
  { id: 126, name: "phx_close to all, by a crash of the session", run: lost(crash) },
  { id: 126, name: "phx_close", run: lost(close) },
  { id: 126, name: "phx_error", run: lost(error) },
  { id: 126, name: "socket cut, by msgpack", variant: { format: "msgpack" }, run: lost(cut) },
  { id: 126, name: "two nodes, and one of them killed", nodes: true, run: onNodes },
  {
    id: 126, name: "server killed and started again", restarts: true,
    run: async (c) => {
      await c.relayed();
      await lost(restart)(c);
    },
  },
];
