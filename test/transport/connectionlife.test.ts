import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Lifecycle } from '../../src/lifecycle/lifecycle.ts';
import {
  CONNECTION_MACHINE,
  CONNECTION_TRANSITIONS,
  type ConnectionChange,
  ConnectionLife,
  type ConnectionState,
} from '../../src/transport/connectionlife.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { Bench, gone, Party } from './wire.ts';

const STATES = Object.keys(CONNECTION_TRANSITIONS) as ConnectionState[];
const ILLEGAL = expect.objectContaining({ name: 'ConnectionStateError', code: 'illegal-transition' });
/** A record that does not authenticate. */
const FORGED = Buffer.alloc(2 + 19).fill(19, 1, 2);
const DOWN: ReadonlySet<ConnectionState> = new Set(['draining', 'closed']);

describe('the states of a connection', () => {
  it('change only as the table says', () => {
    for (const from of STATES) {
      for (const to of STATES) {
        const lifecycle = new Lifecycle('It', CONNECTION_MACHINE, from);
        if (CONNECTION_TRANSITIONS[from].includes(to)) expect(lifecycle.to(to)).toBe(from);
        else {
          expect(() => lifecycle.to(to)).toThrowError(ILLEGAL);
          expect(lifecycle.state).toBe(from);
        }
      }
    }
  });

  it('begin with connecting if we dial, else with handshaking, and a step that is refused is not told', () => {
    const clock = new FakeClock();
    for (const direction of ['inbound', 'outbound'] as const) {
      const told: unknown[] = [];
      const life = new ConnectionLife({
        ...{ direction, remoteAddress: '10.0.0.1', remotePort: 15008, clock },
        listener: ({ from, to, reason }) => told.push([from, to, reason]),
      });
      const first = direction === 'inbound' ? 'handshaking' : 'connecting';
      expect(() => life.draining('shutdown')).toThrowError(ILLEGAL);
      expect([life.state, life.left, told]).toEqual([first, undefined, [[undefined, first, undefined]]]);
      clock.advance(5);
      life.closed('aborted');
      expect([life.state, life.left, life.since]).toEqual(['closed', first, clock.now()]);
      expect(() => life.opened()).toThrowError(ILLEGAL);
      expect(told.slice(1)).toEqual([[first, 'closed', 'aborted']]);
    }
  });
});

const side = fc.constantFrom('client', 'server');
const plan = fc.oneof(
  { arbitrary: fc.record({ with: fc.constant('nobody') }), weight: 1 },
  {
    arbitrary: fc.record({
      with: fc.constant('silent'),
      end: fc.constantFrom('abort early', 'abort', 'time'),
    }),
    weight: 2,
  },
  {
    arbitrary: fc.record({ with: fc.constant('stranger'), end: fc.constantFrom('leave', 'garbage', 'time') }),
    weight: 2,
  },
  {
    arbitrary: fc.record({ with: fc.constant('mute'), end: fc.constantFrom('leave', 'garbage', 'time') }),
    weight: 2,
  },
  {
    arbitrary: fc.record({
      with: fc.constant('greeter'),
      acts: fc.array(fc.record({ at: side, do: fc.constantFrom('draining', 'turn', 'data') }), {
        maxLength: 4,
      }),
      end: fc.constantFrom('close', 'cut', 'destroy', 'both'),
      at: side,
    }),
    weight: 4,
  },
);
type Plan = { with: string; end?: string; at?: string; acts?: Array<{ at: string; do: string }> };

it('whatever happens to connections, both ends follow the table, tell every step, and end closed for a reason', async () => {
  const trails = new Map<ConnectionLife, ConnectionChange[]>();
  const onTransition = (change: ConnectionChange): void => {
    const trail = trails.get(change.connection);
    if (trail === undefined) trails.set(change.connection, [change]);
    else trail.push(change);
  };
  const often = { ratePerAddress: 1e6, burstPerAddress: 1e6 };
  const bench = await Bench.open({ onTransition, limits: { handshake: often } });
  onTestFinished(() => bench.close());
  const silent = await bench.listen(() => {});
  const nobody = await freePort();
  const reached = async (state: ConnectionState): Promise<void> => {
    while (![...trails.keys()].some((life) => life.state === state)) await turn();
  };

  async function live({ with: whom, end, at = 'client', acts = [] }: Plan): Promise<void> {
    if (whom === 'nobody') {
      await expect(bench.dial({ port: nobody, onTransition })).rejects.toMatchObject({
        code: 'connect-failed',
      });
    } else if (whom === 'silent') {
      const giveUp = new AbortController();
      const dialled = bench.dial({ port: silent, onTransition, signal: giveUp.signal });
      dialled.catch(() => {});
      if (end !== 'abort early') await reached('handshaking');
      if (end === 'time') bench.clock.advance(60_000);
      else giveUp.abort();
      const code = end === 'time' ? 'handshake-timeout' : 'aborted';
      await expect(dialled).rejects.toMatchObject({ code });
    } else if (whom === 'stranger' || whom === 'mute') {
      // The mute one's handshake is good, and its first record never comes.
      const socket = whom === 'mute' ? (await bench.rogue({ mute: true })).socket : await bench.raw();
      await reached('handshaking');
      if (end === 'leave') socket.end();
      else if (end === 'garbage') socket.write(whom === 'mute' ? FORGED : 'GET / HTTP/1.1\r\n\r\n');
      else bench.clock.advance(60_000);
      await bench.refusals.next();
      socket.destroy();
      await gone(socket);
    } else {
      const channel = await bench.dial({ onTransition });
      const client = new Party(channel);
      const server = new Party(await bench.channels.next());
      const party = (name: string): Party => (name === 'client' ? client : server);
      for (const act of acts) {
        if (act.do === 'draining') party(act.at).channel.draining('shutdown');
        else if (act.do === 'data') party(act.at).send('data');
        else await turn();
      }
      const one = party(at).channel;
      if (end === 'close') one.close();
      else if (end === 'cut') one.cut('revoked', 'by the test');
      else if (end === 'destroy') one.destroy('idle');
      else for (const { channel: each } of [client, server]) each.close();
      await Promise.all([client.ended, server.ended]);
    }
  }

  const seen = new Set<string>();
  await fc.assert(
    fc.asyncProperty(plan, async (what: Plan) => {
      trails.clear();
      await live(what);
      expect(trails.size).toBe(what.with === 'greeter' ? 2 : 1);
      for (const [life, trail] of trails) {
        expect(trail[0]?.to).toBe(life.direction === 'outbound' ? 'connecting' : 'handshaking');
        let at: ConnectionState | undefined;
        for (const { from, to, reason } of trail) {
          expect(from).toBe(at);
          if (from !== undefined) {
            expect(CONNECTION_TRANSITIONS[from]).toContain(to);
            seen.add(`${from} ${to}`);
          }
          expect(reason !== undefined && reason !== '').toBe(DOWN.has(to));
          at = to;
        }
        expect([at, life.state]).toEqual(['closed', 'closed']);
      }
    }),
    { numRuns: 120 },
  );
  // The walk has been everywhere.
  const all = Object.entries(CONNECTION_TRANSITIONS).flatMap(([from, tos]) =>
    tos.map((to) => `${from} ${to}`),
  );
  expect([...seen].sort()).toEqual(all.sort());
});

/** A port at which nobody listens. */
async function freePort(): Promise<number> {
  const { createServer } = await import('node:net');
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
