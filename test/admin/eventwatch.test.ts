import { describe, expect, it } from 'vitest';
import { EventWatch } from '../../src/admin/eventwatch.ts';
import type { WatchEventsRequest, WatchEventsResponse } from '../../src/admin/messages.ts';
import type { AuditEventInput } from '../../src/audit/event.ts';
import { Recorder } from '../../src/audit/recorder.ts';
import { FakeClock } from '../harness/fake-clock.ts';

const WEB = 'spiffe://shop.example/ns/shop/sa/web';
const rekeyed = (sessionId: string): AuditEventInput => ({
  type: 'session.rekeyed',
  sessionId,
  direction: 'send',
  cause: 'age',
});
const denied = (peer: string): AuditEventInput => ({
  type: 'call.denied',
  direction: 'ingress',
  sessionId: 's1',
  peer,
  service: 'greeter',
  method: '/a.B/C',
});

function setUp(request: Partial<WatchEventsRequest> = {}) {
  const clock = new FakeClock();
  const recorder = new Recorder({ clock, source: { instance: 'i', spiffeId: WEB }, adapters: [] });
  const sent: WatchEventsResponse[] = [];
  /** How many messages the stream takes before it blocks. */
  const stream = { room: Number.POSITIVE_INFINITY };
  const write = (message: WatchEventsResponse): boolean => {
    sent.push(message);
    return --stream.room > 0;
  };
  const watch = new EventWatch({ types: [], sessionId: '', peer: '', ...request }, { write });
  const unwatch = recorder.watch(watch);
  const record = (...events: AuditEventInput[]): void => {
    for (const event of events) recorder.record(event);
    clock.advance(100);
  };
  const names = (): string[] =>
    sent.splice(0).map((message) => {
      if ('event' in message) return `${message.event.type} ${message.event.seq}`;
      return 'dropped' in message ? `dropped ${message.dropped}` : 'watching';
    });
  return { recorder, watch, unwatch, record, names, sent, stream };
}

describe('a watch', () => {
  it('begins with `watching`, and has every event from then on as the audit has it', () => {
    const { record, sent } = setUp();
    record(rekeyed('s1'));
    expect(sent[0]).toEqual({ watching: {} });
    const { event } = sent[1] as { event: { seq: number; type: string; json: string; time: object } };
    expect(event).toMatchObject({ seq: 1, type: 'session.rekeyed' });
    expect(JSON.parse(event.json)).toMatchObject({ seq: 1, sidecar: WEB, sessionId: 's1', cause: 'age' });
    expect(event.json).not.toContain('\n');
  });

  it('makes events be recorded that nobody else wants, and only while it lasts', () => {
    const { recorder, record, unwatch, names } = setUp();
    expect(recorder.active).toBe(true);
    unwatch();
    expect(recorder.active).toBe(false);
    record(rekeyed('s1'));
    expect(names()).toEqual(['watching']);
  });

  it.each<[Partial<WatchEventsRequest>, string[]]>([
    [{ types: ['session.*'] }, ['session.rekeyed 1', 'session.rekeyed 2']],
    [{ types: ['call.denied'] }, ['call.denied 3', 'call.denied 4']],
    [
      { types: ['call.denied', 'session.*'], sessionId: 's1' },
      ['session.rekeyed 1', 'call.denied 3', 'call.denied 4'],
    ],
    [{ sessionId: 's2' }, ['session.rekeyed 2']],
    [{ peer: WEB }, ['call.denied 3']],
    [{ types: ['sidecar.*'] }, []],
  ])('with %j has only those', (request, expected) => {
    const { record, names } = setUp(request);
    record(rekeyed('s1'), rekeyed('s2'), denied(WEB), denied(`${WEB}2`));
    expect(names()).toEqual(['watching', ...expected]);
  });

  it('of a caller who does not read keeps 1,024 messages and counts the rest where it is missing', () => {
    const { record, names, stream, watch } = setUp();
    names();
    stream.room = 1;
    for (let i = 0; i < 20; i++) record(...Array.from({ length: 60 }, () => rekeyed('s1')));
    expect(names()).toEqual(['session.rekeyed 1']);
    stream.room = 10;
    watch.drained();
    expect(names()).toHaveLength(10);
    record(rekeyed('s1'));
    stream.room = 5000;
    watch.drained();
    const rest = names();
    expect(rest[0]).toBe('session.rekeyed 12');
    expect(rest.slice(1013)).toEqual(['session.rekeyed 1025', 'dropped 175', 'session.rekeyed 1201']);
    record(rekeyed('s1'));
    expect(names()).toEqual(['session.rekeyed 1202']);
  });

  it('says what was dropped also when nothing comes after it', () => {
    const { record, names, stream, watch } = setUp();
    names();
    stream.room = 1;
    for (let i = 0; i < 1026; i++) record(rekeyed('s1'));
    stream.room = 5000;
    watch.drained();
    expect(names().at(-1)).toBe('dropped 1');
  });

  it.each<[string, Partial<WatchEventsRequest>]>([
    ['no event is called "call.stolen"', { types: ['call.stolen'] }],
    ['no event is called', { types: ['*'] }],
    ['no event is called', { types: ['\u202e.*'] }],
    ['more than 64', { types: Array.from({ length: 65 }, () => 'call.*') }],
    ['at most 2048', { peer: 'x'.repeat(2049) }],
  ])('is refused: %s', (message, request) => {
    expect(() => setUp(request)).toThrow(message);
  });
});
