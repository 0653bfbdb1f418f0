// A driver for Fluid's loader: documents of a service that speaks document.md.
import { EventEmitter } from "node:events";
import type { IRequest, ITelemetryBaseLogger } from "@fluidframework/core-interfaces";
import type { IClient, ISummaryTree } from "@fluidframework/driver-definitions";
import type {
  IDocumentDeltaConnection, IDocumentDeltaStorageService, IDocumentService, IDocumentServiceFactory, IDocumentStorageService,
  IResolvedUrl, IUrlResolver,
} from "@fluidframework/driver-definitions/legacy";
import { codecs, type Format } from "./codec.ts";
import { DeltaConnection } from "./connection.ts";
import { Deltas } from "./deltas.ts";
import { Rest } from "./rest.ts";
import { Storage } from "./storage.ts";
import { sign, type Tenant } from "./token.ts";
import type { Watch } from "./watch.ts";

export interface DriverOptions {
  base: string; // http://host:port
  tenant: Tenant;
  user: string;
  format: Format;
  /** protocolTree has summaries hold the protocol's state, too. */
  protocolTree: boolean;
  /**
   * levee does what levee-driver does where it differs: it always asks to write,
   * takes the server's exclusive bound of /deltas for an inclusive one, and moves
   * the document's ref to a summary that nobody has acknowledged.
   */
  levee: boolean;
  watch?: Watch;
}

/** NEW is what the token of a document without a name is for. */
const NEW = "__new__";

/** Urls resolves the names of documents. None is that of one to which the server gives a name. */
export class Urls implements IUrlResolver {
  constructor(private readonly options: DriverOptions) {}

  async resolve(request: IRequest): Promise<IResolvedUrl> {
    const { base, tenant } = this.options;
    const path = `${encodeURIComponent(tenant.id)}/${encodeURIComponent(request.url || NEW)}`;
    return { type: "fluid", id: request.url, url: `${base}/${path}`, tokens: {}, endpoints: {} };
  }

  async getAbsoluteUrl(resolved: IResolvedUrl, relative: string): Promise<string> {
    return `${resolved.url}/${relative.replace(/^\//, "")}`;
  }
}

export class Factory implements IDocumentServiceFactory {
  constructor(private readonly options: DriverOptions) {}

  async createDocumentService(resolved: IResolvedUrl, logger?: ITelemetryBaseLogger): Promise<IDocumentService> {
    return new Service(this.options, resolved, logger);
  }

  async createContainer(
    summary: ISummaryTree | undefined, resolved: IResolvedUrl, logger?: ITelemetryBaseLogger,
  ): Promise<IDocumentService> {
    const { base, tenant, user, watch } = this.options;
    const rest = new Rest(base, () => sign(tenant, resolved.id || NEW, user), watch);
    const body = { summary, ...(resolved.id && { id: resolved.id }) };
    const id = await rest.post<string>(`/documents/${encodeURIComponent(tenant.id)}`, body);
    return this.createDocumentService(await new Urls(this.options).resolve({ url: id }), logger);
  }
}

class Service extends EventEmitter implements IDocumentService {
  readonly policies;
  readonly #rest: Rest;

  constructor(private readonly options: DriverOptions, readonly resolvedUrl: IResolvedUrl, private readonly logger?: ITelemetryBaseLogger) {
    super();
    this.policies = { summarizeProtocolTree: options.protocolTree };
    this.#rest = new Rest(options.base, () => this.#token(), options.watch);
  }

  async connectToStorage(): Promise<IDocumentStorageService> {
    return new Storage(this.#rest, this.options.tenant.id, this.resolvedUrl.id, this.options.levee);
  }

  async connectToDeltaStorage(): Promise<IDocumentDeltaStorageService> {
    const { tenant, watch, levee } = this.options;
    return new Deltas(this.#rest, tenant.id, this.resolvedUrl.id, watch, levee, this.logger);
  }

  async connectToDeltaStream(client: IClient): Promise<IDocumentDeltaConnection> {
    const { base, tenant, format, watch, levee } = this.options;
    const address = { base, tenant: tenant.id, document: this.resolvedUrl.id, token: this.#token(), codec: codecs[format], watch };
    return DeltaConnection.open(address, client, levee ? "write" : client.mode);
  }

  dispose(): void {
    this.removeAllListeners();
  }

  #token(): string {
    return sign(this.options.tenant, this.resolvedUrl.id, this.options.user);
  }
}
