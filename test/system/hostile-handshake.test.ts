import { randomInt } from 'node:crypto';
import { expect, it, onTestFailed } from 'vitest';
import type { TestClient } from '../harness/greeter-client.ts';
import { HANDSHAKE_FAULTS, Sabotage, Saboteur, type Spot } from '../harness/handshakefaults.ts';
import { Ledger, methodOf } from '../harness/ledger.ts';
import { type Link, MODE_AT } from '../harness/mitm.ts';
import { Mulberry } from '../harness/seeded.ts';
import { type ConfigFile, merge, type SidecarProcess, World } from '../harness/sidecars.ts';

const SEED = Number(process.env.HOSTILE_SEED ?? randomInt(2 ** 31));
/** In CLIENT_HELLO. */
const OFFER_AT = 6;
const OK = 0;
const UNAVAILABLE = 14;
/** Routes under attack at the same time. */
const AT_ONCE = 48;

const CONFIG = {
  handshake: {
    timeout: '4s',
    firstFrameTimeout: '4s',
    ratePerAddress: 1_000_000,
    burstPerAddress: 1_000_000,
    maxHalfOpen: 10_000,
    maxHalfOpenPerAddress: 10_000,
  },
  records: { heartbeat: '1s', heartbeatTimeout: '4s', timeout: '4s' },
  // A connection that is dead ends by its heartbeat.
  http2: { settingsTimeout: '30s' },
  session: { maxPerPeer: 10_000 },
  // Only calls dial.
  pool: { maxReconnectAttempts: 0, backoff: '10ms', maxBackoff: '20ms' },
  monitoring: { queue: 100_000 },
  log: { level: 'error' },
};
const NO_POST_QUANTUM = merge(CONFIG, { crypto: { postQuantum: 'off' } });

/** The units of a connection from its first to the first bytes of calls, as they go and come. */
const spots = (text: string): Spot[] =>
  text.split(', ').map((each) => {
    const [direction, kind, index] = each.split(' ');
    return { direction, kind, index: Number(index) } as Spot;
  });
const RECORDS = 'up record 0, down record 0, down record 1, down record 2, up record 1';
const FULL = `up hello 0, up frame 0, down frame 0, up frame 1, ${RECORDS}`;
const RESUMED = `up hello 0, up frame 0, down frame 0, ${RECORDS}`;
const RETRIED = `up hello 0, up frame 0, down frame 0, up hello 1, up frame 1, down frame 1, up frame 2, ${RECORDS}`;

const HANDSHAKES = {
  'mode 0': { spots: spots(FULL), modes: [0] },
  'mode 1': { spots: spots(FULL), modes: [1] },
  'RETRY from mode 1 to 0': { spots: spots(RETRIED), modes: [1, 0] },
  'mode 2': { spots: spots(RESUMED), modes: [2] },
  'RETRY from mode 2 to 1': { spots: spots(RETRIED), modes: [2, 1] },
} as const;
type Handshake = keyof typeof HANDSHAKES;

interface Case {
  readonly name: string;
  readonly service: string;
  readonly handshake: Handshake;
  readonly plan: Sabotage;
  readonly address: string;
  readonly client: TestClient;
}

it('a fault at any message of a handshake costs that attempt, and no call is lost silently or comes twice', async () => {
  console.info(`HOSTILE_SEED=${SEED}`);
  onTestFailed(() => console.error(`failed with HOSTILE_SEED=${SEED}`));
  const { random } = new Mulberry(SEED);
  const world = await World.make();
  const app = await Ledger.start();
  const called = (config: ConfigFile): Promise<SidecarProcess> =>
    world.sidecar(
      'greeter',
      merge(config, {
        ingress: {
          apps: PLANS.map((_, n) => ({ service: `s${n}.shop`, address: app.address })),
          allow: [{ peer: world.spiffeId('*') }],
        },
      }),
    );
  const PLANS = (Object.keys(HANDSHAKES) as Handshake[]).flatMap((handshake) =>
    HANDSHAKES[handshake].spots.flatMap((spot) =>
      HANDSHAKE_FAULTS.flatMap((fault) =>
        // Two handshakes are spliced with each other.
        Array.from({ length: fault === 'splice' || fault === 'exchange' ? 2 : 1 }, () => ({
          handshake,
          plan: new Sabotage(fault, spot, random),
        })),
      ),
    ),
  );
  const greeter = await called(CONFIG);
  const replica = await called(CONFIG);
  const classical = await called(NO_POST_QUANTUM);
  const saboteur = await Saboteur.start();
  saboteur.mitm.target = greeter.ingress;
  const toClassical = await Saboteur.start();
  toClassical.mitm.target = classical.ingress;
  const toReplica = await Saboteur.start();
  toReplica.mitm.target = greeter.ingress;
  const via: Record<Handshake, Saboteur> = {
    'mode 0': saboteur,
    'mode 1': saboteur,
    'mode 2': saboteur,
    'RETRY from mode 1 to 0': toClassical,
    'RETRY from mode 2 to 1': toReplica,
  };
  const routed = PLANS.map(({ handshake, plan }, n) => ({
    handshake,
    plan,
    service: `s${n}.shop`,
    address: via[handshake].add(plan),
  }));
  for (const [n, { plan }] of PLANS.entries()) {
    if (plan.fault !== 'splice' && plan.fault !== 'exchange') continue;
    const before = PLANS[n - 1]?.plan;
    if (before?.fault !== plan.fault || before.spot !== plan.spot || before.partner !== undefined) continue;
    [before.partner, plan.partner] = [plan, before];
  }
  const calling = (name: string, config: ConfigFile, mine: (handshake: Handshake) => boolean) =>
    world.sidecar(
      name,
      merge(config, {
        egress: {
          routes: routed
            .filter(({ handshake }) => mine(handshake))
            .map(({ service, address }) => ({
              service,
              endpoints: [address],
              peer: world.spiffeId('greeter'),
            })),
        },
      }),
    );
  const web = await calling('web', CONFIG, (handshake) => handshake !== 'mode 0');
  const plain = await calling('plain', NO_POST_QUANTUM, (handshake) => handshake === 'mode 0');
  const toPlain = plain.egress;
  const cases: Case[] = routed.map((each) => ({
    ...each,
    name: `${each.handshake}: ${each.plan.fault} at ${Object.values(each.plan.spot).join(' ')}, ${each.service}`,
    client: world.client(each.handshake === 'mode 0' ? toPlain : web.egress, { authority: each.service }),
  }));

  let calls = 0;
  const wrong: string[] = [];
  /** One call; it comes at most once, and just once if it is answered. */
  const call = async ({ name, client }: Case): Promise<number> => {
    const id = `c${calls++}`;
    app.expect(id, 'unary');
    const { code, details } = await client.unary(methodOf(id, 'unary'), Buffer.from(id), {
      deadlineMs: 60_000,
    });
    const times = app.of(id)?.times ?? 0;
    if (code !== OK && code !== UNAVAILABLE) wrong.push(`${name}: ended with ${code} ${details}`);
    if (times > 1 || (code === OK && times !== 1))
      wrong.push(`${name}: ended with ${code}, came ${times} times`);
    return code;
  };
  const untilAnswered = async (each: Case): Promise<void> => {
    for (let n = 0; (await call(each)) !== OK; n++) {
      if (n > 100) throw new Error(`${each.name}: the route does not come back`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };

  /** Ends the route's connection, which is sound, so that few are open at a time. */
  const cut = (each: Case): void => {
    const { client, server } = linksOf(via[each.handshake], each).at(-1) as Link;
    client.resetAndDestroy();
    server.resetAndDestroy();
  };

  const resumed = cases.filter(({ handshake }) => handshake.includes('mode 2'));
  await inTurns(resumed, async (each) => {
    await untilAnswered(each);
    cut(each);
  });
  await expect.poll(() => web.metric('hauberk_peer_connections'), { timeout: 30_000 }).toBe(0);
  toReplica.mitm.target = replica.ingress;
  const linksBefore = new Map(cases.map((each) => [each, linksOf(via[each.handshake], each).length]));

  for (const { plan } of cases) plan.armed = true;
  const codes = new Map<Case, number>();
  await inTurns(cases, async (each) => {
    codes.set(each, await call(each));
    await untilAnswered(each);
    cut(each);
  });
  expect(wrong).toEqual([]);
  for (const sidecar of [web, plain]) {
    await expect.poll(() => sidecar.metric('hauberk_peer_connections'), { timeout: 30_000 }).toBe(0);
  }

  for (const sidecar of [web, plain]) {
    await sidecar.audited();
    const failed = await sidecar.audit.of('handshake.failed');
    const opened = (await sidecar.audit.of('connection.opened')).filter(({ side }) => side === 'peer');
    const closed = (await sidecar.audit.of('connection.closed')).filter(({ side }) => side === 'peer');
    for (const each of cases.filter(({ handshake }) => (handshake === 'mode 0') === (sidecar === plain))) {
      const { address, handshake, plan, name } = each;
      const here = ({ remote }: { remote: string }): boolean => remote === address;
      const links = linksOf(via[handshake], each).slice(linksBefore.get(each));
      const hellos = links.map(({ sent }) => sent.up.filter(({ kind }) => kind === 'hello'));
      const modes = hellos.map((its) => its.map(({ bytes }) => bytes[MODE_AT]));
      const offers = new Set(hellos.flat().map(({ bytes }) => bytes.readUInt16BE(OFFER_AT)));
      const reasons = [...failed.filter(here), ...closed.filter(here)].map(({ reason }) => reason);
      const ends = reasons.length - (linksBefore.get(each) as number);
      const sessions = new Set(opened.filter(here).map(({ sessionId }) => sessionId));
      const due = handshake === 'RETRY from mode 2 to 1' ? 2 : 1;
      if (plan.link === undefined) wrong.push(`${name}: nothing came of it`);
      // The last one was cut here.
      if (ends !== links.length || (plan.harmed ? ends < 2 : ends !== 1)) {
        wrong.push(`${name}: ${links.length} connections, ${ends} of them ended: ${reasons}`);
      }
      if (!plan.harmed && codes.get(each) !== OK) wrong.push(`${name}: the call failed for nothing`);
      if (!plan.harmed && `${modes[0]}` !== `${HANDSHAKES[handshake].modes}`) {
        wrong.push(`${name}: the handshake had modes ${modes[0]}`);
      }
      if (sessions.size !== due)
        wrong.push(`${name}: ${sessions.size} sessions at the calling side, not ${due}`);
      if (offers.size !== 1) wrong.push(`${name}: offers the modes ${[...offers].join(', then ')}`);
      const full = handshake === 'mode 0' ? 0 : 1;
      if (modes.some(([first]) => first !== full && first !== 2))
        wrong.push(`${name}: fell back to ${modes.join('; ')}`);
      if (handshake === 'mode 2' && modes.some((each) => `${each}` !== '2' && `${each}` !== '2,1')) {
        wrong.push(`${name}: the modes ${modes.join(' then ')}`);
      }
    }
  }
  expect(wrong).toEqual([]);
  const harmed = cases.filter(({ plan }) => plan.harmed).length;
  const cost = [...codes.values()].filter((code) => code === UNAVAILABLE).length;
  console.info(`${cases.length} handshakes, ${harmed} of them harmed, ${cost} calls UNAVAILABLE for it`);
  expect(harmed).toBeGreaterThan(cases.length / 2);
  expect(cost).toBeGreaterThan(0);
});

function linksOf({ mitm }: Saboteur, { address }: Case) {
  return mitm.links.filter(({ dialled }) => `${dialled}:${mitm.port}` === address);
}

/** A few at a time, in their order. */
async function inTurns<T>(all: readonly T[], work: (each: T) => Promise<void>): Promise<void> {
  const left = [...all];
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let each = left.shift(); each !== undefined; each = left.shift()) await work(each);
    }),
  );
}
