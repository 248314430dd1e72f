import { connect, createServer, type Server, type Socket } from 'node:net';

const KEPT = 65_536; // octets of one direction

/** Octets of one direction: the first of them, and how many there were. */
class Seen {
  readonly #chunks: Buffer[] = [];
  length = 0;

  keep(octets: Buffer): void {
    if (this.length < KEPT) this.#chunks.push(Buffer.from(octets));
    this.length += octets.length;
  }

  get octets(): Buffer {
    return Buffer.concat(this.#chunks);
  }
}

/** Sits on the wire between the two sidecars, passes everything on and keeps the first of what it sees. */
export class Eavesdropper {
  /** From the calling sidecar to the called one. */
  readonly there = new Seen();
  readonly back = new Seen();
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Listens on a free port and passes connections on to `port`. */
  static async between(port: number): Promise<Eavesdropper> {
    const server = createServer({ noDelay: true });
    const eavesdropper = new Eavesdropper(server);
    server.on('connection', (client) => {
      const upstream = connect({ host: '127.0.0.1', port, noDelay: true });
      client.on('data', (octets: Buffer) => eavesdropper.there.keep(octets));
      upstream.on('data', (octets: Buffer) => eavesdropper.back.keep(octets));
      client.pipe(upstream).pipe(client);
      client.on('error', () => upstream.destroy());
      upstream.on('error', () => client.destroy());
      for (const socket of [client, upstream]) {
        eavesdropper.#sockets.add(socket);
        socket.once('close', () => eavesdropper.#sockets.delete(socket));
      }
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return eavesdropper;
  }

  get port(): number {
    const address = this.#server.address();
    return address !== null && typeof address === 'object' ? address.port : 0;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
