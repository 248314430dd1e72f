import { expect, it } from 'vitest';
import { balance } from '../../src/relay/balance.ts';
import type { Upstream } from '../../src/relay/upstream.ts';

class Place {
  load = 0;
  told = 0;
  looks = 0;
  #healthy: boolean;

  constructor(healthy: boolean) {
    this.#healthy = healthy;
  }

  get healthy(): boolean {
    this.looks++;
    return this.#healthy;
  }

  avoided(): void {
    this.told++;
  }
}

/** Always the same draws: a linear congruential generator. */
function draws(): () => number {
  let state = 1;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

const CALLS = 20_000;

function spread(count: number, isHealthy: (n: number) => boolean) {
  const places = Array.from({ length: count }, (_, n) => new Place(isHealthy(n)));
  const random = draws();
  for (let call = 0; call < CALLS; call++) {
    const picked = balance(places as unknown as Upstream[], undefined, random) as unknown as Place;
    picked.load++;
  }
  const sum = (of: (place: Place) => number) => places.reduce((total, place) => total + of(place), 0);
  return { places, looksPerCall: sum(({ looks }) => looks) / CALLS };
}

it('of many endpoints a few are looked at for a call, and all get their share', () => {
  const { places, looksPerCall } = spread(1000, () => true);
  expect(looksPerCall).toBeLessThan(5);
  expect(Math.max(...places.map(({ load }) => load))).toBeLessThan(30);
  expect(Math.min(...places.map(({ load }) => load))).toBeGreaterThan(10);
});

it('one of many that is not healthy gets no call, and is told', () => {
  for (const sick of [0, 500]) {
    const { places, looksPerCall } = spread(1000, (n) => n !== sick);
    expect(places[sick]).toMatchObject({ load: 0 });
    expect(places[sick]?.told).toBeGreaterThan(CALLS / 1000);
    expect(looksPerCall).toBeLessThan(15);
  }
});

it('where only few of many are healthy, they get all calls', () => {
  const { places } = spread(100, (n) => n % 50 === 1);
  expect(places.filter(({ load }) => load > 0)).toEqual([places[1], places[51]]);
});

it('of few endpoints each call tells those that are not healthy', () => {
  const { places } = spread(3, (n) => n !== 2);
  expect(places.map(({ told }) => told)).toEqual([0, 0, CALLS]);
});
