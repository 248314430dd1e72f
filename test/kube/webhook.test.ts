import type { IncomingMessage } from 'node:http';
import { Agent, request } from 'node:https';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { AuditEvent } from '../../src/audit/event.ts';
import { Recorder } from '../../src/audit/recorder.ts';
import { type Clock, systemClock } from '../../src/clock/clock.ts';
import { CONTROLLER_FORM } from '../../src/config/controllerform.ts';
import { parseForm } from '../../src/config/parse.ts';
import type { KubeClient } from '../../src/kube/client/client.ts';
import { openKubeClient } from '../../src/kube/client/httpsclient.ts';
import {
  collectionPath,
  MUTATING_WEBHOOKS,
  NAMESPACES,
  objectPath,
  SECRETS,
} from '../../src/kube/client/resource.ts';
import type { KubeSecret } from '../../src/kube/objects.ts';
import { Webhook } from '../../src/kube/webhook/webhook.ts';
import { silentLogger } from '../../src/telemetry/log.ts';
import { Metrics } from '../../src/telemetry/metrics.ts';
import { greeterPod, INJECTOR_SETTINGS } from '../harness/injection.ts';
import { applyJsonPatch } from '../harness/jsonpatch.ts';
import { KubeApi } from '../harness/kubeapi.ts';

const HOST = 'hauberk-controller.hauberk-system.svc';

let api: KubeApi;
let client: KubeClient;
let webhook: Webhook;
let metrics: Metrics;
let events: AuditEvent[];
let recorder: Recorder;
/** Milliseconds by which the webhook's clock is ahead. */
let late: number;
const clock: Clock = { ...systemClock, monotonic: () => systemClock.monotonic() + late };

beforeEach(async () => {
  late = 0;
  api = await KubeApi.start();
  client = openKubeClient({ access: api.access, clock: systemClock });
  metrics = new Metrics({ version: '0.0.0-test' });
  events = [];
  recorder = new Recorder({
    clock: systemClock,
    source: { instance: 'test', spiffeId: 'spiffe://cluster.local/ns/hauberk-system/sa/hauberk-controller' },
    adapters: [{ name: 'list', write: (batch: readonly AuditEvent[]) => void events.push(...batch) }],
  });
  api.put(collectionPath(NAMESPACES), {
    metadata: { name: 'shop', labels: { 'hauberk.mesh/inject': 'enabled' } },
  });
  api.put(collectionPath(NAMESPACES), { metadata: { name: 'silent' } });
  webhook = makeWebhook();
});

afterEach(async () => {
  webhook.stop();
  client.close();
  await recorder.close(1000);
  await api.end();
});

function makeWebhook(yaml = ''): Webhook {
  const config = parseForm(CONTROLLER_FORM, `webhook: { listen: "127.0.0.1:0" }\n${yaml}`, {
    file: 'controller.yaml',
  });
  return new Webhook({
    config,
    namespace: 'hauberk-system',
    version: '0.0.0-test',
    client,
    clock,
    log: silentLogger,
    recorder,
    metrics,
    bundlePem: () => INJECTOR_SETTINGS.bundlePem,
    isLeader: () => true,
    onSkipped: () => undefined,
  });
}

const portOf = (name: string | undefined): number => Number(name?.split(':').at(-1));
const bundle = (): string =>
  Buffer.from(
    api.at<KubeSecret>(objectPath(SECRETS, 'hauberk-webhook-tls', 'hauberk-system'))?.data?.['ca.crt'] ?? '',
    'base64',
  ).toString();

interface Asked {
  readonly body?: string | Buffer | undefined;
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Record<string, string>;
  readonly agent?: Agent;
}

/** As an API server asks: by the CA that was published, for the Service's name. */
function ask({ body, method = 'POST', path = '/inject', headers = {}, agent }: Asked) {
  return new Promise<{ status: number; text: string; headers: IncomingMessage['headers'] }>(
    (resolve, reject) => {
      const sent = request(
        {
          host: '127.0.0.1',
          port: portOf(webhook.bound[0]),
          servername: HOST,
          ca: bundle(),
          method,
          path,
          agent: agent ?? false,
          headers: { 'content-type': 'application/json', ...headers },
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('end', () =>
            resolve({
              status: response.statusCode ?? 0,
              text: Buffer.concat(chunks).toString(),
              headers: response.headers,
            }),
          );
        },
      );
      sent.on('error', reject);
      sent.end(body);
    },
  );
}

function review(pod: object, more: object = {}, version = 'admission.k8s.io/v1') {
  return JSON.stringify({
    apiVersion: version,
    kind: 'AdmissionReview',
    request: {
      uid: 'f0e1',
      kind: { group: '', version: 'v1', kind: 'Pod' },
      resource: { group: '', version: 'v1', resource: 'pods' },
      namespace: 'shop',
      operation: 'CREATE',
      userInfo: { username: 'system:serviceaccount:kube-system:replicaset-controller' },
      object: pod,
      dryRun: false,
      ...more,
    },
  });
}

async function admit(pod: object, more: object = {}) {
  const { status, text } = await ask({ body: review(pod, more) });
  expect(status).toBe(200);
  const answer = JSON.parse(text);
  expect(answer).toMatchObject({ apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview' });
  expect(answer.response.uid).toBe('f0e1');
  return answer.response;
}

const admissions = async (result: string) =>
  new RegExp(`hauberk_admissions_total\\{result="${result}"\\} ([0-9]+)`).exec(
    (await metrics.render()).body,
  )?.[1];

it('a new pod gets its sidecar as a patch, once', async () => {
  await webhook.open();
  const pod = greeterPod();
  const { allowed, patchType, patch, warnings } = await admit(pod);
  expect([allowed, patchType, warnings]).toEqual([true, 'JSONPatch', undefined]);
  const injected = applyJsonPatch(pod, JSON.parse(Buffer.from(patch, 'base64').toString()));
  expect(injected.spec.initContainers?.map(({ name }) => name)).toEqual(['hauberk-proxy']);
  expect(injected.spec.initContainers?.[0]?.image).toBe('ghcr.io/hauberk-mesh/hauberk:0.0.0-test');
  expect(await admit(injected)).toEqual({ uid: 'f0e1', allowed: true });
  expect([await admissions('injected'), await admissions('unchanged')]).toEqual(['1', '1']);
});

it('a pod that cannot have a sidecar is refused with the sentence, one that wants none is let pass', async () => {
  await webhook.open();
  expect(await admit(greeterPod({ ports: 'x' }))).toEqual({
    uid: 'f0e1',
    allowed: false,
    status: {
      status: 'Failure',
      reason: 'Forbidden',
      code: 403,
      message:
        'hauberk: pod "greeter-7d9c-...": hauberk.mesh/ports: "x" is not a port: write each as a number, as in 50051,50052',
    },
  });
  expect(await admit(greeterPod(), { namespace: 'silent' })).toEqual({ uid: 'f0e1', allowed: true });
  const warned = await admit(greeterPod({ ports: '50051' }), { namespace: 'silent' });
  expect([warned.allowed, warned.patch, warned.warnings]).toEqual([
    true,
    undefined,
    [expect.stringContaining('hauberk.mesh/ports, which has no effect')],
  ]);
  expect(await admit(greeterPod(), { operation: 'UPDATE' })).toEqual({ uid: 'f0e1', allowed: true });
  const other = { resource: { group: 'apps', version: 'v1', resource: 'deployments' } };
  expect(await admit(greeterPod(), other)).toEqual({ uid: 'f0e1', allowed: true });
  expect(await admit(greeterPod(), { subResource: 'ephemeralcontainers' })).toEqual({
    uid: 'f0e1',
    allowed: true,
  });
  expect([await admissions('refused'), await admissions('skipped')]).toEqual(['1', '5']);
});

it('injections and refusals are in the audit, with who asked and whether it was a dry run', async () => {
  await webhook.open();
  await admit(greeterPod(), { dryRun: true });
  await admit(greeterPod({ ports: 'x' }));
  await expect
    .poll(() => events.map(({ type }) => type))
    .toEqual(['webhook.certificate', 'pod.injected', 'pod.refused']);
  expect(events[1]).toMatchObject({
    namespace: 'shop',
    pod: 'greeter-7d9c-',
    user: 'system:serviceaccount:kube-system:replicaset-controller',
    dryRun: true,
    version: '0.0.0-test',
  });
  expect(events[2]).toMatchObject({ dryRun: false, detail: expect.stringContaining('"x" is not a port') });
});

it('warnings go to whoever creates the pod, no longer than API servers pass on', async () => {
  await webhook.open();
  const pod = greeterPod();
  delete pod.spec.containers[0]?.ports;
  const { warnings } = await admit(pod);
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toMatch(/^hauberk: .*says that this is meant$/);
  expect(warnings[0].length).toBeLessThanOrEqual(256);
});

it('what is no question of an API server gets a status and a sentence', async () => {
  await webhook.open();
  const pod = greeterPod();
  const cases: Array<[Asked, number, string]> = [
    [{ body: '{' }, 400, 'the body is not JSON in UTF-8'],
    [{ body: Buffer.from([0xff]) }, 400, 'the body is not JSON in UTF-8'],
    [{ body: '[]' }, 400, 'the body is not an AdmissionReview'],
    [
      { body: review(pod, {}, 'admission.k8s.io/v1beta1') },
      400,
      'only admission.k8s.io/v1 is known: set admissionReviewVersions',
    ],
    [
      { body: JSON.stringify({ apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview' }) },
      400,
      'holds no request',
    ],
    [{ body: review(pod, { uid: '' }) }, 400, 'the request has no uid'],
    [
      { body: review(pod), headers: { 'content-type': 'text/plain' } },
      415,
      'the content-type is not application/json',
    ],
    [{ body: review(pod), path: '/' }, 404, 'there is nothing but POST /inject'],
    [{ method: 'GET' }, 405, 'only POST is answered'],
    [
      { body: review(pod), headers: { 'content-length': '5000000' } },
      413,
      'the body is larger than 4194304 bytes',
    ],
    [
      { body: Buffer.alloc(4_194_305, ' '), headers: { 'transfer-encoding': 'chunked' } },
      413,
      'the body is larger than',
    ],
  ];
  for (const [asked, status, sentence] of cases) {
    const answer = await ask(asked);
    expect([answer.status, answer.text]).toEqual([status, expect.stringContaining(sentence)]);
    expect(answer.headers.connection).toBe('close');
  }
  expect(await admissions('failed')).toBe(String(cases.length));
});

it('objects that are no pods are refused, whatever is in them', async () => {
  await webhook.open();
  for (const object of [
    null,
    [],
    {},
    { metadata: {}, spec: { containers: [{}] } },
    { metadata: { labels: 1 }, spec: { containers: [] } },
  ]) {
    const { allowed, status } = await admit(object as object);
    expect([allowed, status.message]).toEqual([false, expect.stringContaining('the object is not a pod')]);
  }
});

it('a namespace that cannot be asked for leaves the decision to failurePolicy, and one that was known lately holds', async () => {
  await webhook.open();
  const fail = () => api.fail({ of: ({ path }) => path.includes('/namespaces/shop'), status: 500, times: 1 });
  fail();
  const { status, text } = await ask({ body: review(greeterPod()) });
  expect([status, text]).toEqual([500, expect.stringContaining('hauberk: ')]);
  expect((await admit(greeterPod())).patchType).toBe('JSONPatch');
  late += 200_000;
  fail();
  expect((await admit(greeterPod())).patchType).toBe('JSONPatch');
  late += 200_000;
  fail();
  expect((await ask({ body: review(greeterPod()) })).status).toBe(500);
});

it('what was known lately lets no pod pass without a sidecar', async () => {
  await webhook.open();
  const asked = () => admit(greeterPod(), { namespace: 'silent' });
  expect(await asked()).toEqual({ uid: 'f0e1', allowed: true });
  api.put(collectionPath(NAMESPACES), {
    metadata: { name: 'silent', labels: { 'hauberk.mesh/inject': 'enabled' } },
  });
  expect((await asked()).patchType).toBe('JSONPatch');
  late += 10_000;
  api.put(collectionPath(NAMESPACES), { metadata: { name: 'silent' } });
  expect(await asked()).toEqual({ uid: 'f0e1', allowed: true });
  late += 10_000;
  api.fail({ of: ({ path }) => path.includes('/namespaces/silent'), status: 500, times: 2 });
  expect((await ask({ body: review(greeterPod(), { namespace: 'silent' }) })).status).toBe(500);
});

it('native sidecars are a matter of the version that the API server says', async () => {
  api.serverVersion = { major: '1', minor: '28+' };
  await webhook.open();
  const { patch } = await admit(greeterPod());
  const { spec } = applyJsonPatch(greeterPod(), JSON.parse(Buffer.from(patch, 'base64').toString()));
  expect(spec.containers.map(({ name }) => name)).toEqual(['hauberk-proxy', 'app']);
});

it('publishes its CA as soon as it leads', async () => {
  const path = collectionPath(MUTATING_WEBHOOKS);
  api.put(path, { metadata: { name: 'hauberk-injector' }, webhooks: [{ name: 'a', clientConfig: {} }] });
  await webhook.open();
  await expect
    .poll(
      () =>
        api.at<{ webhooks: Array<{ clientConfig: { caBundle?: string } }> }>(`${path}/hauberk-injector`)
          ?.webhooks[0]?.clientConfig.caBundle,
    )
    .toBe(Buffer.from(bundle()).toString('base64'));
  await expect.poll(() => events.map(({ type }) => type)).toContain('webhook.published');
});

it('a drain takes requests for a moment, each the last of its connection, and ends', async () => {
  await webhook.open();
  const agent = new Agent({ keepAlive: true });
  await ask({ body: review(greeterPod()), agent });
  const [kept] = Object.values(agent.freeSockets)[0] ?? [];
  const ended = new Promise((resolve) => kept?.once('close', resolve));
  const drained = webhook.drain(1000);
  // On the connection that waited, too: an API server that uses it just then cannot tell whether its request was taken.
  for (const options of [{ agent }, {}]) {
    const { status, headers } = await ask({ body: review(greeterPod()), ...options });
    expect([status, headers.connection]).toEqual([200, 'close']);
  }
  await ended;
  expect(agent.freeSockets).toEqual({});
  await drained;
  await expect(ask({ body: review(greeterPod()) })).rejects.toThrow('ECONNREFUSED');
});
