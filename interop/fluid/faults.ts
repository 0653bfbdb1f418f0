// What goes wrong between one container and the server, when a check wants it to.
import { setImmediate as tick } from "node:timers/promises";
import type { Hooks, Line, Message } from "./driver/watch.ts";

export class Faults implements Hooks {
  readonly lines: Line[] = []; // in the order of connecting
  readonly nacks: any[] = []; // payloads
  #mute = false;
  #deaf = false;
  #gap = false;

  get line(): Line {
    return this.lines.at(-1)!;
  }

  /** mute loses the operations that this connection submits from now on. */
  mute(): void {
    this.#mute = true;
  }

  /** deaf loses what this connection is sent from now on. */
  deaf(): void {
    this.#deaf = true;
  }

  /** gap gives the next operation the number after its own. */
  gap(): void {
    this.#gap = true;
  }

  /** cut ends the socket without a word of WebSocket, once what was edited is sent. */
  async cut(): Promise<void> {
    await tick();
    this.line.socket.terminate();
  }

  connected(line: Line): void {
    this.lines.push(line);
    this.#mute = this.#deaf = false;
  }

  sending(message: Message): Message | undefined {
    if (message.event !== "submitOp") return message;
    if (this.#mute) return undefined;
    if (this.#gap) {
      this.#gap = false;
      const changed = structuredClone(message);
      changed.payload.messageBatches[0][0].clientSequenceNumber++;
      return changed;
    }
    return message;
  }

  receiving(message: Message): Message | undefined {
    if (message.event === "nack") this.nacks.push(message.payload);
    return this.#deaf && message.event === "op" ? undefined : message;
  }
}
