import { chmodSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Clock, systemClock } from '../../src/clock/clock.ts';
import { hauberk, type Outcome } from '../harness/cli.ts';
import { makeTrustFolder } from '../harness/trust.ts';

const dir = mkdtempSync(join(tmpdir(), 'hauberk-config-'));
const at = (...names: string[]): string => join(dir, ...names);
afterAll(() => rmSync(dir, { recursive: true }));

const IDENTITY = '{ svid: keys/web.pem, key: keys/web.key, bundle: keys/bundle.pem }';
const LEAST = `trustDomain: shop.example\nidentity: ${IDENTITY}\n`;

let files = 0;
/** Writes a configuration into the folder; its name. */
function config(text: string): string {
  const name = `c${++files}.yaml`;
  writeFileSync(at(name), text);
  return name;
}

const check = (text: string, env?: Readonly<Record<string, string>>): Promise<Outcome> =>
  hauberk(['check-config', config(text)], { cwd: dir, ...(env !== undefined && { env }) });

beforeAll(async () => {
  const trust = await makeTrustFolder({ dir: at('keys') });
  await trust.issue('web');
  await (await makeTrustFolder({ dir: at('foreign') })).issue('web');
});

describe('hauberk check-config', () => {
  it('a good configuration: what is in it, and whose it is', async () => {
    const { code, stdout, stderr } = await check(
      `${LEAST}ingress: { apps: [{ service: web.shop, address: "127.0.0.1:50051" }] }\n`,
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^c\d+\.yaml: ok; 0 routes, 1 app, 0 rules, policy enforce\n/);
    expect(stdout).toMatch(/\nidentity: spiffe:\/\/shop\.example\/ns\/default\/sa\/web, until \d{4}-\S+Z\n$/);
  });

  it('-c names the file as well', async () => {
    expect(await hauberk(['check-config', '-c', config(LEAST)], { cwd: dir })).toMatchObject({ code: 0 });
  });

  it('--no-identity does not look at the identity files', async () => {
    const file = config(LEAST.replaceAll('keys/', 'not-here/'));
    expect(await hauberk(['check-config', '--no-identity', file], { cwd: dir })).toMatchObject({
      code: 0,
      stdout: `${file}: ok; 0 routes, 0 apps, 0 rules, policy enforce\n`,
    });
  });

  it.each([
    ['a missing file', undefined, 'missing.yaml: there is no such file: check the path'],
    ['bad YAML', 'trustDomain: [shop', /c\d+\.yaml:1:\d+: /],
    [
      'an unknown key',
      `${LEAST}session:\n  idel: 1h\n`,
      /c\d+\.yaml:4:3: session\.idel: unknown key: did you mean idle\?/,
    ],
    ['a missing key', 'trustDomain: shop.example\n', /c\d+\.yaml:1:1: identity is missing: /],
    ['a value of the wrong kind', `${LEAST}session: { idle: 60 }\n`, /c\d+\.yaml:3:18: session\.idle: .*1h/],
    [
      'a route without a peer',
      `${LEAST}egress: { routes: [{ service: a, endpoints: "a:1" }] }\n`,
      /c\d+\.yaml:3:20: egress\.routes\[0\]\.peer is missing: .*spiffe:/,
    ],
  ])('%s is told with its place and the cure, exit code 3', async (_what, text, complaint) => {
    const { code, stdout, stderr } =
      text === undefined ? await hauberk(['check-config', 'missing.yaml'], { cwd: dir }) : await check(text);
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    expect(stderr).toMatch(complaint);
    expect(stderr).not.toMatch(/^ +at /m);
  });

  it('all mistakes are told at once, each on a line of its own that begins with its place', async () => {
    const { stderr } = await check(`${LEAST}session: { idel: 1h, absolute: 3 }\nlogs: {}\n`);
    const lines = stderr.trimEnd().split('\n');
    expect(lines).toHaveLength(3);
    for (const line of lines) expect(line).toMatch(/^hauberk: c\d+\.yaml:[34]:\d+: /);
  });

  it('the text of HAUBERK_CONFIG is checked where no file is named; with neither or both it is refused', async () => {
    const inline = await hauberk(['check-config'], { cwd: dir, env: { HAUBERK_CONFIG: LEAST } });
    expect(inline).toMatchObject({ code: 0, stdout: expect.stringMatching(/^HAUBERK_CONFIG: ok; /) });
    for (const command of ['run', 'check-config']) {
      const wrong = await hauberk([command], { cwd: dir, env: { HAUBERK_CONFIG: `${LEAST}logs: {}\n` } });
      expect(wrong).toMatchObject({
        code: 3,
        stderr: expect.stringMatching(/^hauberk: HAUBERK_CONFIG:3:1: logs: /),
      });
      const both = await hauberk([command, '-c', config(LEAST)], {
        cwd: dir,
        env: { HAUBERK_CONFIG: LEAST },
      });
      expect(both).toMatchObject({ code: 3, stderr: expect.stringContaining('unset it, or name no file') });
      const neither = await hauberk([command], { cwd: dir });
      expect(neither).toMatchObject({
        code: 2,
        stderr: expect.stringContaining('into the variable HAUBERK_CONFIG'),
      });
    }
  });

  it('HAUBERK_* variables count, and are named when they are wrong', async () => {
    const overridden = await check(LEAST, { HAUBERK_POLICY: 'open' });
    expect(overridden.stdout).toContain('policy open');
    const wrong = await check(LEAST, { HAUBERK_SESSION_IDLE: 'soon' });
    expect(wrong.code).toBe(3);
    expect(wrong.stderr).toMatch(/session\.idle: .+ \(from HAUBERK_SESSION_IDLE\)/);
    const misspelt = await check(LEAST, { HAUBERK_SESION_IDLE: '1h' });
    expect(misspelt.code).toBe(3);
    expect(misspelt.stderr).toMatch(/did you mean HAUBERK_SESSION_IDLE\? \(from HAUBERK_SESION_IDLE\)/);
  });
});

describe('the identity files', () => {
  /** A clock of long ago, when certificates were issued that have expired since. */
  const longAgo: Clock = Object.create(systemClock, { now: { value: () => Date.now() - 10 * 86_400_000 } });

  const told = async (identity: string): Promise<string> => {
    const { code, stdout, stderr } = await check(`trustDomain: shop.example\nidentity: ${identity}\n`);
    expect({ code, stdout: stdout.split('\n').length }).toEqual({ code: 4, stdout: 2 });
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
    return stderr;
  };

  it('a key that others can read is refused, with the command that cures it', async () => {
    copyFileSync(at('keys', 'web.key'), at('keys', 'open.key'));
    chmodSync(at('keys', 'open.key'), 0o644);
    expect(await told(IDENTITY.replace('web.key', 'open.key'))).toMatch(
      /keys\/open\.key: .*chmod 600 \S+keys\/open\.key\n$/,
    );
  });

  it('an expired SVID is refused, with the date and the command that renews it', async () => {
    const old = await makeTrustFolder({ dir: at('old'), clock: longAgo });
    await old.issue('web');
    expect(await told(IDENTITY.replaceAll('keys/', 'old/'))).toMatch(
      /old\/web\.pem: .*expired.*\d{4}-.*hauberk issue NAME/,
    );
  });

  it('an SVID of another CA than the bundle’s is refused', async () => {
    expect(await told(IDENTITY.replace('keys/bundle', 'foreign/bundle'))).toMatch(
      /keys\/web\.pem: .*use the bundle of the CA that issued this SVID/,
    );
  });

  it('a key that belongs to another certificate is refused', async () => {
    expect(await told(IDENTITY.replace('keys/web.key', 'foreign/web.key'))).toMatch(
      /foreign\/web\.key: .*use the key that was made with \S+keys\/web\.pem/,
    );
  });

  it('a missing file is named, with the command that makes it', async () => {
    expect(await told(IDENTITY.replace('web.pem', 'nobody.pem'))).toMatch(
      /keys\/nobody\.pem: .*hauberk issue NAME/,
    );
  });

  it('a bundle of another trust domain is refused', async () => {
    const text = `trustDomain: other.example\nidentity: ${IDENTITY}\n`;
    expect((await check(text)).stderr).toMatch(/keys\/bundle\.pem: .*use the bundle of other\.example/);
  });

  it('a file that is not PEM is refused', async () => {
    writeFileSync(at('keys', 'junk.pem'), 'junk', { mode: 0o600 });
    expect(await told(IDENTITY.replace('web.pem', 'junk.pem'))).toMatch(/keys\/junk\.pem: /);
  });
});
