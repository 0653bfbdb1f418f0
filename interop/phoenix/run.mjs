// Drives a running examples/phoenix with the published clients and prints what held,
// a line for each check and version:
//
//   node run.mjs http://127.0.0.1:8080 [--only 120,supabase] [--control URL]
//
// The numbers are those of the table in docs/protocols.md. Check 128 restarts the
// server: POST to the control URL has to do that and answer with the new address.
// The checks of a run are concurrent. Exit status 1 if anything failed.
import { parseArgs } from "node:util";
import { Case } from "./case.mjs";
import { atLeast } from "./clients.mjs";
import * as channel from "./channel.mjs";
import * as connection from "./connection.mjs";
import * as longpoll from "./longpoll.mjs";
import * as presence from "./presence.mjs";
import * as protocols from "./protocols.mjs";
import * as supabase from "./supabase.mjs";

const DEADLINE = 40_000; // ms for one check

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { only: { type: "string" }, control: { type: "string" } },
});
if (positionals.length !== 1) {
  console.error("usage: node run.mjs BASE-URL [--only CHECK,…] [--control URL]");
  process.exit(2);
}
const base = new URL(positionals[0]).origin;

// Without --only, those run that need neither a special server nor its restart.
const all = [channel, connection, presence, supabase, protocols, longpoll].flatMap((module) => module.checks);
const only = flags.only?.split(",");
const chosen = all.filter(({ id, alone }) => only?.includes(String(id)) ?? !alone);
for (const id of only ?? []) {
  if (!chosen.some((check) => String(check.id) === id)) throw new Error(`there is no check ${id}`);
}

// restarter returns what restarts the server once all cases of a check ask for it.
function restarter(cases) {
  let waiting = cases;
  let go;
  const all = new Promise((resolve) => { go = resolve; });
  const restarted = all.then(async () => {
    if (!flags.control) throw new Error("needs --control");
    return (await fetch(flags.control, { method: "POST" })).text();
  });
  restarted.catch(() => {}); // each case sees it
  return () => {
    if (--waiting === 0) go();
    return restarted;
  };
}

let passed = 0;
let failed = 0;

async function runCase(check, client, restart) {
  const c = new Case(base, client, restart);
  const start = performance.now();
  let problem = "";
  try {
    let late;
    await Promise.race([
      check.run(c),
      new Promise((_, reject) => { late = setTimeout(reject, DEADLINE, new Error(`still running after ${DEADLINE} ms`)); }),
    ]).finally(() => clearTimeout(late));
    passed++;
  } catch (error) {
    failed++;
    problem = `\n      ${(error.stack ?? String(error)).replaceAll("\n", "\n      ")}`;
  }
  c.end();
  const ms = String(Math.round(performance.now() - start)).padStart(5);
  console.log(`${problem ? "FAIL" : "PASS"} ${ms} ms  ${check.id}  ${client.name} ${client.version}: ${check.name}${problem}`);
}

// What a client throws where nobody catches it would end an application.
process.on("uncaughtException", (error) => {
  failed++;
  console.log(`FAIL  thrown out of a client: ${error.stack ?? error}`);
});

await Promise.all(chosen.map((check) => {
  const clients = check.clients.filter(({ version }) => !check.since || atLeast(version, check.since));
  const restart = restarter(clients.length);
  return Promise.all(clients.map((client) => runCase(check, client, restart)));
}));
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
