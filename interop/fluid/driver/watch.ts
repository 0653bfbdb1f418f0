// What a test may see of a driver, and do to it.
import type { IClient } from "@fluidframework/driver-definitions";
import type { ISequencedDocumentMessage } from "@fluidframework/driver-definitions/legacy";
import type WebSocket from "ws";

/** Message is one of Phoenix's, as its client hands it to an encoder. */
export interface Message {
  join_ref: string | null;
  ref: string | null;
  topic: string;
  event: string;
  payload: any;
}

/** Line is one socket with its channel. */
export interface Line {
  readonly clientId: string;
  readonly socket: WebSocket;
  /** receive has the client read a message that the server did not send. */
  receive(event: string, payload: object): void;
}

export type Source = "initialMessages" | "op" | "deltas";

/** Hooks are those of one connection. */
export interface Hooks {
  /** sending returns what to send in a message's stead; undefined is nothing. */
  sending?(message: Message): Message | undefined;
  /** receiving is sending for the other direction. */
  receiving?(message: Message): Message | undefined;
  /** connected is called when the server granted the connection. */
  connected?(line: Line): void;
}

export interface Watch {
  /** connecting is called before every attempt to connect. */
  connecting?(client: IClient): Hooks;
  /** messages is called with every sequenced message, wherever it came from. */
  messages?(source: Source, messages: ISequencedDocumentMessage[]): void;
  /** requested is called with every request to the REST API. */
  requested?(method: string, path: string): void;
}
