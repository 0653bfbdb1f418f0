// A TCP relay before the server: it sees what is asked for, cuts lines as networks
// do, and stays where it is when the server moves.
import net from "node:net";

export class Relay {
  requests = []; // "GET /path?query", in order
  webSockets = true; // false: lets no WebSocket through
  #lines = new Set();
  #server = net.createServer((line) => this.#connect(line));

  /** to returns a relay that listens. Its target may be set again later. */
  static async to(target) {
    const relay = new Relay();
    relay.target = target;
    await new Promise((resolve, reject) => {
      relay.#server.on("error", reject);
      relay.#server.listen(0, "127.0.0.1", resolve);
    });
    return relay;
  }

  get base() {
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  /** kill resets every connection, without a word of WebSocket. */
  kill() {
    for (const line of this.#lines) line.resetAndDestroy();
  }

  /** stop is kill, and nobody comes back. */
  stop() {
    this.#server.close();
    this.kill();
  }

  #connect(line) {
    const { hostname, port } = new URL(this.target);
    const far = net.connect(port, hostname);
    for (const [one, other] of [[line, far], [far, line]]) {
      this.#lines.add(one);
      one.setNoDelay(true);
      one.on("error", () => {}); // "close" follows
      one.on("close", () => {
        this.#lines.delete(one);
        other.destroy();
      });
    }
    far.pipe(line);
    line.on("data", (bytes) => {
      const request = /^(?:GET|POST|OPTIONS) \S+/.exec(bytes.toString("latin1"))?.[0];
      if (request) this.requests.push(request);
      if (!this.webSockets && request?.includes("/websocket?")) line.destroy();
      else far.write(bytes);
    });
    line.on("end", () => far.end());
  }
}
