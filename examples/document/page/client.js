// A small client of the document protocol, over the Phoenix client as it comes from
// npm. It does what a Fluid container does: an op is shown at once and pending until
// it comes back with a number; after every interruption the client connects under a
// new id, reads what it missed, and sends again what is still pending.
import { Socket } from "./phoenix/phoenix.mjs";

const RETRY = 500; // ms from a closed channel to the next
const NOOP = 2000; // ms after an op until we say that we have seen it
const BATCH = 100; // ops of one submission, the server's default bound

export class DocumentClient {
  #socket = null;
  #channel = null;
  #csn = 0;
  #submitted = 0; // how many of the pending ops were sent under this id
  #noop = 0; // timer
  #retry = 0; // timer
  #later = new Map(); // messages that came before those they follow

  clientId = null; // null while not connected
  mode = "read";
  wanted = "write"; // mode to ask for
  state = "closed"; // closed, connecting, catching up, connected, refused
  sequenceNumber = 0; // of the last message processed
  minimum = 0;
  pending = []; // {type, contents, id, csn}
  clients = new Map(); // client id → {name, mode}

  // token returns a promise of {tenant, token}; on is told of
  // message(m), signal(s), change() and note(text).
  constructor(documentId, token, on) {
    this.documentId = documentId;
    this.token = token;
    this.on = on;
  }

  // start connects; messages up to sequenceNumber are known from a snapshot.
  async start(sequenceNumber) {
    this.sequenceNumber = sequenceNumber;
    await this.online();
  }

  async online() {
    this.#socket ??= new Socket("/socket");
    this.#socket.connect();
    const { tenant } = await this.token();
    this.#open(tenant);
  }

  // offline closes the socket; edits go on and wait.
  offline() {
    clearTimeout(this.#retry);
    this.#close("closed");
    this.#socket?.disconnect();
    this.#socket = null;
  }

  // cut ends the socket from below, as a lost network would.
  cut() { this.#socket?.conn?.close(4000); }

  reconnect(delay = 0) {
    const tenant = this.tenant;
    this.#close("connecting");
    this.#retry = setTimeout(() => this.#open(tenant), delay);
  }

  #close(state) {
    const channel = this.#channel;
    this.#channel = null;
    channel?.leave();
    this.#lost(state);
  }

  // lost: what was submitted may or may not have been numbered. The stream tells.
  #lost(state) {
    this.#noNoop();
    this.clientId = null;
    this.clients.clear();
    this.#later.clear();
    this.#set(state);
  }

  #set(state) {
    this.state = state;
    this.on.change();
  }

  #open(tenant) {
    if (!this.#socket || this.#channel) return;
    this.tenant = tenant;
    const channel = this.#channel = this.#socket.channel(`document:${tenant}:${this.documentId}`, {});
    const listen = (event, act) => channel.on(event, (payload) => this.#channel === channel && act(payload));
    listen("connect_document_success", (hello) => this.#connected(hello));
    listen("connect_document_error", (error) => {
      this.on.note(`refused: ${error.code} ${error.message}`);
      this.offline();
      this.#set("refused");
    });
    listen("op", ({ op }) => this.#receive(op));
    listen("signal", (signal) => this.#signalled(signal));
    listen("nack", (nack) => this.#nacked(nack));
    channel.onError(() => this.#channel === channel && this.#lost("connecting"));
    channel.onClose(() => {
      if (this.#channel !== channel) return;
      this.#channel = null;
      this.on.note("the server closed the channel; connecting again");
      this.#lost("connecting");
      this.#retry = setTimeout(() => this.#open(tenant), RETRY);
    });
    // The stock client joins again by itself after a lost line, and each time this
    // function is called.
    channel.join().receive("ok", () => this.#connect(channel));
    this.#set("connecting");
  }

  async #connect(channel) {
    const { tenant, token } = await this.token();
    if (this.#channel !== channel) return;
    const payload = {
      tenantId: tenant, id: this.documentId, token, mode: this.wanted,
      client: { mode: this.wanted, details: { capabilities: { interactive: true } }, permission: [], user: { id: "" }, scopes: [] },
      versions: ["^0.1.0"],
    };
    if (this.sequenceNumber > 0) payload.lastSeenSequenceNumber = this.sequenceNumber;
    channel.push("connect_document", payload);
  }

  #connected(hello) {
    this.clientId = hello.clientId;
    this.mode = hello.mode;
    this.#csn = this.#submitted = 0;
    this.clients.clear();
    for (const { clientId, mode, client } of hello.initialClients) this.#arrive(clientId, mode, client);
    // A writer waits for its own join: what comes before tells which of its pending
    // ops were numbered under an older id.
    this.#set(hello.mode === "write" ? "catching up" : "connected");
    this.#receive(hello.initialMessages);
  }

  #arrive(id, mode, client) {
    this.clients.set(id, { name: String(client?.user?.name ?? client?.user?.id ?? "someone"), mode });
  }

  // ---- messages in -------------------------------------------------------------

  #receive(messages) {
    for (const m of messages) if (m.sequenceNumber > this.sequenceNumber) this.#later.set(m.sequenceNumber, m);
    for (let m; (m = this.#later.get(this.sequenceNumber + 1)); ) {
      this.#later.delete(m.sequenceNumber);
      this.#process(m);
    }
    if (this.#later.size > 0) this.#push("requestOps", { from: this.sequenceNumber });
    this.on.change();
  }

  #process(m) {
    this.sequenceNumber = m.sequenceNumber;
    this.minimum = m.minimumSequenceNumber;
    const first = this.pending[0];
    if (first?.id && first.id === m.clientId && first.csn === m.clientSequenceNumber) {
      this.pending.shift();
      if (m.clientId === this.clientId) this.#submitted--;
    }
    if (m.type === "join" && m.clientId === null) {
      const { clientId, detail } = JSON.parse(m.data);
      this.#arrive(clientId, detail.mode, detail);
    } else if (m.type === "leave" && m.clientId === null) {
      this.#left(JSON.parse(m.data));
    } else if (m.type === "op") {
      this.#noopLater(); // not for what the server says: its answer would be another message
    }
    this.on.message(m);
    if (this.state === "catching up" && m.type === "join" && JSON.parse(m.data).clientId === this.clientId) this.#caughtUp();
  }

  // caughtUp: whatever of our pending ops had been numbered under an older id has
  // been seen by now, so the rest has not and is sent again.
  #caughtUp() {
    this.pending = this.pending.filter(({ type }) => type === "op");
    this.state = "connected";
    if (this.pending.length > 0) this.on.note(`sent ${this.pending.length} pending op${this.pending.length > 1 ? "s" : ""} again`);
    this.#flush();
  }

  #left(id) {
    this.clients.delete(id);
    if (id !== this.clientId) return;
    this.on.note("expelled for being silent; connecting again");
    this.reconnect();
  }

  #signalled({ clientId, content }) {
    const signal = typeof content === "string" ? JSON.parse(content) : content;
    if (clientId !== null) return this.on.signal(clientId, signal);
    if (signal.type === "join") this.#arrive(signal.content.clientId, signal.content.client.mode, signal.content.client);
    if (signal.type === "leave") this.clients.delete(signal.content);
    this.on.change();
  }

  #nacked({ content }) {
    this.on.note(`nack ${content.code}: ${content.message}`);
    if (content.code === 403) {
      this.offline();
      return this.#set("refused");
    }
    this.reconnect((content.retryAfter ?? 0) * 1000);
  }

  // ---- messages out ------------------------------------------------------------

  // submit shows nothing by itself: the caller overlays the pending ops.
  submit(contents, type = "op") {
    this.pending.push({ type, contents: JSON.stringify(contents), id: null, csn: 0 });
    this.#flush();
    this.on.change();
  }

  #flush() {
    if (this.state !== "connected" || this.mode !== "write") return;
    while (this.#submitted < this.pending.length) {
      const batch = this.pending.slice(this.#submitted, this.#submitted + BATCH);
      this.#submitted += batch.length;
      this.#push("submitOp", { clientId: this.clientId, messageBatches: [batch.map((op) => this.#numbered(op))] });
    }
    this.#noNoop(); // the ops have said it
  }

  #numbered(op) {
    op.id = this.clientId;
    op.csn = ++this.#csn;
    return { type: op.type, contents: op.contents, clientSequenceNumber: op.csn, referenceSequenceNumber: this.sequenceNumber };
  }

  // gap skips a client sequence number, which no right client does.
  gap() {
    this.#csn++;
    this.submit({ set: {} });
  }

  // signal tells the others something that is worth nothing a second later.
  signal(content) {
    if (this.state !== "connected") return;
    this.#push("submitSignal", { clientId: this.clientId, contentBatches: [[{ content: JSON.stringify(content) }]] });
  }

  #noNoop() {
    clearTimeout(this.#noop);
    this.#noop = 0;
  }

  // Without this a tab that says nothing would hold the minimum back.
  #noopLater() {
    if (this.#noop) return;
    this.#noop = setTimeout(() => {
      this.#noop = 0;
      if (this.state === "connected" && this.mode === "write") {
        this.#push("noop", { clientId: this.clientId, referenceSequenceNumber: this.sequenceNumber });
      }
    }, NOOP);
  }

  #push(event, payload) { this.#channel?.push(event, payload); }
}
