import { beforeEach, describe, expect, it } from 'vitest';
import { type PlaceHolder, SessionPlaces } from '../../src/relay/sessionplaces.ts';

let places: SessionPlaces;

/** An endpoint that takes a place whenever it is told that there may be one, as long as it wants one. */
class Endpoint implements PlaceHolder {
  idleSince: number | undefined;
  wantsPlace = true;
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
    if (!this.wantsPlace || !places.take(this)) return false;
    const session = {};
    this.sessions.push(session);
    places.opened(session);
    this.wantsPlace = false;
    return true;
  }

  /** In order, and so later: `close` follows. */
  asked = 0;
  giveWay(): object | undefined {
    this.asked++;
    this.idleSince = undefined;
    return this.sessions.at(-1);
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

  it('that somebody else gives back do not make the one who was asked be forgotten', () => {
    places = new SessionPlaces(3);
    const [old, young, other] = [new Endpoint(1), new Endpoint(2), new Endpoint()];
    for (const endpoint of [old, young, other]) endpoint.open();
    const [first, second, third] = [new Endpoint(), new Endpoint(), new Endpoint()];
    first.open();
    expect(old.asked).toBe(1);
    other.close(); // by itself
    expect(first.sessions).toHaveLength(1);
    second.open();
    expect([old.asked, young.asked]).toEqual([1, 0]); // what old gives back is enough
    old.close();
    expect(second.sessions).toHaveLength(1);
    third.open();
    expect(young.asked).toBe(1);
  });

  it('are not made for one who wanted one and wants none any more', () => {
    const [one, two] = [new Endpoint(1), new Endpoint(2)];
    one.open();
    two.open();
    const [sated, waiting] = [new Endpoint(), new Endpoint()];
    sated.open();
    expect(one.asked).toBe(1);
    sated.wantsPlace = false;
    waiting.open();
    expect(two.asked).toBe(0);
    one.close();
    expect([sated.told, waiting.sessions.length]).toEqual([0, 1]);
  });

  it('are not thought to come from one who had nothing to give', () => {
    const [one, two] = [new Endpoint(1), new Endpoint(2)];
    one.open();
    two.open();
    one.giveWay = () => {
      one.idleSince = undefined;
      return undefined;
    };
    const waiting = new Endpoint();
    waiting.open();
    waiting.open();
    expect(two.asked).toBe(1);
  });

  it('go past one who wants none any more, and one who has left', () => {
    const [one, two] = [new Endpoint(), new Endpoint()];
    one.open();
    two.open();
    const [sated, gone, last] = [new Endpoint(), new Endpoint(), new Endpoint()];
    for (const endpoint of [sated, gone, last]) endpoint.open();
    sated.wantsPlace = false;
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
