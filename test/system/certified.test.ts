import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, expect, it } from 'vitest';
import { objectPath, SECRETS } from '../../src/kube/client/resource.ts';
import type { KubeSecret } from '../../src/kube/objects.ts';
import { CertifyStub, hourCa } from '../harness/certifystub.ts';
import { spawnHauberk } from '../harness/cli.ts';
import { SayHello } from '../harness/greeter-methods.ts';
import { KubeApi } from '../harness/kubeapi.ts';
import {
  atEnd,
  type ConfigFile,
  ingressTo,
  merge,
  type Pair,
  type SidecarProcess,
  startPair,
  World,
} from '../harness/sidecars.ts';
import { Steady } from '../harness/steady.ts';

/* Identities that the controller issues, over several lives: while calls go on, and while the controller is away. */

const PEER = 'spiffe://shop.example/ns/hauberk-system/sa/hauberk-controller';
const SECOND = 1_000;
const PATIENCE = { timeout: 45_000 };

async function meshOf(ttlMs: number): Promise<Pair & { readonly stub: CertifyStub }> {
  const world = await World.make();
  const stub = await CertifyStub.start(ttlMs, PEER);
  atEnd(() => stub.stop());
  const config = (name: string) => stub.config(join(world.dir, `run-${name}`), world.spiffeId(name));
  const pair = await startPair({ world, web: await config('web'), greeter: await config('greeter') });
  return { ...pair, stub };
}

const renewals = async (sidecar: SidecarProcess, result: string): Promise<number> =>
  await sidecar.metric('hauberk_identity_renewals_total', { result });

describe('SVIDs of the controller', () => {
  it('are renewed at half of their lives, again and again, and no call is lost', async () => {
    const { web, greeter, client, stub } = await meshOf(6 * SECOND);
    const steady = await Steady.start(client);
    for (const sidecar of [web, greeter]) await sidecar.audit.events('identity.renewed', 4);
    await steady.more(50);
    steady.stop();
    expect(stub.issued).toBeGreaterThanOrEqual(10);
    for (const sidecar of [web, greeter]) {
      const leaves = (await sidecar.audit.of('identity.rotated')).map(({ leafSha256 }) => leafSha256);
      expect(new Set(leaves).size).toBe(leaves.length);
      expect(await sidecar.audit.of('identity.renewal-failed')).toEqual([]);
      expect(await sidecar.audit.of('identity.expired')).toEqual([]);
    }
  });

  it('are kept while the controller is away, which is said; once they have ended the sidecar waits, and is back with it', async () => {
    const { web, client, stub } = await meshOf(8 * SECOND);
    const steady = await Steady.start(client);
    stub.stop();
    const failed = await web.audit.event('identity.renewal-failed');
    expect(failed).toMatchObject({ reason: 'controller-unreachable', attempts: 1 });
    expect(failed.detail).toMatch(/^the controller at 127\.0\.0\.1:\d+ cannot be reached: /);
    // The last good one goes on serving.
    await steady.more(50);
    steady.stop();
    await web.audit.event('identity.expired');
    expect((await web.probe('/readyz')).body).toContain('identity: the SVID has expired');
    await expect.poll(() => renewals(web, 'failed'), PATIENCE).toBeGreaterThanOrEqual(2);
    await stub.start();
    await expect.poll(async () => (await web.probe('/readyz')).status, PATIENCE).toBe(200);
    expect(await renewals(web, 'ok')).toBeGreaterThanOrEqual(1);
    expect((await web.audit.of('identity.loaded')).length).toBe(1);
  });

  it('move to another CA without losing a call, once both are trusted', async () => {
    const { web, greeter, client, stub } = await meshOf(6 * SECOND);
    const steady = await Steady.start(client);
    const [old, next] = [stub.ca, await hourCa('CN=Next')];
    const rotated = (changed: string, from = 0) =>
      Promise.all(
        [web, greeter].map((each) =>
          each.audit.event('identity.rotated', (event) => event.changed === changed, from),
        ),
      );
    stub.bundle = [old, next];
    const both = await rotated('both');
    stub.ca = next;
    stub.stop();
    await stub.start();
    const issued = await Promise.all(
      [web, greeter].map((each, i) => each.audit.event('identity.rotated', undefined, both[i]?.seq)),
    );
    await Promise.all(
      [web, greeter].map((each, i) => each.audit.event('identity.rotated', undefined, issued[i]?.seq)),
    );
    stub.bundle = [next];
    await Promise.all(
      [web, greeter].map((each, i) =>
        each.audit.event('identity.rotated', (event) => event.changed === 'both', issued[i]?.seq),
      ),
    );
    await steady.more(50);
    steady.stop();
    for (const sidecar of [web, greeter])
      expect(await sidecar.audit.of('identity.reload-failed')).toEqual([]);
  });
});

it('a controller of another name, or under another CA, certifies nobody, and the good identity stays', async () => {
  const world = await World.make();
  const app = await world.app();
  const stub = await CertifyStub.start(6 * SECOND, PEER);
  atEnd(() => stub.stop());
  const config = await stub.config(join(world.dir, 'run'), world.spiffeId('web'));
  const web = await world.sidecar('web', merge(ingressTo(world, app.address), config));
  const impostors = [
    async (): Promise<void> => {
      stub.peer = world.spiffeId('web');
    },
    async (): Promise<void> => {
      stub.peer = PEER;
      stub.ca = await hourCa('CN=Stranger');
    },
  ];
  let seq = 0;
  for (const impostor of impostors) {
    stub.stop();
    await impostor();
    await stub.start();
    const failed = await web.audit.event(
      'identity.renewal-failed',
      ({ reason }) => reason === 'controller-untrusted',
      seq,
    );
    expect(failed.detail).toMatch(/^what answers at \S+ is not the controller: /);
    ({ seq } = failed);
  }
  expect(await web.audit.of('identity.rotated')).toEqual([]);
  expect(web.log).not.toContain('token-of');
});

describe('a real controller', () => {
  const CONTROLLER = 'spiffe://cluster.local/ns/hauberk-system/sa/hauberk-controller';

  it('certifies two sidecars by their tokens, which call one another, and start again while it is gone', async () => {
    const world = await World.make('cluster.local');
    const api = await KubeApi.start();
    atEnd(() => api.end());
    const loopback = { listen: '127.0.0.1:0' };
    const file = join(world.dir, 'controller.yaml');
    await writeFile(
      file,
      JSON.stringify({
        namespace: 'hauberk-system',
        control: loopback,
        webhook: loopback,
        probes: { http: '127.0.0.1:0' },
        kubernetes: { server: api.access.server, ca: api.access.ca, token: api.access.token },
      }),
    );
    const child = spawnHauberk(['controller', '-c', file]);
    atEnd(() => void child.kill('SIGKILL'));
    const [line] = await once(createInterface(child.stdout), 'line');
    const [address] = (JSON.parse(line as string) as { control: string[] }).control;
    const ca =
      api.at<KubeSecret>(objectPath(SECRETS, 'hauberk-ca', 'hauberk-system'))?.data?.['ca.crt'] ?? '';
    const config = async (name: string, token: string): Promise<ConfigFile> => {
      const at = (what: string): string => join(world.dir, `${name}.${what}`);
      await writeFile(at('token'), token);
      return {
        identity: { svid: at('pem'), key: at('key'), bundle: at('bundle'), issuer: 'controller' },
        controller: {
          address,
          peer: CONTROLLER,
          token: at('token'),
          bundlePem: Buffer.from(ca, 'base64').toString(),
        },
      };
    };
    const issue = (serviceAccount: string): string =>
      api.tokens.issue({
        namespace: 'default',
        serviceAccount,
        pod: { name: `${serviceAccount}-1`, uid: randomUUID() },
      });
    const [web, greeter] = [await config('web', issue('web')), await config('greeter', issue('greeter'))];
    const pair = await startPair({ world, web, greeter });
    const steady = await Steady.start(pair.client);
    expect(pair.web.ready.spiffeId).toBe('spiffe://cluster.local/ns/default/sa/web');
    child.kill('SIGKILL');
    await once(child, 'exit');
    await steady.more(50);
    steady.stop();
    await pair.web.stop();
    await pair.greeter.stop();
    const again = await startPair({ world, web, greeter });
    expect((await again.client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
  });
});
