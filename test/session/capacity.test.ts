import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { setUp } from './sessions.ts';

const peer = (n: number | string) => `spiffe://shop.example/ns/shop/sa/${n}`;
const CAPACITY = expect.objectContaining({ code: 'capacity' });

describe('when a peer has all its sessions', () => {
  it('its least recently used one without calls is evicted, with an event', () => {
    const { manager, open, ends } = setUp({ maxPerPeer: 3 });
    const [first, second, third] = [open(), open(), open()];
    open({ peer: peer('other') });
    second.callStarted();
    manager.getSession(first.id);
    const fourth = open();
    expect(ends()).toMatchObject([{ session: third, reason: 'evicted', outcome: 'evicted' }]);
    expect(manager.getSessionsByLastUsed()).toEqual(expect.arrayContaining([first, second, fourth]));
    expect(third.sessionKey.wiped).toBe(true);
  });

  it('the handshake is refused if all are busy, and the key is wiped', () => {
    const { manager, init, open, ends } = setUp({ maxPerPeer: 2 });
    for (const session of [open(), open()]) session.callStarted();
    const refused = init();
    expect(() => manager.create(refused)).toThrowError(CAPACITY);
    expect(refused.sessionKey.wiped).toBe(true);
    expect(ends()).toEqual([]);
    expect(manager.getStats()).toMatchObject({ activeSessions: 2, refused: 1, created: 2 });
    open({ peer: peer('other') });
  });

  it('the default is 64', () => {
    const { open, ends } = setUp();
    for (let n = 0; n < 64; n++) open();
    expect(ends()).toEqual([]);
    open();
    expect(ends()).toHaveLength(1);
  });
});

describe('when pods share an identity', () => {
  const at = (n: number) => ({ address: `10.1.${n >> 8}.${n & 255}` });

  it('each address has its places, in both directions', () => {
    const { open, ends } = setUp();
    for (let n = 0; n < 150; n++) open({ ...at(n), direction: 'outbound' });
    for (let n = 0; n < 150; n++) open(at(n));
    expect(ends()).toEqual([]);
  });

  it('one that has all of its own loses one of its own', () => {
    const { open, ends } = setUp({ max: 100, maxPerPeer: 3 });
    const other = open(at(1));
    const [first] = [open(at(2)), open(at(2)), open(at(2))];
    open(at(2));
    expect(ends()).toMatchObject([{ session: first }]);
    other.end('revoked');
  });

  it('one whose own are all busy is refused, and told where', () => {
    const { manager, init, open, ends } = setUp({ max: 100, maxPerPeer: 2 });
    open(at(1));
    for (const session of [open(at(2)), open(at(2))]) session.callStarted();
    expect(() => manager.create(init(at(2)))).toThrowError(/it has 2 at 10\.1\.0\.2, all with calls/);
    expect(ends()).toEqual([]);
  });

  it('all together have a quarter of the places', () => {
    const { manager, init, open, ends } = setUp({ max: 40, maxPerPeer: 3 });
    const sessions = Array.from({ length: 10 }, (_, n) => open(at(n)));
    open(at(10));
    expect(ends()).toMatchObject([{ session: sessions[0] }]);
    for (const session of manager.getSessionsByLastUsed()) session.callStarted();
    expect(() => manager.create(init(at(11)))).toThrowError(/it has 10, all with calls/);
    open({ peer: peer('other') });
    expect(manager.size).toBe(11);
  });

  it('an address has its places again when its sessions have ended', () => {
    const { open, ends } = setUp({ max: 100, maxPerPeer: 2 });
    open(at(1)).end('revoked');
    open(at(1)).end('revoked');
    const before = ends().length;
    for (const n of [1, 1, 2]) open(at(n));
    expect(ends()).toHaveLength(before);
  });
});

describe('when all places are taken', () => {
  it('a spare session of the same peer goes first', () => {
    const { open, ends } = setUp({ max: 4 });
    for (let n = 0; n < 3; n++) open({ peer: peer('greedy') });
    const own = open();
    open();
    expect(ends()).toMatchObject([{ session: own }]);
  });

  it('else one of the peer that holds most', () => {
    const { open, ends } = setUp({ max: 5 });
    open({ peer: peer('small') });
    const greedy = [1, 2, 3].map(() => open({ peer: peer('greedy') }));
    const own = open();
    own.callStarted();
    greedy[0]!.callStarted();
    open();
    expect(ends()).toMatchObject([{ session: greedy[1] }]);
  });

  it('else one of the next peer, if the greediest is busy', () => {
    const { open, ends } = setUp({ max: 5 });
    const [single, ...pair] = [
      open({ peer: peer('a') }),
      open({ peer: peer('b') }),
      open({ peer: peer('b') }),
    ];
    for (const session of [open({ peer: peer('c') }), open({ peer: peer('c') })]) session.callStarted();
    single!.touch();
    open();
    expect(ends()).toMatchObject([{ session: pair[0] }]);
  });

  it('among equals the least recently used goes', () => {
    const { manager, open, ends } = setUp({ max: 3 });
    const [a, b] = [open({ peer: peer('a') }), open({ peer: peer('b') }), open({ peer: peer('c') })];
    manager.getSession(a!.id);
    manager.peek(b!.id);
    open();
    expect(ends()).toMatchObject([{ session: b }]);
  });

  it('a call makes its session recently used when it ends', () => {
    const { open, ends } = setUp({ max: 2 });
    const [a, b] = [open({ peer: peer('a') }), open({ peer: peer('b') })];
    a!.callStarted();
    a!.callEnded();
    open();
    expect(ends()).toMatchObject([{ session: b }]);
  });

  it('the handshake is refused if all are busy', () => {
    const { manager, init, open } = setUp({ max: 2 });
    for (const n of [1, 2]) open({ peer: peer(n) }).callStarted();
    expect(() => manager.create(init())).toThrowError(CAPACITY);
  });
});

it('10,000 sessions fit by default, and the next one evicts', () => {
  const { manager, open, ends } = setUp();
  const first = open({ peer: peer(0) });
  for (let n = 1; n < 10_000; n++) open({ peer: peer(n) });
  expect(manager.getStats()).toMatchObject({ activeSessions: 10_000, utilization: 1, peers: 10_000 });
  open({ peer: peer('new') });
  expect(ends()).toMatchObject([{ session: first }]);
  expect(manager.size).toBe(10_000);
});

it('the choice is the one that the rule names, in any state', () => {
  const action = fc.record({
    peer: fc.integer({ min: 0, max: 4 }),
    busy: fc.boolean(),
    use: fc.option(fc.nat(20)),
  });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
      const { manager, init, ends } = setUp({ max: 8, maxPerPeer: 3 });
      /** Oldest first; the plain twin. */
      const model: Array<{ id: string; peer: string; busy: boolean }> = [];
      for (const { peer: n, busy, use } of actions) {
        const used = use === null ? undefined : model[use % Math.max(model.length, 1)];
        if (used !== undefined) {
          manager.getSession(used.id);
          // The order of busy sessions is settled when their calls end.
          if (!used.busy) model.push(...model.splice(model.indexOf(used), 1));
        }
        const held = (of: string) => model.filter((entry) => entry.peer === of).length;
        const peerIsFull = held(peer(n)) >= 3;
        let victim: (typeof model)[number] | undefined;
        if (peerIsFull || model.length >= 8) {
          const spare = model.filter((entry) => !entry.busy);
          victim = spare.find((entry) => entry.peer === peer(n));
          if (victim === undefined && !peerIsFull) {
            const most = Math.max(...spare.map((entry) => held(entry.peer)));
            victim = spare.find((entry) => held(entry.peer) === most);
          }
          if (victim === undefined) {
            expect(() => manager.create(init({ peer: peer(n) }))).toThrowError(CAPACITY);
            continue;
          }
        }
        const before = ends().length;
        const session = manager.create(init({ peer: peer(n) }));
        session.attach();
        if (busy) session.callStarted();
        expect(
          ends()
            .slice(before)
            .map((event) => event.session.id),
        ).toEqual(victim ? [victim.id] : []);
        if (victim !== undefined) model.splice(model.indexOf(victim), 1);
        model.push({ id: session.id, peer: peer(n), busy });
      }
      expect(
        manager
          .getSessionsByLastUsed()
          .map((session) => session.id)
          .sort(),
      ).toEqual(model.map((entry) => entry.id).sort());
    }),
  );
});
