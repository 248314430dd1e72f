/*
 * A process that opens many sessions with a sidecar and lets go of their connections, so that they rest at both ends and can
 * be resumed. Run with --expose-gc; its order comes by stdin, what it has done goes to stdout, a line of JSON each.
 */
import { createInterface } from 'node:readline';
import { setImmediate as turn } from 'node:timers/promises';
import { systemClock } from '../../src/clock/clock.ts';
import { loadCryptoProvider } from '../../src/crypto/provider.ts';
import { loadIdentity } from '../../src/identity/load.ts';
import { PeerSessions } from '../../src/relay/sessions.ts';
import { Blocks } from '../../src/session/blocks.ts';
import type { Session } from '../../src/session/session.ts';
import type { SecureChannel } from '../../src/transport/channel.ts';
import { DEFAULT_HANDSHAKE_LIMITS, DEFAULT_RECORD_LIMITS } from '../../src/transport/limits.ts';
import { TICKETS_A_HANDSHAKE } from '../../src/transport/ticket.ts';
import { contextOn } from '../relay/memorywire.ts';

export interface CrowdOrder {
  readonly trustDomain: string;
  /** Paths, one a peer. */
  readonly svids: readonly { readonly svid: string; readonly key: string }[];
  readonly bundle: string;
  readonly host: string;
  readonly port: number;
  readonly expectedPeer: string;
  readonly sessions: number;
}

export interface CrowdReport {
  /** Octets in use after collection. */
  readonly used: number;
  /** Sessions that rest. */
  readonly resting: number;
}

const HOUR = 3_600_000;
const COLLECTIONS = 10;
const AT_ONCE = 16;

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const order = JSON.parse((await lines.next()).value as string) as CrowdOrder;
const { trustDomain, bundle, host, port, expectedPeer } = order;
const crypto = await loadCryptoProvider('native');
const peers = await Promise.all(
  order.svids.map(async (files) => {
    const loaded = await loadIdentity({ ...files, bundle, trustDomain }, systemClock);
    return new PeerSessions(contextOn(systemClock), {
      crypto,
      identity: () => loaded.identity,
      bundle: () => loaded.bundle,
      handshake: DEFAULT_HANDSHAKE_LIMITS,
      records: DEFAULT_RECORD_LIMITS,
      postQuantum: 'off',
      session: {
        ...{ idleMs: HOUR, absoluteMs: 8 * HOUR, graceMs: 0 },
        ...{ max: order.sessions, maxPerPeer: order.sessions },
      },
      instance: Buffer.alloc(8, 1),
      lagMs: () => 0,
      blocks: await Blocks.open(systemClock, undefined),
      onSessionEnded: () => {},
    });
  }),
);

/** A connection to the sidecar for service `n`, until its tickets have come. Returns its session's id. */
async function connect(n: number): Promise<string> {
  const sessions = peers[n % peers.length] as PeerSessions;
  const dialled = await sessions.dial(`service-${n}.shop`, host, port, expectedPeer);
  const channel = dialled.wire as SecureChannel;
  const session = dialled.session as Session;
  const closed = new Promise<void>((resolve) => {
    channel.onClose = (reason, detail) => {
      sessions.closed(session, dialled.remote, reason, detail);
      resolve();
    };
  });
  channel.onData = () => {};
  while (channel.received < TICKETS_A_HANDSHAKE) await turn();
  channel.destroy('truncated');
  await closed;
  return session.id;
}

/** Runs `connect` for the services `from` to `to`; returns the ids of their sessions. */
async function connectAll(from: number, to: number): Promise<string[]> {
  const ids: string[] = [];
  let next = from;
  const work = async (): Promise<void> => {
    for (let n = next++; n < to; n = next++) ids[n - from] = await connect(n);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return ids;
}

async function report(): Promise<void> {
  for (let i = 0; i < COLLECTIONS; i++) {
    (globalThis as unknown as { gc(): void }).gc();
    await turn();
  }
  const { heapUsed, external } = process.memoryUsage();
  const resting = peers.reduce((sum, { manager }) => {
    return sum + manager.getSessionsByLastUsed((session) => session.state === 'error').length;
  }, 0);
  console.log(JSON.stringify({ used: heapUsed + external, resting } satisfies CrowdReport));
}

for await (const command of lines) {
  const [what, from, to] = command.split(' ') as [string, string, string];
  if (what === 'connect') {
    await connectAll(Number(from), Number(to));
  } else if (what === 'resume') {
    const known = new Set(
      peers.flatMap(({ manager }) => manager.getSessionsByLastUsed().map(({ id }) => id)),
    );
    const ids = await connectAll(Number(from), Number(to));
    if (!ids.every((id) => known.has(id))) throw new Error('a session was founded, not resumed');
  } else if (what === 'end') {
    for (const { manager } of peers) manager.invalidateSessions(() => true);
  }
  await report();
}
process.exit(0);
