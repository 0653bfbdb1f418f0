// The published clients, each under the alias that package.json gives its version.
import { readFileSync } from "node:fs";
import { XMLHttpRequest } from "./xhr.mjs";

const { dependencies } = JSON.parse(readFileSync(new URL("package.json", import.meta.url)));

// load imports every version of a package, oldest first.
async function load(name) {
  const clients = [];
  for (const alias of Object.keys(dependencies).filter((alias) => alias.startsWith(name + "-"))) {
    const version = alias.slice(name.length + 1);
    clients.push({ name, version, ...(await exportsOf(alias, version)) });
  }
  if (clients.length < 3) throw new Error(`package.json has ${clients.length} versions of ${name}, want three or more`);
  return clients.sort((a, b) => (atLeast(a.version, b.version) ? 1 : -1));
}

// Phoenix 1.7 looks for a browser's globals at `self` alone, when it is loaded.
async function exportsOf(alias, version) {
  if (alias === "phoenix-" + version && !atLeast(version, "1.8.0")) globalThis.self = { XMLHttpRequest };
  const module = await import(alias);
  delete globalThis.self;
  return { ...module.default, ...module };
}

/** atLeast compares versions of three numbers. */
export function atLeast(version, floor) {
  const [a, b] = [version, floor].map((text) => text.split(".").map(Number));
  const at = a.findIndex((part, i) => part !== b[i]);
  return at < 0 || a[at] > b[at];
}

/** once stands for the checks that need no version of a client, or all. */
export const once = [{ name: "clients", version: "of all kinds" }];

export const phoenix = await load("phoenix");
export const supabase = await load("realtime-js");
