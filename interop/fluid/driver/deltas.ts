// Messages that a client missed, from the REST API.
import type { ITelemetryBaseLogger } from "@fluidframework/core-interfaces";
import type { IDocumentDeltaStorageService, ISequencedDocumentMessage, IStream } from "@fluidframework/driver-definitions/legacy";
import { requestOps } from "@fluidframework/driver-utils/internal";
import { createChildLogger } from "@fluidframework/telemetry-utils/legacy";
import type { Rest } from "./rest.ts";
import type { Watch } from "./watch.ts";

const PAGE = 2000; // what the server answers at most

/** deltasPath asks for the messages after one number, up to and with another. */
export function deltasPath(tenant: string, document: string, after: number, to?: number): string {
  const query = new URLSearchParams({ from: String(after) });
  if (to !== undefined) query.set("to", String(to));
  return `/deltas/${encodeURIComponent(tenant)}/${encodeURIComponent(document)}?${query}`;
}

export class Deltas implements IDocumentDeltaStorageService {
  readonly #logger;

  /**
   * inclusive: hand Fluid's inclusive "from" on as if the server's were inclusive,
   * too, as levee-driver does. The first message is then missing.
   */
  constructor(
    private readonly rest: Rest, private readonly tenant: string, private readonly document: string,
    private readonly watch: Watch | undefined, private readonly inclusive: boolean, logger?: ITelemetryBaseLogger,
  ) {
    this.#logger = createChildLogger({ logger, namespace: "Deltas" });
  }

  fetchMessages(
    from: number, to: number | undefined, abortSignal?: AbortSignal, cachedOnly?: boolean, fetchReason?: string,
  ): IStream<ISequencedDocumentMessage[]> {
    if (cachedOnly) return { read: async () => ({ done: true }) };
    return this.inclusive ? this.#once(from, to) :
      requestOps(async (start, end) => ({ messages: await this.#page(start - 1, end - 1), partialResult: false }),
        1, from, to, PAGE, this.#logger, abortSignal, fetchReason);
  }

  #once(from: number, to: number | undefined): IStream<ISequencedDocumentMessage[]> {
    let asked = false;
    return {
      read: async () => {
        if (asked) return { done: true };
        asked = true;
        const value = await this.#page(from, to);
        return value.length === 0 ? { done: true } : { done: false, value };
      },
    };
  }

  async #page(after: number, to: number | undefined): Promise<ISequencedDocumentMessage[]> {
    const { value } = await this.rest.get<{ value: ISequencedDocumentMessage[] }>(deltasPath(this.tenant, this.document, after, to));
    this.watch?.messages?.("deltas", value);
    return value;
  }
}
