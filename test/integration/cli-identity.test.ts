import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hauberk } from '../harness/cli.ts';

const dir = mkdtempSync(join(tmpdir(), 'hauberk-cli-'));
const at = (...names: string[]): string => join(dir, ...names);
const mode = (path: string): number => statSync(path).mode & 0o777;
afterAll(() => rmSync(dir, { recursive: true }));

const run = (...args: string[]) => hauberk(args, { cwd: dir });

beforeAll(async () => {
  expect(await run('init', '--trust-domain', 'shop.example')).toMatchObject({ code: 0 });
});

describe('hauberk init', () => {
  it('makes a CA and a bundle that are for their owner only, and says what each is', async () => {
    const { code, stdout, stderr } = await run('init', '--trust-domain', 'other.example', '--dir', 'other');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^trust domain other\.example, until \d{4}-/);
    expect(stdout).toContain('other/bundle.pem  every sidecar needs it');
    expect(stdout).toContain('other/ca.key  whoever has it can be any service');
    expect(stdout).toContain('next: hauberk issue NAME --dir other\n');
    expect([mode(at('other')), mode(at('other', 'ca.key')), mode(at('other', 'bundle.pem'))]).toEqual([
      0o700, 0o600, 0o600,
    ]);
  });

  it('--ttl is the lifetime of the CA', async () => {
    const { stdout } = await run('init', '--trust-domain', 'brief.example', '--dir', 'brief', '--ttl', '2d');
    const until = Date.parse(/until (\S+)/.exec(stdout)?.[1] as string);
    expect(Math.abs(until - Date.now() - 2 * 86_400_000)).toBeLessThan(600_000);
  });

  it('never overwrites a trust domain', async () => {
    const before = readFileSync(at('keys', 'ca.key'), 'utf8');
    const { code, stdout, stderr } = await run('init', '--trust-domain', 'shop.example');
    expect({ code, stdout }).toEqual({ code: 4, stdout: '' });
    expect(stderr).toMatch(/^hauberk: keys\/ca\.key: .+; .+\n$/);
    expect(readFileSync(at('keys', 'ca.key'), 'utf8')).toBe(before);
  });

  it('refuses what is no trust domain', async () => {
    const { code, stderr } = await run('init', '--trust-domain', 'Shop Example', '--dir', 'none');
    expect(code).toBe(4);
    expect(stderr).toMatch(/^hauberk: .*"Shop Example".*\n$/);
  });

  it('a folder that cannot be made is named', async () => {
    writeFileSync(at('file'), '');
    const { code, stderr } = await run('init', '--trust-domain', 'a.example', '--dir', 'file/keys');
    expect(code).toBe(4);
    expect(stderr).toMatch(/^hauberk: .*file\/keys.*\n$/);
  });
});

describe('hauberk issue', () => {
  it('makes an SVID and a key that only their owner reads, and the lines for a configuration', async () => {
    const { code, stdout, stderr } = await run('issue', 'web');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^spiffe:\/\/shop\.example\/ns\/default\/sa\/web, until \d{4}-/);
    expect(stdout).toContain('identity: { svid: keys/web.pem, key: keys/web.key, bundle: keys/bundle.pem }');
    expect(mode(at('keys', 'web.key'))).toBe(0o600);
  });

  it('takes a namespace, a key type and a lifetime', async () => {
    const { code, stdout } = await run('issue', 'shop/cart', '--key-type', 'ed25519', '--ttl', '1h');
    expect(code).toBe(0);
    expect(stdout).toContain('spiffe://shop.example/ns/shop/sa/cart');
    const until = Date.parse(/until (\S+)/.exec(stdout)?.[1] as string);
    expect(Math.abs(until - Date.now() - 3_600_000)).toBeLessThan(600_000);
  });

  it('a name issued again gets a new key', async () => {
    await run('issue', 'again');
    const before = readFileSync(at('keys', 'again.key'), 'utf8');
    expect(await run('issue', 'again')).toMatchObject({ code: 0 });
    expect(readFileSync(at('keys', 'again.key'), 'utf8')).not.toBe(before);
  });

  it.each([
    ['without a trust domain', ['issue', 'web', '--dir', 'nowhere'], /nowhere\/ca\.key: .*hauberk init/],
    ['with a name of another trust domain', ['issue', 'spiffe://evil.example/web'], /evil\.example/],
    ['with a name that would leave the folder', ['issue', '../web'], /"\.\.\/web"/],
    ['for no time at all', ['issue', 'web', '--ttl', '0s'], /--ttl 24h/],
  ])('%s it says why not, in a line', async (_what, args, complaint) => {
    const { code, stdout, stderr } = await run(...args);
    expect({ code, stdout }).toEqual({ code: 4, stdout: '' });
    expect(stderr).toMatch(complaint);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  it('a CA key that others can read is refused, with the cure', async () => {
    await run('init', '--trust-domain', 'open.example', '--dir', 'open');
    chmodSync(at('open', 'ca.key'), 0o644);
    const { code, stderr } = await run('issue', 'web', '--dir', 'open');
    expect(code).toBe(4);
    expect(stderr).toMatch(/^hauberk: open\/ca\.key: .*chmod 600 open\/ca\.key\n$/);
  });
});
