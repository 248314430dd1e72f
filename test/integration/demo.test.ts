import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, describe, expect, it } from 'vitest';
import { hauberk, MAIN } from '../harness/cli.ts';
import { TestClient } from '../harness/greeter-client.ts';
import { SayHello } from '../harness/greeter-methods.ts';
import { atEnd } from '../harness/sidecars.ts';

/** Where the demo makes its folder. */
const tmp = mkdtempSync(join(tmpdir(), 'hauberk-demo-test-'));
afterAll(() => rmSync(tmp, { recursive: true }));
const ENV = { TMPDIR: tmp };

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

const sidecarsIn = (text: string): number[] =>
  [...text.matchAll(/process (\d+), listens/g)].map(([, pid]) => Number(pid));

/** Starts the demo; resolves when a line matches, with everything until then. */
async function demoUntil(args: readonly string[], pattern: RegExp) {
  const child = spawn(process.execPath, [MAIN, 'demo', ...args], {
    env: { PATH: process.env.PATH, ...ENV },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  atEnd(() => {
    child.kill();
  });
  let text = '';
  await new Promise<void>((resolve) => {
    createInterface(child.stdout).on('line', (line) => {
      text += `${line}\n`;
      if (pattern.test(line)) resolve();
    });
  });
  return { child, text };
}

describe('hauberk demo', () => {
  it('shows what it claims, exits with 0 and leaves nothing behind', async () => {
    // A variable of the user's shell changes nothing of what it shows.
    const { code, stdout, stderr } = await hauberk(['demo'], { env: { ...ENV, HAUBERK_POLICY: 'open' } });
    expect({ code, stderr }, stdout).toEqual({ code: 0, stderr: '' });

    for (const kind of ['unary', 'server-streaming', 'client-streaming', 'bidirectional'])
      expect(stdout).toMatch(new RegExp(`^ {3}${kind} +[0-9.]+ ms {3}\\S`, 'm'));
    expect(stdout).toMatch(/unary calls more, one at a time: median \d+\.\d\d ms/);

    const [web, greeter] = ['web', 'greeter'].map(
      (name) => new RegExp(`^ {3}${name} +([0-9a-f-]{36}) {2}with spiffe:`, 'm').exec(stdout)?.[1],
    );
    expect(web).toMatch(/^[0-9a-f-]{36}$/);
    expect(greeter).toBe(web);

    expect(stdout).toContain('neither message, method nor identity is in it, in either direction');
    expect(stdout).toMatch(/RESOURCE_EXHAUSTED: over the limit of 200 requests/);
    expect(stdout).toMatch(/hauberk-error: limited, grpc-retry-pushback-ms: \d+/);
    expect(stdout).toMatch(/its call: UNAVAILABLE: /);
    expect(stdout).toMatch(/greeter recorded handshake\.failed, untrusted-peer/);
    expect(stdout).toMatch(/^ {3}greeter +sidecar\.started, .*call\.completed x\d+.*call\.limited/m);
    expect(stdout.trimEnd().endsWith('Everything went as it should.')).toBe(true);
    expect(stdout).not.toMatch(/\u001b|undefined|\[object/);

    const pids = sidecarsIn(stdout);
    expect(pids).toHaveLength(2);
    expect(pids.filter(lives)).toEqual([]);
    expect(readdirSync(tmp)).toEqual([]);
  });

  it('--keep goes on serving at the addresses it prints, until SIGINT', async () => {
    const { child, text } = await demoUntil(['--keep'], /Ctrl-C ends it/);
    const egress = /plaintext, at (\S+) with :authority greeter\.demo/.exec(text)?.[1] as string;
    const client = new TestClient(egress, { authority: 'greeter.demo' });
    const { message } = await client.unary(SayHello, { name: 'you' });
    expect(message?.message).toBe('Hello, you!');
    client.close();
    for (const [, url] of text.matchAll(/curl (http:\S+)/g)) {
      expect((await fetch(url as string)).status).toBe(200);
    }
    const pids = sidecarsIn(text);
    expect(pids.filter(lives)).toEqual(pids);

    child.kill('SIGINT');
    child.kill('SIGINT'); // as a terminal and `npm run demo` do
    expect(await once(child, 'exit')).toEqual([0, null]);
    expect(pids.filter(lives)).toEqual([]);
    expect(readdirSync(tmp)).toEqual([]);
  });

  it('a signal in the middle of it leaves nothing behind either', async () => {
    const { child, text } = await demoUntil([], /server-streaming/);
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).toEqual([143, null]);
    expect(sidecarsIn(text).filter(lives)).toEqual([]);
    expect(readdirSync(tmp)).toEqual([]);
  });

  it('a reader that goes away does not make it crash or leave anything behind', async () => {
    const { child } = await demoUntil([], /What runs where/);
    child.stdout.destroy();
    expect(await once(child, 'exit')).toEqual([0, null]);
    expect(readdirSync(tmp)).toEqual([]);
  });
});
