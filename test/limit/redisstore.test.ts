import { inspect } from 'node:util';
import { expect, it } from 'vitest';
import type { LimitConfig } from '../../src/config/config.ts';
import { LimitError } from '../../src/limit/errors.ts';
import { RedisStore, type RedisStoreOptions } from '../../src/limit/redisstore.ts';
import { RedisUrl } from '../../src/limit/redisurl.ts';
import { FakeClock } from '../harness/fake-clock.ts';

const open = (more: Partial<RedisStoreOptions>) =>
  RedisStore.open({
    url: 'redis://127.0.0.1:1',
    timeoutMs: 50,
    namespace: 'test',
    limits: [],
    clock: new FakeClock(),
    onStoreChange: () => undefined,
    ...more,
  });

it.each([
  ['redis://:hunter2@cache.example:6379/3', 'redis://:***@cache.example:6379/3'],
  ['rediss://web:hunter2@cache.example', 'rediss://web:***@cache.example'],
  ['redis://cache.example/0?password=hunter2', 'redis://cache.example/0'],
  ['redis://cache.example', 'redis://cache.example'],
])('the password of %s is not shown', (url, shown) => {
  const address = new RedisUrl(url);
  expect(address.reveal()).toBe(url);
  expect([String(address), JSON.parse(JSON.stringify(address))]).toEqual([shown, shown]);
  expect(inspect(address, { showHidden: true, depth: 9 })).not.toContain('hunter2');
});

it('the password is taken out of what others say, encoded or not', () => {
  const address = new RedisUrl('redis://:p%40ss@cache.example');
  expect(address.redact('AUTH p@ss failed, p%40ss')).toBe('AUTH *** failed, ***');
});

it.each(['', 'cache.example', 'http://:hunter2@cache.example', 'redis://:hunter2@', '//hunter2'])(
  'what is not a Redis address is refused without repeating it: %s',
  async (url) => {
    const error = await open({ url }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(LimitError);
    expect(error).toMatchObject({ code: 'bad-store-url' });
    expect(inspect(error, { depth: 9, showHidden: true }).split('\n    at ')[0]).not.toContain('hunter2');
  },
);

it('a missing ioredis is an error that tells the cure', async () => {
  const missing = Object.assign(new Error("Cannot find package 'ioredis'"), { code: 'ERR_MODULE_NOT_FOUND' });
  await expect(open({ load: () => Promise.reject(missing) })).rejects.toThrowError(
    expect.objectContaining({
      code: 'redis-client-missing',
      message: expect.stringContaining('npm install ioredis'),
      cause: missing,
    }),
  );
});

it.each<[string, LimitConfig, number]>([
  ['a window below a second', { scope: 'peer', maxRequests: 1, windowMs: 999 }, 50],
  ['a deadline of more than half a window', { scope: 'peer', maxRequests: 1, windowMs: 1_000 }, 501],
])('%s cannot be counted in Redis', async (_what, limit, timeoutMs) => {
  await expect(open({ limits: [limit], timeoutMs })).rejects.toThrowError(
    expect.objectContaining({ code: 'bad-limit' }),
  );
});
