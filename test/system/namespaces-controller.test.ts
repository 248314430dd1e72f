import { beforeAll, expect, it } from 'vitest';
import type { KubeSecret } from '../../src/kube/objects.ts';
import { type Container, Image } from '../harness/container.ts';
import { KubeApi } from '../harness/kubeapi.ts';
import { type Host, Network } from '../harness/netns.ts';
import { Cluster, type PlainApp, settle } from '../harness/pod.ts';
import { atEnd, World } from '../harness/sidecars.ts';

/*
 * Pods in network namespaces with a controller on a host of its own, which issues their identities by what a stub of the API server
 * says of their tokens. Apps call by name, redirected.
 */

const CONTROLLER = 'hauberk-controller.hauberk-system.svc';
const GREETER = 'greeter.shop.svc.cluster.local';

let api: KubeApi;
let cluster: Cluster;
let network: Network;
let control: Host;
let controller: Container;
let web: Host;
let bundle: string;
let number = 10;
const servers: PlainApp[] = [];

interface Pod {
  readonly name: string;
  readonly host: Host;
  readonly app: PlainApp;
  readonly sidecar: Container;
}

const token = (serviceAccount: string, name: string): string =>
  api.tokens.issue({ namespace: 'shop', serviceAccount, pod: { name, uid: `uid-${name}` } });

beforeAll(async () => {
  api = await KubeApi.start();
  atEnd(() => api.end());
  const image = await Image.build('hauberk');
  cluster = await Cluster.make(await World.make('cluster.local'), image, await Image.build('capture', image));
  network = await Network.make();
  control = await network.host('control', 2);
  await serve();
  await cluster.dns(control);
  await cluster.apiServer(control, api);
  controller = await cluster.controller(control, api);
  const secret = api.at<KubeSecret>('/api/v1/namespaces/hauberk-system/secrets/hauberk-ca');
  bundle = Buffer.from(secret?.data?.['ca.crt'] as string, 'base64').toString();
  web = await network.host('web', 3);
  expect((await cluster.captured(web, 'install', '--redirect', '50051=15101')).code).toBe(0);
  const sidecar = await cluster.certified(web, token('web', 'web'), bundle, {
    egress: {
      routes: [
        {
          service: 'greeter.shop',
          authorities: [GREETER],
          endpoints: [`${GREETER}:15008`],
          peer: 'spiffe://cluster.local/ns/shop/sa/greeter',
        },
      ],
      redirects: [{ port: 50051, listen: 'localhost:15101' }],
    },
  });
  expect((await sidecar.ready()).spiffeId).toBe('spiffe://cluster.local/ns/shop/sa/web');
});

async function pod(): Promise<Pod> {
  const name = `greeter${++number}`;
  const host = await network.host(name, number);
  expect((await cluster.captured(host, 'install', '--inbound-ports', '50051')).code).toBe(0);
  const app = await cluster.server(host, host.v4, '0.0.0.0:50051');
  servers.push(app);
  const sidecar = await cluster.certified(host, token('greeter', name), bundle, {
    ingress: {
      apps: [{ service: 'greeter.shop', address: '127.0.0.1:50051' }],
      allow: [{ peer: 'spiffe://cluster.local/ns/shop/sa/web', methods: ['/*/*'] }],
    },
  });
  await sidecar.ready();
  return { name, host, app, sidecar };
}

/** The service has these pods, and no others. */
async function serve(...pods: Pod[]): Promise<void> {
  await cluster.names({ [CONTROLLER]: [control.v4], [GREETER]: pods.map(({ host }) => host.v4) });
}

it('pods are certified, and nobody misses the controller while it is away', async () => {
  const [first, second] = [await pod(), await pod()];
  await serve(first, second);
  const callers = ['a', 'b', 'c'].map((name) => cluster.client(web, `${GREETER}:50051`, name));
  const answeredBy = async ({ host }: Pod) => {
    await Promise.all(callers.map((caller) => caller.nextCall(({ by }) => by === host.v4)));
  };
  await answeredBy(first);
  await answeredBy(second);

  await controller.kill();
  await first.sidecar.signal('SIGTERM');
  expect((await first.sidecar.outcome).code).toBe(0);
  await first.app.stop();
  await serve(second);
  for (let i = 0; i < 20; i++) await answeredBy(second);

  // A pod that begins while it is away waits, and serves once it is back.
  const waiting = pod();
  await answeredBy(second);
  controller = await cluster.controller(control, api);
  const third = await waiting;
  await serve(second, third);
  await answeredBy(third);

  await Promise.all(callers.map((caller) => caller.stop()));
  const { wrong, answered, unavailable } = settle(callers, servers);
  console.log(`${answered} answered, ${unavailable} UNAVAILABLE`);
  expect(wrong).toEqual([]);
  expect(unavailable).toBe(0);
});

it('a pod whose token is not good gets no identity, and says why', async () => {
  const host = await network.host('stranger', 99);
  const stranger = await cluster.certified(host, 'made.up.token', bundle, {});
  await expect.poll(() => stranger.log).toContain('the API server does not accept the token');
  expect(stranger.stdout).toEqual([]);
});
