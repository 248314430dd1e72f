import { beforeEach, describe, expect, it } from 'vitest';
import { type PlaceHolder, SessionPlaces } from '../../src/relay/sessionplaces.ts';

let places: SessionPlaces;

/** An endpoint that takes a place whenever it is told that there may be one, as long as it wants one. */
class Endpoint implements PlaceHolder {
  idleSince: number | undefined;
  wants = true;
  told = 0;
  sessions: object[] = [];

  constructor(idleSince?: number) {
    this.idleSince = idleSince;
  }

  placeFree(): void {
    this.told++;
    this.open();
  }

  open(): boolean {
    if (!this.wants || !places.take(this)) return false;
    const session = {};
    this.sessions.push(session);
    places.opened(session);
    this.wants = false;
    return true;
  }

  /** In order, and so later: `close` follows. */
  asked = 0;
  giveWay(): void {
    this.asked++;
    this.idleSince = undefined;
  }

  close(): void {
    places.closed(this.sessions.pop() as object);
  }
}

beforeEach(() => {
  places = new SessionPlaces(2);
});

describe('places of sessions', () => {
  it('are taken by dials, and given back by those that fail', () => {
    const [a, b, c] = [new Endpoint(), new Endpoint(), new Endpoint()];
    expect([places.take(a), places.take(b), places.take(c)]).toEqual([true, true, false]);
    places.failed();
    expect(c.sessions).toHaveLength(1);
    expect(places.taken).toBe(2);
  });

  it('are taken once by all connections of a session', () => {
    const endpoint = new Endpoint();
    const session = {};
    for (let i = 0; i < 2; i++) {
      expect(places.take(endpoint)).toBe(true);
      places.opened(session);
    }
    expect(places.taken).toBe(1);
    places.closed(session);
    expect(places.taken).toBe(1);
    places.closed(session);
    expect(places.taken).toBe(0);
  });

  it('when all are taken are made by whoever has had no calls for longest, and given to the first who waits', () => {
    const [young, old] = [new Endpoint(20), new Endpoint(10)];
    expect([young.open(), old.open()]).toEqual([true, true]);
    const [first, second] = [new Endpoint(), new Endpoint()];
    expect(first.open()).toBe(false);
    expect([young.asked, old.asked]).toEqual([0, 1]);
    expect(second.open()).toBe(false);
    expect([young.asked, old.asked]).toEqual([1, 1]);
    old.close();
    expect([first.sessions.length, second.sessions.length]).toEqual([1, 0]);
    young.close();
    expect(second.sessions).toHaveLength(1);
  });

  it('are asked for once by one who asks again and again', () => {
    const [one, two] = [new Endpoint(1), new Endpoint(2)];
    one.open();
    two.open();
    const waiting = new Endpoint();
    for (let i = 0; i < 10; i++) waiting.open();
    expect(one.asked + two.asked).toBe(1);
  });

  it('go past one who wants none any more, and one who has left', () => {
    const [one, two] = [new Endpoint(), new Endpoint()];
    one.open();
    two.open();
    const [sated, gone, last] = [new Endpoint(), new Endpoint(), new Endpoint()];
    for (const endpoint of [sated, gone, last]) endpoint.open();
    sated.wants = false;
    places.leave(gone);
    one.close();
    expect([sated.told, gone.told, last.sessions.length]).toEqual([1, 0, 1]);
  });

  it('that nobody can make are waited for until a busy one rests', () => {
    const [one, two] = [new Endpoint(), new Endpoint()];
    one.open();
    two.open();
    const waiting = new Endpoint();
    waiting.open();
    expect(one.asked + two.asked).toBe(0);
    two.idleSince = 5;
    waiting.open(); // as its sweep does
    expect(two.asked).toBe(1);
  });
});
