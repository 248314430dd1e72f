import { describe, expect, it } from 'vitest';
import type { AdminError } from '../../src/admin/errors.ts';
import type { ListSessionsRequest, SessionFilterMessage } from '../../src/admin/messages.ts';
import { namesNothing, sessionPredicate } from '../../src/admin/sessionfilter.ts';
import { sessionPage } from '../../src/admin/sessionpage.ts';
import type { Session } from '../../src/session/session.ts';
import { setUp, WEB } from '../session/sessions.ts';

const EMPTY: SessionFilterMessage = {
  peer: '',
  service: '',
  direction: 'DIRECTION_UNSPECIFIED',
  states: [],
  metadata: {},
};
const filter = (over: Partial<SessionFilterMessage>): SessionFilterMessage => ({ ...EMPTY, ...over });
const request = (over: Partial<ListSessionsRequest> = {}): ListSessionsRequest => ({
  filter: null,
  order: 'LAST_USED',
  descending: false,
  pageSize: 0,
  pageToken: '',
  ...over,
});
const ids = (sessions: readonly Session[]): string[] => sessions.map(({ id }) => id);

/** The refusal that `run` throws. */
function refusal(run: () => unknown): Pick<AdminError, 'code' | 'message'> {
  try {
    run();
  } catch (error) {
    const { code, message } = error as AdminError;
    return { code, message };
  }
  throw new Error('nothing was refused');
}

function world(count: number) {
  const { open, clock, manager } = setUp({ maxPerPeer: 10_000 });
  const sessions: Session[] = [];
  for (let i = 0; i < count; i++) {
    sessions.push(open({ peer: `spiffe://shop.example/ns/shop/sa/web-${i % 7}` }));
    clock.advance(10);
  }
  const all = (): Session[] => manager.getSessionsByLastUsed();
  /** Every page of a request, by the tokens. */
  const pages = (over: Partial<ListSessionsRequest>): Session[][] => {
    const found: Session[][] = [];
    let pageToken = '';
    do {
      const page = sessionPage(all(), request({ ...over, pageToken }), clock.now());
      found.push([...page.sessions]);
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    return found;
  };
  return { open, clock, manager, sessions, all, pages };
}

describe('pages of sessions', () => {
  it.each([1, 2, 3, 7, 10, 11, 500])('of %i have every session once, in order', (pageSize) => {
    const { sessions, pages } = world(10);
    const found = pages({ order: 'CREATED', pageSize });
    expect(ids(found.flat())).toEqual(ids(sessions));
    expect(found.every((page) => page.length <= pageSize)).toBe(true);
    expect(found).toHaveLength(Math.ceil(10 / pageSize));
  });

  it('have 100 sessions by default and 500 at most, of more than are kept at a time', () => {
    const { sessions, all, clock, pages } = world(2500);
    const first = sessionPage(all(), request(), clock.now());
    expect([first.sessions.length, first.total]).toEqual([100, 2500]);
    const found = pages({ order: 'CREATED', descending: true, pageSize: 1_000_000 });
    expect(found.map((page) => page.length)).toEqual([500, 500, 500, 500, 500]);
    expect(ids(found.flat())).toEqual(ids(sessions).reverse());
  });

  it('are in each order there is', () => {
    const { sessions, pages } = world(3);
    const [a, b, c] = sessions as [Session, Session, Session];
    a.counters.calls = 5;
    b.counters.bytesIn = 100;
    c.counters.bytesOut = 200;
    a.touch();
    b.callStarted();
    const order = (name: ListSessionsRequest['order'], descending = false): Session[] =>
      pages({ order: name, descending }).flat();
    expect(order('LAST_USED')).toEqual([c, a, b]);
    expect(order('CALLS', true)).toEqual([a, b, c]);
    expect(order('OPEN_CALLS', true)[0]).toBe(b);
    expect(order('BYTES')).toEqual([a, b, c]);
    expect(order('CREATED', true)).toEqual([c, b, a]);
    expect(order('EXPIRES').length).toBe(3);
  });

  it('are exact by CREATED while sessions come and go', () => {
    const { sessions, all, clock, open } = world(6);
    const by = (pageToken: string) =>
      sessionPage(all(), request({ order: 'CREATED', pageSize: 2, pageToken }), clock.now());
    const first = by('');
    sessions[1]?.end('revoked'); // the one that the token names
    sessions[2]?.end('revoked');
    const late = open();
    const second = by(first.nextPageToken);
    expect(ids(second.sessions)).toEqual(ids(sessions.slice(3, 5)));
    expect(ids(by(second.nextPageToken).sessions)).toEqual([sessions[5]?.id, late.id]);
  });

  it('end with an empty token, and there is one page of nothing', () => {
    const { all, clock } = world(2);
    expect(sessionPage(all(), request({ pageSize: 2 }), clock.now()).nextPageToken).toBe('');
    const none = sessionPage([], request(), clock.now());
    expect(none).toEqual({ sessions: [], nextPageToken: '', total: 0 });
  });

  it('are not given for a token of another request, or one made up', () => {
    const { all, clock } = world(4);
    const { nextPageToken } = sessionPage(all(), request({ pageSize: 1 }), clock.now());
    const tokens: Array<Partial<ListSessionsRequest>> = [
      { pageToken: nextPageToken, descending: true },
      { pageToken: nextPageToken, order: 'CALLS' },
      { pageToken: nextPageToken, filter: filter({ peer: WEB }) },
      { pageToken: 'x' },
      { pageToken: '\0\uffff' },
      { pageToken: 'A'.repeat(60_000) },
      ...[null, {}, [1, 2, 3], ['', 0, ''], '[['].map((made) => ({
        pageToken: Buffer.from(JSON.stringify(made)).toString('base64url'),
      })),
    ];
    for (const over of tokens) {
      const refused = refusal(() => sessionPage(all(), request({ pageSize: 1, ...over }), clock.now()));
      expect(refused.code).toBe('INVALID_ARGUMENT');
      expect(refused.message).toContain('begin again without it');
    }
  });

  it('are not given for sizes and orders that there are not', () => {
    expect(refusal(() => sessionPage([], request({ pageSize: -1 }), 0)).message).toContain('page_size');
    const order = 99 as unknown as ListSessionsRequest['order'];
    expect(refusal(() => sessionPage([], request({ order }), 0)).message).toContain('order');
  });
});

describe('filters of sessions', () => {
  it('match what they name, and all of it', () => {
    const { clock, open, all } = world(0);
    const web = open({ metadata: { tenant: 'acme', tier: 3, on: true } });
    const api = open({
      peer: 'spiffe://shop.example/ns/shop/sa/api',
      direction: 'outbound',
      serviceId: 'api.shop',
    });
    clock.advance(60_000);
    api.callStarted();
    const found = (over: Partial<SessionFilterMessage>): string[] =>
      ids(all().filter(sessionPredicate(filter(over), clock.now())));
    expect(found({})).toEqual([web.id, api.id]);
    expect(found({ peer: 'spiffe://shop.example/ns/*/sa/a*' })).toEqual([api.id]);
    expect(found({ peer: 'spiffe://shop.example/*' })).toEqual([]);
    expect(found({ service: 'API.shop' })).toEqual([api.id]);
    expect(found({ direction: 'INBOUND' })).toEqual([web.id]);
    expect(found({ direction: 'OUTBOUND', service: 'web' })).toEqual([]);
    expect(found({ states: ['active'] })).toEqual([api.id]);
    expect(found({ states: ['active'], peer: WEB })).toEqual([]);
    expect(found({ states: ['active', 'connected'] })).toEqual([web.id, api.id]);
    expect(found({ metadata: { tenant: 'acme', tier: '3', on: 'true' } })).toEqual([web.id]);
    expect(found({ metadata: { tenant: 'acme', tier: '4' } })).toEqual([]);
    expect(found({ metadata: { toString: '' } })).toEqual([]);
    expect(found({ olderThanMs: 60_000 })).toEqual([web.id, api.id]);
    expect(found({ olderThanMs: 60_001 })).toEqual([]);
    expect(found({ idleForMs: 60_000 })).toEqual([web.id]);
  });

  it('that are malformed or too large are refused with the field', () => {
    const many = Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, 'v']));
    const bad: Array<[field: string, over: Partial<SessionFilterMessage>]> = [
      ['filter.peer', { peer: '*' }],
      ['filter.peer', { peer: 'web' }],
      ['filter.peer', { peer: `spiffe://shop.example/${'*a'.repeat(300)}` }],
      ['filter.service', { service: 'x'.repeat(254) }],
      ['filter.direction', { direction: 7 as unknown as 'INBOUND' }],
      ['filter.states', { states: ['asleep'] }],
      ['filter.metadata', { metadata: many }],
      ['a key of filter.metadata', { metadata: { ['k'.repeat(129)]: 'v' } }],
      ['a value of filter.metadata', { metadata: { k: 'v'.repeat(257) } }],
      ['filter', { olderThanMs: -1 }],
    ];
    for (const [field, over] of bad) {
      const { code, message } = refusal(() => sessionPredicate(filter(over), 0));
      expect(code).toBe('INVALID_ARGUMENT');
      expect(message).toMatch(new RegExp(`^${field}`));
      expect(message.length).toBeLessThan(300);
    }
  });

  it('that name nothing are known as such', () => {
    expect([namesNothing(null), namesNothing(EMPTY)]).toEqual([true, true]);
    const named: Array<Partial<SessionFilterMessage>> = [
      { peer: WEB },
      { service: 'a' },
      { direction: 'INBOUND' },
      { states: ['idle'] },
      { metadata: { a: '' } },
      { olderThanMs: 0 },
      { idleForMs: 0 },
    ];
    expect(named.map((over) => namesNothing(filter(over)))).toEqual(named.map(() => false));
  });
});
