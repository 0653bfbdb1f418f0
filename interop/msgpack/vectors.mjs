// Writes testdata/msgpackr.json to standard output: values as msgpackr packs them.
//
//   json    the value as JSON.stringify would have it; bytes as base64 strings
//   packed  what a client with msgpackr's defaults sends
//   small   the same value without undefined, in the shortest form that msgpackr
//           reads as numbers: what the server is to send
//
// Every value comes out of msgpackr again as it went in, or this script fails.
import assert from "node:assert/strict";
import { Packr, Unpackr } from "msgpackr";

const client = new Packr({ useRecords: false });
const small = new Packr({ useRecords: false, variableMapSize: true });
const reader = new Unpackr({ useRecords: false });

// settled is v as a reader sees it that knows neither undefined nor wide integers.
function settled(v) {
  if (v === undefined) return null;
  if (typeof v === "bigint") return Number(v);
  if (v === null || typeof v !== "object" || v instanceof Uint8Array) return v;
  if (Array.isArray(v)) return v.map(settled);
  return Object.fromEntries(Object.entries(v).filter(([, value]) => value !== undefined).map(([key, value]) => [key, settled(value)]));
}

function json(v) {
  if (v === undefined) return "null";
  if (typeof v === "bigint") return String(v);
  if (v instanceof Uint8Array) return JSON.stringify(Buffer.from(v).toString("base64"));
  if (v === null || typeof v !== "object") return JSON.stringify(v);
  if (Array.isArray(v)) return `[${v.map(json).join(",")}]`;
  const fields = Object.entries(v).filter(([, value]) => value !== undefined);
  return `{${fields.map(([key, value]) => `${JSON.stringify(key)}:${json(value)}`).join(",")}}`;
}

// The numbers of section 13, and those next to a change of form.
const edges = [0, 1, 127, 128, 255, 256, 65535, 65536, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 1700000001234, 2 ** 53 - 1, 2 ** 53, 2 ** 63, 2 ** 64, 1e20, 1e21, 1.5e300];
const whole = [...edges, ...edges.map((n) => -n - 1), -32, -33, -128, -129, -32768, -32769, -(2 ** 31), -(2 ** 31) - 1];
const broken = [0.5, -0.5, 0.1, 1 / 3, 1e-6, 1e-7, 1.25e-9, 5e-324, 1.7976931348623157e308, 123456.789, -1.5e-10];
const texts = ["", "a", "x".repeat(31), "x".repeat(32), "x".repeat(255), "x".repeat(256), "é".repeat(15), "é".repeat(16), "😀".repeat(64), "\u0000\b\t\n\f\r\u001f\"\\/\u007f\u2028", '{"type":"component","a":"\\"b\\""}'.repeat(8), "\ufffd"];
const list = (n) => Array.from({ length: n }, (_, i) => i);
const record = (n) => Object.fromEntries(list(n).map((i) => [`key${i}`, i]));

// What levee-driver sends and gets.
const op = { type: "op", clientSequenceNumber: 1, referenceSequenceNumber: 18, contents: '{"type":"component","contents":{"address":"a"}}', metadata: undefined, compression: undefined };
const messages = [
  [null, "1", "phoenix", "heartbeat", {}],
  ["3", "3", "document:acme:doc1", "phx_join", { token: "ignored" }],
  ["3", "4", "document:acme:doc1", "connect_document", { tenantId: "acme", id: "doc1", token: null, client: { mode: "write", details: { capabilities: { interactive: true } }, permission: [], user: { id: "" }, scopes: [] }, mode: "write", versions: ["^0.4.0", "^0.1.0"] }],
  ["3", "5", "document:acme:doc1", "submitOp", { clientId: "6f1f0a52", messageBatches: [[op, { ...op, clientSequenceNumber: 2, metadata: { batch: true } }]] }],
  ["3", "6", "document:acme:doc1", "submitSignal", { clientId: "6f1f0a52", contentBatches: [[{ content: '{"type":"cursor"}', targetClientId: undefined }]] }],
  [null, null, "document:acme:doc1", "op", { documentId: "doc1", op: [{ clientId: "6f1f0a52", sequenceNumber: 41, minimumSequenceNumber: 30, clientSequenceNumber: 7, referenceSequenceNumber: 39, type: "op", contents: "{}", timestamp: 1700000001234 }] }],
  ["3", "3", "document:acme:doc1", "phx_reply", { status: "ok", response: {} }],
];

const values = [
  ...whole, ...broken, ...texts, null, true, false, [], {},
  list(15), list(16), record(15), record(16), record(17), [[[]]], { a: { b: [{}] } },
  undefined, [undefined, 1, undefined], { a: undefined }, { a: undefined, b: 1, c: undefined },
  2n ** 32n, 2n ** 53n + 1n, 2n ** 63n - 1n, 2n ** 64n - 1n, -(2n ** 63n), { t: 1700000001234n },
  ...[1, 2, 3, 4, 255, 256].map((n) => Uint8Array.from(list(n))),
  Uint8Array.of(0xfb, 0xef, 0xbe), Uint8Array.of(0xff, 0xff, 0xff, 0xff), { contents: [Uint8Array.of(1, 2)], again: "AQI=" },
  ...messages,
];

// The same random values every time.
let state = 1;
const random = (n) => { state = (state * 48271) % 2147483647; return state % n; };
const pick = (from) => from[random(from.length)];
function value(depth) {
  switch (random(depth > 0 ? 9 : 6)) {
    case 0: return pick([null, true, false]);
    case 1: return pick(whole);
    case 2: return pick(broken);
    case 3: return random(1e6) / 10 ** random(8);
    case 4: return pick(texts).slice(0, 40);
    case 5: return Uint8Array.from(list(1 + random(9)).map(() => random(256)));
    case 6: return list(random(5)).map(() => value(depth - 1));
    default: return Object.fromEntries(list(random(5)).map((i) => [`${pick(["a", "é", '"', "contents"])}${i}`, value(depth - 1)]));
  }
}
for (let i = 0; i < 60; i++) values.push(value(4));

const hex = (packed) => Buffer.from(packed).toString("hex");
const lines = values.map((v) => {
  const packed = hex(client.pack(v)), short = hex(small.pack(settled(v)));
  assert.equal(json(settled(reader.unpack(Buffer.from(packed, "hex")))), json(settled(v)));
  assert.equal(json(reader.unpack(Buffer.from(short, "hex"))), json(settled(v)));
  return JSON.stringify({ json: json(v), packed, small: short });
});
process.stdout.write(`[\n${lines.join(",\n")}\n]\n`);
