// Drives a running examples/document with containers of the Fluid Framework and
// prints what held, a line for each check and variant:
//
//   node run.mjs http://127.0.0.1:8080 [--only 124,128] [--tenant id:secret] [--control URL]
//	     [--seed N] [--runs N] [--other URL --pid N]
//
// The numbers are those of document.md section 15. With a control URL there is a case
// that restarts the server: POST there has to do that, and answer with the new
// address. With another node there is only the case that edits on two and kills one, the
// process with that id. The order in one case is what a seed decides; --runs takes that many seeds.
// Exit status 1 if anything failed.
import { parseArgs } from "node:util";
import { Case, type Server } from "./case.ts";
import type { Check } from "./checks/check.ts";
import * as editing from "./checks/editing.ts";
import * as mixed from "./checks/mixed.ts";
import * as recovery from "./checks/recovery.ts";
import * as summaries from "./checks/summaries.ts";

const DEADLINE = 60_000; // ms for one case

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: "string" },
    tenant: { type: "string", default: "fluid:dev-tenant-secret-key" },
    control: { type: "string" },
    seed: { type: "string" }, // with either, containers of all kinds are mixed, too
    runs: { type: "string" },
    other: { type: "string" },
    pid: { type: "string" },
  },
});
if (positionals.length !== 1) {
  console.error("usage: node run.mjs BASE-URL [--only CHECK,…] [--tenant ID:SECRET] [--control URL] [--seed N] [--runs N] [--other URL --pid N]");
  process.exit(2);
}
const [id = "", secret = ""] = flags.tenant!.split(":");
const server: Server = { base: new URL(positionals[0]!).origin, tenant: { id, secret }, control: flags.control, other: flags.other, pid: Number(flags.pid) };

const only = flags.only?.split(",").map(Number);
const seeded = flags.seed || flags.runs ? mixed.checks(Number(flags.seed ?? 1), Number(flags.runs ?? 1)) : [];
const all = [editing.checks, recovery.checks, seeded, summaries.checks].flat().sort((a, b) => a.id - b.id);
const chosen = all.filter(({ id, restarts, nodes }) => (only?.includes(id) ?? true) && (!restarts || flags.control) && !nodes === !flags.other);
for (const id of only ?? []) {
  if (!chosen.some((check) => check.id === id)) throw new Error(`there is no check ${id}`);
}

let failed = 0;

async function runCase(check: Check): Promise<void> {
  const c = new Case(server, check.variant ?? {});
  const start = performance.now();
  let problem = "";
  let late: NodeJS.Timeout | undefined;
  try {
    await Promise.race([
      check.run(c).then(() => c.finish()),
      new Promise((_, reject) => { late = setTimeout(reject, DEADLINE, new Error(`still running after ${DEADLINE} ms`)); }),
    ]);
  } catch (error) {
    failed++;
    const text = [(error as Error).stack ?? String(error), ...c.problems].join("\n");
    problem = `\n      ${text.replaceAll("\n", "\n      ")}`;
    c.close();
  } finally {
    clearTimeout(late);
    c.end();
  }
  const ms = String(Math.round(performance.now() - start)).padStart(5);
  console.log(`${problem ? "FAIL" : "PASS"} ${ms} ms  ${check.id}  ${check.name}${problem}`);
}

// What a client throws where nobody catches it would end an application.
process.on("uncaughtException", (error) => {
  failed++;
  console.log(`FAIL uncaught: ${error.stack}`);
});
process.on("unhandledRejection", (error) => {
  failed++;
  console.log(`FAIL unhandled: ${(error as Error)?.stack ?? error}`);
});

for (const check of chosen) await runCase(check); // one by one: each ends with no connection left
console.log(`${chosen.length - failed} of ${chosen.length} held`);
process.exit(failed === 0 ? 0 : 1);
