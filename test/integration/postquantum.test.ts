import { beforeAll, describe, expect, it } from 'vitest';
import type { PostQuantumPolicy } from '../../src/config/config.ts';
import { SayHello } from '../harness/greeter-methods.ts';
import { type Impostor, impostor } from '../harness/rogue.ts';
import { ingressTo, type SidecarProcess, World } from '../harness/sidecars.ts';

const POLICIES: readonly PostQuantumPolicy[] = ['required', 'preferred', 'off'];
const HELLO = 12; // bytes

/** The mode that comes of the policies of caller and called; none where they have none in common. */
const MODES: Record<PostQuantumPolicy, Record<PostQuantumPolicy, 0 | 1 | undefined>> = {
  required: { required: 1, preferred: 1, off: undefined },
  preferred: { required: 1, preferred: 1, off: 0 },
  off: { required: undefined, preferred: 0, off: 0 },
};

const serviceOf = (policy: PostQuantumPolicy): string => `${policy}.shop`;
const hellos: string[] = [];
let unhelpful: Impostor;
let called: Record<PostQuantumPolicy, SidecarProcess>;
let calling: Record<PostQuantumPolicy, SidecarProcess>;
let world: World;

/** Somebody who does everything to make the next offer smaller: hangs up, warns, says RETRY, answers nonsense. */
const TRICKS = [
  Buffer.alloc(0),
  Buffer.of(3, 0, 2, 1, 0),
  Buffer.of(2, 0, 1, 0),
  Buffer.concat([Buffer.of(1, 4, 200), Buffer.alloc(1224, 7)]),
];

beforeAll(async () => {
  world = await World.make();
  const app = await world.app();
  unhelpful = await impostor((socket) => {
    socket.once('data', (chunk: Buffer) => {
      socket.write(TRICKS[hellos.length % TRICKS.length] as Buffer);
      hellos.push(chunk.subarray(0, HELLO).toString('hex'));
      socket.end();
    });
  });
  const start = async (
    name: string,
    config: (policy: PostQuantumPolicy) => object,
  ): Promise<Record<PostQuantumPolicy, SidecarProcess>> => {
    const sidecars = POLICIES.map((postQuantum) =>
      world.sidecar(`${name}-${postQuantum}`, { ...config(postQuantum), crypto: { postQuantum } }),
    );
    const [required, preferred, off] = (await Promise.all(sidecars)) as [
      SidecarProcess,
      SidecarProcess,
      SidecarProcess,
    ];
    return { required, preferred, off };
  };
  called = await start('greeter', (policy) => ingressTo(world, app.address, serviceOf(policy)));
  const routes = POLICIES.map((policy) => ({
    service: serviceOf(policy),
    endpoints: [called[policy].ingress],
    peer: world.spiffeId(`greeter-${policy}`),
  }));
  const nowhere = {
    service: 'unhelpful.shop',
    endpoints: [unhelpful.address],
    peer: world.spiffeId('greeter-off'),
  };
  calling = await start('web', () => ({
    egress: { routes: [...routes, nowhere] },
    pool: { backoff: '10ms', maxBackoff: '50ms' },
  }));
});

describe('two sidecars', () => {
  const cases = POLICIES.flatMap((left) => POLICIES.map((right) => ({ left, right })));

  it.each(cases)('one that says $left calls one that says $right', async ({ left, right }) => {
    const [web, greeter] = [calling[left], called[right]];
    const mode = MODES[left][right];
    const client = world.client(web.egress, { authority: serviceOf(right) });
    const answer = await client.unary(SayHello, { name: 'Ada' });
    const peer = world.spiffeId(`greeter-${right}`);
    if (mode === undefined) {
      expect(answer).toMatchObject({ code: 14, hauberkError: 'handshake-refused' });
      const event = await greeter.audit.event('handshake.failed');
      expect(event.reason).toBe('mode-refused');
      expect(event.detail).toContain('crypto.postQuantum');
      return;
    }
    expect(answer.code).toBe(0);
    const here = await web.audit.event('session.created', (event) => event.peer === peer);
    const there = await greeter.audit.event('session.created', (event) => event.sessionId === here.sessionId);
    expect([here.mode, there.mode]).toEqual([mode, mode]);
  });

  it('count the modes of their handshakes', async () => {
    const count = (sidecar: SidecarProcess, mode: number): Promise<number> =>
      sidecar.metric('hauberk_handshake_modes_total', { mode: `${mode}` });
    expect([await count(calling.preferred, 0), await count(calling.preferred, 1)]).toEqual([1, 2]);
    expect([await count(calling.required, 0), await count(calling.required, 1)]).toEqual([0, 2]);
    expect([await count(calling.off, 0), await count(calling.off, 1)]).toEqual([2, 0]);
    expect([await count(called.required, 0), await count(called.off, 1)]).toEqual([0, 0]);
  });
});

describe('a sidecar whose handshakes fail', () => {
  it('offers the same the next time, whatever it was told', async () => {
    const web = calling.preferred;
    const client = world.client(web.egress, { authority: 'unhelpful.shop' });
    // A trick and the hang-up behind it may come at once, and count as either.
    const missing = async (): Promise<string[]> => {
      const told = new Set((await web.audit.of('handshake.failed')).map(({ reason }) => reason));
      return ['connection-lost', 'peer-alert', 'decrypt-failed'].filter((reason) => !told.has(reason));
    };
    while (hellos.length < TRICKS.length + 2 || (await missing()).length > 0) {
      const { code } = await client.unary(SayHello, { name: 'Ada' });
      expect(code).toBe(14);
    }
    expect(hellos[0]?.slice(0, 12)).toBe('48424b310101');
    expect(Number.parseInt(hellos[0]?.slice(12, 16) as string, 16) & 3).toBe(3);
    expect(new Set(hellos).size).toBe(1);
  });
});
