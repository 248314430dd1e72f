import { chmod, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AuditEvent } from '../../src/audit/event.ts';
import { initTrustDomain, issueSvid } from '../../src/identity/authority.ts';
import { MeshError, type MeshErrorCode } from '../../src/mesh/errors.ts';
import type { SecureMeshOptions } from '../../src/mesh/options.ts';
import { SecureMesh } from '../../src/mesh/securemesh.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'hauberk-mesh-'));
  await initTrustDomain({ dir, trustDomain: 'shop.example' });
  await issueSvid({ dir, name: 'web' });
  await issueSvid({ dir, name: 'shop/greeter' });
});
afterAll(() => rm(dir, { recursive: true }));

const mesh = (options: Partial<SecureMeshOptions> = {}): SecureMesh =>
  new SecureMesh({ serviceId: 'web', keys: dir, log: 'silent', ...options });

/** The error that something rejects with. */
async function errorOf(promise: Promise<unknown>, code: MeshErrorCode): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(error).toBeInstanceOf(MeshError);
  expect((error as MeshError).code).toBe(code);
  return (error as MeshError).message;
}

describe('a mesh', () => {
  it('starts, says who it is and where it listens, and ends', async () => {
    const web = mesh({ port: 0 });
    expect(web.state).toBe('new');
    expect(await web.start()).toBe(web);
    expect([web.state, web.spiffeId]).toEqual(['started', 'spiffe://shop.example/ns/default/sa/web']);
    expect(web.port).toBeGreaterThan(0);
    expect(web.getStats()).toMatchObject({
      sessions: { activeSessions: 0 },
      calls: { outgoing: { open: 0, ended: 0, failed: 0 }, incoming: { open: 0, ended: 0, failed: 0 } },
      limits: { limited: 0, denied: 0 },
    });
    await web.cleanup();
    expect(web.state).toBe('ended');
  });

  it('has one port for both families of addresses', async () => {
    await using web = await mesh({ port: 0 }).start();
    await using second = mesh({ port: web.port as number, host: '::1' });
    expect(await errorOf(second.start(), 'port-taken')).toContain(`[::1]:${web.port}`);
  });

  it('only calls, if it has no port', async () => {
    await using web = await mesh().start();
    expect(web.port).toBeUndefined();
  });

  it('finds the keys of a service in another namespace under its name', async () => {
    await using greeter = await mesh({ serviceId: 'greeter.shop' }).start();
    expect(greeter.spiffeId).toBe('spiffe://shop.example/ns/shop/sa/greeter');
  });

  it('tells adapters of the program what happens, and lets them close before it is over', async () => {
    const said: string[] = [];
    const adapter = {
      write: (events: readonly AuditEvent[]) => void said.push(...events.map(({ type }) => type)),
      close: () => void said.push('closed'),
    };
    const web = await mesh({ monitoring: { adapters: [adapter] } }).start();
    await web.cleanup();
    expect(said).toEqual([
      'sidecar.started',
      'config.loaded',
      'identity.loaded',
      'sidecar.ready',
      'sidecar.draining',
      'sidecar.stopped',
      'closed',
    ]);
  });

  it('hands its log to the logger of the program', async () => {
    const lines: string[] = [];
    const line = (_fields: object, message: string): void => void lines.push(message);
    await using _web = await mesh({
      log: { debug: line, info: line, warn: line, error: line } as never,
    }).start();
    expect(lines[0]).toContain('policy is open');
  });
});

describe('its health', () => {
  it('is that of the mesh, of the services that it calls, and of what the program adds, which the probes tell', async () => {
    await using web = mesh({ services: { greeter: '127.0.0.1:9' }, probes: { http: '127.0.0.1:0' } });
    let database = true;
    web.health.add('database', () => database);
    await web.start();
    const ready = async (): Promise<[number, string]> => {
      const response = await fetch(`http://${web.probes.http[0]}/readyz`);
      return [response.status, await response.text()];
    };
    expect(() => web.health.add('mesh', () => true)).toThrow('There is a check mesh already');
    const { healthy, checks } = await web.health.check();
    expect([healthy, checks.map(({ name }) => name)]).toEqual([
      true,
      ['mesh', 'service greeter', 'database'],
    ]);
    expect((await ready())[0]).toBe(200);

    database = false;
    expect((await web.health.check()).healthy).toBe(false);
    expect(web.health.status('mesh')?.healthy).toBe(true);
    const [status, body] = await ready();
    expect([status, body]).toEqual([503, expect.stringContaining("the program's health checks")]);

    database = true;
    await web.health.check();
    expect((await ready())[0]).toBe(200);

    await web
      .connect('greeter')
      .call('greet', null)
      .catch(() => {});
    const after = await web.health.check();
    expect([after.healthy, web.health.status('service greeter')?.healthy]).toEqual([true, false]);
  });
});

describe('used at the wrong time', () => {
  it('before start()', async () => {
    await using web = mesh();
    for (const use of [() => web.sessions, () => web.getStats(), () => web.port, () => web.spiffeId]) {
      expect(use).toThrow('the mesh of web has not started; `await mesh.start()` first');
    }
  });

  it('started twice', async () => {
    await using web = mesh();
    const first = web.start();
    await errorOf(web.start(), 'already-started');
    await first;
    await errorOf(web.start(), 'already-started');
  });

  it('after cleanup(), which may come at any time and any number of times', async () => {
    const early = mesh();
    await early.cleanup();
    await errorOf(early.start(), 'ended');

    const during = mesh({ port: 0 });
    const started = errorOf(during.start(), 'ended');
    await Promise.all([during.cleanup(), during.cleanup()]);
    await started;

    const web = await mesh().start();
    await Promise.all([web.cleanup(), web.cleanup()]);
    expect(() => web.getStats()).toThrow(
      'the mesh of web has ended, for cleanup() was called; make a new SecureMesh',
    );
  });
});

describe('a start that cannot be', () => {
  it('says which port is taken, and leaves a mesh that may be started again', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as { port: number };
    await using web = mesh({ port, host: '127.0.0.1' });
    expect(await errorOf(web.start(), 'port-taken')).toBe(
      `options.port: cannot listen on 127.0.0.1:${port} (EADDRINUSE): another process listens there; stop it or choose another port (0 takes any that is free)`,
    );
    await new Promise((resolve) => other.close(resolve));
    await web.start();
    expect(web.port).toBe(port);
  });

  it.each<[string, Partial<SecureMeshOptions>, RegExp]>([
    [
      'no folder',
      { keys: '/nowhere/keys' },
      /^the keys of web, in \/nowhere\/keys: there is no such folder; make a trust domain with `hauberk init --trust-domain shop\.example --dir \/nowhere\/keys` and an identity with `hauberk issue web --dir \/nowhere\/keys`, or say in options\.keys where they are$/,
    ],
    [
      'no identity of that name',
      { serviceId: 'wep' },
      /^there is no wep\.pem in .*\(it has those of (shop\.greeter, web|web, shop\.greeter)\); make one with `hauberk issue wep --dir .*`, or correct options\.serviceId or options\.keys$/,
    ],
  ])('%s', async (_what, options, said) => {
    expect(await errorOf(mesh(options).start(), 'bad-keys')).toMatch(said);
  });

  it('a key that others can read', async () => {
    const files = await issueSvid({ dir, name: 'careless' });
    await chmod(files.key, 0o644);
    expect(await errorOf(mesh({ serviceId: 'careless' }).start(), 'bad-keys')).toMatch(
      /careless\.key.*chmod 600/,
    );
  });

  it('what is no certificate', async () => {
    await writeFile(join(dir, 'blank.pem'), '');
    await symlink(join(dir, 'web.key'), join(dir, 'blank.key'));
    expect(await errorOf(mesh({ serviceId: 'blank' }).start(), 'bad-keys')).toMatch(/blank\.pem/);
  });

  it('a peer of another trust domain', async () => {
    const services = { a: { endpoints: ['a:1'], peer: 'spiffe://other.example/a' } };
    expect(await errorOf(mesh({ services }).start(), 'bad-option')).toMatch(
      /^options\.services\.a\.peer: the peer is in the trust domain other\.example/,
    );
  });
});
