// Snapshots, kept as git objects: a ref for the document, a commit for each
// acknowledged summary, trees and blobs below it.
import { SummaryType, type ISummaryHandle, type ISummaryTree } from "@fluidframework/driver-definitions";
import type {
  ICreateBlobResponse, IDocumentStorageService, ISnapshotTree, ISummaryContext, IVersion,
} from "@fluidframework/driver-definitions/legacy";
import { buildGitTreeHierarchy, getGitMode, getGitType } from "@fluidframework/driver-utils/internal";
import type { Rest } from "./rest.ts";

interface Commit {
  sha: string;
  tree: { sha: string };
}

interface Entry {
  path: string;
  mode: string;
  type: string;
  sha: string;
}

const author = { name: "interop", email: "interop@example.com" };

export class Storage implements IDocumentStorageService {
  readonly policies = { maximumCacheDurationMs: 432_000_000 as const }; // nothing is cached
  readonly #git: string;

  /** moveRef: move the document's ref to what was uploaded, as levee-driver does. */
  constructor(private readonly rest: Rest, tenant: string, private readonly document: string, private readonly moveRef: boolean) {
    this.#git = `/repos/${encodeURIComponent(tenant)}/git`;
  }

  get #ref(): string {
    return `${this.#git}/refs/heads/${encodeURIComponent(this.document)}`;
  }

  async getVersions(versionId: string | null, _count: number): Promise<IVersion[]> {
    const sha = versionId ?? (await this.rest.get<{ object: { sha: string } }>(this.#ref)).object.sha;
    const commit = await this.rest.get<Commit>(`${this.#git}/commits/${sha}`);
    return [{ id: commit.sha, treeId: commit.tree.sha }];
  }

  async getSnapshotTree(version?: IVersion): Promise<ISnapshotTree | null> {
    const { treeId } = version ?? (await this.getVersions(null, 1))[0]!;
    const flat = await this.rest.get<{ sha: string; url: string; tree: Entry[] }>(`${this.#git}/trees/${treeId}?recursive=1`);
    return buildGitTreeHierarchy(flat as Parameters<typeof buildGitTreeHierarchy>[0]);
  }

  async readBlob(id: string): Promise<ArrayBufferLike> {
    const { content, encoding } = await this.rest.get<{ content: string; encoding: BufferEncoding }>(`${this.#git}/blobs/${id}`);
    return new Uint8Array(Buffer.from(content, encoding)).buffer;
  }

  async createBlob(file: ArrayBufferLike): Promise<ICreateBlobResponse> {
    return { id: await this.#putBlob(Buffer.from(file)) };
  }

  async uploadSummaryWithContext(summary: ISummaryTree, context: ISummaryContext): Promise<string> {
    const tree = await this.#putTree(summary);
    const parents = context.ackHandle === undefined ? [] : [context.ackHandle];
    const commit = await this.rest.post<Commit>(`${this.#git}/commits`, {
      message: `Summary at ${context.referenceSequenceNumber}`, tree, parents, author,
    });
    if (this.moveRef) await this.rest.patch(this.#ref, { sha: commit.sha, force: true });
    return commit.sha;
  }

  async downloadSummary(_handle: ISummaryHandle): Promise<ISummaryTree> {
    throw new Error("downloadSummary: no client of this version asks for it");
  }

  async #putBlob(content: string | Uint8Array): Promise<string> {
    const body =
      typeof content === "string" ? { content, encoding: "utf-8" } :
      { content: Buffer.from(content).toString("base64"), encoding: "base64" };
    return (await this.rest.post<{ sha: string }>(`${this.#git}/blobs`, body)).sha;
  }

  async #putTree(tree: ISummaryTree): Promise<string> {
    const entries = await Promise.all(Object.entries(tree.tree).map(async ([name, node]): Promise<Entry> => ({
      path: encodeURIComponent(name), mode: getGitMode(node), type: getGitType(node), sha: await this.#put(node),
    })));
    return (await this.rest.post<{ sha: string }>(`${this.#git}/trees`, { tree: entries })).sha;
  }

  /** put returns an id, or for a part that did not change its path in the last summary. */
  async #put(node: ISummaryTree["tree"][string]): Promise<string> {
    switch (node.type) {
      case SummaryType.Tree: return this.#putTree(node);
      case SummaryType.Blob: return this.#putBlob(node.content);
      case SummaryType.Handle: return node.handle;
      case SummaryType.Attachment: return node.id;
    }
  }
}
