import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ConfigError } from '../../src/config/errors.ts';
import { loadConfig, loadGivenConfig } from '../../src/config/load.ts';
import { LEAST } from './samples.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'hauberk-config-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(content: string | Buffer): string {
  const path = join(folder, 'sidecar.yaml');
  writeFileSync(path, content);
  return path;
}

async function refusal(path: string): Promise<ConfigError> {
  const error = await loadConfig(path, {}).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof ConfigError) return error;
  throw error ?? new Error('was accepted');
}

it('relative paths count from the folder of the file', async () => {
  const config = await loadConfig(file(LEAST), {});
  expect(config.identity.key).toBe(join(folder, 'keys/web.key'));
});

it('variables win over the file', async () => {
  expect((await loadConfig(file(LEAST), { HAUBERK_LOG_LEVEL: 'error' })).log.level).toBe('error');
});

it('a missing file and a folder are named with the cure', async () => {
  const missing = await refusal(join(folder, 'nothing.yaml'));
  expect(missing.code).toBe('file-unreadable');
  expect(missing.message).toBe(`${folder}/nothing.yaml: there is no such file: check the path`);
  expect(missing.cause).toMatchObject({ code: 'ENOENT' });
  expect((await refusal(folder)).message).toContain('it is a folder');
});

it('a file of 1 MiB is read, and one byte more is refused', async () => {
  const pad = (size: number) => LEAST + '#'.repeat(size - LEAST.length);
  expect((await loadConfig(file(pad(1_048_576)), {})).trustDomain).toBe('shop.example');
  expect((await refusal(file(pad(1_048_577)))).code).toBe('file-too-large');
});

it('text that is not UTF-8 is refused', async () => {
  const error = await refusal(file(Buffer.concat([Buffer.from(LEAST), Buffer.from([0x23, 0xff, 0xfe])])));
  expect(error.code).toBe('not-utf8');
  expect(error.message).toContain('save it as UTF-8');
});

it('the message lists at most 50 mistakes, one a line, and counts the rest', async () => {
  const keys = Array.from({ length: 60 }, (_, i) => `  k${i}: 1`).join('\n');
  const path = file(`${LEAST}session:\n${keys}\n`);
  const error = await refusal(path);
  const lines = error.message.split('\n');
  expect(error.issues).toHaveLength(60);
  expect(lines).toHaveLength(51);
  expect(lines[0]).toMatch(new RegExp(`^${path}:4:3: session\\.k0: unknown key`));
  expect(lines[50]).toBe(`${path}: and 10 more problems`);
});

const given = (path: string | undefined, env: Record<string, string>) =>
  loadGivenConfig(path, env).catch((error: ConfigError) => error.message);

it('without a file the text of HAUBERK_CONFIG is the configuration, and single variables win over it', async () => {
  const env = { HAUBERK_CONFIG: `${LEAST}log: { level: warn }\npolicy: open\n`, HAUBERK_LOG_LEVEL: 'error' };
  expect(await given(undefined, env)).toMatchObject({
    source: 'HAUBERK_CONFIG',
    sha256: createHash('sha256').update(env.HAUBERK_CONFIG).digest('hex'),
    config: {
      log: { level: 'error' },
      policy: 'open',
      identity: { key: join(process.cwd(), 'keys/web.key') },
    },
  });
});

it('a mistake in HAUBERK_CONFIG is told with its line and column there', async () => {
  expect(await given(undefined, { HAUBERK_CONFIG: `${LEAST}session: { idel: 1h }\n` })).toMatch(
    /^HAUBERK_CONFIG:3:12: session\.idel: unknown key: did you mean idle\?/,
  );
  expect(await given(undefined, { HAUBERK_CONFIG: '#'.repeat(1_048_577) })).toMatch(
    /^HAUBERK_CONFIG: more than 1 MiB/,
  );
});

it('a file and HAUBERK_CONFIG at once are refused; an empty variable counts as unset', async () => {
  const path = file(LEAST);
  expect(await given(path, { HAUBERK_CONFIG: LEAST })).toBe(
    `${path}: the variable HAUBERK_CONFIG holds a configuration, too: unset it, or name no file`,
  );
  expect(await given(path, { HAUBERK_CONFIG: '' })).toMatchObject({ source: path });
  expect(await given(undefined, { HAUBERK_CONFIG: '' })).toBeUndefined();
});
