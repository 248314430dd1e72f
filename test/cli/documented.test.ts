import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { AuditError } from '../../src/audit/errors.ts';
import { CaptureError } from '../../src/capture/errors.ts';
import { complaintOf, Exit, exitCodeOf } from '../../src/cli/exit.ts';
import { leaves, renderCommands } from '../../src/cli/reference.ts';
import { ConfigError } from '../../src/config/errors.ts';
import { IdentityError } from '../../src/identity/errors.ts';
import { LimitError } from '../../src/limit/errors.ts';
import { ListenError } from '../../src/relay/listener.ts';
import { BlockError } from '../../src/session/errors.ts';

const PAGE = readFileSync(new URL('../../docs/cli.md', import.meta.url), 'utf8');

const COMMANDS = leaves();

describe('docs/cli.md', () => {
  it('has the tables that the commands generate', () => {
    expect(PAGE === renderCommands(PAGE), 'run `node scripts/generate-docs.mjs`').toBe(true);
  });

  it('lists every exit code with its name, and no other', () => {
    const rows = [...PAGE.matchAll(/^\| (\d+) \| `([A-Z_]+)` \| .+ \|$/gm)];
    const documented = rows.map(([, code, name]) => [name, Number(code)]);
    expect(documented).toEqual(Object.entries(Exit));
  });

  it('has a section for every command, with every option, and no other', () => {
    const sections = new Map(
      PAGE.split(/^## /m)
        .slice(1)
        .map((section) => [/^`hauberk ([^`]+)`/.exec(section)?.[1], section] as const),
    );
    sections.delete(undefined);
    expect([...sections.keys()].sort()).toEqual(COMMANDS.map(([name]) => name).sort());
    for (const [name, command] of COMMANDS) {
      const text = sections.get(name) as string;
      const documented = new Set([...text.matchAll(/^\| .*?`(--[a-z0-9-]+)/gm)].map((row) => row[1]));
      expect(documented, name).toEqual(new Set(command.options.map((option) => option.long)));
    }
  });

  it('names the defaults that the command line has', () => {
    for (const [, command] of COMMANDS) {
      for (const { long, defaultValue, negate } of command.options) {
        if (typeof defaultValue !== 'string' || negate) continue;
        expect(PAGE).toMatch(new RegExp(`^\\| .*\`${long}.*\\| \`${defaultValue}\` \\|`, 'm'));
      }
    }
  });
});

describe('help', () => {
  it.each(COMMANDS)('of %s has an example that begins with the command', (name, command) => {
    let text = '';
    command.configureOutput({ writeOut: (more) => (text += more) });
    command.outputHelp();
    expect(text).toMatch(new RegExp(`Examples?:\\n  hauberk ${name}`));
  });
});

describe('exit codes', () => {
  it.each([
    [new ConfigError('sidecar.yaml', [{ code: 'file-unreadable', message: 'it is a folder' }]), Exit.CONFIG],
    [new IdentityError('expired', 'it has expired'), Exit.IDENTITY],
    [new ListenError('taken'), Exit.LISTEN],
    [new AuditError('file-unusable', 'no such folder'), Exit.MONITORING],
    [new LimitError('redis-client-missing', 'no ioredis'), Exit.MONITORING],
    [new BlockError('file-damaged', 'line 3'), Exit.STATE],
    [new CaptureError('no-iptables', 'there is none'), Exit.CAPTURE],
    [new CaptureError('bad-input', 'port 0'), Exit.USAGE],
    [new Error('anything else'), Exit.FAILED],
    ['not even an error', Exit.FAILED],
  ])('%s ends with %i', (error, code) => {
    expect(exitCodeOf(error)).toBe(code);
  });

  it('a foreseen error is told in its own words, without a stack', () => {
    expect(complaintOf(new IdentityError('expired', 'it has expired'))).toBe('hauberk: it has expired');
    const system = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    expect(complaintOf(system)).toBe('hauberk: ENOSPC: no space left on device, write');
    expect(complaintOf('thrown text')).toBe('hauberk: thrown text');
  });

  it('an error that nobody foresaw comes with the stack that its report needs', () => {
    expect(complaintOf(new TypeError('x is not a function'))).toMatch(
      /^hauberk: this is a bug of Hauberk.*\nTypeError: x is not a function\n {4}at /,
    );
  });
});
