import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import packageJson from '../../package.json' with { type: 'json' };
import { hauberk, MAIN } from '../harness/cli.ts';

const dir = mkdtempSync(join(tmpdir(), 'hauberk-cli-'));
afterAll(() => rmSync(dir, { recursive: true }));

describe('the command line', () => {
  it('without arguments it shows its commands, and exits with 2', async () => {
    const { code, stdout, stderr } = await hauberk([]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    for (const command of ['init', 'issue', 'run', 'check-config', 'demo'])
      expect(stderr).toContain(`  ${command} `);
  });

  it('--help and help COMMAND go to standard output, with examples', async () => {
    const whole = await hauberk(['--help']);
    expect(whole).toMatchObject({ code: 0, stderr: '' });
    expect(whole.stdout).toContain('Examples:\n  hauberk demo\n');
    const one = await hauberk(['help', 'issue']);
    expect(one).toMatchObject({ code: 0, stderr: '' });
    expect(one.stdout).toContain('Example:\n  hauberk issue shop/web --ttl 12h\n');
  });

  it('--version is that of the package, and nothing else', async () => {
    expect(await hauberk(['--version'])).toEqual({
      code: 0,
      signal: null,
      stdout: `${packageJson.version}\n`,
      stderr: '',
    });
  });

  it.each([
    ['an unknown command', ['rnu'], "error: unknown command 'rnu'\n(Did you mean run?)"],
    [
      'an unknown option',
      ['run', '-c', 'x', '--confg', 'y'],
      "error: unknown option '--confg'\n(Did you mean --config?)",
    ],
    [
      'nothing to run',
      ['run'],
      'error: name the configuration with -c FILE, or put its text into the variable',
    ],
    ['a missing value', ['run', '-c'], "error: option '-c, --config <file>' argument missing"],
    ['a missing argument', ['issue'], "error: missing required argument 'name'"],
    ['one argument too many', ['issue', 'a', 'b'], 'error: too many arguments'],
    [
      'a value that is not one of the choices',
      ['issue', 'web', '--key-type', 'rsa'],
      'Allowed choices are p256, ed25519.',
    ],
    [
      'a duration without a unit',
      ['init', '--trust-domain', 'a.example', '--ttl', '5'],
      "error: option '--ttl <duration>' argument '5' is invalid. Expected a number and a unit: 30m, 12h, 365d.",
    ],
    ['nothing to check', ['check-config'], 'error: name the configuration to check, as in'],
  ])(
    '%s is a wrong command line: one complaint, help is named, exit code 2',
    async (_what, args, complaint) => {
      const { code, stdout, stderr } = await hauberk(args, { cwd: dir });
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
      expect(stderr).toContain(complaint);
      expect(stderr).toMatch(/\(--help shows what there is\)\n$/);
    },
  );

  it.each([
    ['help', ['--help']],
    ['a complaint', ['run', '-c', 'missing.yaml']],
  ])('a reader that has gone does not make %s crash', async (_what, args) => {
    const child = spawn(process.execPath, [MAIN, ...args], { cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.destroy();
    child.stderr.destroy();
    const [code, signal] = await once(child, 'exit');
    expect({ code, signal }).toEqual({ code: args[0] === 'run' ? 3 : 0, signal: null });
  });
});
