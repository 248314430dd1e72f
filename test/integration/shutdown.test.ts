import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { AuditEvent } from '../../src/audit/event.ts';
import type { Session } from '../../src/session/session.ts';
import { embed } from '../harness/embedded.ts';
import { Chat, SayHello } from '../harness/greeter-methods.ts';
import { ingressTo, World } from '../harness/sidecars.ts';

declare global {
  var hauberkAudit: { write(events: AuditEvent[]): void; close(): void } | undefined;
}

/** An audit adapter in the sidecar's process whose calls reach the test. */
const ADAPTER = `export default {
  write: (events) => globalThis.hauberkAudit.write(events),
  close: () => globalThis.hauberkAudit.close(),
};`;

/** A sidecar in this process on either side of a call, and everything that its end does, in order. */
async function world(side: 'caller' | 'called', deadlineMs: number) {
  const world = await World.make();
  const app = await world.app();
  const module = join(world.dir, 'adapter.mjs');
  await writeFile(module, ADAPTER);
  const adapters = { monitoring: { adapters: [{ module }] } };
  const drain = { drain: { deadline: `${deadlineMs}ms` } };
  const steps: string[] = [];
  const cut: string[] = [];
  const sessions = new Set<Session>();
  const wiped = () => `${[...sessions].filter(({ sessionKey }) => sessionKey.wiped).length} wiped`;
  globalThis.hauberkAudit = {
    write: (events) => {
      for (const event of events) {
        if (event.type === 'session.closed' || event.type.startsWith('sidecar.')) steps.push(event.type);
        if (event.type === 'call.completed') cut.push(`${event.grpcStatus} ${event.error ?? ''}`.trim());
      }
    },
    close: () => void steps.push(`audit closed, ${wiped()}`),
  };
  const config = ingressTo(world, app.address);
  const called =
    side === 'called'
      ? await embed(world, 'greeter', { ...config, ...adapters, ...drain })
      : await world.sidecar('greeter', config);
  const route = { service: 'greeter.shop', endpoints: [called.ingress], peer: world.spiffeId('greeter') };
  const egress = { egress: { routes: [route] } };
  const caller =
    side === 'caller'
      ? await embed(world, 'web', { ...egress, ...adapters, ...drain })
      : await world.sidecar('web', egress);
  const { sidecar } = (side === 'caller' ? caller : called) as Awaited<ReturnType<typeof embed>>;
  const { audit: othersAudit } = side === 'caller' ? called : caller;
  const manager = sidecar.sessions;
  manager.on('created', ({ session }) => void sessions.add(session));
  manager.on('draining', ({ reason }) => void steps.push(`session drains: ${reason}`));
  manager.on('disposed', ({ reason }) => void steps.push(`session ended: ${reason}, ${wiped()}`));
  manager.on('managerStateChanged', ({ to }) => void steps.push(`manager ${to}, ${wiped()}`));
  const client = world.client(caller.egress, { authority: 'greeter.shop' });
  const end = async (before?: Promise<void>) => {
    await Promise.all([before, sidecar.drain('test')]);
    steps.push('drained');
    const callsCut = await sidecar.stop('test');
    globalThis.hauberkAudit = undefined;
    return callsCut;
  };
  return { client, sidecar, steps, cut, sessions, othersAudit, end };
}

const ORDER = {
  // The sessions that this sidecar has opened are kept until their calls are done.
  caller: [
    'drained',
    'manager shutdown, 0 wiped',
    'session drains: shutdown',
    'session ended: shutdown, 0 wiped',
    'session.closed',
    'sidecar.stopped',
    'audit closed, 0 wiped',
    'manager disposed, 1 wiped',
  ],
  called: [
    'session drains: shutdown',
    'session ended: shutdown, 0 wiped',
    'session.closed',
    'drained',
    'manager shutdown, 0 wiped',
    'sidecar.stopped',
    'audit closed, 0 wiped',
    'manager disposed, 1 wiped',
  ],
};

/** Without what has no order of its own: the file's own progress against the end of the session. */
const since = (steps: string[]) => steps.filter((step) => !/^sidecar\.(started|ready|draining)/.test(step));

it.each(['caller', 'called'] as const)(
  'the %s side drains its session, then writes the audit, then wipes the key; a call under way finishes',
  async (side) => {
    const { client, steps, cut, sessions, othersAudit, end } = await world(side, 30_000);
    const chat = client.bidi(Chat);
    chat.call.write({ data: Buffer.from('first') });
    await once(chat.call, 'data');
    expect(steps.splice(0).filter((step) => !step.startsWith('sidecar.'))).toEqual([
      'manager active, 0 wiped',
    ]);
    const ended = end();
    chat.call.write({ data: Buffer.from('second') });
    await once(chat.call, 'data');
    chat.call.end();
    const { code, messages } = await chat.answer;
    expect([code, messages.map(({ data }) => String(data))]).toEqual([0, ['first', 'second']]);
    expect(await ended).toBe(0);
    const told = since(steps);
    expect(told.filter((step) => step !== 'session.closed')).toEqual(
      ORDER[side].filter((step) => step !== 'session.closed'),
    );
    // The adapter gets the session's end in its own time, but before the last event, after which it is closed.
    expect(told.indexOf('session.closed')).toBeGreaterThan(told.indexOf('session ended: shutdown, 0 wiped'));
    expect(told.indexOf('session.closed')).toBeLessThan(told.indexOf('sidecar.stopped'));
    expect(cut).toEqual(['0']);
    // The other end knows that it was this one, and why.
    const [{ id: sessionId }] = [...sessions] as [Session];
    expect(await othersAudit.event('session.closed')).toMatchObject({ sessionId, reason: 'peer-closed' });
    expect(await othersAudit.event('connection.closed', (event) => event.side === 'peer')).toMatchObject({
      reason: 'peer-closed',
      detail: expect.stringMatching(/GOAWAY: shutdown$/),
    });
    expect([...sessions].map(({ sessionKey }) => sessionKey.wiped)).toEqual([true]);
  },
);

it.each(['caller', 'called'] as const)('the %s side tells what it cuts at the deadline', async (side) => {
  const { client, sidecar, steps, cut, sessions, end } = await world(side, 100);
  const chat = client.bidi(Chat);
  chat.call.write({ data: Buffer.from('first') });
  await once(chat.call, 'data');
  expect((await client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
  // An end that was asked for with more time is brought forward.
  const early = sidecar.drain('operator', 3_600_000);
  expect(await end(early)).toBe(1);
  expect((await chat.answer).code).toBe(14);
  expect(cut).toEqual(['0', expect.stringMatching(/^14 (draining|session-lost)$/)]);
  const told = since(steps);
  expect(told.slice(-3)).toEqual(['sidecar.stopped', 'audit closed, 0 wiped', 'manager disposed, 1 wiped']);
  expect(told).toContain('session.closed');
  expect(told).toContain('session ended: shutdown, 0 wiped');
  expect([...sessions].map(({ sessionKey }) => sessionKey.wiped)).toEqual([true]);
});
