/** The webhook of a real controller under load: how long API servers wait for it, and what it keeps of what it was asked. */
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { beforeAll, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { collectionPath, MUTATING_WEBHOOKS, NAMESPACES, objectPath } from '../../src/kube/client/resource.ts';
import type { MutatingWebhookConfiguration } from '../../src/kube/objects.ts';
import { spawnHauberk } from '../harness/cli.ts';
import { greeterPod } from '../harness/injection.ts';
import { KubeApi } from '../harness/kubeapi.ts';
import { residentOf } from '../harness/memory.ts';
import { atEnd } from '../harness/sidecars.ts';

const HOST = 'hauberk-controller.hauberk-system.svc';
const MIB = 2 ** 20;
/** Half of it is in use all the time: had 10,000 admissions left 2.4 KiB each, the process would end. */
const HEAP_MIB = 48;

let port: number;
let ca: string;
let controller: { readonly pid: number };

beforeAll(async () => {
  const api = await KubeApi.start();
  const folder = await mkdtemp(join(tmpdir(), 'hauberk-load-'));
  atEnd(() => rm(folder, { recursive: true }));
  atEnd(() => api.end());
  api.put(collectionPath(NAMESPACES), {
    metadata: { name: 'shop', labels: { 'hauberk.mesh/inject': 'enabled' } },
  });
  api.put(collectionPath(MUTATING_WEBHOOKS), {
    metadata: { name: 'hauberk-injector' },
    webhooks: [{ name: 'pods.hauberk.mesh', clientConfig: {} }],
  });
  const file = join(folder, 'controller.yaml');
  const config = {
    namespace: 'hauberk-system',
    control: { listen: '127.0.0.1:0' },
    webhook: { listen: '127.0.0.1:0' },
    probes: { http: '127.0.0.1:0' },
    kubernetes: api.access,
  };
  await writeFile(file, stringify(config));
  const child = spawnHauberk(['controller', '-c', file], {
    env: { NODE_OPTIONS: `--max-old-space-size=${HEAP_MIB}` },
  });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  atEnd(async () => {
    if (child.exitCode === null && child.kill()) await once(child, 'exit');
  });
  const line = await Promise.race([
    once(createInterface(child.stdout), 'line').then(([text]) => String(text)),
    once(child, 'exit').then(() => {
      throw new Error(`the controller has ended: ${errors}`);
    }),
  ]);
  const ready = JSON.parse(line) as { pid: number; webhook: string[] };
  controller = { pid: ready.pid };
  port = Number(ready.webhook[0]?.split(':').at(-1));
  const path = objectPath(MUTATING_WEBHOOKS, 'hauberk-injector');
  const published = (): string =>
    api.at<MutatingWebhookConfiguration>(path)?.webhooks?.[0]?.clientConfig?.caBundle ?? '';
  while (published() === '') await pause(100);
  ca = Buffer.from(published(), 'base64').toString();
});

function review(uid: string): string {
  const object = greeterPod({ upstreams: '50061=billing.shop:50051', limits: 'session=1000/60s' });
  object.metadata.name = `web-${uid}`;
  const resource = { group: '', version: 'v1', resource: 'pods' };
  const asked = { uid, resource, namespace: 'shop', operation: 'CREATE', object, dryRun: false };
  return JSON.stringify({ apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', request: asked });
}

/** Milliseconds until the whole answer, which must be a patch for just this pod. */
function admit(uid: string, agent: Agent | false): Promise<number> {
  const began = performance.now();
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: '127.0.0.1',
        port,
        servername: HOST,
        ca,
        agent,
        method: 'POST',
        path: '/inject',
        headers: { 'content-type': 'application/json' },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('error', reject);
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          const answer = response.statusCode === 200 ? JSON.parse(text).response : undefined;
          if (answer?.uid !== uid || answer.patchType !== 'JSONPatch') reject(new Error(`${uid}: ${text}`));
          else resolve(performance.now() - began);
        });
      },
    );
    sent.on('error', reject);
    sent.end(review(uid));
  });
}

it('200 pods at once, each over a connection of its own, all get their sidecar', async () => {
  await admit('warm', false);
  const times = await Promise.all(Array.from({ length: 200 }, (_, i) => admit(`burst-${i}`, false)));
  times.sort((a, b) => a - b);
  const [p50, p99] = [times[100], times[198]].map((ms) => Math.round(ms as number));
  console.log(
    `200 admissions at once: p50 ${p50} ms, p99 ${p99} ms, ${Math.round(times[199] as number)} ms the last`,
  );
  expect(times).toHaveLength(200);
});

it('10,000 admissions leave nothing in a heap that has little room', async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 16 });
  atEnd(() => agent.destroy());
  let next = 0;
  const until = async (end: number): Promise<number> => {
    const worker = async (): Promise<void> => {
      while (next < end) await admit(`flow-${next++}`, agent);
    };
    await Promise.all(Array.from({ length: 16 }, worker));
    return residentOf(controller);
  };
  const began = performance.now();
  const early = await until(4000);
  const late = await until(10_000);
  const rate = Math.round(10_000_000 / (performance.now() - began));
  const [before, after] = [early, late].map((octets) => (octets / MIB).toFixed(1));
  console.log(`${rate} admissions a second; ${before} MiB after 4,000, ${after} MiB after 10,000`);
  expect(await admit('last', false)).toBeGreaterThan(0);
});
