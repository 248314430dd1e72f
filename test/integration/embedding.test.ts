import { spawn } from 'node:child_process';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { AuditFile } from '../harness/auditfile.ts';
import { endOf, type Outcome } from '../harness/cli.ts';
import { atEnd, World } from '../harness/sidecars.ts';

/*
 * Programs that embed the library: JavaScript of their own, in a folder that has the package among its node_modules,
 * in processes of their own. What keeps such a process alive, or does not, shows in its exit code: Node's for a program
 * that still waits for something when nothing is left to happen is 13.
 */

let world: World;
beforeAll(async () => {
  world = await World.make();
  await mkdir(join(world.dir, 'node_modules'));
  await symlink(fileURLToPath(new URL('../../', import.meta.url)), join(world.dir, 'node_modules/hauberk'));
});

let programs = 0;

/** Runs a program that imports the package; `said` is what it has printed, line by line. */
async function run(source: string, args: readonly string[] = []): Promise<Outcome & { said: string[] }> {
  const file = join(world.dir, `program-${++programs}.mjs`);
  await writeFile(file, source);
  const env = { PATH: process.env.PATH };
  const child = spawn(process.execPath, [file, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env });
  atEnd(() => void child.kill('SIGKILL'));
  const outcome = await endOf(child);
  return { ...outcome, said: outcome.stdout.trimEnd().split('\n') };
}

const SESSIONS = `
  import { SessionManager } from 'hauberk';
  const sessions = new SessionManager(60_000);
  const key = Buffer.alloc(32, 7);
`;

describe.concurrent('a program with sessions of its own', () => {
  it('ends by itself when it has nothing more to do, though it disposes of nothing', async () => {
    const { code, said, stderr } = await run(`${SESSIONS}
      const { id } = sessions.createSession('orders.shop', key);
      console.log(await sessions.executeInSession(id, async (session) => session.sessionKey.bytes.length));
      // A call of which nobody will ever tell the end keeps it no more than the timer does.
      void sessions.executeInSession(id, () => new Promise(() => {}));
      process.on('exit', () => console.log(sessions.size, sessions.state));
    `);
    expect([code, stderr, said]).toEqual([0, '', ['32', '1 active']]);
  });

  it('is not over before its manager is, when it disposes of that', async () => {
    // So many that their end takes more than one turn.
    const { code, said, stderr } = await run(`
      import { SessionManager } from 'hauberk';
      const sessions = new SessionManager({ max: 20_000, maxPerPeer: 20_000 });
      const made = Array.from({ length: 20_000 }, () => sessions.createSession('orders.shop', Buffer.alloc(32, 7)));
      const end = sessions[Symbol.asyncDispose]();
      console.log(sessions.state, sessions.size > 0);
      await end;
      console.log(sessions.state, sessions.size, JSON.stringify(sessions.getStats().closed));
      console.log(made.every(({ state, sessionKey }) => state === 'disposed' && sessionKey.wiped));
    `);
    expect([code, stderr]).toEqual([0, '']);
    expect(said).toEqual(['shutdown true', 'disposed 0 {"shutdown":20000}', 'true']);
  });

  it('waits for a call under way no longer than it said, writes down what it must, then wipes', async () => {
    const { code, said, stderr } = await run(`${SESSIONS}
      const session = sessions.createSession('orders.shop', key);
      void sessions.executeInSession(session.id, () => new Promise(() => {}));
      sessions.on('disposed', ({ reason, counters }) => console.log('ended', reason, counters.calls));
      await sessions.shutdown(200, async () => console.log('written', session.sessionKey.wiped));
      console.log(sessions.state, session.sessionKey.wiped);
    `);
    expect([code, stderr]).toEqual([0, '']);
    expect(said).toEqual(['ended shutdown 1', 'written false', 'disposed true']);
  });

  it('ends with what a listener of its own throws, for which it has no other ear', async () => {
    const { code, stderr } = await run(`${SESSIONS}
      sessions.on('created', () => { throw new RangeError('mine'); });
      sessions.createSession('orders.shop', key);
    `);
    expect(code).toBe(1);
    expect(stderr).toContain('RangeError: mine');
  });
});

it('a program with a sidecar drains it, stops it, and ends by itself', async () => {
  // Without probes nothing but the sidecar's own end keeps the process alive.
  const files = await world.configure('embedded', { probes: { http: 'off', grpc: 'off' } });
  const { code, said, stderr } = await run(
    `
      import { loadConfig, Sidecar } from 'hauberk';
      const configFile = process.argv[2];
      const sidecar = await Sidecar.start({
        config: await loadConfig(configFile),
        configFile,
        configSha256: '',
        version: '1.0.0',
        stdout: process.stdout,
      });
      console.log(sidecar.bound.ingress.length, sidecar.sessions.state);
      await sidecar.drain('the program ends');
      console.log('drained');
      console.log(await sidecar.stop('the program ends'), sidecar.sessions.state);
    `,
    [files.config],
  );
  expect([code, stderr]).toEqual([0, '']);
  expect(said).toEqual(['1 inactive', 'drained', '0 disposed']);
  const types = (await new AuditFile(files.audit, 'the audit').all()).map(({ type }) => type);
  expect(types.slice(-2)).toEqual(['sidecar.draining', 'sidecar.stopped']);
});
