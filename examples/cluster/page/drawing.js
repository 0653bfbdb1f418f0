// The client of one document, over the same connection as everything else. An op is
// shown at once and pending until it comes back with its number; after a lost line,
// whatever of it had been numbered is seen before the rest is sent again.
import { token } from "./line.js";

const TENANT = "cluster";
const RETRY = 500; // ms
const BATCH = 100; // ops of one submission

export class Drawing {
  #line; #user;
  #csn = 0;
  #submitted = 0; // how many of the pending ops were sent under this id
  #later = new Map(); // messages that came before those they follow
  clientId = null;
  state = "closed"; // closed, connecting, catching up, connected
  sequenceNumber = 0;
  pending = []; // {contents, id, csn}
  cells = new Map(); // cell -> color, as the numbered messages say

  // change is called when there is something new to show, reset when the document
  // has begun anew.
  constructor(line, user, name, { change, reset }) {
    this.#line = line;
    this.#user = user;
    this.name = name;
    this.channel = `document:${TENANT}:${name}`;
    this.change = change;
    this.reset = reset;
  }

  open() {
    this.#lost("connecting");
    this.#line.send(this.channel, "subscribe", {}, (answer) => {
      if (answer.type !== "subscription_success") return this.#retry();
      this.#connect();
    });
  }

  closed() { this.#lost("closed"); }

  #lost(state) {
    this.clientId = null;
    this.#later.clear();
    this.state = state;
    this.change();
  }

  #retry() {
    this.#lost("connecting");
    setTimeout(() => { if (this.state === "connecting") this.open(); }, RETRY);
  }

  async #connect() {
    let bearer;
    try {
      bearer = await token({ user: this.#user, document: this.name });
    } catch {
      return this.#again();
    }
    const request = {
      tenantId: TENANT, id: this.name, token: bearer, mode: "write", versions: ["^0.1.0"],
      client: { mode: "write", details: { capabilities: { interactive: true } }, permission: [], user: { id: "" }, scopes: [] },
    };
    if (this.sequenceNumber > 0) request.lastSeenSequenceNumber = this.sequenceNumber;
    this.#line.send(this.channel, "connect_document", request);
  }

  // again leaves the channel and comes back under a new id.
  #again() {
    this.#line.send(this.channel, "unsubscribe", {});
    this.#retry();
  }

  /** message takes what came on the document's channel. */
  message({ type, data }) {
    switch (type) {
      case "connect_document_success": return this.#connected(data);
      case "connect_document_error": return this.#again();
      case "op": return this.#receive(data.op);
      case "nack": return this.#again();
    }
  }

  /** ended: the server ended the subscription. */
  ended() { this.#retry(); }

  #connected(hello) {
    if (hello.checkpointSequenceNumber <= this.sequenceNumber) {
      // Its own join would be newer than all that this tab knows, if it were the
      // document that this tab knows.
      this.sequenceNumber = 0;
      this.cells.clear();
      this.reset();
    }
    this.clientId = hello.clientId;
    this.#csn = this.#submitted = 0;
    this.state = "catching up";
    this.#receive(hello.initialMessages);
  }

  #receive(messages) {
    for (const m of messages) if (m.sequenceNumber > this.sequenceNumber) this.#later.set(m.sequenceNumber, m);
    for (let m; (m = this.#later.get(this.sequenceNumber + 1)); ) {
      this.#later.delete(m.sequenceNumber);
      this.#process(m);
    }
    if (this.#later.size > 0) this.#line.send(this.channel, "requestOps", { from: this.sequenceNumber });
    this.change();
  }

  #process(m) {
    this.sequenceNumber = m.sequenceNumber;
    const first = this.pending[0];
    if (first?.id && first.id === m.clientId && first.csn === m.clientSequenceNumber) {
      this.pending.shift();
      if (m.clientId === this.clientId) this.#submitted--;
    }
    if (m.type === "op") {
      const { cell, color } = JSON.parse(m.contents);
      if (Number.isInteger(cell) && Number.isInteger(color)) this.cells.set(cell, color);
    }
    if (m.type === "join" && this.state === "catching up" && JSON.parse(m.data).clientId === this.clientId) {
      this.state = "connected";
      this.#submitted = 0;
      this.#flush();
    }
    if (m.type === "leave" && JSON.parse(m.data) === this.clientId) this.#again();
  }

  paint(cell, color) {
    this.pending.push({ contents: JSON.stringify({ cell, color }), id: null, csn: 0 });
    this.#flush();
    this.change();
  }

  /** shown returns the cells with the pending ops over them. */
  shown() {
    const all = new Map(this.cells);
    for (const { contents } of this.pending) {
      const { cell, color } = JSON.parse(contents);
      all.set(cell, color);
    }
    return all;
  }

  #flush() {
    if (this.state !== "connected") return;
    while (this.#submitted < this.pending.length) {
      const batch = this.pending.slice(this.#submitted, this.#submitted + BATCH);
      this.#submitted += batch.length;
      const ops = batch.map((op) => {
        op.id = this.clientId;
        op.csn = ++this.#csn;
        return { type: "op", contents: op.contents, clientSequenceNumber: op.csn, referenceSequenceNumber: this.sequenceNumber };
      });
      this.#line.send(this.channel, "submitOp", { clientId: this.clientId, messageBatches: [ops] });
    }
  }
}
