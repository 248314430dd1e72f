import { describe, expect, it } from 'vitest';
import { METHODS } from '../../src/admin/adminmethods.ts';
import { loadAdminDefinition } from '../../src/admin/definition.ts';
import {
  type DrainRequest,
  type RevokeResponse,
  type StatusMessage,
  timestamp,
  type WatchEventsResponse,
} from '../../src/admin/messages.ts';
import { revokeResponse } from '../../src/admin/receipts.ts';
import { sessionMessage } from '../../src/admin/sessionmessage.ts';
import { setUp } from '../session/sessions.ts';

const { service } = await loadAdminDefinition();

/** What becomes of an answer on its way to the caller: a field that the definition does not have is lost. */
function answered(method: string, message: object): unknown {
  const { responseSerialize, responseDeserialize } = service[method] as (typeof service)[string];
  return responseDeserialize(responseSerialize(message) as Buffer);
}

it('every method of the definition is implemented, and no other', () => {
  expect(Object.keys(service).sort()).toEqual([...Object.keys(METHODS), 'WatchEvents'].sort());
});

it('a time keeps its milliseconds', () => {
  expect(timestamp(1_700_000_000_123)).toEqual({ seconds: 1_700_000_000, nanos: 123_000_000 });
  expect(timestamp(-1)).toEqual({ seconds: -1, nanos: 999_000_000 });
});

describe('a session', () => {
  it('arrives with every field, and its key is in none', () => {
    const { open, clock } = setUp();
    const session = open({ serviceId: 'greeter.shop', postQuantum: true, metadata: { tenant: 'acme' } });
    session.callStarted();
    let n = 1;
    for (const name of Object.keys(session.counters) as Array<keyof typeof session.counters>) {
      session.counters[name] = n++;
    }
    session.resumed();
    session.drain('expired');
    clock.advance(1);
    const message = sessionMessage(session, true, [
      { remote: '10.0.0.1:15008', channel: { life: { direction: 'outbound', state: 'draining', since: 7 } } },
    ]);
    expect(Object.values(message).filter((value) => value === '' || value === 0)).toEqual([]);
    expect(answered('GetSession', message)).toEqual(message);
    expect(JSON.stringify(message)).not.toMatch(/key/i);
  });

  it('is bounded whatever its metadata holds', () => {
    const { open } = setUp();
    const loop: Record<string, unknown> = {};
    loop.self = loop;
    const many = Object.fromEntries(
      Array.from({ length: 100 }, (_, i) => [`k${i}`.repeat(100), 'v'.repeat(9999)]),
    );
    const metadata = { loop, big: 1n, list: [1, { a: 2 }], none: undefined, fn: () => 1, ...many };
    const shown = sessionMessage(open({ metadata }), false, []).metadata;
    expect(shown).toMatchObject({
      loop: '[not JSON]',
      big: '[not JSON]',
      list: '[1,{"a":2}]',
      none: 'undefined',
      fn: 'function',
    });
    expect(Object.keys(shown)).toHaveLength(32);
    expect(JSON.stringify(shown).length).toBeLessThan(16_000);
  });
});

it('a status arrives with every field', () => {
  const status: StatusMessage = {
    version: '1.2.3',
    pid: 4711,
    spiffeId: 'spiffe://shop.example/ns/shop/sa/web',
    instance: 'ab',
    startedAt: timestamp(1),
    identityExpiresAt: timestamp(2),
    ready: true,
    pending: ['draining'],
    draining: true,
    listeners: [{ name: 'egress', address: '127.0.0.1:1' }],
    sessions: {
      active: 1,
      inbound: 2,
      outbound: 3,
      max: 4,
      peers: 5,
      created: 6,
      refused: 7,
      closed: { idle: 8 },
    },
    callsOpen: { egress: 9, ingress: 10 },
    auditAdapters: [
      { name: 'file', state: 'working', queued: 1, delivered: 2, dropped: 3, failures: 4, lastError: 'x' },
    ],
    memoryBytes: 2 ** 40,
    eventLoopLagMs: 1.5,
    peersBlocked: 3,
    identityRotations: 2,
    identityRotatedAt: timestamp(3),
    identityRefusal: 'web.pem: expired',
    identityRenewsAt: timestamp(4),
    identityRenewalFailure: 'the controller is away',
  };
  expect(answered('GetStatus', status)).toEqual(status);
});

describe('a receipt', () => {
  const receipt = (sessions: number): RevokeResponse =>
    revokeResponse({
      reason: 'why',
      sessions: Array.from({ length: sessions }, (_, i) => ({
        sessionId: `s${i}`,
        peer: 'spiffe://shop.example/ns/shop/sa/web',
        direction: 'outbound' as const,
        serviceId: 'greeter.shop',
        mayReturn: true,
        recordsAccepted: 12,
        connections: [{ remote: '10.0.0.1:15008', records: 7, lastRecord: 6 }],
        callsCut: 2,
        cutMicros: 345,
      })),
      unknown: ['u1'],
      cutMicros: 678,
      blocked: [
        { peer: 'spiffe://shop.example/ns/shop/sa/web', since: '2026-01-01T00:00:00.000Z', reason: 'why' },
      ],
      hold: { until: 'restart', why: 'no file' },
    });

  it('arrives with every field', () => {
    const message = receipt(1);
    expect(message).toMatchObject({ sessionsCut: 1, hold: 'UNTIL_RESTART', cutMicros: 678 });
    expect(answered('RevokeSessions', message)).toEqual(message);
  });

  it('is of 1,000 sessions at most, and counts all of them', () => {
    const message = receipt(1001);
    expect([message.sessions.length, message.sessionsCut]).toEqual([1000, 1001]);
  });
});

it.each<WatchEventsResponse>([
  { watching: {} },
  { dropped: 7 },
  { event: { time: timestamp(1), seq: 2, type: 'call.denied', json: '{}' } },
])('a message of a watch arrives: %j', (message) => {
  expect(answered('WatchEvents', message)).toMatchObject(message);
});

it('a deadline that nobody gave is absent, and not 0', () => {
  const { requestSerialize, requestDeserialize } = service.Drain as (typeof service)[string];
  const through = (request: DrainRequest) =>
    requestDeserialize(requestSerialize(request) as Buffer) as DrainRequest;
  expect(through({}).deadlineMs).toBeUndefined();
  expect(through({ deadlineMs: 0 }).deadlineMs).toBe(0);
});
