import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { SessionMessage } from '../../src/admin/messages.ts';
import { AdminClient } from '../harness/admin-client.ts';
import { SayHello } from '../harness/greeter-methods.ts';
import { Mitm } from '../harness/mitm.ts';
import { atEnd, ingressTo, type Pair, startPair, World } from '../harness/sidecars.ts';

/** A pair with somebody between who can cut; calls are made until one works, as a client would. */
async function cuttable() {
  const middle = await Mitm.start({ raw: true });
  const world = await World.make();
  const pair = await startPair({
    world,
    route: { endpoints: [middle.address] },
    greeter: { admin: { listen: `unix:${join(world.dir, 'admin.sock')}` } },
    web: { pool: { backoff: '10ms', maxBackoff: '50ms' } },
  });
  middle.target = pair.greeter.ingress;
  return { middle, pair };
}

async function sessionOf({ client }: Pair): Promise<string> {
  for (;;) {
    const { code, message } = await client.unary(SayHello, { name: 'Ada' });
    if (code === 0) return message?.session as string;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const cut = (middle: Mitm): void => {
  middle.link.client.destroy();
  middle.link.server.destroy();
};

it('a session outlives its connections, again and again; both sides say so', async () => {
  const { middle, pair } = await cuttable();
  const first = await sessionOf(pair);
  const api = new AdminClient(pair.greeter.ready.admin[0] as string);
  atEnd(() => api.close());
  const shown = (): Promise<SessionMessage> => api.call('GetSession', { id: first });
  expect(await shown()).toMatchObject({
    flags: { resumed: false },
    counters: { resumptions: 0 },
    resumedAt: null,
  });
  for (let n = 1; n <= 6; n++) {
    const links = middle.links.length;
    cut(middle);
    await expect.poll(() => middle.links.length, { timeout: 20_000 }).toBeGreaterThan(links);
    expect(await sessionOf(pair)).toBe(first);
    for (const { audit } of [pair.web, pair.greeter]) {
      const resumed = await audit.events('session.resumed', n);
      expect(resumed.at(-1)).toMatchObject({ sessionId: first });
    }
  }
  const { flags, counters, resumedAt, createdAt } = await shown();
  expect([flags.resumed, flags.postQuantum, counters.resumptions]).toEqual([true, true, 6]);
  expect(resumedAt?.seconds).toBeGreaterThanOrEqual(createdAt.seconds);
  for (const [sidecar, direction] of [
    [pair.web, 'outbound'],
    [pair.greeter, 'inbound'],
  ] as const) {
    expect(await sidecar.audit.of('session.created')).toHaveLength(1);
    expect(await sidecar.audit.of('session.closed')).toEqual([]);
    expect(await sidecar.metric('hauberk_sessions_resumed_total', { direction })).toBe(6);
    expect(await sidecar.metric('hauberk_handshake_modes_total', { direction, mode: '2' })).toBe(6);
    expect(await sidecar.metric('hauberk_sessions_open', { direction })).toBe(1);
  }
  // Closed in order it ends at both.
  await pair.web.stop();
  expect(await pair.greeter.audit.event('session.closed')).toMatchObject({ sessionId: first });
  expect(await pair.greeter.metric('hauberk_sessions_open')).toBe(0);
});

it('after a restart of the peer its tickets are worth nothing: a full handshake on the same connection', async () => {
  const { middle, pair } = await cuttable();
  const first = await sessionOf(pair);
  // The next run is there before the one that knows the tickets dies.
  const again = await pair.world.sidecar('greeter', ingressTo(pair.world, pair.app.address));
  middle.target = again.ingress;
  await pair.greeter.kill();
  const second = await sessionOf(pair);
  expect(second).not.toBe(first);
  expect(await pair.web.audit.event('session.closed')).toMatchObject({ sessionId: first });
  expect(await pair.web.metric('hauberk_tickets_refused_total', { reason: 'declined' })).toBe(1);
  expect(await again.metric('hauberk_tickets_refused_total', { reason: 'unknown' })).toBe(1);
  expect(await again.audit.of('handshake.failed')).toEqual([]);
  expect(await pair.web.audit.of('session.resumed')).toEqual([]);
});
