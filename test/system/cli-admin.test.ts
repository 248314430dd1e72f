/** The commands that talk to a running sidecar, run as a user runs them. */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, it } from 'vitest';
import { Exit } from '../../src/cli/exit.ts';
import { hauberk, spawnHauberk } from '../harness/cli.ts';
import { SayHello } from '../harness/greeter-methods.ts';
import { atEnd, startPair, World } from '../harness/sidecars.ts';

const world = await World.make();
const address = `unix:${join(world.dir, 'admin.sock')}`;
const token = join(world.dir, 'admin.token');
await writeFile(token, 'x'.repeat(40), { mode: 0o600 });
const { web, greeter, client } = await startPair({
  world,
  greeter: { admin: { listen: address } },
  web: { admin: { listen: '127.0.0.1:0', token } },
});
const { message } = await client.unary(SayHello, { name: 'Ada' });
const id = message?.session as string;
const at = ['--address', address];

const json = async (...args: string[]): Promise<Record<string, unknown>> => {
  const { code, stdout, stderr } = await hauberk([...args, '-o', 'json']);
  expect([code, stderr]).toEqual([Exit.OK, '']);
  return JSON.parse(stdout);
};

it('status and sessions are shown as tables and as JSON', async () => {
  const [status, list, show, statusJson, listJson, showJson] = await Promise.all([
    hauberk(['status', ...at]),
    hauberk(['sessions', 'list', ...at]),
    hauberk(['sessions', 'show', id, '-c', greeter.configFile]),
    json('status', ...at),
    json('sessions', 'list', '--peer', world.spiffeId('w*'), '--older-than', '1ms', ...at),
    json('sessions', 'show', id.toUpperCase(), ...at),
  ]);
  expect(status.stdout).toMatch(
    /^sidecar +spiffe:\/\/shop\.example\/ns\/default\/sa\/greeter\nstate +ready\n/,
  );
  expect(list.stdout).toMatch(/^ID +PEER +DIRECTION +STATE/);
  expect(list.stdout).toMatch(new RegExp(`^${id} +${world.spiffeId('web')} +inbound`, 'm'));
  expect(show.stdout).toMatch(new RegExp(`^id +${id}\npeer +${world.spiffeId('web')}\n`));
  expect(show.stdout).toMatch(/^connections +1\nconnection 127\.0\.0\.1:\d+ +open since 20.*Z, for \d+s$/m);
  expect([status.code, list.code, show.code]).toEqual([0, 0, 0]);
  expect(statusJson).toMatchObject({
    pid: greeter.pid,
    ready: true,
    startedAt: expect.stringMatching(/^20.*Z$/),
  });
  expect(listJson).toMatchObject({ total: 1, sessions: [{ id, direction: 'inbound' }] });
  expect(showJson).toMatchObject({ id, createdAt: expect.stringMatching(/^20.*Z$/) });
});

it('complaints say what to do, with an exit code of their own', async () => {
  const stranger = createServer().listen(0, '127.0.0.1');
  await once(stranger, 'listening');
  atEnd(() => void stranger.close());
  const { port } = stranger.address() as AddressInfo;
  const webAdmin = web.ready.admin[0] as string;
  const wrong = join(world.dir, 'wrong.token');
  await writeFile(wrong, 'y'.repeat(40), { mode: 0o600 });
  const none = join(world.dir, 'none.sock');
  const nobody = join(world.dir, 'none.yaml');
  await writeFile(nobody, `trustDomain: shop.example\nidentity: { svid: a, key: b, bundle: c }\n`);
  const complaints: Array<[args: string[], code: number, says: RegExp]> = [
    [
      ['status', '--address', `unix:${none}`],
      Exit.ADMIN,
      /there is no socket unix:.*none\.sock: does the sidecar run/,
    ],
    [['status', '--address', '127.0.0.1:1'], Exit.ADMIN, /nobody listens at 127\.0\.0\.1:1/],
    [['status', '--address', `unix:${token}`], Exit.ADMIN, /no socket|nobody listens/],
    [['status', '--address', '192.0.2.1:15000'], Exit.ADMIN, /not on this machine/],
    [['status', '--address', 'nonsense'], Exit.ADMIN, /--address "nonsense" has no port/],
    [['status', '--address', webAdmin], Exit.ADMIN, /wants its token: --token FILE/],
    [['status', '--address', webAdmin, '--token', wrong], Exit.ADMIN, /has another token/],
    [['status', '--address', webAdmin, '--token', none], Exit.IDENTITY, /none\.sock: .*head -c 32/],
    [['status', '--address', `127.0.0.1:${port}`, '--timeout', '1s'], Exit.ADMIN, /admin listener/],
    [['status', '-c', nobody], Exit.ADMIN, /has no admin\.listen/],
    [
      ['sessions', 'show', 'x', ...at],
      Exit.ADMIN,
      /a session is named by its whole UUID, as `hauberk sessions list`/,
    ],
    [['sessions', 'list', '--peer', '*', ...at], Exit.ADMIN, /filter\.peer matches no SPIFFE ID/],
    [['sessions', 'revoke', '--reason', 'none', ...at], Exit.ADMIN, /one of ids, filter and all/],
    [['sessions', 'revoke', id, ...at], Exit.USAGE, /--reason/],
    [['sessions', 'list', '--limit', '0', ...at], Exit.USAGE, /whole number from 1 on/],
    [['events', '--type', 'nothing.*', ...at], Exit.ADMIN, /there are .*session\.\*/],
  ];
  const outcomes = await Promise.all(complaints.map(([args]) => hauberk(args)));
  for (const [i, [args, code, says]] of complaints.entries()) {
    expect(outcomes[i], args.join(' ')).toMatchObject({
      code,
      stdout: '',
      stderr: expect.stringMatching(says),
    });
    if (code !== Exit.USAGE) expect(outcomes[i]?.stderr).toMatch(/^hauberk: .*\n$/);
  }
});

it('a token file opens the listener on loopback', async () => {
  const status = await json('status', '--address', web.ready.admin[0] as string, '--token', token);
  expect(status.spiffeId).toBe(world.spiffeId('web'));
});

it('watch and events show what is done by the other commands', async () => {
  const watch = spawnHauberk(['sessions', 'watch', '--count', '1', ...at]);
  const events = spawnHauberk(['events', '--type', 'admin.command', '--count', '2', '-o', 'json', ...at]);
  const ended = [watch, events].map((child) => once(child, 'close'));
  atEnd(() => void [watch, events].map((child) => child.kill('SIGKILL')));
  let watched = '';
  watch.stdout.setEncoding('utf8').on('data', (text: string) => {
    watched += text;
  });
  const lines: string[] = [];
  createInterface(events.stdout).on('line', (line) => lines.push(line));
  await Promise.all([watch, events].map((child) => once(child.stderr, 'data'))); // `watching`
  const trace = await hauberk(['sessions', 'trace', id, 'on', ...at]);
  expect(trace).toMatchObject({ code: 0, stdout: expect.stringContaining(`frames of ${id} are logged: on`) });
  const unknown = '00000000-0000-8000-8000-000000000000';
  const revoke = await hauberk(['sessions', 'revoke', id, unknown, '--reason', 'lost \u0007', ...at]);
  expect(revoke.code).toBe(Exit.ADMIN); // a reason has no control characters
  const good = await hauberk(['sessions', 'revoke', id, unknown, '--reason', 'lost', ...at]);
  expect(good.code).toBe(0);
  expect(good.stdout).toMatch(
    new RegExp(`^${id} +${world.spiffeId('web')} +\\d+ +\\d+ of 127.* us +yes$`, 'm'),
  );
  expect(good.stdout).toMatch(/^1 session cut in \d+ us$/m);
  expect(good.stderr).toContain(`there is no session ${unknown}`);
  expect((await Promise.all(ended)).map(([code]) => code)).toEqual([0, 0]);
  expect(watched).toMatch(new RegExp(`^20\\S+Z session\\.revoked sessionId=${id} peer=`));
  expect(lines.map((line) => JSON.parse(line).method)).toEqual(['SetFrameLogging', 'RevokeSessions']);
});

it('a watch ends when nobody reads it any more', async () => {
  const watch = spawnHauberk(['events', '--type', 'call.*', ...at]);
  const closed = once(watch, 'close');
  atEnd(() => void watch.kill('SIGKILL'));
  await once(watch.stderr, 'data'); // `watching`
  watch.stdout.destroy();
  const ended = { now: false };
  void closed.then(() => {
    ended.now = true;
  });
  for (let i = 0; i < 500 && !ended.now; i++) await client.unary(SayHello, { name: 'Ada' });
  expect((await closed)[0]).toBe(0);
});

it('Ctrl-C ends a watch as it ends any program', async () => {
  const watch = spawnHauberk(['sessions', 'watch', ...at]);
  const closed = once(watch, 'close');
  await once(watch.stderr, 'data');
  watch.kill('SIGINT');
  expect(await closed).toEqual([null, 'SIGINT']);
});

it('a peer is blocked, listed and allowed', async () => {
  const peer = world.spiffeId('web');
  const block = await hauberk(['peers', 'block', peer, '--reason', 'key leaked', ...at]);
  expect(block).toMatchObject({ code: 0, stdout: expect.stringContaining(`blocked: ${peer}`) });
  expect(block.stderr).toContain('only until the sidecar ends: revocation.file is not configured');
  expect((await hauberk(['peers', 'blocked', ...at])).stdout).toMatch(
    new RegExp(`^${peer} +20\\S+ +key leaked$`, 'm'),
  );
  expect((await hauberk(['peers', 'allow', peer, ...at])).stdout).toContain('allowed again');
  expect(await json('peers', 'allow', peer, ...at)).toEqual({ was: null });
});

it('drain begins the end', async () => {
  expect((await hauberk(['drain', '--deadline', '5s', ...at])).stdout).toMatch(
    /^draining; 0 calls are under way/,
  );
  expect(await json('drain', ...at)).toEqual({ wasDraining: true, callsOpen: 0 });
  expect((await json('status', ...at)).draining).toBe(true);
});
