// Opens the page of examples/cluster in two tabs of a headless Chromium, on different
// nodes, talks, paints, kills nodes, pauses and flushes Redis, and takes pictures:
//
//   node shot.mjs http://127.0.0.1:8080 OUTPUT-DIRECTORY
//
// Exit status 1 when a step fails. CHROMIUM names another executable.
import assert from "node:assert/strict";
import { mkdtemp, mkdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [base, output] = process.argv.slice(2);
if (!base || !output) {
  console.error("usage: node shot.mjs BASE-URL OUTPUT-DIRECTORY");
  process.exit(2);
}
const PATIENCE = 20_000; // ms

await mkdir(output, { recursive: true });
const profile = await mkdtemp(join(tmpdir(), "cluster-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  viewport: { width: 1360, height: 880 },
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
browser.setDefaultTimeout(PATIENCE);

const faults = []; // errors in the page, violations of its policy included

async function tab(name) {
  const page = await browser.newPage();
  page.on("pageerror", (error) => faults.push(`${name}: ${error.message}`));
  page.on("console", (line) => {
    if (/content security policy/i.test(line.text())) faults.push(`${name}: ${line.text()}`);
  });
  await page.goto(`${base}/?${new URLSearchParams({ name })}`);
  await here(page);
  return page;
}

// here waits until the tab is on a node and in the document, and returns the node.
async function here(page, not = "") {
  await page.waitForFunction((not) => {
    const state = document.querySelector("#state"), node = document.querySelector(".node.this")?.dataset.name;
    return state.dataset.state === "connected" && node && node !== not && document.querySelector("#document-state").textContent === "connected";
  }, not);
  return page.locator(".node.this").getAttribute("data-name");
}

async function say(page, text) {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
}

const hears = (page, text) => page.waitForSelector(`#log li:has-text(${JSON.stringify(text)})`);
const told = (page, text) => page.waitForSelector(`#story li:has-text(${JSON.stringify(text)})`);
const paint = (page, cell, color) => page.click(`#colors [data-color="${color}"]`).then(() => page.click(`#picture [data-cell="${cell}"]`));
const painted = (page, cell, color) => page.waitForSelector(`#picture [data-cell="${cell}"][data-color="${color}"]:not(.unsent)`);
const status = (page, place, want) => page.waitForSelector(`${place} [data-status=${want}]`);
const press = (page, place, what) => page.click(`${place} [data-do=${what}]`);
const node = (name) => `.node[data-name="${name}"]`;
const sees = (page, ...want) => page.waitForFunction((want) =>
  [...document.querySelectorAll("#people li")].map((item) => item.firstChild.textContent).join() === want, want.sort().join());

let ada, bob, exit = 0;
async function step(name, act) {
  try {
    await act();
    console.log(`ok    ${name}`);
  } catch (error) {
    console.log(`FAIL  ${name}\n      ${error.message}`);
    throw error;
  }
}

try {
  await step("two tabs are on different nodes", async () => {
    ada = await tab("Ada");
    bob = await tab("Bob");
    assert.notEqual(await here(ada), await here(bob));
    for (const page of [ada, bob]) await sees(page, "Ada", "Bob");
  });
  await step("they talk and paint", async () => {
    await say(ada, "Hello from Ada");
    await say(bob, "Hello <b>from</b> Bob");
    for (const page of [ada, bob]) {
      await hears(page, "Hello from Ada");
      await hears(page, "Hello <b>from</b> Bob");
    }
    for (const cell of [18, 19, 20, 35, 51, 52]) await paint(ada, cell, 1);
    for (const cell of [57, 58, 59, 74, 90]) await paint(bob, cell, 2);
    await painted(bob, 52, 1);
    await painted(ada, 90, 2);
    assert.equal(await ada.locator("#log b:not(.node-name)").count(), 0, "markup in a message");
    await ada.screenshot({ path: join(output, "cluster.png") });
  });
  await step("a killed node costs nothing", async () => {
    const was = await here(ada);
    await press(ada, node(was), "kill");
    await status(ada, node(was), "dead");
    await here(ada, was);
    await say(bob, "Are you still there?");
    await hears(ada, "Are you still there?");
    await painted(ada, 90, 2);
    await paint(ada, 100, 4);
    await painted(bob, 100, 4);
    await sees(bob, "Ada", "Bob");
    await bob.emulateMedia({ colorScheme: "dark" });
    await bob.screenshot({ path: join(output, "killed.png") });
    await press(ada, node(was), "start");
    await status(ada, node(was), "up");
  });
  await step("a drained node sends its clients away", async () => {
    const was = await here(bob);
    await press(bob, node(was), "drain");
    await told(bob, "shutdown");
    await here(bob, was);
    await status(bob, node(was), "dead");
    await press(bob, node(was), "start");
    await status(bob, node(was), "up");
    await sees(ada, "Ada", "Bob");
  });
  await step("while Redis is paused nothing is lost", async () => {
    await press(ada, "#redis", "pause");
    await status(ada, "#redis", "paused");
    await say(ada, "Said while Redis was paused");
    await paint(bob, 110, 5);
    await ada.waitForTimeout(1500);
    await ada.screenshot({ path: join(output, "paused.png") });
    await press(ada, "#redis", "resume");
    await status(ada, "#redis", "up");
    await painted(bob, 110, 5);
    await painted(ada, 110, 5);
    await say(ada, "After the pause");
    for (const page of [ada, bob]) await hears(page, "After the pause");
  });
  await step("a node that is cut off comes back", async () => {
    const was = await here(bob);
    await press(bob, node(was), "cut");
    await bob.waitForTimeout(1000);
    await say(ada, "Can the others hear this?");
    await press(ada, node(was), "heal");
    await hears(bob, "Can the others hear this?");
  });
  await step("a flush is told", async () => {
    await press(ada, "#redis", "flush");
    for (const page of [ada, bob]) await told(page, "the past is gone");
    await say(bob, "A new beginning");
    await hears(ada, "A new beginning");
  });
  await step("who closes the tab is gone", async () => {
    await ada.close();
    await sees(bob, "Bob");
  });
  await step("it fits a phone", async () => {
    await bob.setViewportSize({ width: 390, height: 844 });
    const wide = await bob.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${wide} px wider than the screen`);
    await bob.screenshot({ path: join(output, "phone.png"), fullPage: true });
  });
  await step("no error and no policy violation in the page", () => assert.deepEqual(faults, []));
} catch {
  exit = 1; // told by its step
  for (const [name, page] of Object.entries({ ada, bob })) {
    if (!page || page.isClosed()) continue;
    await page.screenshot({ path: join(output, `failed-${name}.png`) }).catch(() => {});
    console.log(`      ${name}: ${(await page.locator("#story").innerText().catch(() => "")).replaceAll("\n", " | ")}`);
  }
  if (faults.length > 0) console.log(`      faults: ${faults.join("; ")}`);
} finally {
  await browser.close();
  await rm(profile, { recursive: true, force: true });
}
process.exit(exit);
