// Check 128: containers summarize, and others load what they summarized.
import assert from "node:assert/strict";
import { setImmediate as tick } from "node:timers/promises";
import { until, type Case, type Editor } from "../case.ts";
import type { Check } from "./check.ts";

const OPS = 20; // after which a container summarizes

interface Acknowledged {
  handle: string;
  summarySequenceNumber: number;
}

function acknowledged(c: Case): Acknowledged[] {
  return c.ledger.of("summaryAck").map(({ data }) => {
    const { handle, summaryProposal } = JSON.parse(data!);
    return { handle, ...summaryProposal };
  });
}

/** summarized edits the board until another summary is acknowledged. */
async function summarized(c: Case, editor: Editor): Promise<Acknowledged> {
  const before = acknowledged(c).length;
  for (let i = 0; i < OPS + 5; i++) {
    editor.pad.board.set(`after ${before} summaries`, i);
    await tick();
  }
  await until("a summary to be acknowledged", () => c.problems.length > 0 || acknowledged(c).length > before);
  await c.settled();
  return acknowledged(c).at(-1)!;
}

/** summaries has a container load from the second summary: the first has all parts, the second handles of it. */
async function summaries(c: Case): Promise<void> {
  const ann = await c.create("ann", "", (pad) => pad.text.insertText(0, "a text that changes once"));
  const bob = await c.load("bob");
  bob.pad.text.insertText(0, "This is ");
  await c.writing(ann, bob);
  await summarized(c, ann);
  const last = await summarized(c, bob);
  assert.deepEqual(c.ledger.of("summaryNack"), [], "refused summaries");
  ann.pad.board.set("after the last summary", true);
  await c.settled();

  const cat = await c.load("cat");
  await c.settled();
  const loaded = cat.requests.filter((request) => request.includes("/git/commits/"));
  assert.deepEqual(loaded.map((request) => request.split("/").at(-1)), [acknowledged(c).at(-1)!.handle], "what cat loaded");
  assert.ok(last.summarySequenceNumber > OPS);
  assert.equal(cat.pad.text.getText(), "This is a text that changes once");
  cat.pad.text.insertText(0, "After all: ");
  await c.settled();

  await summarized(c, cat); // on what a summary was loaded from
  const dan = await c.load("dan");
  await c.settled();
  assert.equal(dan.pad.text.getText(), "After all: This is a text that changes once");
}

const variant = { opsPerSummary: OPS };

export const checks: Check[] = [
  { id: 128, name: "summaries accepted and loaded", variant, run: summaries },
  { id: 128, name: "with the protocol's tree in them", variant: { ...variant, protocolTree: true }, run: summaries },
  { id: 128, name: "with what levee-driver does differently", variant: { ...variant, levee: true }, run: summaries },
  { id: 128, name: "by msgpack", variant: { ...variant, format: "msgpack" }, run: summaries },
];
