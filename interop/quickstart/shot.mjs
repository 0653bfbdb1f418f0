// Opens the page in two tabs of a headless Chromium, chats both ways, provokes
// closes, and takes pictures:
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
const PATIENCE = 15_000; // ms

await mkdir(output, { recursive: true });
const profile = await mkdtemp(join(tmpdir(), "quickstart-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  viewport: { width: 1200, height: 900 },
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
browser.setDefaultTimeout(PATIENCE);

const faults = []; // errors in the page, violations of its policy included

async function tab(name, room) {
  const page = await browser.newPage();
  page.on("pageerror", (error) => faults.push(`${name}: ${error.message}`));
  page.on("console", (line) => {
    if (/content security policy/i.test(line.text())) faults.push(`${name}: ${line.text()}`);
  });
  await page.goto(`${base}/?${new URLSearchParams({ name, room })}`);
  await page.click("#connect");
  await state(page, "connected");
  return page;
}

const state = (page, want) => page.waitForSelector(`#state[data-state=${want}]`);
const hears = (page, text) => page.waitForSelector(`#log li:has-text(${JSON.stringify(text)})`);
const because = (page, reason) => page.waitForSelector(`#why[data-reason=${reason}]`);

async function says(page, text) {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
}

async function step(name, act) {
  try {
    await act();
    console.log(`PASS  ${name}`);
  } catch (error) {
    console.log(`FAIL  ${name}\n      ${error.message.replaceAll("\n", "\n      ")}`);
    throw error;
  }
}

let status = 0;
try {
  const room = "shot-" + Date.now().toString(36);
  let ada, bob;
  await step("two tabs connect", async () => {
    ada = await tab("Ada", room);
    bob = await tab("Bob", room);
  });
  await step("they chat both ways", async () => {
    await says(ada, "Hello Bob");
    await hears(bob, "Hello Bob");
    await says(bob, "Hello Ada <b>not bold</b>");
    await hears(ada, "Hello Ada <b>not bold</b>");
    assert.equal(await ada.locator("#log b").count(), 0, "markup in a message");
  });
  await step("the round trip is shown", () =>
    ada.waitForFunction(() => /^[0-9.]+ ms$/.test(document.getElementById("latency").textContent)));
  await step("echo and fail are answered", async () => {
    await ada.click("[data-do=echo]");
    await ada.waitForSelector('#answer:has-text("world")');
    await ada.click("[data-do=fail]");
    await ada.waitForSelector('#answer:has-text("error")');
  });
  await step("a cut line comes back with what was missed", async () => {
    await bob.click("[data-do=cut]");
    await says(ada, "Said while Bob was away");
    await hears(bob, "Said while Bob was away");
    await state(bob, "connected");
    assert.equal(await bob.locator('#log li:has-text("Said while")').count(), 1, "times shown");
  });
  await step("a reload keeps the chat", async () => {
    await bob.reload();
    await bob.click("#connect");
    await state(bob, "connected");
    await hears(bob, "Hello Bob");
    await says(ada, "Welcome back");
    await hears(bob, "Welcome back");
    assert.equal(await bob.locator('#log li:has-text("Hello Bob")').count(), 1, "times shown");
  });
  await step("an expired token is explained, and the page fetches a fresh one", async () => {
    await ada.click("[data-do=expired]");
    await because(ada, "token_expired");
    await state(ada, "connected");
  });
  await step("a flood is explained", async () => {
    await ada.click("[data-do=flood]");
    await because(ada, "rate_limited");
    await ada.screenshot({ path: join(output, "flood.png") });
  });
  await step("garbage is explained, and the page stays away", async () => {
    await bob.click("[data-do=garbage]");
    await because(bob, "invalid_message");
    await state(bob, "closed");
    await bob.screenshot({ path: join(output, "garbage.png") });
  });
  await step("it fits a phone, dark", async () => {
    await bob.setViewportSize({ width: 390, height: 844 });
    await bob.emulateMedia({ colorScheme: "dark" });
    const wide = await bob.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${wide} px wider than the screen`);
    await bob.screenshot({ path: join(output, "phone.png"), fullPage: true });
  });
  await step("no error and no policy violation in the page", () => assert.deepEqual(faults, []));
} catch {
  status = 1; // told by its step
} finally {
  await browser.close();
  await rm(profile, { recursive: true, force: true });
}
process.exit(status);
