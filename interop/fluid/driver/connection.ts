// One connection to a document's stream: a socket and a channel of Phoenix's own
// client, which end with it. Fluid's loader makes the next one.
import { EventEmitter } from "node:events";
import type { ConnectionMode, IClient } from "@fluidframework/driver-definitions";
import type {
  IAnyDriverError, IClientConfiguration, IConnected, IDocumentDeltaConnection, IDocumentMessage, INack, ISequencedDocumentMessage,
  ISignalClient, ISignalMessage, ITokenClaims,
} from "@fluidframework/driver-definitions/legacy";
import { createGenericNetworkError } from "@fluidframework/driver-utils/internal";
import { Channel, Socket } from "phoenix";
import WebSocket from "ws";
import type { Codec } from "./codec.ts";
import { failure } from "./rest.ts";
import type { Hooks, Line, Message, Watch } from "./watch.ts";

const NEVER = 2 ** 31 - 1; // ms; the loader reconnects, not Phoenix's client
const TIMEOUT = 10_000; // ms for join and connect_document
const HEARTBEAT = 10_000; // ms

export interface Address {
  base: string;
  tenant: string;
  document: string;
  token: string;
  codec: Codec;
  watch?: Watch;
}

interface Payloads {
  op: { documentId: string; op: ISequencedDocumentMessage[] };
  signal: ISignalMessage;
  nack: { nacks: INack[] };
  connect_document_error: { code: number; message: string; reason: string };
}

export class DeltaConnection extends EventEmitter implements IDocumentDeltaConnection {
  clientId = "";
  claims!: ITokenClaims;
  mode!: ConnectionMode;
  existing!: boolean;
  version!: string;
  serviceConfiguration!: IClientConfiguration;
  initialClients!: ISignalClient[];
  checkpointSequenceNumber?: number;
  // Also what comes before anybody listens: the loader reads them when it does.
  initialMessages: ISequencedDocumentMessage[] = [];
  initialSignals: ISignalMessage[] = [];
  disposed = false;

  readonly #socket: Socket;
  readonly #channel: Channel;
  #fail: (error: Error) => void = () => {}; // while connecting

  /** open connects to the document, or fails with an error of the loader's kind. */
  static async open(address: Address, client: IClient, mode: ConnectionMode): Promise<DeltaConnection> {
    const connection = new DeltaConnection(address, address.watch?.connecting?.(client) ?? {});
    try {
      await connection.#connect(address, client, mode);
      if (connection.disposed) throw retryable("the connection was lost at once");
    } catch (error) {
      connection.dispose();
      throw error;
    }
    return connection;
  }

  private constructor({ base, tenant, document, token, codec, watch }: Address, hooks: Hooks) {
    super();
    let transport: WebSocket;
    const options = {
      transport: class extends WebSocket {
        constructor(url: string) {
          super(url);
          transport = this;
          this.on("error", () => {}); // Phoenix's client hears of it, unless it has let go of the socket
        }
      },
      vsn: codec.vsn,
      params: { token },
      heartbeatIntervalMs: HEARTBEAT,
      timeout: TIMEOUT,
      reconnectAfterMs: () => NEVER,
      rejoinAfterMs: () => NEVER,
      encode: (message: object, send: (frame: string | Uint8Array) => void) => {
        const changed = hooks.sending ? hooks.sending(message as Message) : (message as Message);
        if (changed) send(codec.encode(changed));
      },
      decode: (frame: string, receive: (message: Message) => void) => {
        const message = codec.decode(frame);
        const changed = hooks.receiving ? hooks.receiving(message) : message;
        if (changed) receive(changed);
      },
    };
    this.#socket = new Socket(`${base.replace(/^http/, "ws")}/socket`, options);
    this.#channel = this.#socket.channel(`document:${tenant}:${document}`, { token });

    this.#on("op", ({ documentId, op }) => {
      watch?.messages?.("op", op);
      if (this.listenerCount("op") === 0) this.initialMessages.push(...op);
      else this.emit("op", documentId, op);
    });
    this.#on("signal", (signal) => {
      if (this.listenerCount("signal") === 0) this.initialSignals.push(signal);
      else this.emit("signal", signal);
    });
    this.#on("nack", ({ nacks }) => this.emit("nack", document, nacks));
    this.#channel.onClose(() => this.#lost("the channel was closed"));
    this.#channel.onError((reason) => this.#lost(`the channel failed: ${reason ?? "no reason"}`));
    this.#channel.on("connect_document_success", (granted: IConnected) => {
      watch?.messages?.("initialMessages", granted.initialMessages);
      const receive: Line["receive"] = (event, payload) => {
        const { ref } = (this.#channel as unknown as { joinPush: { ref: string } }).joinPush;
        const frame = codec.encode({ join_ref: ref, ref, topic: this.#channel.topic, event, payload });
        if (typeof frame === "string") transport.emit("message", Buffer.from(frame), false);
        else transport.emit("message", new Uint8Array(frame).buffer, true);
      };
      hooks.connected?.({ clientId: granted.clientId, socket: transport, receive });
    });
  }

  submit(messages: IDocumentMessage[]): void {
    this.#channel.push("submitOp", {
      clientId: this.clientId,
      messageBatches: [messages.map(({ type, clientSequenceNumber, referenceSequenceNumber, contents, metadata, compression }) => (
        { type, clientSequenceNumber, referenceSequenceNumber, contents, metadata, compression }
      ))],
    });
  }

  submitSignal(content: string, targetClientId?: string): void {
    this.#channel.push("submitSignal", { clientId: this.clientId, contentBatches: [[{ content, targetClientId }]] });
  }

  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.#channel.leave();
    this.#socket.disconnect();
    this.removeAllListeners();
  }

  #on<E extends keyof Payloads>(event: E, handle: (payload: Payloads[E]) => void): void {
    this.#channel.on(event, (payload) => {
      if (!this.disposed) handle(payload);
    });
  }

  async #connect({ tenant, document, token }: Address, client: IClient, mode: ConnectionMode): Promise<void> {
    let late: NodeJS.Timeout | undefined;
    const granted = await new Promise<IConnected>((resolve, reject) => {
      this.#fail = reject;
      late = setTimeout(reject, TIMEOUT, retryable("connect_document was not answered"));
      this.#channel.on("connect_document_success", resolve);
      this.#on("connect_document_error", ({ code, message, reason }) => reject(failure(code, `${reason}: ${message}`)));
      this.#socket.onError(() => reject(retryable("the socket failed")));
      this.#socket.onClose(() => reject(retryable("the socket was closed")));
      this.#socket.connect();
      this.#channel.join()
        .receive("ok", () => this.#channel.push("connect_document", {
          tenantId: tenant, id: document, token, client, mode,
          versions: ["^0.4.0", "^0.3.0", "^0.2.0", "^0.1.0"],
        }))
        .receive("error", ({ reason }) => reject(failure(400, `join: ${reason}`)))
        .receive("timeout", () => reject(retryable("the join was not answered")));
    }).finally(() => clearTimeout(late));
    const { clientId, claims, mode: grantedMode, existing, version, serviceConfiguration, initialClients, checkpointSequenceNumber } = granted;
    Object.assign(this, { clientId, claims, mode: grantedMode, existing, version, serviceConfiguration, initialClients, checkpointSequenceNumber });
    this.initialMessages.unshift(...granted.initialMessages);
    this.initialSignals.unshift(...granted.initialSignals);
  }

  /** lost ends a connection that the other side has ended. */
  #lost(why: string): void {
    if (this.disposed) return;
    const error = retryable(why);
    this.#fail(error);
    this.emit("disconnect", error);
    this.dispose();
  }
}

const retryable = (message: string): Error & IAnyDriverError =>
  createGenericNetworkError(message, { canRetry: true }, { driverVersion: "1" }) as Error & IAnyDriverError;
