import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { expect, it } from 'vitest';
import { answerOf, fieldOf, framed, RawApp, RawClient } from '../harness/rawh2.ts';
import { atEnd, ingressTo, merge, SERVICE, type SidecarProcess, World } from '../harness/sidecars.ts';

/** A wire on which connections are taken and nothing moves, until it is opened. */
class Gate {
  readonly address: string;
  readonly #held = new Set<Socket>();
  readonly #ends = new Set<Socket>();

  private constructor(server: Server) {
    this.address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on('connection', (socket) => {
      this.#held.add(socket);
      this.#keep(socket);
    });
    atEnd(() => {
      server.close();
      for (const socket of this.#ends) socket.destroy();
    });
  }

  static async start(): Promise<Gate> {
    const server = createServer({ pauseOnConnect: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Gate(server);
  }

  get held(): number {
    return this.#held.size;
  }

  open(target: string): void {
    const [host, port] = target.split(':') as [string, string];
    for (const socket of this.#held) {
      const on = connect(Number(port), host);
      this.#keep(on);
      socket.pipe(on);
      on.pipe(socket);
    }
  }

  #keep(socket: Socket): void {
    this.#ends.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => this.#ends.delete(socket));
  }
}

/** How a call ended for its caller, who does not watch its clock. */
async function outcome(client: RawClient, name: string, more: Record<string, string> = {}): Promise<string> {
  const { headers } = await answerOf(
    client.grpc('/shop.Raw/Quick', { 'x-call': name, ...more }).end(framed(Buffer.alloc(1))),
  );
  return `${fieldOf(headers, 'grpc-status')} ${fieldOf(headers, 'hauberk-error') ?? 'by the app'}`;
}

it('calls that wait for a connection keep to their deadlines, or leave no trace, and the rest go when it is up', async () => {
  const STAY = 40;
  const world = await World.make();
  const app = await RawApp.start();
  app.onRequest(({ stream }) => stream.respond({ ':status': 200, 'grpc-status': '0' }, { endStream: true }));
  const gate = await Gate.start();
  const calling = (config: object): Promise<SidecarProcess> =>
    world.sidecar(
      'web',
      merge(
        {
          egress: {
            routes: [{ service: SERVICE, endpoints: [gate.address], peer: world.spiffeId('greeter') }],
          },
          handshake: { timeout: '60s' },
        },
        { ...config },
      ),
    );
  const [greeter, web, hasty] = await Promise.all([
    world.sidecar('greeter', ingressTo(world, app.address)),
    calling({ http2: { queuedCalls: STAY + 1 } }),
    calling({ pool: { waitTimeout: '100ms' } }),
  ]);
  const client = new RawClient(web.egress, SERVICE);
  const waiting = (count: number): Promise<void> =>
    expect.poll(() => web.metric('hauberk_calls_open'), { timeout: 20_000 }).toBe(count);

  const impatient = outcome(new RawClient(hasty.egress, SERVICE), 'impatient');
  const stay = Array.from({ length: STAY }, (_, i) => outcome(client, `stay ${i}`));
  const gone = client.grpc('/shop.Raw/Quick', { 'x-call': 'gone' });
  gone.end(framed(Buffer.alloc(1)));
  await waiting(STAY + 1);
  expect(await outcome(client, 'one too many')).toBe('14 queue-full');
  gone.close(8);
  await waiting(STAY); // it has left its place to the next
  expect(await outcome(client, 'late', { 'grpc-timeout': '300m' })).toBe('4 deadline-exceeded');
  const next = outcome(client, 'next');
  await waiting(STAY + 1);
  expect(await outcome(client, 'one too many again')).toBe('14 queue-full');
  expect(await impatient).toBe('14 wait-timeout');
  expect(app.requests).toHaveLength(0);
  expect(gate.held).toBe(2); // one connection, however many wait, of each sidecar

  gate.open(greeter.ingress);
  expect(await Promise.all([...stay, next])).toEqual(Array(STAY + 1).fill('0 by the app'));
  const sent = app.requests.map(({ headers }) => fieldOf(headers, 'x-call'));
  expect(sent).toEqual([...stay.map((_, i) => `stay ${i}`), 'next']);
  expect(await web.audit.of('session.created')).toHaveLength(1);
  const ended = await web.audit.events('call.completed', STAY + 5);
  expect(ended.map(({ error, grpcStatus }) => error ?? grpcStatus).filter((how) => how !== 0)).toEqual([
    'queue-full',
    1, // cancelled
    'deadline-exceeded',
    'queue-full',
  ]);
});
