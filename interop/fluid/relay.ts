// A TCP relay before the server: it stays where it is when the server moves.
import net from "node:net";

export class Relay {
  readonly #lines = new Set<net.Socket>();
  readonly #server = net.createServer((line) => this.#connect(line));

  private constructor(private target: string) {}

  /** to returns a relay that listens. */
  static async to(target: string): Promise<Relay> {
    const relay = new Relay(target);
    await new Promise<void>((resolve, reject) => relay.#server.on("error", reject).listen(0, "127.0.0.1", resolve));
    return relay;
  }

  get base(): string {
    return `http://127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`;
  }

  /** move takes who comes from now on to another server. Those before are cut off. */
  move(target: string): void {
    this.target = target;
    for (const line of this.#lines) line.destroy();
  }

  stop(): void {
    this.#server.close();
    this.move("");
  }

  #connect(line: net.Socket): void {
    if (this.target === "") return void line.destroy();
    const { hostname, port } = new URL(this.target);
    const far = net.connect(Number(port), hostname);
    for (const [one, other] of [[line, far], [far, line]] as const) {
      this.#lines.add(one);
      one.setNoDelay(true);
      one.on("error", () => {}); // "close" follows
      one.on("close", () => {
        this.#lines.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  }
}
