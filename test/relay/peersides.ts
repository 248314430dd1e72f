import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterEach } from 'vitest';
import type { AuditEventInput, AuditEventType } from '../../src/audit/event.ts';
import type { CryptoProvider } from '../../src/crypto/provider.ts';
import type { LocalIdentity } from '../../src/identity/local.ts';
import type { TrustBundle } from '../../src/identity/trustbundle.ts';
import type { PeerConnection } from '../../src/relay/peerconnections.ts';
import { PeerSessions } from '../../src/relay/sessions.ts';
import { Blocks } from '../../src/session/blocks.ts';
import type { Session } from '../../src/session/session.ts';
import type { SecureChannel } from '../../src/transport/channel.ts';
import { Initiator, type InitiatorOptions } from '../../src/transport/initiator.ts';
import {
  DEFAULT_HANDSHAKE_LIMITS,
  DEFAULT_RECORD_LIMITS,
  type RecordLimits,
} from '../../src/transport/limits.ts';
import { XX } from '../../src/transport/mode.ts';
import { MAX_LENGTH } from '../../src/transport/record.ts';
import { Responder, type TicketOffice } from '../../src/transport/responder.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { type IdentityOptions, makeTrust, type Trust } from '../harness/trust.ts';
import { Queue } from '../transport/wire.ts';
import { crypto } from '../transport/world.ts';
import { contextOn } from './memorywire.ts';

export const SERVICE = 'greeter.shop';

const ends: Array<() => unknown> = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** What one side goes by; a test changes it as an operator, a rotation or a load would. */
export interface Circumstances {
  identity: LocalIdentity;
  bundle: TrustBundle;
  policyGeneration: number;
  lagMs: number;
}

/** One end of a connection, kept open by nothing but its session. */
export interface End {
  readonly channel: SecureChannel;
  readonly session: Session;
}

/** The peer sessions of one sidecar, without the relay above them. */
export interface Side {
  readonly sessions: PeerSessions;
  readonly blocks: Blocks;
  readonly now: Circumstances;
  /** What its audit was told of a type, in order. */
  said(type: AuditEventType): Promise<AuditEventInput[]>;
  readonly metrics: ReturnType<typeof contextOn>['metrics'];
  readonly context: ReturnType<typeof contextOn>;
}

/** Two sidecars, `web` who dials and `greeter`, over real sockets on a clock that stands still. */
export interface Sides {
  readonly clock: FakeClock;
  readonly trust: Trust;
  readonly web: Side;
  readonly greeter: Side;
  /** What came in at greeter. */
  readonly came: Queue<End>;
  readonly port: number;
  /** Dials as web's egress does: greeter, or whoever listens at another port. */
  dial(port?: number): Promise<End>;
  /** Listens for web's connections by hand. */
  listen(onSocket: (socket: Socket) => void): Promise<number>;
  /** Greeter's handshakes by hand. */
  responder(tickets: TicketOffice): Responder;
  /** A plain TCP connection to greeter. */
  raw(): Promise<Socket>;
  /** A peer to greeter that does its handshake by hand. */
  initiator(overrides?: Partial<InitiatorOptions>): Initiator;
}

export interface SidesOptions {
  readonly web?: IdentityOptions;
  readonly greeter?: IdentityOptions;
  /** Of greeter. */
  readonly crypto?: CryptoProvider;
  readonly records?: Partial<RecordLimits>;
  /** An hour by default. */
  readonly idleMs?: number;
}

export async function sides(options: SidesOptions = {}): Promise<Sides> {
  const { idleMs = 3_600_000 } = options;
  const clock = new FakeClock();
  const trust = await makeTrust({ clock });
  const side = async (name: 'web' | 'greeter', provider: CryptoProvider): Promise<Side> => {
    const identity = await trust.identity(name, options[name]);
    const now = { identity, bundle: trust.bundle, policyGeneration: 1, lagMs: 0 };
    const context = contextOn(clock);
    const events: AuditEventInput[] = [];
    context.recorder.watch({ wants: () => true, take: ({ line }) => events.push(JSON.parse(line)) });
    const said = async (type: AuditEventType): Promise<AuditEventInput[]> => {
      await context.recorder.flush();
      return events.filter((event) => event.type === type);
    };
    const blocks = await Blocks.open(clock, undefined);
    const sessions = new PeerSessions(context, {
      crypto: provider,
      identity: () => now.identity,
      bundle: () => now.bundle,
      handshake: DEFAULT_HANDSHAKE_LIMITS,
      records: { ...DEFAULT_RECORD_LIMITS, ...options.records },
      postQuantum: 'off',
      session: { idleMs, absoluteMs: 8 * 3_600_000, graceMs: 0, max: 10, maxPerPeer: 10 },
      instance: Buffer.alloc(8),
      lagMs: () => now.lagMs,
      blocks,
      policyGeneration: () => now.policyGeneration,
      onSessionEnded: () => {},
    });
    ends.push(() => sessions.close(0, async () => {}));
    return { sessions, blocks, now, said, metrics: context.metrics, context };
  };
  const [web, greeter] = await Promise.all([side('web', crypto), side('greeter', options.crypto ?? crypto)]);
  const came = new Queue<End>();
  const acceptor = greeter.sessions.acceptor((peer) => came.push(hold(greeter, peer)));
  ends.push(() => acceptor.close());
  const port = await listen((socket) => acceptor.accept(socket));
  const { spiffeId } = greeter.now.identity;
  return {
    ...{ clock, trust, web, greeter, came, port },
    dial: async (to = port) => {
      const { wire, session, remote } = await web.sessions.dial(SERVICE, '127.0.0.1', to, spiffeId);
      return hold(web, { channel: wire as SecureChannel, session: session as Session, remote });
    },
    listen,
    raw: () => rawSocket(port),
    responder: (tickets) =>
      new Responder({
        ...{ crypto, modes: [XX], staticKey: crypto.generateX25519(), identity: greeter.now.identity },
        ...{ bundle: trust.bundle, now: () => clock.now(), limits: DEFAULT_HANDSHAKE_LIMITS },
        ...{ maxRecord: MAX_LENGTH, instance: undefined, tickets },
      }),
    initiator: (overrides = {}) =>
      new Initiator({
        ...{ crypto, modes: [XX], staticKey: crypto.generateX25519(), identity: web.now.identity },
        ...{ bundle: trust.bundle, now: () => clock.now(), limits: DEFAULT_HANDSHAKE_LIMITS },
        ...{ maxRecord: MAX_LENGTH, instance: undefined, expectedPeer: spiffeId, ...overrides },
      }),
  };
}

async function listen(onSocket: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    onSocket(socket);
  });
  ends.push(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

async function rawSocket(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  ends.push(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** As the relay does: reads, and tells the session of the connection's end. */
function hold({ sessions }: Side, { channel, session, remote }: PeerConnection): End {
  channel.onClose = (reason, detail) => sessions.closed(session, remote, reason, detail);
  channel.onData = () => {};
  ends.push(() => channel.destroy('refused'));
  return { channel, session };
}
