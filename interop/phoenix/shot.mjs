// Opens the page of examples/phoenix in two tabs of a headless Chromium, chats both
// ways, watches who is here, ends channels and connections, and takes pictures:
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
const profile = await mkdtemp(join(tmpdir(), "phoenix-"));
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
  await state(page, "socket", "open");
  await state(page, "channel", "joined");
  return page;
}

const state = (page, what, want) => page.waitForSelector(`#${what}[data-state=${want}]`);
const hears = (page, text) => page.waitForSelector(`#log li:has-text(${JSON.stringify(text)})`);

// joins waits until the room has been joined so many times.
const joins = (page, times) => page.waitForFunction(
  (times) => [...document.querySelectorAll("#log li")].filter((li) => li.textContent === "joined").length >= times, times);

// shows waits until the list of those who are here has these lines.
const shows = (page, ...want) => page.waitForFunction(
  (want) => JSON.stringify([...document.querySelectorAll("#present li")].map((li) => li.textContent)) === want,
  JSON.stringify(want));

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
  await step("two tabs join", async () => {
    ada = await tab("Ada", room);
    bob = await tab("Bob", room);
  });
  await step("they see each other", () =>
    Promise.all([ada, bob].map((page) => shows(page, "Adawell", "Bobwell"))));
  await step("they chat both ways", async () => {
    await says(ada, "Hello Bob");
    await hears(bob, "Hello Bob");
    await says(bob, "Hello Ada <b>not bold</b>");
    await hears(ada, "Hello Ada <b>not bold</b>");
    assert.equal(await ada.locator("#log b").count(), 0, "markup in a message");
    assert.equal(await ada.locator('#log li:has-text("Hello Bob")').count(), 1, "times shown");
  });
  await step("a change of mood is seen", async () => {
    await bob.click("#mood");
    await Promise.all([ada, bob].map((page) => shows(page, "Adawell", "Bobbusy")));
  });
  await step("a second tab of one person is counted, and leaves no ghost", async () => {
    const twin = await tab("Bob", room);
    await shows(ada, "Adawell", "Bobbusy and well, 2 tabs");
    await ada.screenshot({ path: join(output, "chat.png") });
    await twin.close();
    await shows(ada, "Adawell", "Bobbusy");
  });
  await step("an echo is answered", async () => {
    await ada.click("[data-do=echo]");
    await ada.waitForSelector('#answer:has-text("world")');
  });
  await step("a crash is told, and the channel joins again by itself", async () => {
    await ada.click("[data-do=crash]");
    await hears(ada, "channel_crash");
    await joins(ada, 2); // the state's label may still be that before the crash
    await says(bob, "Still there?");
    await hears(ada, "Still there?");
  });
  await step("a left room is silent until it is joined again", async () => {
    await ada.click("[data-do=leave]");
    await state(ada, "channel", "closed");
    await says(bob, "Said behind her back");
    await hears(bob, "Said behind her back");
    await ada.click("[data-do=join]");
    await state(ada, "channel", "joined");
    await says(bob, "Welcome back");
    await hears(ada, "Welcome back");
    assert.equal(await ada.locator('#log li:has-text("Said behind")').count(), 0, "times shown");
  });
  await step("a stop closes the channel for good", async () => {
    await ada.click("[data-do=stop]");
    await state(ada, "channel", "closed");
    await ada.screenshot({ path: join(output, "stopped.png") });
    await ada.click("[data-do=join]");
    await state(ada, "channel", "joined");
  });
  await step("a cut line comes back with all channels", async () => {
    await bob.click("[data-do=cut]");
    await hears(bob, "the connection closed with 4000");
    await state(bob, "socket", "open");
    await state(bob, "channel", "joined");
    await says(ada, "Back already?");
    await hears(bob, "Back already?");
    await shows(ada, "Adawell", "Bobbusy");
  });
  await step("who closes the tab is gone", async () => {
    await ada.close();
    await shows(bob, "Bobbusy");
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
