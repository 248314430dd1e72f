import { beforeAll, beforeEach, expect, it } from 'vitest';
import { type Container, Image } from '../harness/container.ts';
import { type Host, Network } from '../harness/netns.ts';
import { Cluster, type PlainApp, settle } from '../harness/pod.ts';
import { World } from '../harness/sidecars.ts';

/*
 * What becomes of the calls of plain apps while hosts are cut off, pods are rolled, and the wire loses packets or is slow: each is answered,
 * or ends UNAVAILABLE; none comes to an app twice.
 */

const MESH = ['--inbound-ports', '50051', '--redirect', '50051=15101'];

interface Pod {
  readonly host: Host;
  readonly app: PlainApp;
  readonly sidecar: Container;
}

let cluster: Cluster;
let network: Network;
let web: Host;
let callers: PlainApp[];
const pods: Pod[] = [];
/** Of all pods that there ever were. */
const servers: PlainApp[] = [];
let number = 10;

beforeAll(async () => {
  const image = await Image.build('hauberk');
  cluster = await Cluster.make(await World.make(), image, await Image.build('capture', image));
  network = await Network.make();
  await cluster.dns(await network.host('control', 2));
  web = await network.host('web', 3);
  await join(await pod(), await pod());
  expect((await cluster.captured(web, 'install', ...MESH)).code).toBe(0);
  await cluster.sidecar(web, 'web', {
    egress: {
      routes: [
        {
          service: 'greeter.shop',
          endpoints: ['greeter.shop:15008'],
          peer: cluster.world.spiffeId('greeter'),
        },
      ],
      redirects: [{ port: 50051, listen: 'localhost:15101' }],
    },
  });
});

beforeEach(() => {
  callers = ['a', 'b', 'c'].map((name) =>
    cluster.client(web, 'greeter.shop:50051', `${name}${++number}`, { ms: 15 }),
  );
});

/** A new pod of the called service, which nobody knows yet. */
async function pod(): Promise<Pod> {
  const host = await network.host(`greeter${++number}`, number);
  expect((await cluster.captured(host, 'install', ...MESH)).code).toBe(0);
  const app = await cluster.server(host, host.v4, '0.0.0.0:50051');
  servers.push(app);
  const { container } = await cluster.sidecar(host, 'greeter', {
    ingress: {
      apps: [{ service: 'greeter.shop', address: '127.0.0.1:50051' }],
      allow: [{ peer: cluster.world.spiffeId('*'), methods: ['/*/*'] }],
    },
  });
  return { host, app, sidecar: container };
}

/** Has these serve, and no others. */
async function join(...serving: Pod[]): Promise<void> {
  pods.splice(0, Number.POSITIVE_INFINITY, ...serving);
  await cluster.names({ 'greeter.shop': serving.map(({ host }) => host.v4) });
}

/** Waits until calls that each caller begins from now on are answered, by each of these pods. */
async function answeredBy(...serving: Pod[]): Promise<void> {
  for (const { host } of serving) {
    await Promise.all(callers.map((caller) => caller.nextCall(({ by }) => by === host.v4)));
  }
}

/** Waits until each caller has made a hundred calls, so that what happens to some of them is a share of many. */
async function hundreds(): Promise<void> {
  await Promise.all(callers.map((caller) => caller.line(({ ended }) => ended === `${caller.mark}-100`)));
}

/** Ends the callers and compares the books. */
async function books(): Promise<{ answered: number; unavailable: number }> {
  await Promise.all(callers.map((caller) => caller.stop()));
  const { wrong, answered, unavailable } = settle(callers, servers);
  expect(wrong).toEqual([]);
  console.log(`${answered} answered, ${unavailable} UNAVAILABLE`);
  return { answered, unavailable };
}

it('a host that is cut off costs only the calls that are under way there, and is used again when it is back', async () => {
  const [first, second] = pods as [Pod, Pod];
  await answeredBy(first, second);
  await first.host.connected(false);
  await answeredBy(second);
  // Those that went to the other, too.
  await Promise.all(callers.map((caller) => caller.callsEnded()));
  await answeredBy(second);
  await first.host.connected(true);
  await answeredBy(first);
  await hundreds();
  const { answered, unavailable } = await books();
  expect(unavailable).toBeLessThan(answered / 10);
});

it('a rolling deployment costs no call at all', async () => {
  for (const old of [...pods]) {
    const fresh = await pod();
    await join(...pods.filter((each) => each !== old), fresh);
    await answeredBy(fresh);
    await old.sidecar.signal('SIGTERM');
    expect((await old.sidecar.outcome).code).toBe(0);
    await old.app.stop();
    await answeredBy(...pods);
  }
  expect((await books()).unavailable).toBe(0);
});

it('a pod that dies costs only the calls that are under way there', async () => {
  const [dead, alive] = pods as [Pod, Pod];
  await answeredBy(dead, alive);
  await Promise.all([dead.sidecar.kill(), dead.app.kill()]);
  await answeredBy(alive);
  await join(alive, await pod());
  await answeredBy(...pods);
  await hundreds();
  const { answered, unavailable } = await books();
  expect(unavailable).toBeLessThan(answered / 10);
});

it('a wire that loses packets, and one that is slow, lose no call without a word', async () => {
  const [lossy, slow] = pods as [Pod, Pod];
  const loss = [
    'INPUT',
    '-p',
    'tcp',
    '-m',
    'statistic',
    '--mode',
    'random',
    '--probability',
    '0.1',
    '-j',
    'DROP',
  ];
  await lossy.host.run('iptables-nft', '-A', ...loss);
  await web.run('iptables-nft', '-A', ...loss);
  await slow.host.slow('200kbit');
  await hundreds();
  // More at once than the wire lets through at once, however busy the machine is.
  callers.push(cluster.client(web, 'greeter.shop:50051', `d${++number}`, { ms: 500, octets: 8192 }));
  for (let round = 0; round < 5; round++) await answeredBy(lossy, slow);
  const [, lost] =
    /^\[(\d+):\d+\] -A INPUT .*--mode random/m.exec(await web.run('iptables-nft-save', '-c')) ?? [];
  expect(Number(lost)).toBeGreaterThan(10);
  expect(await slow.host.delayed()).toBeGreaterThan(10);
  // Rules of ours go without those of others.
  expect((await cluster.captured(lossy.host, 'remove')).code).toBe(0);
  expect(await lossy.host.run('iptables-nft-save', '-t', 'filter')).toContain('--mode random');
  await web.run('iptables-nft', '-D', ...loss);
  await books();
});
