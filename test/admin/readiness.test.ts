import { expect, it } from 'vitest';
import { Readiness } from '../../src/admin/readiness.ts';

it('is ready while nothing is pending, and names what is', () => {
  const readiness = new Readiness();
  const listeners = readiness.task('listeners');
  const app = readiness.task('app greeter.shop');
  expect([readiness.ready, readiness.pending]).toEqual([false, ['listeners', 'app greeter.shop']]);
  listeners.done();
  expect([readiness.ready, readiness.pending]).toEqual([false, ['app greeter.shop']]);
  app.done();
  expect([readiness.ready, readiness.pending]).toEqual([true, []]);
});

it('a task may become pending again', () => {
  const readiness = new Readiness();
  const app = readiness.task('app');
  app.done();
  app.pending();
  expect(readiness.pending).toEqual(['app']);
});

it('is started once it has been ready, and stays so', () => {
  const readiness = new Readiness();
  const app = readiness.task('app');
  expect(readiness.started).toBe(false);
  app.done();
  expect(readiness.started).toBe(true);
  app.pending();
  readiness.task('draining');
  expect(readiness.started).toBe(true);
});

it('does not wait for apps to be started', () => {
  const readiness = new Readiness();
  const listeners = readiness.task('listeners');
  readiness.task('app greeter.shop', 'app');
  expect([readiness.started, readiness.starting]).toEqual([false, ['listeners']]);
  listeners.done();
  expect([readiness.started, readiness.starting, readiness.ready]).toEqual([true, [], false]);
});

it('listeners hear of every change of `ready`, also by a new task, and of nothing else', () => {
  const readiness = new Readiness();
  const heard: boolean[] = [];
  readiness.onChange(() => heard.push(readiness.ready));
  const a = readiness.task('a');
  const b = readiness.task('b');
  a.done();
  a.done();
  b.done();
  readiness.task('draining');
  b.pending();
  expect(heard).toEqual([false, true, false]);
});

it('two tasks of one name are settled one by one', () => {
  const readiness = new Readiness();
  const first = readiness.task('identity: no address');
  const second = readiness.task('identity: no address');
  first.done();
  expect([readiness.ready, readiness.started]).toEqual([false, false]);
  second.done();
  expect([readiness.ready, readiness.started]).toEqual([true, true]);
});
