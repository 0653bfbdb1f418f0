// Opens the page of examples/document in two tabs of a headless Chromium, edits the
// board both ways, provokes nacks, crashes and lost lines, goes back in time, and
// takes pictures:
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
const profile = await mkdtemp(join(tmpdir(), "document-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  viewport: { width: 1280, height: 960 },
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
browser.setDefaultTimeout(PATIENCE);

const faults = []; // errors in the page, violations of its policy included
const documentId = "shot-" + Date.now().toString(36);

async function tab(name, mode = "write") {
  const page = await browser.newPage();
  page.on("pageerror", (error) => faults.push(`${name}: ${error.message}`));
  page.on("console", (line) => {
    if (/content security policy/i.test(line.text())) faults.push(`${name}: ${line.text()}`);
  });
  await page.goto(`${base}/?${new URLSearchParams({ name, document: documentId, mode })}`);
  await status(page, "connected");
  return page;
}

const status = (page, want) => page.waitForSelector(`#status[data-state=${want}]`);
const told = (page, text) => page.waitForSelector(`#notes li:has-text(${JSON.stringify(text)})`);
const provoke = (page, what) => page.click(`[data-do=${what}]`);

// texts waits until the notes on the board have these texts, and nothing is pending.
const texts = (page, ...want) => page.waitForFunction(
  (want) => JSON.stringify([...document.querySelectorAll(".note textarea")].map((area) => area.value).sort()) === want &&
    document.querySelector("#pending").textContent === "0",
  JSON.stringify(want.sort()));

const number = (page, id) => page.locator(`#${id}`).innerText().then(Number);

const editor = (page, text) => page.evaluateHandle(
  (text) => [...document.querySelectorAll(".note textarea")].find((area) => area.value === text), text);

// writes adds a note, or changes the one with the text before.
async function writes(page, text, before) {
  if (before === undefined) {
    await page.click(`#colors button:nth-child(${1 + text.length % 5})`);
    await page.keyboard.type(text);
  } else {
    await (await editor(page, before)).asElement().fill(text);
  }
}

// drag moves the note with the text to a place in hundredths of the board.
async function drag(page, text, [x, y], meanwhile) {
  const bar = await (await editor(page, text)).evaluateHandle((area) => area.parentElement.querySelector(".bar"));
  const from = await bar.asElement().boundingBox(), board = await page.locator("#board").boundingBox();
  await page.mouse.move(from.x + 20, from.y + 8);
  await page.mouse.down();
  await page.mouse.move(board.x + board.width * x / 100, board.y + board.height * y / 100, { steps: 8 });
  await meanwhile?.();
  await page.mouse.up();
}

const where = async (page, text) => (await editor(page, text)).evaluate(
  (area) => ["--x", "--y"].map((name) => Number(area.parentElement.style.getPropertyValue(name))));

// travel puts the slider to a sequence number.
const travel = (page, to) => page.locator("#slider").evaluate((slider, to) => {
  slider.value = to;
  slider.dispatchEvent(new Event("input"));
}, to);

async function step(name, act) {
  try {
    await act();
    console.log(`PASS  ${name}`);
  } catch (error) {
    console.log(`FAIL  ${name}\n      ${error.message.replaceAll("\n", "\n      ")}`);
    throw error;
  }
}

let exit = 0, ada, bob;
try {
  await step("two tabs open one document", async () => {
    ada = await tab("Ada");
    bob = await tab("Bob");
    for (const page of [ada, bob]) await page.waitForFunction(() => document.querySelectorAll("#clients li").length === 2);
  });
  await step("edits go both ways", async () => {
    await writes(ada, "Write the agenda");
    await texts(bob, "Write the agenda");
    await writes(bob, "Book <b>a room</b>");
    await texts(ada, "Write the agenda", "Book <b>a room</b>");
    await writes(bob, "Write the agenda: done", "Write the agenda");
    await texts(ada, "Write the agenda: done", "Book <b>a room</b>");
  });
  await step("a drag is seen while it lasts, and its end is an op", async () => {
    await drag(ada, "Write the agenda: done", [25, 30]);
    await drag(ada, "Book <b>a room</b>", [60, 45], async () => {
      await bob.waitForSelector(".pointer:has-text('Ada')");
      await bob.screenshot({ path: join(output, "drag.png") });
    });
    await bob.waitForFunction(() => document.querySelector("#log").innerText.split("moves a note").length === 3);
    for (const text of ["Write the agenda: done", "Book <b>a room</b>"]) {
      assert.deepEqual(await where(bob, text), await where(ada, text), text);
    }
  });
  await step("the minimum follows what every writer has seen", async () => {
    const sn = await number(ada, "sn");
    await bob.waitForFunction((sn) => Number(document.querySelector("#msn").textContent) >= sn, sn);
    await ada.screenshot({ path: join(output, "board.png") });
  });
  await step("what is written offline comes later, once", async () => {
    await provoke(ada, "offline");
    await status(ada, "closed");
    await writes(ada, "From the train");
    await ada.waitForFunction(() => Number(document.querySelector("#pending").textContent) > 1);
    await ada.screenshot({ path: join(output, "offline.png") });
    await writes(bob, "Meanwhile");
    await provoke(ada, "offline");
    await status(ada, "connected");
    const all = ["Write the agenda: done", "Book <b>a room</b>", "From the train", "Meanwhile"];
    await Promise.all([ada, bob].map((page) => texts(page, ...all)));
  });
  await step("a nack costs a new connection, and no edit", async () => {
    await provoke(bob, "gap");
    await told(bob, "nack 400: Gap detected in incoming op");
    await told(bob, "sent 1 pending op again");
    await status(bob, "connected");
    await writes(bob, "After the gap", "Meanwhile");
    await texts(ada, "Write the agenda: done", "Book <b>a room</b>", "From the train", "After the gap");
  });
  await step("a crashed session starts again from its log", async () => {
    const sn = await number(ada, "sn");
    await provoke(ada, "crash");
    await told(bob, "the server closed the channel");
    for (const page of [ada, bob]) {
      await status(page, "connected");
      await page.waitForFunction((sn) => Number(document.querySelector("#sn").textContent) > sn, sn);
    }
    await writes(ada, "After the crash", "After the gap");
    await texts(bob, "Write the agenda: done", "Book <b>a room</b>", "From the train", "After the crash");
  });
  await step("a cut line comes back", async () => {
    await provoke(bob, "cut");
    await writes(bob, "Typed while cut off", "After the crash");
    await status(bob, "connected");
    await texts(ada, "Write the agenda: done", "Book <b>a room</b>", "From the train", "Typed while cut off");
  });
  await step("a summary is accepted, and a new tab loads it", async () => {
    await provoke(ada, "summary");
    await Promise.all([ada, bob].map((page) => told(page, "acknowledged")));
    const late = await tab("Cleo");
    assert.match(await late.locator("#covered").innerText(), /^1–\d+$/);
    await texts(late, "Write the agenda: done", "Book <b>a room</b>", "From the train", "Typed while cut off");
    await writes(late, "Cleo was here");
    await texts(bob, "Write the agenda: done", "Book <b>a room</b>", "From the train", "Typed while cut off", "Cleo was here");
    await provoke(late, "summary");
    await told(late, "acknowledged");
    await late.close();
  });
  await step("a reader sees, and cannot write", async () => {
    const reader = await tab("Rita", "read");
    await texts(reader, "Write the agenda: done", "Book <b>a room</b>", "From the train", "Typed while cut off", "Cleo was here");
    assert.equal(await reader.locator("#colors button:enabled, .note textarea:not([readonly])").count(), 0, "controls of a reader");
    await ada.waitForSelector('#clients li:has-text("Rita"):has-text("reads")');
    await reader.close();
  });
  await step("the slider replays the document", async () => {
    const last = await number(ada, "sn");
    await travel(ada, 0);
    await texts(ada);
    const middle = await ada.evaluate(async () => {
      const row = [...document.querySelectorAll("#log li")];
      return row.length;
    });
    assert.equal(middle, 0, "messages before the first");
    let most = 0;
    for (let at = 1; at < last; at++) {
      await travel(ada, at);
      await ada.waitForFunction((at) => document.querySelector("#when").textContent.startsWith(`${at} of`), at);
      most = Math.max(most, await ada.locator(".note").count());
    }
    assert.equal(most, 5, "notes on the way");
    await travel(ada, Math.round(last / 3));
    await ada.waitForFunction((at) => document.querySelector("#log li")?.dataset.sn === String(at), Math.round(last / 3));
    await ada.click("#log li:first-child");
    await ada.waitForSelector("#detail:has-text('minimumSequenceNumber')");
    await ada.screenshot({ path: join(output, "past.png") });
    await ada.click("#log li:first-child");
    await ada.click("#live");
    await texts(ada, "Write the agenda: done", "Book <b>a room</b>", "From the train", "Typed while cut off", "Cleo was here");
    assert.equal(await ada.locator("#board b").count(), 0, "markup in a note");
  });
  await step("who closes the tab is gone", async () => {
    await ada.close();
    await bob.waitForFunction(() => document.querySelectorAll("#clients li").length === 1);
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
  exit = 1; // told by its step
  for (const [name, page] of Object.entries({ ada, bob })) {
    if (!page || page.isClosed()) continue;
    await page.screenshot({ path: join(output, `failed-${name}.png`) }).catch(() => {});
    console.log(`      ${name}: ${(await page.locator("#notes").innerText().catch(() => "")).replaceAll("\n", " | ")}`);
  }
  if (faults.length > 0) console.log(`      faults: ${faults.join("; ")}`);
} finally {
  await browser.close();
  await rm(profile, { recursive: true, force: true });
}
process.exit(exit);
