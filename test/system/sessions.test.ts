import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import type { AuditEventOf } from '../../src/audit/event.ts';
import { AdminClient } from '../harness/admin-client.ts';
import type { TestClient } from '../harness/greeter-client.ts';
import { Chat, Fail, SayHello } from '../harness/greeter-methods.ts';
import {
  atEnd,
  type ConfigFile,
  ingressTo,
  merge,
  type SidecarProcess,
  startPair,
  World,
} from '../harness/sidecars.ts';

const SERVICES = ['one.shop', 'two.shop', 'three.shop'];

/**
 * Two sidecars with several services between them. A session is opened for each service, so that the two may have
 * several at a time.
 */
async function severalServices(options: { web?: ConfigFile; greeter?: ConfigFile } = {}) {
  const world = await World.make();
  const app = await world.app();
  const apps = SERVICES.map((service) => ({ service, address: app.address }));
  const greeter = await world.sidecar(
    'greeter',
    merge(merge(ingressTo(world, app.address), { ingress: { apps } }), options.greeter ?? {}),
  );
  const peer = world.spiffeId('greeter');
  const routes = SERVICES.map((service) => ({ service, endpoints: [greeter.ingress], peer }));
  const web = await world.sidecar('web', merge({ egress: { routes } }, options.web ?? {}));
  const [one, two, three] = SERVICES.map((authority) => world.client(web.egress, { authority }));
  return {
    app,
    web,
    greeter,
    one: one as TestClient,
    two: two as TestClient,
    three: three as TestClient,
  };
}

/** Makes a call; the id of the session that brought it, as the app was told. */
async function sessionOf(client: TestClient): Promise<string> {
  const { code, details, message } = await client.unary(SayHello, { name: 'Ada' });
  expect([code, details]).toEqual([0, 'OK']);
  return message?.session as string;
}

/** Calls until another session brings the calls: the one before takes no more. */
async function nextSession(client: TestClient, before: string): Promise<string> {
  for (;;) {
    const session = await sessionOf(client);
    if (session !== before) return session;
    await pause(20);
  }
}

/** A bidirectional call of which one message has come back. */
async function underWay(client: TestClient) {
  const chat = client.bidi(Chat);
  await exchange(chat.call, 'first');
  return chat;
}

async function exchange(call: grpc.ClientDuplexStream<{ data: Buffer }, { data: Buffer }>, text: string) {
  const back = once(call, 'data');
  call.write({ data: Buffer.from(text) });
  const [{ data }] = await back;
  expect(String(data)).toBe(text);
}

const has = (sessionId: string) => (event: { sessionId?: string }) => event.sessionId === sessionId;

/** The ends of a session as both sidecars record them. */
function expiredAt(
  sidecars: { web: SidecarProcess; greeter: SidecarProcess },
  sessionId: string,
): Promise<AuditEventOf<'session.expired'>[]> {
  const { web, greeter } = sidecars;
  return Promise.all([web, greeter].map(({ audit }) => audit.event('session.expired', has(sessionId))));
}

// What takes time goes on side by side, each with sidecars of its own.
describe.concurrent('an idle session', () => {
  const session = { idle: '2s' };

  it('expires at both ends, though its heart beats and an operator looks at it; the next call opens another', async () => {
    const world = await World.make();
    const admin = `unix:${join(world.dir, 'admin.sock')}`;
    const records = { heartbeat: '200ms' };
    const pair = await startPair({
      world,
      web: { session, records, admin: { listen: admin } },
      greeter: { session, records },
    });
    const operator = new AdminClient(admin);
    atEnd(() => operator.close());
    await operator.call('GetStatus'); // it is connected before the session's time begins
    const first = await sessionOf(pair.client);
    let looks = 0;
    const looking = async (): Promise<void> => {
      while ((await operator.status('GetSession', { id: first })) === 'OK') {
        await operator.call('ListSessions', { order: 'LAST_USED' });
        looks++;
        await pause(20);
      }
    };
    const [ends] = await Promise.all([expiredAt(pair, first), looking()]);
    for (const end of ends) expect(end).toMatchObject({ reason: 'idle', calls: 1 });
    expect(looks).toBeGreaterThan(0);
    for (const sidecar of [pair.web, pair.greeter])
      expect(await sidecar.metric('hauberk_sessions_closed_total', { reason: 'idle' })).toBe(1);
    const second = await sessionOf(pair.client);
    expect(second).not.toBe(first);
    for (const sidecar of [pair.web, pair.greeter]) {
      const created = await sidecar.audit.events('session.created', 2);
      expect(created.map(({ sessionId }) => sessionId)).toEqual([first, second]);
    }
    expect(await pair.web.metric('hauberk_sessions_created_total', { direction: 'outbound' })).toBe(2);
    expect(await pair.greeter.metric('hauberk_sessions_created_total', { direction: 'inbound' })).toBe(2);
  });

  it.each(['web', 'greeter'])(
    'is ended by %s, whose time is shorter; the other is told why',
    async (name) => {
      const pair = await startPair({ [name]: { session } });
      const first = await sessionOf(pair.client);
      for (const end of await expiredAt(pair, first)) expect(end.reason).toBe('idle');
      expect(await sessionOf(pair.client)).not.toBe(first);
    },
  );

  it('is none while a stream is open, however quiet', async () => {
    const both = await severalServices({ web: { session }, greeter: { session } });
    const chat = await underWay(both.one);
    const quiet = (await both.web.audit.event('session.created')).sessionId;
    // Twice the time, told by other sessions that come and go meanwhile.
    for (const client of [both.two, both.three]) await expiredAt(both, await sessionOf(client));
    await exchange(chat.call, 'second');
    expect(await sessionOf(both.one)).toBe(quiet);
    chat.call.end();
    expect((await chat.answer).code).toBe(0);
    // From now on it is idle.
    for (const end of await expiredAt(both, quiet)) expect(end).toMatchObject({ reason: 'idle', calls: 2 });
  });
});

describe.concurrent('the absolute age of a session', () => {
  const session = { idle: '10s', absolute: '10s', grace: '3s' };

  it('new calls go to another before the end; a stream that does not finish is cut at the end', async () => {
    const pair = await startPair({ web: { session }, greeter: { session } });
    const [cut, finishing] = [await underWay(pair.client), await underWay(pair.client)];
    const first = await sessionOf(pair.client);
    const second = await nextSession(pair.client, first);
    // The grace period: streams of the old session live on.
    expect(
      (await pair.web.audit.of('session.expired')).concat(await pair.greeter.audit.of('session.expired')),
    ).toEqual([]);
    await exchange(finishing.call, 'second');
    finishing.call.end();
    expect((await finishing.answer).code).toBe(0);

    const { code, hauberkError } = await cut.answer;
    expect([code, hauberkError]).toEqual([grpc.status.UNAVAILABLE, 'session-lost']);
    const ends = await expiredAt(pair, first);
    expect(ends.map(({ reason }) => reason)).toEqual(['expired', 'expired']);
    expect(await sessionOf(pair.client)).toBe(second);
  });
});

describe.concurrent('a certificate', () => {
  it('ends the sessions of its handshakes with itself, at both ends', async () => {
    const world = await World.make();
    const ttlMs = 15_000;
    const trust = { ...world.trust, issue: (name: string) => world.trust.issue(name, { ttlMs }) };
    const app = await world.app();
    const greeter = await world.sidecar('greeter', ingressTo(world, app.address));
    const route = { service: 'greeter.shop', endpoints: [greeter.ingress], peer: world.spiffeId('greeter') };
    const web = await world.sidecar('web', { egress: { routes: [route] } }, { trust });
    const client = world.client(web.egress, { authority: 'greeter.shop' });
    const { notAfter } = await web.audit.event('identity.loaded');
    const chat = await underWay(client);
    const { sessionId } = await web.audit.event('session.created');
    for (const { audit } of [web, greeter]) {
      const { expiresAt } = await audit.event('session.created');
      expect(Math.abs(Date.parse(expiresAt) - Date.parse(notAfter))).toBeLessThan(1000);
    }

    expect((await chat.answer).code).toBe(grpc.status.UNAVAILABLE);
    const ends = await expiredAt({ web, greeter }, sessionId);
    expect(ends.map(({ reason }) => reason)).toEqual(['identity-expired', 'identity-expired']);
    // Nobody takes it any more.
    const { code, hauberkError } = await client.unary(SayHello, { name: 'Ada' });
    expect([code, hauberkError]).toEqual([grpc.status.UNAVAILABLE, 'handshake-refused']);
  });
});

describe('when a peer has as many sessions as it may', () => {
  const few = { session: { maxPerPeer: 2 } };

  it('the least recently used without calls makes room', async () => {
    const both = await severalServices({ greeter: few });
    const one = await sessionOf(both.one);
    const two = await sessionOf(both.two);
    expect(await sessionOf(both.one)).toBe(one);
    const three = await sessionOf(both.three);
    expect(await both.greeter.audit.event('session.evicted')).toMatchObject({
      sessionId: two,
      peer: both.web.ready.spiffeId,
      reason: 'evicted',
      calls: 1,
    });
    expect(await both.web.audit.event('session.closed')).toMatchObject({ sessionId: two });
    expect([await sessionOf(both.one), await sessionOf(both.three)]).toEqual([one, three]);
    expect(await both.greeter.metric('hauberk_sessions_closed_total', { reason: 'evicted' })).toBe(1);
    expect(await both.greeter.metric('hauberk_sessions_open', { direction: 'inbound' })).toBe(2);
    // Whoever was evicted may come back.
    expect(await sessionOf(both.two)).not.toBe(two);
  });

  it('one with a call is spared, though it was used longer ago', async () => {
    const both = await severalServices({ greeter: few });
    const chat = await underWay(both.one);
    const two = await sessionOf(both.two);
    await sessionOf(both.three);
    expect(await both.greeter.audit.event('session.evicted')).toMatchObject({ sessionId: two });
    await exchange(chat.call, 'second');
    chat.call.end();
    expect((await chat.answer).code).toBe(0);
  });

  it('and all have calls, the next handshake is refused, until a call ends', async () => {
    const both = await severalServices({ greeter: few });
    const chats = [await underWay(both.one), await underWay(both.two)];
    const refused = await both.three.unary(SayHello, { name: 'Ada' });
    expect([refused.code, refused.hauberkError]).toEqual([grpc.status.UNAVAILABLE, 'handshake-refused']);
    expect(await both.greeter.audit.event('handshake.failed')).toMatchObject({
      direction: 'inbound',
      reason: 'capacity',
      peer: both.web.ready.spiffeId,
    });
    expect(await both.greeter.metric('hauberk_handshakes_total', { result: 'capacity' })).toBe(1);
    expect(await both.greeter.audit.of('session.evicted')).toEqual([]);
    for (const { call, answer } of chats) {
      await exchange(call, 'second');
      call.end();
      expect((await answer).code).toBe(0);
    }
    // As a client that tries again: web holds back for a moment after a refusal.
    let again = await both.three.unary(SayHello, { name: 'Ada' });
    for (
      ;
      again.code === grpc.status.UNAVAILABLE;
      again = await both.three.unary(SayHello, { name: 'Ada' })
    ) {
      await pause(20);
    }
    expect(again.code).toBe(0);
    expect(await both.greeter.audit.event('session.evicted')).toMatchObject({ reason: 'evicted' });
  });

  it('the caller may be the one that has no room', async () => {
    const both = await severalServices({ web: { session: { max: 1, maxPerPeer: 1 } } });
    const chat = await underWay(both.one);
    const refused = await both.two.unary(SayHello, { name: 'Ada' });
    expect([refused.code, refused.hauberkError]).toEqual([grpc.status.UNAVAILABLE, 'sessions-full']);
    chat.call.end();
    expect((await chat.answer).code).toBe(0);
  });
});

describe('what is counted', () => {
  it('is what was done, the same in audit and metrics, at both ends', async () => {
    const pair = await startPair();
    for (let i = 0; i < 3; i++) await sessionOf(pair.client);
    const chat = await underWay(pair.client);
    chat.call.end();
    await chat.answer;
    await pair.client.unary(Fail, { code: 5, details: '' });
    const { sessionId } = await pair.web.audit.event('session.created');

    for (const [sidecar, direction] of [
      [pair.web, 'egress'],
      [pair.greeter, 'ingress'],
    ] as const) {
      await sidecar.audit.events('call.completed', 5);
      expect(await sidecar.metric('hauberk_calls_total', { direction })).toBe(5);
      expect(await sidecar.metric('hauberk_calls_total', { direction, grpc_status: 'NOT_FOUND' })).toBe(1);
      expect(await sidecar.metric('hauberk_calls_open')).toBe(0);
      expect(await sidecar.metric('hauberk_sessions_open')).toBe(1);
    }
    // What one sends the other gets; the last of it may still be on its way.
    for (const name of ['hauberk_bytes_total', 'hauberk_records_total']) {
      const side = name === 'hauberk_bytes_total' ? { side: 'peer' } : {};
      for (const [from, to] of [
        [pair.web, pair.greeter],
        [pair.greeter, pair.web],
      ] as const) {
        const sent = async () => from.metric(name, { ...side, flow: 'out' });
        expect(await sent()).toBeGreaterThan(0);
        await expect
          .poll(async () => (await to.metric(name, { ...side, flow: 'in' })) - (await sent()), {
            timeout: 20_000,
          })
          .toBe(0);
      }
    }

    expect(await pair.web.stop()).toBe(0);
    const ends = await Promise.all(
      [pair.web, pair.greeter].map(({ audit }) => audit.event('session.closed', has(sessionId))),
    );
    const calls = await pair.web.audit.of('call.completed');
    const sum = (key: 'requestBytes' | 'responseBytes') =>
      calls.reduce((total, call) => total + call[key], 0);
    expect(sum('requestBytes')).toBeGreaterThan(0);
    expect(ends[0]).toMatchObject({ calls: 5, bytesOut: sum('requestBytes'), bytesIn: sum('responseBytes') });
    expect(ends[1]).toMatchObject({ calls: 5, bytesIn: sum('requestBytes'), bytesOut: sum('responseBytes') });
    expect(await pair.greeter.metric('hauberk_sessions_open')).toBe(0);
    expect(await pair.greeter.metric('hauberk_sessions_closed_total', { reason: 'peer-closed' })).toBe(1);
  });
});
