import { setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Turnstile } from '../../src/transport/turnstile.ts';

it('one step goes through a turn, the first at once, in the order of coming', async () => {
  const turnstile = new Turnstile();
  const done: number[] = [];
  for (let i = 0; i < 3; i++) turnstile.pass(() => done.push(i));
  expect(done).toEqual([0]);
  await turn();
  expect(done).toEqual([0, 1]);
  turnstile.pass(() => done.push(3));
  await turn();
  expect(done).toEqual([0, 1, 2]);
  await turn();
  expect(done).toEqual([0, 1, 2, 3]);
  await turn();
  turnstile.pass(() => done.push(4));
  expect(done).toEqual([0, 1, 2, 3, 4]);
});

it('a step that comes out of a step waits its turn', async () => {
  const turnstile = new Turnstile();
  const done: string[] = [];
  turnstile.pass(() => {
    turnstile.pass(() => done.push('inner'));
    done.push('outer');
  });
  expect(done).toEqual(['outer']);
  await turn();
  expect(done).toEqual(['outer', 'inner']);
});

it('a step that is not to be done any more costs nobody a turn', async () => {
  const turnstile = new Turnstile();
  const done: number[] = [];
  const steps = [0, 1, 2, 3].map((i) => () => void done.push(i));
  for (const step of steps) turnstile.pass(step);
  for (const step of steps.slice(0, 3)) turnstile.leave(step);
  await turn();
  expect(done).toEqual([0, 3]);
});
