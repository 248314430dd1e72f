import { createSecretKey } from 'node:crypto';
import { expect, it } from 'vitest';
import { Secret } from '../../src/crypto/secret.ts';
import { openLogger, silentLogger } from '../../src/telemetry/log.ts';
import { FakeClock } from '../harness/fake-clock.ts';

async function logged(
  write: (log: Awaited<ReturnType<typeof openLogger>>) => void,
  level: 'debug' | 'info' | 'error' = 'info',
): Promise<{ text: string; lines: Array<Record<string, unknown>> }> {
  let text = '';
  const destination = {
    write: (line: string) => {
      text += line;
    },
  };
  write(await openLogger({ level, clock: new FakeClock(), destination, fields: { instance: 'i1' } }));
  const lines = text.split('\n').filter((line) => line !== '');
  return { text, lines: lines.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

const KEY = Buffer.from('0123456789abcdef0123456789abcdef');

it('a line has level, time, fields and message', async () => {
  const { text } = await logged((log) => log.warn({ port: 15001 }, 'listening'));
  expect(text).toBe(
    '{"level":"warn","time":"2026-01-01T00:00:00.000Z","instance":"i1","port":15001,"message":"listening"}\n',
  );
});

it('lines below the level are not written', async () => {
  const { lines } = await logged((log) => {
    log.debug({}, 'a');
    log.info({}, 'b');
    log.warn({}, 'c');
    log.error({}, 'd');
  }, 'error');
  expect(lines.map(({ message }) => message)).toEqual(['d']);
});

it('a child adds its fields to every line', async () => {
  const { lines } = await logged((log) => log.child({ peer: 'p' }).child({ n: 1 }).info({ m: 2 }, 'x'));
  expect(lines[0]).toMatchObject({ instance: 'i1', peer: 'p', n: 1, m: 2 });
});

it('no secret is printed, wherever it stands', async () => {
  const secret = (): Secret => Secret.copyOf(KEY);
  const { text, lines } = await logged((log) => {
    const fields = {
      secret: secret(),
      own: secret(),
      nested: { deep: { key: secret(), list: [secret(), KEY, createSecretKey(KEY)] } },
      bytes: KEY,
      view: new Uint8Array(KEY),
      buffer: KEY.buffer,
      map: new Map([['k', secret()]]),
      set: new Set([secret()]),
      sessionKey: 'hunter2',
      privateKey: 'hunter2',
      authorization: 'Bearer hunter2',
      headers: { cookie: 'hunter2', 'x-api-token': 'hunter2' },
      redisPassword: 'hunter2',
      error: Object.assign(new Error('boom', { cause: { psk: 'hunter2', bytes: KEY } }), { key: KEY }),
    };
    log.info(fields, 'x');
    log.child(fields).info({}, 'y');
  });
  expect(lines).toHaveLength(2);
  expect(text).not.toContain('hunter2');
  expect(text).not.toContain(KEY.toString());
  expect(text).not.toContain(KEY.toString('hex'));
  expect(text).not.toContain(KEY.toString('base64'));
  expect(text).not.toContain('48,49,50');
  expect(lines[0]).toMatchObject({ own: '[secret]', bytes: '[32 bytes]', sessionKey: '[secret]' });
});

it('an error is printed with its code, message and causes', async () => {
  const cause = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
  const { lines } = await logged((log) => log.error({ error: new Error('no store', { cause }) }, 'x'));
  expect(lines[0]?.error).toMatchObject({
    name: 'Error',
    message: 'no store',
    cause: { code: 'ECONNREFUSED', message: 'connect ECONNREFUSED' },
  });
});

it('what is deep, wide, long, circular or odd is bounded and does not throw', async () => {
  const circular: Record<string, unknown> = {};
  circular.self = circular;
  const { text, lines } = await logged((log) =>
    log.info(
      {
        circular,
        long: 'x'.repeat(100_000),
        wide: Array(10_000).fill(1),
        big: 10n,
        when: new Date(0),
        never: new Date(Number.NaN),
        run: () => 1,
        none: undefined,
        nothing: null,
      },
      'x',
    ),
  );
  expect(lines).toHaveLength(1);
  expect(text.length).toBeLessThan(10_000);
  expect(lines[0]).toMatchObject({ big: '10', when: '1970-01-01T00:00:00.000Z', nothing: null });
});

it('nothing in a field acts upon a terminal', async () => {
  const { text } = await logged((log) =>
    log.info({ method: 'a\u001b[2Jb\u009bc\u202ed\u2028e\u007f\nf' }, 'x'),
  );
  expect(text.slice(0, -1)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e]/);
});

it('the silent logger takes everything and says nothing', async () => {
  const silent = await openLogger({ level: 'silent', clock: new FakeClock() });
  expect(silent).toBe(silentLogger);
  expect(silent.child({ a: 1 })).toBe(silentLogger);
  silent.error({}, 'x');
  await silent.flush();
});
