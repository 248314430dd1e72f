import { connect, createServer, type Server } from 'node:net';

const KEPT = 16_384; // octets of one direction

/** Sits on the wire between the two sidecars, passes everything on and keeps the first of what it sees. */
export class Eavesdropper {
  readonly #server: Server;
  readonly #seen: Buffer[] = [];
  #length = 0;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Listens on a free port and passes connections on to `port`. */
  static async between(port: number): Promise<Eavesdropper> {
    const server = createServer({ noDelay: true });
    const eavesdropper = new Eavesdropper(server);
    server.on('connection', (client) => {
      const upstream = connect({ host: '127.0.0.1', port, noDelay: true });
      client.on('data', (octets: Buffer) => eavesdropper.#keep(octets));
      client.pipe(upstream).pipe(client);
      client.on('error', () => upstream.destroy());
      upstream.on('error', () => client.destroy());
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return eavesdropper;
  }

  get port(): number {
    const address = this.#server.address();
    return address !== null && typeof address === 'object' ? address.port : 0;
  }

  #keep(octets: Buffer): void {
    if (this.#length >= KEPT) return;
    this.#seen.push(Buffer.from(octets));
    this.#length += octets.length;
  }

  /** What went from the calling sidecar to the called one. */
  get seen(): Buffer {
    return Buffer.concat(this.#seen);
  }

  close(): void {
    this.#server.close();
  }
}
