/** Two sidecars, a wire between them in hostile hands, and what must be true of their connections afterwards. */
import { setTimeout as pause } from 'node:timers/promises';
import { expect } from 'vitest';
import type { AuditEventOf } from '../../src/audit/event.ts';
import { type Balance, balance, type ClientCall, completedAt } from './accounts.ts';
import type { TestClient } from './greeter-client.ts';
import { BAD_TAG, FAULTS, type Fault, HostileRelay, type Link } from './hostilerelay.ts';
import { Ledger } from './ledger.ts';
import type { Mulberry } from './seeded.ts';
import { merge, type SidecarProcess, World } from './sidecars.ts';

/** Each has a session of its own. */
export const SERVICES = ['one.shop', 'two.shop'] as const;

const PATIENCE_MS = 30_000;
const CONFIG = {
  // The wire is this process, which may itself fall silent for a while on a busy machine.
  records: { heartbeat: '300ms', heartbeatTimeout: '4s', timeout: '4s' },
  // A wire that is cut before its SETTINGS were acknowledged ends as any other.
  http2: { settingsTimeout: '1m' },
  pool: { backoff: '10ms', maxBackoff: '100ms', maxReconnectAttempts: 1_000, size: 3 },
  handshake: { ratePerAddress: 100_000, burstPerAddress: 100_000 },
  monitoring: { queue: 100_000 },
};
/** So few that the callers of a service need all connections of the pool. */
const STREAMS = { http2: { sessionStreams: 4 } };

export interface HostilePair {
  readonly app: Ledger;
  readonly web: SidecarProcess;
  readonly greeter: SidecarProcess;
  readonly relay: HostileRelay;
  /** One for each service. */
  readonly clients: readonly TestClient[];
}

export async function startHostilePair(random: Mulberry): Promise<HostilePair> {
  const world = await World.make();
  const app = await Ledger.start();
  const greeter = await world.sidecar(
    'greeter',
    merge(merge(CONFIG, STREAMS), {
      ingress: {
        apps: SERVICES.map((service) => ({ service, address: app.address })),
        allow: [{ peer: world.spiffeId('*') }],
      },
    }),
  );
  const relay = await HostileRelay.start(greeter.ingress, SERVICES.length, random);
  const web = await world.sidecar(
    'web',
    merge(CONFIG, {
      egress: {
        routes: SERVICES.map((service, door) => ({
          service,
          endpoints: [relay.addresses[door]],
          peer: world.spiffeId('greeter'),
        })),
      },
    }),
  );
  const clients = SERVICES.map((service) => world.client(web.egress, { authority: service }));
  return { app, web, greeter, relay, clients };
}

/** Inflicts faults one after the other, each when `due` says so, until a connection does not come up any more. */
export async function inflict(
  relay: HostileRelay,
  faults: readonly Fault[],
  due: (n: number) => boolean,
): Promise<void> {
  for (const [n, fault] of faults.entries()) {
    while (!due(n)) await pause(2);
    if (!(await relay.inflict(fault))) return;
  }
}

/** So many faults, each kind as often as any other, in an order that the seed gives. */
export function faultsInOrder(count: number, random: Mulberry): Fault[] {
  const faults = Array.from({ length: count }, (_, i) => FAULTS[i % FAULTS.length] as Fault);
  for (let i = faults.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [faults[i], faults[j]] = [faults[j] as Fault, faults[i] as Fault];
  }
  return faults;
}

/** Waits until every connection that was broken is gone at both ends, and nothing is under way; false if that does not come. */
export async function quiet({ web, greeter, relay }: HostilePair): Promise<boolean> {
  const open = async (): Promise<number[]> => [
    relay.live.length,
    await web.metric('hauberk_peer_connections'),
    await greeter.metric('hauberk_peer_connections'),
    await web.metric('hauberk_calls_open'),
    await greeter.metric('hauberk_calls_open'),
    await greeter.metric('hauberk_handshakes_half_open'),
  ];
  const settled = async (): Promise<boolean> => {
    const [links, near, far, ...rest] = await open();
    return near === links && far === links && rest.every((n) => n === 0);
  };
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await settled())) {
    if (performance.now() > deadline) return false;
    await pause(20);
  }
  return true;
}

export async function balanceOf(
  { app, web, greeter }: HostilePair,
  client: ReadonlyMap<string, ClientCall>,
): Promise<Balance> {
  const egress = await completedAt(web, web.audit);
  const ingress = await completedAt(greeter, greeter.audit);
  for (const sidecar of [web, greeter]) expect(await sidecar.audit.of('audit.dropped')).toEqual([]);
  return balance({ client, egress, ingress, app });
}

/**
 * What must be true of all connections, once it is quiet: what was broken has ended, at both ends, as that fault lets it end;
 * nothing else has; and every connection but a service's first one has resumed its session.
 */
export async function wrongConnections({ web, greeter, relay }: HostilePair): Promise<string[]> {
  const wrong: string[] = [];
  const { links } = relay;
  await Promise.all([web.audited(), greeter.audited()]);
  for (const [i, link] of links.entries()) {
    const first = links.find(({ door }) => door === link.door) === link;
    const how = link.modes.join();
    if (how !== (first ? '1' : '2') || link.retries > 0) {
      wrong.push(`connection ${i} began with mode ${how} and ${link.retries} RETRYs`);
    }
    if (!link.cameUp) wrong.push(`connection ${i} never came up`);
  }
  const sessions = { web: new Set<string>(), greeter: new Set<string>() };
  for (const { name, audit } of [web, greeter]) {
    const created = await audit.of('session.created');
    const resumed = await audit.of('session.resumed');
    const ids = sessions[name as 'web' | 'greeter'];
    for (const { sessionId } of created) ids.add(sessionId);
    if (created.length !== SERVICES.length || ids.size !== SERVICES.length) {
      wrong.push(`${name} has created ${created.length} sessions`);
    }
    if (resumed.length !== links.length - created.length) {
      wrong.push(`${name} has resumed ${resumed.length} times, with ${links.length} connections`);
    }
    if (!resumed.every(({ sessionId }) => ids.has(sessionId))) wrong.push(`${name} resumed unknown sessions`);
    for (const ended of ['session.closed', 'session.expired', 'session.evicted'] as const) {
      if ((await audit.of(ended)).length > 0) wrong.push(`${name} has lost a session: ${ended}`);
    }
  }
  if ([...sessions.web].some((id) => !sessions.greeter.has(id)))
    wrong.push('the ends name their sessions differently');
  return [...wrong, ...(await wrongAtServer(greeter, links)), ...(await wrongAtClient(web, links))];
}

/** The reason of its end; BAD_TAG if that was a record that does not authenticate, and not one that is malformed. */
function howItEnded({ reason = '', detail = '' }: AuditEventOf<'connection.closed'>): string {
  return reason === 'bad-record' && detail.includes('does not authenticate') ? BAD_TAG : reason;
}

/** The called side tells connections apart by their ports. */
async function wrongAtServer({ audit }: SidecarProcess, links: readonly Link[]): Promise<string[]> {
  const wrong: string[] = [];
  const closed = (await audit.of('connection.closed')).filter(({ side }) => side === 'peer');
  for (const [i, { serverSees, broken }] of links.entries()) {
    // A port may be used again when its connection is over.
    const before = links.slice(0, i).filter((link) => link.serverSees === serverSees).length;
    const after = links.slice(i + 1).some((link) => link.serverSees === serverSees);
    const ends = closed
      .filter(({ remote }) => remote === serverSees)
      .map(howItEnded)
      .slice(before, after ? before + 1 : undefined);
    const good =
      broken === undefined
        ? ends.length === 0
        : ends.length === 1 && broken.server.includes(ends[0] as string);
    if (!good)
      wrong.push(`connection ${i}, after ${broken?.fault}, ended at greeter by ${ends.join() || 'nothing'}`);
  }
  const known = new Set(links.map(({ serverSees }) => serverSees));
  for (const { remote, reason } of closed) {
    if (!known.has(remote))
      wrong.push(`greeter had a connection of ${remote}, which nobody opened: ${reason}`);
  }
  return wrong;
}

/** To the calling side all connections have the relay's addresses: they are counted. */
async function wrongAtClient({ audit }: SidecarProcess, links: readonly Link[]): Promise<string[]> {
  const wrong: string[] = [];
  const closed = (await audit.of('connection.closed')).filter(({ side }) => side === 'peer');
  const broken = links.flatMap((link) => (link.broken === undefined ? [] : [link.broken.client]));
  if (closed.length !== broken.length) wrong.push(`web saw ${closed.length} ends of ${broken.length}`);
  const ends = closed.map(howItEnded);
  for (const reason of new Set([...broken.flat(), ...ends])) {
    const count = ends.filter((each) => each === reason).length;
    const most = broken.filter((reasons) => reasons.includes(reason)).length;
    const least = broken.filter((reasons) => reasons.every((each) => each === reason)).length;
    if (count < least || count > most) {
      const details = closed.filter((event) => howItEnded(event) === reason).map(({ detail }) => detail);
      wrong.push(
        `web saw ${reason} ${count} times, not ${least} to ${most}: ${[...new Set(details)].join('; ')}`,
      );
    }
  }
  return wrong;
}
