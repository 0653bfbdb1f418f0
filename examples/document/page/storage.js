// The REST half of the protocol: snapshots as git objects, and the log of messages.

const EMPTY = {
  type: 1,
  tree: {
    ".app": { type: 1, tree: { board: { type: 2, content: "{}" } } },
    ".protocol": {
      type: 1,
      tree: {
        attributes: { type: 2, content: '{"minimumSequenceNumber":0,"sequenceNumber":0}' },
        quorumMembers: { type: 2, content: "[]" },
        quorumProposals: { type: 2, content: "[]" },
        quorumValues: { type: 2, content: "[]" },
      },
    },
  },
};

export class Storage {
  constructor(documentId, token) {
    this.documentId = documentId;
    this.token = token;
  }

  async #ask(method, path, body) {
    const { tenant, token } = await this.token();
    const answer = await fetch(path.replace("TENANT", encodeURIComponent(tenant)), {
      method,
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
      body: body && JSON.stringify(body),
    });
    const result = await answer.json();
    if (!answer.ok) throw Object.assign(new Error(result.error ?? answer.statusText), { status: answer.status });
    return result;
  }

  #git(method, path, body) { return this.#ask(method, `/repos/TENANT/git/${path}`, body); }

  #ref() { return `refs/heads/${encodeURIComponent(this.documentId)}`; }

  // load returns {handle, sequenceNumber, board}, of a document that is created if
  // nobody has yet.
  async load() {
    let ref;
    try {
      ref = await this.#git("GET", this.#ref());
    } catch (error) {
      if (error.status !== 404) throw error;
      try {
        await this.#ask("POST", "/documents/TENANT", { id: this.documentId, summary: EMPTY });
      } catch (taken) {
        if (taken.status !== 409) throw taken; // another tab was faster
      }
      ref = await this.#git("GET", this.#ref());
    }
    const commit = await this.#git("GET", `commits/${ref.object.sha}`);
    const { tree } = await this.#git("GET", `trees/${commit.tree.sha}?recursive=1`);
    const read = async (path) => JSON.parse(decode(await this.#git("GET", `blobs/${tree.find((e) => e.path === path).sha}`)));
    const [attributes, board] = await Promise.all([read(".protocol/attributes"), read("board")]);
    return { handle: ref.object.sha, sequenceNumber: attributes.sequenceNumber, board: new Map(Object.entries(board)) };
  }

  // upload keeps a board as a commit and returns its handle.
  async upload(board, head, message) {
    const content = JSON.stringify(Object.fromEntries(board));
    const blob = await this.#git("POST", "blobs", { content, encoding: "utf-8" });
    const tree = await this.#git("POST", "trees", { tree: [{ path: "board", mode: "100644", type: "blob", sha: blob.sha }] });
    const commit = await this.#git("POST", "commits", {
      message, tree: tree.sha, parents: [head], author: { name: "board", email: "board@localhost" },
    });
    return commit.sha;
  }

  // deltas returns all messages after a sequence number.
  async deltas(after) {
    const all = [];
    for (;;) {
      const { value } = await this.#ask("GET", `/deltas/TENANT/${encodeURIComponent(this.documentId)}?from=${after}`);
      if (value.length === 0) return all;
      all.push(...value);
      after = value.at(-1).sequenceNumber;
    }
  }
}

function decode({ content }) {
  return new TextDecoder().decode(Uint8Array.from(atob(content), (c) => c.charCodeAt(0)));
}
