/** The injector in service: its certificate is rotated, it is away, and many pods come at once. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { beforeEach, describe, expect, test } from 'vitest';
import { type Clock, systemClock } from '../../src/clock/clock.ts';
import { makeServing } from '../../src/kube/webhook/certificates.ts';
import type { KubeAnswer } from '../harness/apiserver.ts';
import { Controller, serve } from '../harness/controllers.ts';
import { CHART } from '../harness/helm.ts';
import { greeterPod } from '../harness/injection.ts';
import { startInjector } from '../harness/injector.ts';
import { Kubernetes } from '../harness/kubernetes.ts';

const DAY_MS = 86_400_000;
const settled = { timeout: 30_000, interval: 50 };
const POD_COUNT = 200;

let cluster: Kubernetes;

beforeEach(async () => {
  cluster = await Kubernetes.make();
  await cluster.namespace('hauberk-system');
  await cluster.namespace('shop', { 'hauberk.mesh/inject': 'enabled' }, 'greeter');
  await cluster.namespace('plain', {}, 'greeter');
  await cluster.install('helm4');
});

const create = (namespace = 'shop'): Promise<KubeAnswer> =>
  cluster.request('POST', `/api/v1/namespaces/${namespace}/pods`, { body: greeterPod() });

const outcome = ({ status, body }: KubeAnswer): string =>
  status === 201
    ? `created ${body.metadata.labels['hauberk.mesh/injected'] === 'true' ? 'with' : 'without'} a sidecar`
    : `${status} ${body.message}`;

/** Waits twenty times less; the time of day is the real one, which API servers hold certificates against. */
const hurried: Clock = {
  ...systemClock,
  monotonic: () => systemClock.monotonic() * 20,
  after: (ms, run) => systemClock.after(ms / 20, run),
  every: (ms, run) => systemClock.every(ms / 20, run),
};

test('a certificate that is two thirds through is replaced, and no pod meets one that the API server does not know', async () => {
  const names = ['hauberk-controller.hauberk-system.svc'];
  const { serving, ca } = await makeServing(names, Date.now() - 61 * DAY_MS, 90 * DAY_MS);
  const path = '/api/v1/namespaces/hauberk-system/secrets';
  const text = { 'tls.crt': serving.chain, 'tls.key': serving.key, 'ca.crt': ca };
  await cluster.request('POST', path, {
    body: { metadata: { name: 'hauberk-webhook-tls' }, stringData: text },
  });
  const { events } = await startInjector(cluster, hurried);
  const rotated = (): boolean =>
    events.some((event) => event.type === 'webhook.certificate' && event.cause === 'rotated');
  const outcomes = new Map<string, number>();
  let left = 30;
  await expect
    .poll(
      async () => {
        const what = outcome(await create());
        outcomes.set(what, (outcomes.get(what) ?? 0) + 1);
        return rotated() ? --left : left;
      },
      { timeout: 60_000, interval: 20 },
    )
    .toBe(0);
  expect([...outcomes.keys()]).toEqual(['created with a sidecar']);
  const { body } = await cluster.request('GET', `${path}/hauberk-webhook-tls`);
  const cas = Buffer.from(body.data['ca.crt'], 'base64').toString();
  expect([cas.includes(ca), cas.split('BEGIN').length - 1]).toEqual([true, 2]);
  expect(body.data['tls.crt']).not.toBe(Buffer.from(serving.chain).toString('base64'));
});

describe('while no controller answers', () => {
  test('with `Fail` a pod that asks for a sidecar is not created, with `Ignore` it is created without one', async () => {
    const controller = await Controller.start(cluster);
    await serve(cluster, [controller]);
    await expect.poll(async () => outcome(await create()), settled).toBe('created with a sidecar');
    await controller.kill();
    expect(outcome(await create())).toMatch(
      /^500 .*failed calling webhook "namespace.injector.hauberk.mesh".*connection refused/,
    );
    expect(outcome(await create('plain'))).toBe('created without a sidecar');
    const upgrade = [
      'upgrade',
      'hauberk',
      CHART,
      '-n',
      'hauberk-system',
      '--set',
      'webhook.failurePolicy=Ignore',
    ];
    expect((await cluster.tool('helm4', upgrade)).code).toBe(0);
    await expect.poll(async () => outcome(await create()), settled).toBe('created without a sidecar');
    await startInjector(cluster);
    await expect.poll(async () => outcome(await create()), settled).toBe('created with a sidecar');
  });
});

test('with webhook.clientCa only an API server with its certificate is answered', async () => {
  const { cert, key } = await cluster.certificate('api-server', ['DNS:api-server']);
  const upgrade = ['upgrade', 'hauberk', CHART, '-n', 'hauberk-system'];
  const upgraded = await cluster.tool('helm4', [...upgrade, '--set-file', `webhook.clientCa=${cert}`]);
  expect([upgraded.code, upgraded.stderr]).toEqual([0, '']);
  const controller = await Controller.start(cluster);
  await serve(cluster, [controller]);
  await expect
    .poll(async () => outcome(await create()), settled)
    .toMatch(/failed calling webhook.*(certificate required|handshake|EOF|reset)/);

  const user = { 'client-certificate': cert, 'client-key': key };
  const kubeconfig = join(cluster.dir, 'webhooks.kubeconfig');
  const users = [{ name: 'hauberk-controller.hauberk-system.svc', user }];
  await writeFile(kubeconfig, JSON.stringify({ apiVersion: 'v1', kind: 'Config', users }));
  const plugin = {
    name: 'MutatingAdmissionWebhook',
    configuration: {
      apiVersion: 'apiserver.config.k8s.io/v1',
      kind: 'WebhookAdmissionConfiguration',
      kubeConfigFile: kubeconfig,
    },
  };
  const file = join(cluster.dir, 'admission.json');
  const apiVersion = 'apiserver.config.k8s.io/v1';
  await writeFile(file, JSON.stringify({ apiVersion, kind: 'AdmissionConfiguration', plugins: [plugin] }));
  await cluster.killApiServer();
  await cluster.startApiServer(`--admission-control-config-file=${file}`);
  await expect.poll(async () => outcome(await create()), settled).toBe('created with a sidecar');
});

test(`${POD_COUNT} pods at once all get their sidecar`, async () => {
  await serve(cluster, [await Controller.start(cluster), await Controller.start(cluster)]);
  await expect.poll(async () => outcome(await create()), settled).toBe('created with a sidecar');
  for (const [namespace, wanted] of [
    ['plain', 'created without a sidecar'],
    ['shop', 'created with a sidecar'],
  ] as const) {
    const took: number[] = [];
    const outcomes = await Promise.all(
      Array.from({ length: POD_COUNT }, async () => {
        const from = performance.now();
        const answer = await create(namespace);
        took.push(performance.now() - from);
        return outcome(answer);
      }),
    );
    expect(new Set(outcomes)).toEqual(new Set([wanted]));
    took.sort((a, b) => a - b);
    const at = (part: number): string =>
      `${Math.round(took[Math.ceil(took.length * part) - 1] as number)} ms`;
    console.log(
      `${POD_COUNT} pods at once, ${wanted}: median ${at(0.5)}, p99 ${at(0.99)}, all within ${at(1)}`,
    );
  }
});
