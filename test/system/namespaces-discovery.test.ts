import { beforeAll, expect, it } from 'vitest';
import type { KubeSecret } from '../../src/kube/objects.ts';
import { type Container, Image } from '../harness/container.ts';
import { InjectedPod } from '../harness/injectedpod.ts';
import { greeterPod, type TestPod } from '../harness/injection.ts';
import { KubeApi } from '../harness/kubeapi.ts';
import { type Host, Network } from '../harness/netns.ts';
import { Cluster, type PlainApp, settle } from '../harness/pod.ts';
import { atEnd, World } from '../harness/sidecars.ts';
import { endpoint, service, slice } from '../kube/discovery/cluster.ts';

/*
 * What is deployed, together: pods as the injector makes them, on hosts of their own, certified and told where services are by a real
 * controller, by what a stub of the API server holds. Their apps call by the service's name, its addresses, which lead nowhere, and
 * those of pods, over both families.
 */

const NAME = 'greeter.shop.svc.cluster.local';
/** Of the service, and of one that there is not. */
const CLUSTER_IPS = ['10.96.0.1', 'fd96::1'] as const;
const STRANGE_IP = '10.96.0.2';
const OK = 0;
const UNAVAILABLE = 14;

let api: KubeApi;
let cluster: Cluster;
let network: Network;
let control: Host;
let controller: Container;
let bundlePem: string;
/** Pods that call: by redirects, and by `grpc_proxy`. */
let [web, plain]: InjectedPod[] = [];
/** Of the service. */
let [first, second]: InjectedPod[] = [];
const servers: PlainApp[] = [];
let number = 10;

/** A host of a cluster: what is on no network of its own goes to a router, which knows of no service. */
async function host(name: string): Promise<Host> {
  const made = await network.host(name, ++number);
  await made.run('ip', 'route', 'add', 'default', 'via', '10.77.0.254');
  await made.run('ip', '-6', 'route', 'add', 'default', 'via', 'fd77::254');
  return made;
}

async function pod(name: string, owners: TestPod): Promise<InjectedPod> {
  const proxy = { handshake: { maxEventLoopLag: '10s' } };
  return InjectedPod.start({ cluster, api, settings: { bundlePem, proxy } }, await host(name), name, owners);
}

async function greeter(name: string): Promise<InjectedPod> {
  const allow = 'spiffe://cluster.local/ns/shop/sa/*';
  const made = await pod(name, greeterPod({ mode: 'transparent', allow }));
  servers.push(await made.serve('[::]:50051').then(({ server }) => server));
  return made;
}

function caller(name: string, annotations: Readonly<Record<string, string>>): Promise<InjectedPod> {
  const { spec, ...rest } = greeterPod({ ports: 'none', ...annotations });
  return pod(name, { ...rest, spec: { ...spec, serviceAccountName: 'web' } });
}

/** The service has these pods, of both families, and no others. `leaving` are about to end. */
function serve(pods: readonly InjectedPod[], leaving: readonly InjectedPod[] = []): void {
  for (const family of ['IPv4', 'IPv6'] as const) {
    const of = (is: Host): string => (family === 'IPv4' ? is.v4 : is.v6);
    const conditions = { ready: false, serving: true, terminating: true };
    const made = slice('greeter', [
      ...pods.map(({ name, host: on }) => endpoint(of(on), name)),
      ...leaving.map(({ name, host: on }) => endpoint(of(on), name, { conditions })),
    ]);
    api.put('/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices', {
      ...made,
      metadata: { ...made.metadata, name: `greeter-${family.toLowerCase()}` },
      addressType: family,
    });
  }
}

/** One caller a way to the service. */
function byService(mark: string): PlainApp[] {
  const [v4, v6] = CLUSTER_IPS;
  return [
    (web as InjectedPod).client(`${NAME}:50051`, `${mark}-name`),
    (web as InjectedPod).client(`${v4}:50051`, `${mark}-v4`),
    (web as InjectedPod).client(`[${v6}]:50051`, `${mark}-v6`),
    (plain as InjectedPod).client('greeter.shop:50051', `${mark}-proxy`),
  ];
}

/** One a way to a pod. */
function byPod({ host: to }: InjectedPod, mark: string): PlainApp[] {
  return [
    (web as InjectedPod).client(`${to.v4}:50051`, `${mark}-pod-v4`),
    (web as InjectedPod).client(`[${to.v6}]:50051`, `${mark}-pod-v6`),
  ];
}

/** Waits until each caller's calls that begin from now on are answered, by each of these pods. */
async function answeredBy(callers: readonly PlainApp[], ...pods: readonly InjectedPod[]): Promise<void> {
  for (const { name } of pods) {
    await Promise.all(callers.map((one) => one.nextCall(({ by }) => by === name)));
  }
}

/** Waits until no call goes to a pod any more that others could take as well. */
async function left({ name }: InjectedPod, callers: readonly PlainApp[]): Promise<void> {
  const elsewhere = async (caller: PlainApp): Promise<void> => {
    for (let calls = 0; calls < 20; ) calls = (await caller.nextCall()).by === name ? 0 : calls + 1;
  };
  await Promise.all(callers.map(elsewhere));
}

/** Ends the callers: no call of theirs was lost, answered twice, or failed. */
async function books(callers: readonly PlainApp[]): Promise<void> {
  await Promise.all(callers.map((one) => one.stop()));
  const { wrong, answered, unavailable } = settle(callers, servers);
  console.log(`${answered} answered, ${unavailable} UNAVAILABLE`);
  expect(wrong).toEqual([]);
  expect(unavailable).toBe(0);
}

beforeAll(async () => {
  api = await KubeApi.start();
  atEnd(() => api.end());
  const image = await Image.build('hauberk');
  cluster = await Cluster.make(await World.make('cluster.local'), image, await Image.build('capture', image));
  network = await Network.make();
  control = await host('control');
  await cluster.names({
    'hauberk-controller.hauberk-system.svc': [control.v4],
    [NAME]: CLUSTER_IPS,
  });
  await cluster.dns(control);
  await cluster.apiServer(control, api);
  controller = await cluster.controller(control, api);
  const secret = api.at<KubeSecret>('/api/v1/namespaces/hauberk-system/secrets/hauberk-ca');
  bundlePem = Buffer.from(secret?.data?.['ca.crt'] as string, 'base64').toString();
  const spec = { clusterIP: CLUSTER_IPS[0], clusterIPs: [...CLUSTER_IPS] };
  api.put('/api/v1/namespaces/shop/services', service('greeter', spec));
  [web, plain, first, second] = await Promise.all([
    caller('web', { mode: 'transparent', 'capture-ports': '50051' }),
    caller('plain', { mode: 'explicit' }),
    greeter('first'),
    greeter('second'),
  ]);
  serve([first, second]);
});

it('calls by name, by the address of a service and by that of a pod reach the pods, and nobody on the wire reads them', async () => {
  const tap = await network.wiretap();
  // What nobody captures is read there.
  await cluster.server(control, 'control', '0.0.0.0:50052');
  const open = (web as InjectedPod).client(`${control.v4}:50052`, 'in-the-open');
  expect(await open.nextCall()).toMatchObject({ code: OK, by: 'control' });
  await open.stop();
  await expect.poll(() => tap.octets.includes('in-the-open'), { timeout: 10_000 }).toBe(true);

  const [a, b] = [first as InjectedPod, second as InjectedPod];
  const toService = byService('under-mail');
  // A pod of the service that calls it is answered by the others.
  const own = a.client(`${CLUSTER_IPS[0]}:50051`, 'under-mail-own');
  const toPod = byPod(b, 'under-mail');
  await answeredBy(toService, a, b);
  await answeredBy([own, ...toPod], b);
  await books([...toService, ...toPod, own]);
  expect(toPod.flatMap(({ lines }) => lines.filter(({ by }) => by === a.name))).toEqual([]);
  await expect.poll(() => tap.octets.includes('HBK1'), { timeout: 10_000 }).toBe(true);
  expect((await tap.stop()).includes('under-mail')).toBe(false);
});

it('a pod that calls its own service is answered by the others, and told what to call if there are none', async () => {
  const [a, b] = [first as InjectedPod, second as InjectedPod];
  serve([a]);
  const own = a.client(`${CLUSTER_IPS[0]}:50051`, 'own');
  const alone = 'the only pod of greeter.shop is this one';
  await own.line(({ code, details = '' }) => code === UNAVAILABLE && details.includes(alone));
  serve([a, b]);
  await answeredBy([own], b);
  await own.stop();
  expect(own.lines.filter(({ by }) => by === a.name)).toEqual([]);
  // It has never tried itself.
  expect(a.said.filter((line) => line.includes('reflected-key'))).toEqual([]);
});

it('a call from outside of the mesh, straight to the app of a pod, is refused', async () => {
  const outsider = await host('outsider');
  const { host: to } = first as InjectedPod;
  const call = async (port: number): Promise<unknown[]> => {
    const callers = [`${to.v4}:${port}`, `[${to.v6}]:${port}`].map((target, i) =>
      cluster.client(outsider, target, `outside${port}-${i}`, { ms: 50 }),
    );
    const ends = await Promise.all(callers.map((one) => one.nextCall()));
    await Promise.all(callers.map((one) => one.stop()));
    return ends.map(({ code }) => code);
  };
  // The way to the pod is open: it is the port that is closed.
  await cluster.server(to, 'undeclared', '[::]:50052');
  expect(await call(50052)).toEqual([OK, OK]);
  expect(await call(50051)).toEqual([UNAVAILABLE, UNAVAILABLE]);
  const served = (first as InjectedPod).server.lines.map((line) => line.served ?? '');
  expect(served.filter((id) => id.startsWith('outside'))).toEqual([]);
});

it('what is not there is refused at once, in a sentence', async () => {
  const app = (web as InjectedPod).client(`${STRANGE_IP}:50051`, 'nobody');
  const { code, details } = await app.nextCall();
  await app.stop();
  expect(code).toBe(UNAVAILABLE);
  expect(details).toContain(`no service and no pod in the mesh has the address ${STRANGE_IP}`);
});

it('a pod whose app ends before callers are told costs no call', async () => {
  const [a, b] = [first as InjectedPod, second as InjectedPod];
  const fifth = await greeter('fifth');
  serve([a, b, fifth]);
  const callers = byService('ended');
  await answeredBy(callers, a, b, fifth);
  await fifth.server.stop();
  // It is called in vain until then.
  await answeredBy(callers, a, b, a, b);
  serve([a, b]);
  await answeredBy(callers, a, b);
  expect((await fifth.endSidecar()).code).toBe(0);
  await books(callers);
});

it('pods come and go, also while the controller is away, and no call is lost', async () => {
  const [a, b] = [first as InjectedPod, second as InjectedPod];
  const toService = byService('rolled');
  const callers = [...toService, ...byPod(b, 'rolled')];
  await answeredBy(toService, a, b);
  await answeredBy(callers, b);

  const third = await greeter('third');
  serve([a, b, third]);
  await answeredBy(toService, third);

  serve([b, third], [a]);
  await left(a, toService);
  expect((await a.end()).code).toBe(0);
  serve([b, third]);
  api.remove('/api/v1/namespaces/shop/pods/first');

  await controller.kill();
  // What happens now is told when it is back.
  const fourth = greeter('fourth');
  for (let i = 0; i < 20; i++) await answeredBy(callers, b);
  controller = await cluster.controller(control, api);
  serve([b, await fourth], [third]);
  await answeredBy(toService, await fourth);
  await left(third, toService);
  expect((await third.end()).code).toBe(0);
  await answeredBy(callers, b);
  await books(callers);
});

it('a sidecar that dies while the controller is away has its identity still, and finds services once that is back', async () => {
  const [to, from] = [second as InjectedPod, web as InjectedPod];
  const callers = [...byService('crash'), ...byPod(to, 'crash')];
  await answeredBy(callers, to);
  await controller.kill();
  await to.crash();
  await answeredBy(callers, to);
  await from.crash();
  const waiting = callers.map((one) => one.nextCall(({ by }) => by === to.name));
  controller = await cluster.controller(control, api);
  await Promise.all(waiting);
  await Promise.all(callers.map((one) => one.stop()));
  // What was under way is lost with it, and its caller knows.
  expect(settle(callers, servers).wrong).toEqual([]);
});
