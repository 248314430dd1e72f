// What a cache of 10,000 pods costs a controller: node --expose-gc --import tsx bench/kubecache.bench.ts
// The API server is a stub (test/harness/kubeapi.ts), over TLS, in a process of its own.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../src/clock/clock.ts';
import type { KubeAccess } from '../src/config/incluster.ts';
import { openKubeClient } from '../src/kube/client/httpsclient.ts';
import { collectionPath, PODS } from '../src/kube/client/resource.ts';
import type { Pod } from '../src/kube/objects.ts';
import { Cache } from '../src/kube/watch/cache.ts';
import { KubeApi } from '../test/harness/kubeapi.ts';

const COUNT = 10_000;
const NAMESPACES = 50;

interface Kept {
  readonly namespace: string;
  readonly name: string;
  readonly ip: string;
  readonly serviceAccount: string;
}

const address = (i: number): string => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`;
const namespaceOf = (i: number): string => `team-${i % NAMESPACES}`;

/** About 8 KB, as pods have once a Deployment, a node and a mesh have written into them. */
function podOf(i: number, generation = 0): Pod {
  const container = (name: string) => ({
    name,
    image: `registry.example/team/${name}:1.2.3@sha256:${'0'.repeat(64)}`,
    env: Array.from({ length: 20 }, (_, k) => ({ name: `SETTING_${k}`, value: `value of setting ${k}` })),
    resources: { requests: { cpu: '100m', memory: '128Mi' }, limits: { memory: '256Mi' } },
    volumeMounts: Array.from({ length: 4 }, (_, k) => ({
      name: `volume-${k}`,
      mountPath: `/var/lib/app/${k}`,
    })),
  });
  return {
    metadata: {
      name: `web-${i}`,
      labels: { app: `web-${i % 500}`, 'pod-template-hash': '5d4f8c7b9' },
      annotations: { generation: String(generation), configuration: 'x'.repeat(2000) },
    },
    spec: {
      serviceAccountName: `web-${i % 500}`,
      nodeName: `node-${i % 200}`,
      containers: ['app', 'proxy'].map(container),
    },
    status: {
      phase: 'Running',
      podIP: address(i + generation * COUNT),
      conditions: Array.from({ length: 5 }, (_, k) => ({
        type: `Condition${k}`,
        status: 'True',
        lastTransitionTime: '2026-01-01T00:00:00Z',
      })),
    },
  } as Pod;
}

if (process.send !== undefined) await serve();
else await measure();

/** The stub: `{ put: generation }` changes every pod, `{ expire: true }` is 410 for all. */
async function serve(): Promise<void> {
  const api = await KubeApi.start();
  const put = (generation: number): void => {
    for (let i = 0; i < COUNT; i++) api.put(collectionPath(PODS, namespaceOf(i)), podOf(i, generation));
  };
  put(0);
  process.on('message', (order: { put?: number; expire?: boolean }) => {
    if (order.expire === true) api.expire();
    if (order.put !== undefined) put(order.put);
  });
  const { server, ca, token } = api.access;
  process.send?.({ server, ca, token });
}

function held(): number {
  for (let i = 0; i < 4; i++) global.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

async function measure(): Promise<void> {
  const stub = fork(fileURLToPath(import.meta.url), { execArgv: ['--import', 'tsx'] });
  const [access] = (await once(stub, 'message')) as [KubeAccess];
  const size = Buffer.byteLength(JSON.stringify(podOf(1)));
  const client = openKubeClient({ access, clock: systemClock });
  await client.list(collectionPath(PODS, 'none'));
  const before = held();
  const cache = new Cache<Pod, Kept>({
    client,
    clock: systemClock,
    path: collectionPath(PODS),
    keep: ({ metadata, spec, status }) => ({
      namespace: metadata.namespace as string,
      name: metadata.name as string,
      ip: status?.podIP as string,
      serviceAccount: spec?.serviceAccountName as string,
    }),
    indexers: { ip: ({ ip }) => [ip] },
  });
  let changes = 0;
  cache.onChange(() => changes++);

  /** Runs until the cache has told so many changes. */
  const phase = async (
    what: string,
    wanted: number,
    begin: () => void,
    done = (): boolean => true,
  ): Promise<void> => {
    const delay = monitorEventLoopDelay({ resolution: 1 });
    changes = 0;
    const [cpu, from] = [process.cpuUsage(), performance.now()];
    delay.enable();
    begin();
    while (changes < wanted || !done()) await new Promise((resolve) => setTimeout(resolve, 5));
    delay.disable();
    const { user, system } = process.cpuUsage(cpu);
    const ms = Math.round(performance.now() - from);
    const cpuMs = (user + system) / 1000;
    console.log(
      `${what}: ${ms} ms, CPU ${Math.round(cpuMs)} ms (${Math.round((cpuMs * 1000) / COUNT)} us a pod), longest turn ${Math.round(delay.max / 1e6)} ms, RSS ${Math.round(process.memoryUsage.rss() / 2 ** 20)} MiB`,
    );
  };

  console.log(`${COUNT} pods of ${size} octets of JSON, Node ${process.version}`);
  await phase('list', COUNT, () => cache.start());
  await cache.whenSynced();
  console.log(`kept after it: ${Math.round((held() - before) / COUNT)} octets a pod`);
  await phase('every pod changes', COUNT, () => void stub.send({ put: 1 }));
  await phase(
    '410: listed again, nothing is new',
    0,
    () => void stub.send({ expire: true }),
    () => cache.lists === 2,
  );
  stub.send({ expire: true, put: 2 });
  await phase('410, and every pod is new', COUNT, () => undefined);
  console.log(`kept after it: ${Math.round((held() - before) / COUNT)} octets a pod`);
  cache.stop();
  client.close();
  stub.kill();
}
