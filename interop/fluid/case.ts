// What one check does: it edits a document of its own in several containers, and
// looks in the end at whether all of them, and the server, agree.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { AttachState, type IContainer } from "@fluidframework/container-definitions/legacy";
import { ConnectionState, createDetachedContainer, loadExistingContainer } from "@fluidframework/container-loader/legacy";
import type { ISequencedDocumentMessage } from "@fluidframework/driver-definitions/legacy";
import { DriverHeader } from "@fluidframework/driver-definitions/legacy";
import type { Format } from "./driver/codec.ts";
import { deltasPath } from "./driver/deltas.ts";
import { Factory, Urls, type DriverOptions } from "./driver/factory.ts";
import { Rest } from "./driver/rest.ts";
import { sign, type Tenant } from "./driver/token.ts";
import type { Hooks, Line } from "./driver/watch.ts";
import { Faults } from "./faults.ts";
import { Ledger, writers } from "./ledger.ts";
import { Pad, code, details } from "./pad.ts";
import { Relay } from "./relay.ts";

const PATIENCE = 20_000; // ms until a wait counts as failed

/**
 * summarizing matches what a container reports that summarizes. It does not come back
 * when its connection is lost, but says so, and another is made.
 */
export const summarizing = /:Summar(izer|yManager):/;

/** until waits for test to be true. */
export async function until(what: string, test: () => unknown, patience = PATIENCE): Promise<void> {
  const end = Date.now() + patience;
  while (!(await test())) {
    if (Date.now() > end) throw new Error(`waited ${patience} ms for ${what}`);
    await sleep(5);
  }
}

export interface Server {
  base: string;
  tenant: Tenant;
  control?: string; // POST there restarts the server, and answers with its new address
  other?: string; // another node with the same documents
  pid?: number; // of the process of base, which may be killed if there is another node
}

/** Variant is how the containers of a case talk to the server. */
export interface Variant {
  format?: Format;
  levee?: boolean;
  protocolTree?: boolean;
  opsPerSummary?: number;
}

/** Editor is a container with its driver. */
export interface Editor {
  name: string;
  container: IContainer;
  pad: Pad;
  faults: Faults;
  requests: string[]; // to the REST API: "GET /path?query"
}

export class Case {
  readonly ledger = new Ledger();
  readonly editors: Editor[] = [];
  readonly problems: string[] = []; // what containers reported or closed with
  document = "";
  forgiven?: RegExp; // names of events that are no problem

  #relay?: Relay;
  #summarizers: Line[] = []; // connections of containers that summarize
  #closed = false;

  constructor(private server: Server, readonly variant: Variant) {}

  /**
   * create makes a document by attaching a container that was edited before. A name
   * is given by the server if there is none.
   */
  async create(user: string, name = "", edit: (pad: Pad) => void = () => {}, variant = this.variant): Promise<Editor> {
    const { props, ...parts } = this.#parts(user, variant);
    const container = await createDetachedContainer({ ...props, codeDetails: details });
    const pad = (await container.getEntryPoint()) as unknown as Pad;
    edit(pad);
    await container.attach({ url: name, headers: { [DriverHeader.createNew]: true } });
    assert.equal(container.attachState, AttachState.Attached);
    this.document = container.resolvedUrl!.id;
    return this.#add({ name: user, container, pad, ...parts });
  }

  /** load opens the document that was created. */
  async load(user: string, variant = this.variant, base = this.server.base): Promise<Editor> {
    const { props, ...parts } = this.#parts(user, variant, base);
    const container = await loadExistingContainer({ ...props, request: { url: this.document } });
    const pad = (await container.getEntryPoint()) as unknown as Pad;
    return this.#add({ name: user, container, pad, ...parts });
  }

  /** leave closes one of the containers. */
  leave(editor: Editor): void {
    this.editors.splice(this.editors.indexOf(editor), 1);
    editor.container.dispose();
  }

  async connected(...editors: Editor[]): Promise<void> {
    for (const { name, container } of editors) {
      await until(`${name} to connect`, () => this.problems.length > 0 || container.connectionState === ConnectionState.Connected);
      this.#healthy();
    }
  }

  /** writing has a container leave the mode of readers, in which it loads. */
  async writing(...editors: Editor[]): Promise<void> {
    for (const e of editors) e.pad.board.set(`${e.name} writes`, true);
    await this.settled();
  }

  /** settled waits until nobody has an edit left, and all have the same. */
  async settled(): Promise<void> {
    const [first, ...others] = this.editors;
    await this.connected(...this.editors);
    await until("all to have the same content, and nothing left to send", () =>
      this.problems.length > 0 ||
      this.editors.every(({ container }) => !container.isDirty && container.connectionState === ConnectionState.Connected) &&
      others.every(({ pad }) => isDeepStrictEqual(pad.content(), first!.pad.content())),
    ).catch((error) => {
      const state = this.editors.map(({ name, container, pad }) =>
        `${name}: dirty ${container.isDirty}, ${ConnectionState[container.connectionState]}, ${JSON.stringify(pad.content()).slice(0, 500)}`);
      throw new Error([error.message, ...state].join("\n"));
    });
    this.#healthy();
  }

  /** finish checks what has to hold after every check, and closes the containers. */
  async finish(): Promise<void> {
    await this.settled();
    for (const { name, container } of this.editors) assert.equal(container.isDirty, false, `${name} is dirty`);
    this.ledger.check(await this.deltas());
    const [first, ...others] = this.editors;
    await until("all to have the same quorum", () =>
      others.every(({ container }) => isDeepStrictEqual(quorum(container), quorum(first!.container))));
    this.close();
    await until("the writers to leave", async () => writers(await this.deltas()).length === 0);
    this.ledger.check(await this.deltas());
    await until("the connections to end", async () => (await this.state()).connections === 0);
    this.#healthy();
  }

  /**
   * close closes the containers. One that summarizes for another may outlive it by
   * minutes, if that is closed while it starts.
   */
  close(): void {
    this.forgiven = summarizing;
    for (const { container } of this.editors) container.dispose();
    for (const { socket } of this.#summarizers) socket.terminate();
    this.#closed = true;
  }

  /** end is for after close. */
  end(): void {
    this.#relay?.stop();
  }

  /** deltas returns all messages of the document, from the REST API. */
  async deltas(): Promise<ISequencedDocumentMessage[]> {
    const { base, tenant } = this.server;
    const rest = new Rest(base, () => sign(tenant, this.document, "judge"));
    const all: ISequencedDocumentMessage[] = [];
    for (;;) {
      const path = deltasPath(tenant.id, this.document, all.at(-1)?.sequenceNumber ?? 0);
      const { value } = await rest.get<{ value: ISequencedDocumentMessage[] }>(path);
      if (value.length === 0) break;
      all.push(...value);
    }
    this.ledger.add("deltas", all);
    return all;
  }

  /** relayed puts a relay before the server, so that it can be restarted. */
  async relayed(): Promise<void> {
    this.#relay = await Relay.to(this.server.base);
    this.server = { ...this.server, base: this.#relay.base };
  }

  /** restart has the server killed and started again. */
  async restart(): Promise<void> {
    const response = await fetch(this.server.control!, { method: "POST" });
    assert.ok(response.ok, `POST ${this.server.control}: ${response.status}`);
    this.#relay!.move(await response.text());
  }

  /** other is the address of another node. */
  get other(): string {
    return this.server.other!;
  }

  /** kill ends the node at base. Whoever was there, by the relay, comes to the other one. */
  kill(): void {
    process.kill(this.server.pid!, "SIGKILL");
    this.#relay!.move(this.other);
  }

  /** crash has the document's session panic. */
  async crash(statuses = [204]): Promise<void> {
    const query = new URLSearchParams({ tenant: this.server.tenant.id, document: this.document });
    const response = await fetch(`${this.server.base}/admin/crash?${query}`, { method: "POST" });
    assert.ok(statuses.includes(response.status), `POST /admin/crash: ${response.status}`);
  }

  async state(): Promise<{ connections: number }> {
    return (await fetch(`${this.server.base}/admin/state`)).json() as Promise<{ connections: number }>;
  }

  #healthy(): void {
    assert.deepEqual(this.problems, [], "errors that containers reported");
  }

  #parts(user: string, variant: Variant, base = this.server.base) {
    const faults = new Faults();
    const requests: string[] = [];
    const { format = "json", levee = false, protocolTree = false, opsPerSummary = 0 } = variant;
    const driver: DriverOptions = {
      ...this.server, base, user, format, levee, protocolTree,
      watch: {
        connecting: ({ details }) => {
          const { capabilities, type } = details;
          const hooks: Hooks = capabilities.interactive && type !== "summarizer" ? faults : this.#summarizer();
          return {
            sending: hooks.sending?.bind(hooks),
            connected: hooks.connected?.bind(hooks),
            receiving: (message) => {
              this.ledger.read(message);
              return hooks.receiving ? hooks.receiving(message) : message;
            },
          };
        },
        messages: (source, messages) => this.ledger.add(source, messages),
        requested: (method, path) => requests.push(`${method} ${path}`),
      },
    };
    const props = {
      urlResolver: new Urls(driver),
      documentServiceFactory: new Factory(driver),
      codeLoader: code(opsPerSummary),
      logger: {
        send: (event: { category: string; eventName: string; error?: unknown; stack?: unknown }) => {
          if (process.env.TELEMETRY) console.log(user, JSON.stringify(event)); // for whoever looks for a fault
          if (event.category === "error" && !this.forgiven?.test(event.eventName)) {
            this.problems.push(`${user}: ${event.eventName}: ${event.error}\n${event.stack ?? JSON.stringify(event)}`);
          }
        },
      },
    };
    return { props, faults, requests };
  }

  #summarizer(): Hooks {
    return {
      connected: (line) => {
        if (this.#closed) line.socket.terminate();
        else this.#summarizers.push(line);
      },
    };
  }

  #add(editor: Editor): Editor {
    editor.container.on("closed", (error) => {
      if (error) this.problems.push(`${editor.name} was closed: ${error.message}`);
    });
    this.editors.push(editor);
    return editor;
  }
}

function quorum(container: IContainer): Record<string, unknown> {
  return Object.fromEntries([...container.getQuorum().getMembers()].sort());
}
