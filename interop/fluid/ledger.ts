// What the clients of one document were sent, held against the rules that their
// containers trust (document.md section 1).
import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import type { ISequencedDocumentMessage } from "@fluidframework/driver-definitions/legacy";
import type { Message, Source } from "./driver/watch.ts";

type Sequenced = ISequencedDocumentMessage;

// The loader parses some fields in place, so that a copy has to be taken on arrival.
const copy = (message: Sequenced): Sequenced => JSON.parse(JSON.stringify(message));

export class Ledger {
  readonly problems: string[] = [];
  readonly #seen = new Map<number, Sequenced>();
  readonly #clients = new Map<string, string>(); // descriptions, as JSON text

  /** add notes what came, and whether it is what came as the same number before. */
  add(source: Source, messages: Sequenced[]): void {
    for (const message of messages) {
      const now = copy(message);
      const before = this.#seen.get(now.sequenceNumber);
      if (now.type === "join") {
        const { clientId, detail } = JSON.parse(now.data!);
        this.meet(`a join message in ${source}`, clientId, detail);
      }
      if (before === undefined) {
        this.#seen.set(now.sequenceNumber, now);
      } else if (!isDeepStrictEqual(before, now)) {
        this.problems.push(`${source} has another message ${now.sequenceNumber}: ${JSON.stringify(now)}, before ${JSON.stringify(before)}`);
      }
    }
  }

  /** meet notes how a client is described, and whether it is as before, to the letter. */
  meet(where: string, clientId: string, client: unknown): void {
    const now = JSON.stringify(client);
    const before = this.#clients.get(clientId) ?? now;
    this.#clients.set(clientId, before);
    if (before !== now) this.problems.push(`${where} describes ${clientId} as ${now}, before as ${before}`);
  }

  /** read notes the clients that a message of the channel describes. */
  read({ event, payload }: Message): void {
    if (event === "connect_document_success") {
      for (const { clientId, client } of payload.initialClients) this.meet("initialClients", clientId, client);
      const ids = payload.initialClients.map((c: { clientId: string }) => c.clientId);
      if (!ids.includes(payload.clientId)) this.problems.push(`initialClients of ${payload.clientId} lacks itself`);
      if (new Set(ids).size < ids.length) this.problems.push(`initialClients of ${payload.clientId} has one twice: ${ids}`);
    } else if (event === "signal" && payload.clientId === null) {
      const { type, content } = JSON.parse(payload.content);
      if (type === "join") this.meet("a join signal", content.clientId, content.client);
    }
  }

  /** of returns the messages of a type so far. */
  of(type: string): Sequenced[] {
    return [...this.#seen.values()].filter((message) => message.type === type);
  }

  /** check fails if the whole of a document's messages could not have been ordered so. */
  check(all: Sequenced[]): void {
    assert.deepEqual(this.problems, [], "messages or clients that changed");
    assert.ok(this.#clients.size > 0, "no client was described");
    const last = Math.max(...this.#seen.keys());
    assert.ok(all.length >= last, `deltas have ${all.length} messages, clients saw ${last}`);
    const open = new Map<string, number>(); // writers, and their last clientSequenceNumber
    let minimum = 0;
    for (const [i, m] of all.entries()) {
      const at = `message ${JSON.stringify(m)}`;
      assert.equal(m.sequenceNumber, i + 1, `gap in deltas before ${at}`);
      assert.ok(m.minimumSequenceNumber >= minimum, `minimum fell from ${minimum} in ${at}`);
      minimum = m.minimumSequenceNumber;
      assert.ok(m.clientId === null ? minimum <= m.sequenceNumber : minimum < m.sequenceNumber, `minimum too high in ${at}`);
      assert.ok(m.referenceSequenceNumber < m.sequenceNumber, `reference too high in ${at}`);
      if (m.type === "join") open.set(JSON.parse(m.data!).clientId, 0);
      else if (m.type === "leave") assert.ok(open.delete(JSON.parse(m.data!)), `nobody left in ${at}`);
      else if (m.clientId !== null) {
        const before = open.get(m.clientId);
        assert.ok(before !== undefined, `not a writer in ${at}`);
        assert.ok(m.clientSequenceNumber > before, `after clientSequenceNumber ${before} came ${at}`);
        open.set(m.clientId, m.clientSequenceNumber);
      }
    }
  }
}

/** writers returns those who joined and did not leave. */
export function writers(all: Sequenced[]): string[] {
  const open = new Set<string>();
  for (const { type, data } of all) {
    if (type === "join") open.add(JSON.parse(data!).clientId);
    if (type === "leave") open.delete(JSON.parse(data!));
  }
  return [...open];
}
