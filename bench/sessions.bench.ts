// What 100,000 sessions cost: node --expose-gc --import tsx bench/sessions.bench.ts
import { createHash } from 'node:crypto';
import { loadCryptoProvider } from '../src/crypto/provider.ts';
import { Secret } from '../src/crypto/secret.ts';
import { SessionManager } from '../src/session/manager.ts';
import type { Session } from '../src/session/session.ts';
import { IssuedTickets } from '../src/transport/issuedtickets.ts';
import { TICKETS_A_SESSION } from '../src/transport/ticket.ts';

const SESSIONS = 100_000;
const PEERS = 5_000;
const LOOKUPS = 1_000_000;
const EVICTIONS = 20_000;
const BUDGET_BYTES = 4_096;
const HOUR = 3_600_000;
const DAY = 24 * HOUR;

/** The real clock, set forward by `ahead`, whose only timer is run by hand: the manager's sweep. */
let ahead = 0;
let tick = (): void => undefined;
const clock = {
  now: () => Date.now() + ahead,
  monotonic: () => performance.now() + ahead,
  after: () => undefined,
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

const manager = new SessionManager({
  clock,
  max: SESSIONS,
  idleMs: HOUR,
  absoluteMs: DAY,
  cleanupIntervalMs: 1_000,
});
const ids = Array.from({ length: SESSIONS }, (_, n) => idOf(n));
const peers = Array.from({ length: PEERS }, (_, n) => `spiffe://shop.example/ns/shop/sa/web-${n}`);

const create = (n: number, id: string): Session => {
  const session = manager.create({
    id,
    // As the key schedule makes it: 32 bytes of their own.
    sessionKey: Secret.copyOf(Buffer.alloc(32, n)),
    peer: peers[n % PEERS] as string,
    direction: 'inbound',
    postQuantum: true,
    notAfter: clock.now() + 2 * DAY,
  });
  session.attach();
  session.resumable = true;
  return session;
};

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
const tickets = new IssuedTickets<Session>(await loadCryptoProvider('native'));
for (const session of sessions) {
  for (let n = 0; n < TICKETS_A_SESSION; n++) tickets.issue(session);
  session.detach('truncated');
}
const resting = (used() - before) / SESSIONS;
report(`the same at rest, with ${TICKETS_A_SESSION} tickets to resume it`, resting, 'bytes');

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
report('sweep, all in use, none due', time(tick), 'ms');
ahead += 2_000;
report('sweep in which all become idle', time(tick), 'ms');
ahead += 1_000;
report('sweep, all idle, none due', time(tick), 'ms');
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
const swept = time(tick);
if (manager.size !== 0) throw new Error(`${manager.size} of ${SESSIONS} sessions have not ended`);
report(`sweep in which all ${SESSIONS} end`, swept, 'ms');
report('of that a session', (swept * 1_000) / SESSIONS, 'us');
for (const { id } of sessions.splice(0)) tickets.forget(id);
report('memory that is left, a session', (used() - before) / SESSIONS, 'bytes');

console.log(
  `a resumable session: budget ${BUDGET_BYTES} bytes, ${resting < BUDGET_BYTES ? 'kept' : 'MISSED'}`,
);
process.exitCode = resting < BUDGET_BYTES ? 0 : 1;
