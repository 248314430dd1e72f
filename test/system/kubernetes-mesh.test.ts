/**
 * All of it at once: pods that the real API server had injected, their sidecars with SVIDs by tokens of the real TokenRequest,
 * and where to call from real EndpointSlices.
 */
import { status } from '@grpc/grpc-js';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { Controller, serve } from '../harness/controllers.ts';
import type { Greeter } from '../harness/greeter.ts';
import type { TestClient } from '../harness/greeter-client.ts';
import { SayHello } from '../harness/greeter-methods.ts';
import { greeterPod } from '../harness/injection.ts';
import { Kubernetes } from '../harness/kubernetes.ts';
import { MeshPod } from '../harness/meshpod.ts';
import { World } from '../harness/sidecars.ts';

const settled = { timeout: 60_000, interval: 100 };

let cluster: Kubernetes;
let controllers: Controller[];
let world: World;
let web: MeshPod;
let client: TestClient;

beforeAll(async () => {
  cluster = await Kubernetes.make();
  await cluster.namespace('hauberk-system', { 'pod-security.kubernetes.io/enforce': 'restricted' });
  await cluster.namespace('shop', { 'hauberk.mesh/inject': 'enabled' }, 'greeter', 'web');
  await cluster.install('helm4');
  controllers = [await Controller.start(cluster), await Controller.start(cluster)];
  await serve(cluster, controllers);
  world = await World.make();
  await cluster.apply({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'greeter', namespace: 'shop' },
    spec: { selector: { app: 'greeter' }, ports: [{ name: 'grpc', port: 50051, targetPort: 50051 }] },
  });
  web = await MeshPod.start(cluster, {
    namespace: 'shop',
    pod: caller(),
    controller: controllers[0] as Controller,
  });
  client = world.client(web.egress, { authority: 'greeter:50051' });
});

function caller(): ReturnType<typeof greeterPod> {
  const pod = greeterPod({ ports: 'none' });
  return {
    ...pod,
    metadata: { ...pod.metadata, generateName: 'web-' },
    spec: { ...pod.spec, serviceAccountName: 'web' },
  };
}

interface Replica {
  readonly pod: MeshPod;
  readonly app: Greeter;
}

async function replica(name: string, controller: Controller): Promise<Replica> {
  const app = await world.app({ name, listen: `${await cluster.network.addOutside()}:50051` });
  const pod = await MeshPod.start(cluster, {
    namespace: 'shop',
    pod: greeterPod(),
    controller,
    app: app.address,
  });
  return { app, pod };
}

/** What the EndpointSlice controller does when pods come and go. */
async function place(...endpoints: unknown[]): Promise<void> {
  const slice = cluster.endpointSlice('shop', 'greeter', [], { grpc: 50051 });
  await cluster.apply({ ...slice, endpoints });
}

const call = async (): Promise<string> => {
  const { code, details, message } = await client.unary(SayHello, { name: 'Ada' }, { deadlineMs: 10_000 });
  return code === status.OK ? `${message?.message}` : `${status[code]}: ${details}`;
};

let first: Replica;
let second: Replica;

test('a call finds the pod of a service by its name, and the app is told who called', async () => {
  first = await replica('first', controllers[0] as Controller);
  await place(first.pod.endpoint);
  await expect.poll(call, settled).toContain('first');
  const { metadata } = await first.app.saw('SayHello', 'called');
  expect(metadata.get('hauberk-peer')).toEqual(['spiffe://cluster.local/ns/shop/sa/web']);
});

test('pods come and go, and no call fails', async () => {
  second = await replica('second', controllers[1] as Controller);
  let failed = '';
  let calling = true;
  onTestFinished(() => {
    calling = false;
  });
  const calls = (async () => {
    while (calling) {
      const answer = await call();
      if (!/first|second/.test(answer)) failed = answer;
    }
  })();
  await place(first.pod.endpoint, second.pod.endpoint);
  await expect.poll(call, settled).toContain('second');
  await place(second.pod.endpoint);
  await expect
    .poll(async () => new Set(await Promise.all(Array.from({ length: 8 }, call))).size, settled)
    .toBe(1);
  calling = false;
  await calls;
  expect([failed, await call()]).toEqual(['', expect.stringContaining('second')]);
});

test('an endpoint without a sidecar is not called in plaintext, and the caller is told why', async () => {
  await place({ addresses: ['10.99.0.1'], conditions: { ready: true } });
  await expect.poll(call, settled).toMatch(/^UNAVAILABLE: greeter.shop has 1 endpoint, none in the mesh: /);
  await place(second.pod.endpoint);
  await expect.poll(call, settled).toContain('second');
});

test('sidecars go on without any controller, and hear of changes once there is one again', async () => {
  for (const controller of controllers) await controller.kill();
  expect(await call()).toContain('second');
  await place(first.pod.endpoint);
  expect(await call()).toContain('second');
  for (const controller of controllers) await controller.run();
  await expect.poll(call, settled).toContain('first');
});

test('the controllers needed no right that they have not', () => {
  const requests = cluster.requestsOf('system:serviceaccount:hauberk-system:hauberk-controller');
  expect(requests.filter(({ code }) => code === 401 || code === 403)).toEqual([]);
});
