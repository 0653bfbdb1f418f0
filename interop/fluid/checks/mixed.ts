// Check 126 with everything at once: containers of all kinds edit, summarize, come,
// go and lose their connections in an order that a seed decides.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { ConnectionState } from "@fluidframework/container-loader/legacy";
import { summarizing, type Case, type Editor, type Variant } from "../case.ts";
import type { Check } from "./check.ts";

const STEPS = 150;
const MOST = 5; // containers at a time
const OPS = 30; // between two summaries

const kinds: Variant[] = [
  { format: "json" },
  { format: "msgpack" },
  { format: "json", levee: true },
  { format: "msgpack", levee: true },
];

/** letterOf returns a letter of its own for every edit, so that none splits another. */
const letterOf = (edit: number) => String.fromCharCode(0x4e00 + edit);

/** chance returns numbers in [0, 1) that follow from a seed (xorshift). */
function chance(seed: number): () => number {
  let x = seed | 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) / 2 ** 32;
  };
}

const mixed = (seed: number) => async (c: Case): Promise<void> => {
  const random = chance(seed);
  const pick = <T>(all: T[]): T => all[Math.floor(random() * all.length)]!;
  // The loader also reports a connection that was lost before it could be used.
  c.forgiven = new RegExp(`${summarizing.source}|:MultipleDeltaConnectionFailures$`);
  let edits = 0;
  let names = 0;
  const join = async () => c.load(`editor ${++names}`, { ...pick(kinds), opsPerSummary: OPS });

  await c.create("creator", "", undefined, { opsPerSummary: OPS });
  await join();

  const steps: [number, (e: Editor) => unknown][] = [
    [60, (e) => {
      const letter = letterOf(++edits);
      e.pad.board.set(letter, edits);
      e.pad.text.insertText(Math.floor(random() * (e.pad.text.getLength() + 1)), letter);
    }],
    [8, (e) => e.container.connectionState === ConnectionState.Connected && e.pad.signal("noise")],
    [3, (e) => e.faults.lines.length > 0 && e.faults.line.socket.terminate()],
    [2, (e) => e.faults.lines.length > 0 && e.faults.line.receive("phx_error", {})],
    [2, (e) => e.faults.gap()],
    [2, (e) => { e.faults.mute(); setTimeout(() => e.faults.line.socket.terminate(), 20 * random()); }],
    [2, (e) => { e.faults.deaf(); setTimeout(() => e.faults.line.socket.terminate(), 20 * random()); }],
    [1, () => c.crash([204, 404])], // there is no session before somebody comes back
    [3, async () => c.editors.length < MOST && join()],
    [2, async (e) => c.editors.length > 2 && e !== c.editors[0] && !e.container.isDirty && c.leave(e)],
  ];
  const weight = steps.reduce((sum, [n]) => sum + n, 0);
  for (let i = 0; i < STEPS && c.problems.length === 0; i++) {
    let at = random() * weight;
    const [, step] = steps.find(([n]) => (at -= n) < 0)!;
    await step(pick(c.editors));
    if (random() < 0.5) await sleep(20 * random());
  }
  await c.settled();
  const { board, text } = c.editors[0]!.pad.content();
  for (let i = 1; i <= edits; i++) {
    assert.equal(board[letterOf(i)], i);
    assert.equal(text.split(letterOf(i)).length, 2, `edit ${i} is in the text once`);
  }
};

/** checks returns one for each of that many seeds. */
export function checks(seed: number, runs: number): Check[] {
  return Array.from({ length: runs }, (_, i) => ({ id: 126, name: `all kinds mixed, seed ${seed + i}`, run: mixed(seed + i) }));
}
