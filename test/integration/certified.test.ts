import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { get } from 'node:http';
import { createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { toPem } from '../../src/identity/pem.ts';
import { CertifyStub, hourCa } from '../harness/certifystub.ts';
import { hauberk } from '../harness/cli.ts';
import { embed, embedAgain } from '../harness/embedded.ts';
import { atEnd, merge, World } from '../harness/sidecars.ts';

/* Identities that the controller issues: how a sidecar comes by its first one, and starts without the controller. */

const PEER = 'spiffe://shop.example/ns/hauberk-system/sa/hauberk-controller';
const PATIENCE = { timeout: 20_000 };

async function controller(): Promise<CertifyStub> {
  const stub = await CertifyStub.start(600_000, PEER);
  atEnd(() => stub.stop());
  return stub;
}

it('a sidecar has the controller certify it, and starts with that again while the controller is away', async () => {
  const world = await World.make();
  const stub = await controller();
  const config = await stub.config(join(world.dir, 'run'), world.spiffeId('web'));
  const first = await embed(world, 'web', config);
  const { identity } = first.sidecar;
  expect(identity).toMatchObject({
    spiffeId: world.spiffeId('web'),
    rotations: 0,
    renewalFailure: undefined,
  });
  expect((identity.renewsAt ?? 0) - Date.now()).toBeGreaterThan(200_000);
  expect((identity.renewsAt ?? 0) - Date.now()).toBeLessThan(400_000);
  await first.sidecar.stop('test');
  stub.stop();
  const again = await embedAgain('web', first.files);
  expect(again.sidecar.identity.leafSha256).toBe(identity.leafSha256);
  expect(stub.issued).toBe(1);
});

it('a bundle that was stored before the CA was another one does not keep a sidecar from the one that is configured now', async () => {
  const world = await World.make();
  const stub = await controller();
  const folder = join(world.dir, 'run');
  const config = await stub.config(folder, world.spiffeId('web'));
  const { bundlePem, ...rest } = config.controller as Record<string, string>;
  const configured = join(world.dir, 'configured.pem');
  await writeFile(configured, bundlePem as string);
  await writeFile(join(folder, 'bundle.pem'), toPem('CERTIFICATE', (await hourCa('CN=Before')).der));
  const { sidecar } = await embed(world, 'web', {
    identity: config.identity,
    controller: { ...rest, bundle: configured },
  });
  expect(sidecar.spiffeId).toBe(world.spiffeId('web'));
  expect(await readFile(join(folder, 'bundle.pem'), 'utf8')).toBe(bundlePem);
});

it('without an identity it waits for the controller: it says why, is not started, and serves once it has one', async () => {
  const world = await World.make();
  const stub = await controller();
  stub.stop();
  const sockets = await mkdtemp('/tmp/hbk-');
  atEnd(() => rm(sockets, { recursive: true }));
  const socket = `unix:${join(sockets, 's')}`;
  const config = await stub.config(join(world.dir, 'run'), world.spiffeId('web'));
  const probes = { http: `unix:${socket.slice(5)}.http`, grpc: 'off' };
  const starting = embed(world, 'web', merge(config, { admin: { listen: socket }, probes }));
  const probe = (path: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const got = get({ socketPath: probes.http.slice(5), path }, (response) => {
        response.setEncoding('utf8').once('data', (body) => resolve(`${response.statusCode} ${body}`));
      });
      got.on('error', reject);
    });
  const status = async (): Promise<string> =>
    (await hauberk(['status', '--address', socket], { cwd: world.dir })).stdout;
  await expect
    .poll(status, PATIENCE)
    .toMatch(/identity +none yet: the controller at .* cannot be reached: .*ECONNREFUSED/);
  expect(await status()).toMatch(/sidecar +not known yet\n.*state +waits for identity: the controller/s);
  expect(await probe('/startupz')).toMatch(
    /^503 waiting for:\n {2}identity: the controller at .* cannot be reached/,
  );
  expect(await probe('/livez')).toBe('200 ok\n');
  const sessions = await hauberk(['sessions', 'list', '--address', socket], { cwd: world.dir });
  expect(sessions).toMatchObject({
    code: 9,
    stderr: expect.stringContaining('this sidecar has no identity yet: the'),
  });
  await stub.start();
  const { sidecar } = await starting;
  expect(sidecar.spiffeId).toBe(world.spiffeId('web'));
  await expect.poll(status, PATIENCE).toMatch(/identity +until .* left; renewed here at/);
  expect(await probe('/startupz')).toBe('200 ok\n');
});

it('a sidecar whose app answers past it tells the controller the port', async () => {
  const world = await World.make();
  const stub = await controller();
  const app = createServer().listen(0, '0.0.0.0');
  atEnd(() => void app.close());
  await once(app, 'listening');
  const { port } = app.address() as AddressInfo;
  const spiffeId = world.spiffeId('web');
  const config = await stub.config(join(world.dir, 'run'), spiffeId);
  const apps = [{ service: 'web.shop', address: `127.0.0.1:${port}` }];
  const ingress = { listen: '127.0.0.1:0', apps, podAddresses: ['127.0.0.2'] };
  const { sidecar } = await embed(world, 'web', merge(config, { ingress, policy: 'open' }));
  const authorization = `Bearer token-of,${spiffeId}`;
  await expect.poll(() => stub.reports, PATIENCE).toEqual([{ exposed: [port], closed: [], authorization }]);
  await sidecar.stop('test');
});
