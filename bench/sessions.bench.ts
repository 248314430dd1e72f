// What 100,000 sessions cost: node --expose-gc --import tsx bench/sessions.bench.ts
import { createHash } from 'node:crypto';
import { loadCryptoProvider } from '../src/crypto/provider.ts';
import { Secret } from '../src/crypto/secret.ts';
import { Resumption } from '../src/relay/resumption.ts';
import { SessionManager } from '../src/session/manager.ts';
import type { Session } from '../src/session/session.ts';
import { Metrics } from '../src/telemetry/metrics.ts';
import type { SecureChannel } from '../src/transport/channel.ts';
import { XX } from '../src/transport/mode.ts';
import {
  type NewTicket,
  type Resumable,
  TICKETS_A_HANDSHAKE,
  TICKETS_A_SESSION,
} from '../src/transport/ticket.ts';
import { makeTrust } from '../test/harness/trust.ts';

const SESSIONS = 100_000;
const PEERS = 2_000;
const LOOKUPS = 1_000_000;
const EVICTIONS = 20_000;
const BUDGET_BYTES = 4_096;
const HOUR = 3_600_000;
const DAY = 24 * HOUR;

/** The real clock, set forward by `ahead`, whose timers are run by hand: the manager's sweep, and the rest of its slices. */
let ahead = 0;
let tick = (): void => undefined;
const slices: Array<() => void> = [];
const clock = {
  now: () => Date.now() + ahead,
  monotonic: () => performance.now() + ahead,
  after: (_ms: number, run: () => void) => void slices.push(run),
  every: (_ms: number, run: () => void) => {
    tick = run;
  },
  clear: () => undefined,
  hold: () => () => undefined,
};

const collect = (globalThis as { gc?: () => void }).gc;
if (collect === undefined) throw new Error('run it with node --expose-gc');

/** Memory that is in use after collection: V8's heap, and what buffers hold outside of it. */
function used(): number {
  collect?.();
  collect?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Milliseconds that `run` takes. */
function time(run: () => void): number {
  const start = performance.now();
  run();
  return performance.now() - start;
}

/** A sweep with all of its slices; of these the longest, in milliseconds, is `longest`. */
let longest = 0;
function sweep(): void {
  longest = time(tick);
  for (let slice = slices.shift(); slice !== undefined; slice = slices.shift()) {
    longest = Math.max(longest, time(slice));
  }
}

const report = (what: string, value: number, unit: string): void =>
  console.log(`${what.padEnd(52)} ${value.toFixed(value < 10 ? 2 : 0).padStart(9)} ${unit}`);

/** Ids like those of the handshake, made one by one so that none shares memory with another. */
const idOf = (n: number): string => {
  const hex = createHash('sha256').update(String(n)).digest('hex');
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `8${hex.slice(13, 16)}`,
    `a${hex.slice(17, 20)}`,
    hex.slice(20, 32),
  ].join('-');
};

const crypto = await loadCryptoProvider('native');
const trust = await makeTrust();
const own = await trust.identity('own');
/** As the handshake proves them: all sessions of a peer share one. */
const peers = await Promise.all(
  Array.from({ length: PEERS }, async (_, n) => {
    const { chain } = await trust.identity(`web-${n}`);
    return trust.bundle.verifyChain(chain, Date.now());
  }),
);

/** One end of sessions: those that it founds with others, and what it keeps so that they can be resumed. */
class End {
  readonly manager: SessionManager;
  readonly #role: 'initiator' | 'responder';
  readonly #resumption: Resumption;

  constructor(role: 'initiator' | 'responder') {
    const terms = { idleMs: HOUR, absoluteMs: DAY };
    this.#role = role;
    this.manager = new SessionManager({
      clock,
      max: SESSIONS,
      ...terms,
      cleanupIntervalMs: 1_000,
      onEvent: (event) => {
        if (event.type === 'disposed') this.#resumption.ended(event.session.id);
      },
    });
    this.#resumption = new Resumption({
      crypto,
      clock,
      manager: this.manager,
      metrics: new Metrics({ version: 'bench' }),
      session: terms,
      circumstances: () => ({ identity: own, bundleGeneration: 1, policyGeneration: 0 }),
      mayResume: () => true,
    });
  }

  /** As the relay does it with a channel that has come up, which here has no socket; it is gone again with `rest`. */
  found(n: number, id: string): Session {
    const peer = peers[n % PEERS] as (typeof peers)[number];
    const initiator = this.#role === 'initiator';
    const key = Secret.copyOf(Buffer.alloc(32, n)); // as the key schedule makes it: 32 bytes of their own
    const session = this.manager.create({
      id,
      sessionKey: key,
      peer: peer.spiffeId,
      serviceId: initiator ? `service-${n}.shop` : undefined,
      direction: initiator ? 'outbound' : 'inbound',
      postQuantum: true,
      notAfter: clock.now() + 2 * DAY,
    });
    session.attach();
    const peerInstance = Buffer.alloc(8, n).toString('hex');
    const from = { peer, identity: own, bundleGeneration: 1, foundedIn: XX };
    const resumable: Resumable = { ...from, session: { id, key }, peerMaxRecord: 65_535, peerInstance };
    const spot = initiator
      ? Buffer.from(`service-${n}.shop 127.0.0.1 15008 ${peer.spiffeId}`).toString()
      : undefined;
    this.#resumption.founded({ resumable } as SecureChannel, session, spot);
    return session;
  }

  /** As many tickets as a session may have, come or gone; then its connection goes. */
  rest(session: Session): void {
    for (let kept = 0; kept < TICKETS_A_SESSION; kept += TICKETS_A_HANDSHAKE) {
      const channel = {
        role: this.#role,
        ticketsDue: TICKETS_A_HANDSHAKE,
        sendTicket: () => void channel.ticketsDue--,
        onTicket: (_: NewTicket): void => undefined,
      };
      this.#resumption.exchange(channel as Partial<SecureChannel> as SecureChannel, session);
      if (this.#role === 'responder') continue;
      for (let n = 0; n < TICKETS_A_HANDSHAKE; n++) {
        channel.onTicket({ id: crypto.randomBytes(16), idleSeconds: 3_600, absoluteSeconds: 28_800 });
      }
    }
    session.detach('truncated');
  }
}

const issuer = new End('responder');
const { manager } = issuer;
const ids = Array.from({ length: SESSIONS }, (_, n) => idOf(n));
const create = (n: number, id: string): Session => issuer.found(n, id);

// Compiled before anything is measured.
for (let n = 0; n < 2_000; n++) create(n, idOf(-n - 1));
manager.invalidateSessions(() => true);

console.log(`${SESSIONS} sessions of ${PEERS} peers, Node ${process.versions.node}`);
const before = used();
const created = time(() => {
  for (let n = 0; n < SESSIONS; n++) create(n, idOf(n));
});
report('memory a session', (used() - before) / SESSIONS, 'bytes');
report('create', (created * 1_000) / SESSIONS, 'us');

const sessions = manager.getSessionsByLastUsed();
for (const session of sessions) issuer.rest(session);
const resting = (used() - before) / SESSIONS;
report(`the same at rest, with ${TICKETS_A_SESSION} tickets that it has issued`, resting, 'bytes');

let found = 0;
const order = Array.from({ length: LOOKUPS }, (_, n) => ids[(n * 7_919) % SESSIONS] as string);
const looked = time(() => {
  for (const id of order) if (manager.peek(id) !== undefined) found++;
});
const got = time(() => {
  for (const id of order) if (manager.getSession(id) !== undefined) found++;
});
if (found !== 2 * LOOKUPS) throw new Error(`${2 * LOOKUPS - found} sessions were not found`);
report('peek, in no order', (looked * 1_000_000) / LOOKUPS, 'ns');
report('getSession, which slides, in no order', (got * 1_000_000) / LOOKUPS, 'ns');

for (const session of sessions) session.attach();
const calls = time(() => {
  for (let n = 0; n < LOOKUPS; n++) {
    const session = sessions[n % 1_000] as Session;
    session.callStarted();
    session.callEnded();
  }
});
report('callStarted and callEnded', (calls * 1_000_000) / LOOKUPS, 'ns');

for (const session of sessions) {
  session.callStarted();
  session.callEnded();
}
report('sweep, all in use, none due', time(sweep), 'ms');
ahead += 2_000;
report('sweep in which all become idle', time(sweep), 'ms');
ahead += 1_000;
report('sweep, all idle, none due', time(sweep), 'ms');
report(
  'cleanupExpiredSessions, none due',
  time(() => void manager.cleanupExpiredSessions()),
  'ms',
);

report(
  'create when all places are taken, a session evicted',
  (time(() => {
    for (let n = 0; n < EVICTIONS; n++) create(n, idOf(SESSIONS + n));
  }) *
    1_000) /
    EVICTIONS,
  'us',
);

ahead += 2 * HOUR;
const swept = time(sweep);
if (manager.size !== 0) throw new Error(`${manager.size} of ${SESSIONS} sessions have not ended`);
report(`sweep in which all ${SESSIONS} end`, swept, 'ms');
report('of that a session', (swept * 1_000) / SESSIONS, 'us');
report('the longest that anything else waited meanwhile', longest, 'ms');
sessions.length = 0;
const left = used();
report('memory that is left, a session', (left - before) / SESSIONS, 'bytes');

const holder = new End('initiator');
for (let n = 0; n < SESSIONS; n++) holder.rest(holder.found(n, idOf(n)));
const held = (used() - left) / SESSIONS;
report(`a session at rest, with ${TICKETS_A_SESSION} tickets that it was given`, held, 'bytes');
if (holder.manager.size !== SESSIONS) throw new Error('not all of them are there');

const kept = Math.max(resting, held) < BUDGET_BYTES;
console.log(`a resumable session: budget ${BUDGET_BYTES} bytes, ${kept ? 'kept' : 'MISSED'}`);
process.exitCode = kept ? 0 : 1;
