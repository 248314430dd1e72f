import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { systemClock } from '../../../src/clock/clock.ts';
import { ControlChannel } from '../../../src/control/channel.ts';
import { DiscoveryClient } from '../../../src/control/discovery.ts';
import { TrustBundle } from '../../../src/identity/trustbundle.ts';
import { collectionPath, ENDPOINT_SLICES, PODS, SERVICES } from '../../../src/kube/client/resource.ts';
import { Controller } from '../../../src/kube/controller.ts';
import { discoveryPart } from '../../../src/kube/discovery/discoverypart.ts';
import type { KubeSecret } from '../../../src/kube/objects.ts';
import type { DiscoveryAnswer } from '../../../src/relay/discovery.ts';
import { silentLogger } from '../../../src/telemetry/log.ts';
import { KubeApi } from '../../harness/kubeapi.ts';
import { contextOn } from '../../relay/memorywire.ts';
import { CA_PATH, CONTROLLER, configOf, NAMESPACE } from '../issuancerig.ts';
import { endpoint, pod, service, slice } from './cluster.ts';

let api: KubeApi;
let dir: string;
const ends: Array<() => unknown> = [];

beforeEach(async () => {
  api = await KubeApi.start();
  dir = await mkdtemp(join(tmpdir(), 'hauberk-discovery-'));
  api.put(collectionPath(SERVICES, 'shop'), service('greeter.shop'));
  api.put(collectionPath(PODS, 'shop'), pod('a', ['10.1.0.1']));
  api.put(collectionPath(PODS, 'shop'), pod('b', ['10.1.0.2'], { account: 'other' }));
  api.put(collectionPath(ENDPOINT_SLICES, 'shop'), slice('greeter.shop', [endpoint('10.1.0.1', 'a')]));
});

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
  await api.end();
  await rm(dir, { recursive: true });
});

async function until(done: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!(await done())) {
    if (performance.now() > deadline) throw new Error('not within 20 s');
    await pause(10);
  }
}

async function controller(): Promise<{ controller: Controller; port: number }> {
  const made = await Controller.make({
    config: configOf(
      'control: { listen: "127.0.0.1:0" }\nprobes: { http: "127.0.0.1:0" }\nwebhook: { listen: off }\n',
    ),
    configFile: '/etc/hauberk/controller.yaml',
    configSha256: '0'.repeat(64),
    access: api.access,
    namespace: NAMESPACE,
    version: '0.0.0',
    stdout: new PassThrough(),
    log: silentLogger,
    clock: systemClock,
    parts: [discoveryPart],
  });
  ends.push(() => made.stop('test'));
  expect(await made.start()).toBe(true);
  return { controller: made, port: Number(made.bound.control?.[0]?.split(':').pop()) };
}

async function sidecar(port: number): Promise<DiscoveryClient> {
  const token = join(dir, 'token');
  const claims = { namespace: 'shop', serviceAccount: 'web', pod: { name: 'web', uid: 'w' } };
  await writeFile(token, api.tokens.issue(claims));
  const bundle = TrustBundle.fromPem(
    Buffer.from(api.at<KubeSecret>(CA_PATH)?.data?.['ca.crt'] as string, 'base64'),
    'cluster.local',
  );
  const channel = new ControlChannel({
    address: { host: '127.0.0.1', port },
    peer: CONTROLLER,
    token,
    bundle: () => bundle,
    clock: systemClock,
  });
  const { recorder, metrics, log } = contextOn(systemClock);
  const trustDomain = 'cluster.local';
  const client = new DiscoveryClient({ channel, trustDomain, clock: systemClock, recorder, metrics, log });
  ends.push(() => {
    client.close();
    channel.close();
  });
  return client;
}

/** What a sidecar was told, as `address account`. */
function follow(client: DiscoveryClient, authority: string): string[][] {
  const told: string[][] = [];
  const take = ({ endpoints }: DiscoveryAnswer): void => {
    told.push(endpoints.map(({ address, peer }) => `${address} ${peer.slice(peer.lastIndexOf('/') + 1)}`));
  };
  client.watch({ authority, namespace: '', port: 0 }, take);
  return told;
}

it('a controller tells a sidecar where a service is, and of each change', async () => {
  const { port } = await controller();
  const told = follow(await sidecar(port), 'greeter');
  await until(() => told.length === 1);
  const both = [endpoint('10.1.0.1', 'a'), endpoint('10.1.0.2', 'b')];
  api.put(collectionPath(ENDPOINT_SLICES, 'shop'), slice('greeter.shop', both));
  await until(() => told.length === 2);
  expect(told).toEqual([['10.1.0.1 greeter'], ['10.1.0.1 greeter', '10.1.0.2 other']]);
});

it('a controller that may not read its cluster is not ready, and tells nothing until it has', async () => {
  api.deny('list endpointslices');
  const { controller: running, port } = await controller();
  const told = follow(await sidecar(port), 'greeter');
  await until(() => running.readiness.pending.includes('services of the cluster'));
  await pause(300);
  expect([told, running.readiness.ready]).toEqual([[], false]);
  api.allow('list endpointslices');
  await until(() => told.length === 1 && running.readiness.ready);
  expect(told).toEqual([['10.1.0.1 greeter']]);
});

it('a controller that drains ends its streams, and what it told before still holds', async () => {
  const { controller: running, port } = await controller();
  const client = await sidecar(port);
  const told = follow(client, 'greeter');
  await until(() => told.length === 1);
  await running.drain('test');
  await until(() => client.trouble !== undefined);
  expect(told).toEqual([['10.1.0.1 greeter']]);
});
