/** `hauberk controller`, two replicas as the chart has them, on the real API server: identities, leadership, rights. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import { ControlChannel } from '../../src/control/channel.ts';
import { loadExposureDefinition } from '../../src/control/definition.ts';
import { ExposureReport } from '../../src/control/exposurereport.ts';
import type { IdentityError } from '../../src/identity/errors.ts';
import type { LoadedIdentity } from '../../src/identity/load.ts';
import { TrustBundle } from '../../src/identity/trustbundle.ts';
import { silentLogger } from '../../src/telemetry/log.ts';
import { askForSvid } from '../harness/askforsvid.ts';
import { Controller, caPem, serve } from '../harness/controllers.ts';
import { Kubernetes } from '../harness/kubernetes.ts';

const NAMESPACE = 'hauberk-system';
const ACCOUNT = `system:serviceaccount:${NAMESPACE}:hauberk-controller`;
const PEER = `spiffe://cluster.local/ns/${NAMESPACE}/sa/hauberk-controller`;
const AUDIENCE = { audience: 'hauberk' };
const settled = { timeout: 60_000, interval: 100 };

let cluster: Kubernetes;
let controllers: Controller[];
/** What sidecars trust, PEM. */
let ca: string;

beforeAll(async () => {
  cluster = await Kubernetes.make();
  await cluster.namespace(NAMESPACE, { 'pod-security.kubernetes.io/enforce': 'restricted' });
  await cluster.namespace('shop', {}, 'greeter', 'web');
  await cluster.install('helm4');
  const config = { leader: { duration: '4s', renew: '3s', retry: '500ms' } };
  controllers = await Promise.all([
    Controller.start(cluster, { config }),
    Controller.start(cluster, { config }),
  ]);
  await serve(cluster, controllers);
  ca = await caPem(cluster);
});

/** Asks a replica for an SVID, as a sidecar does. */
const certify = (
  token: string,
  controller = controllers[0] as Controller,
  peer?: string,
): Promise<LoadedIdentity> => askForSvid(cluster, controller, { token, bundlePem: ca, peer });

const refusal = async (token: string): Promise<string> =>
  certify(token).then(
    ({ identity }) => `an SVID of ${identity.spiffeId}`,
    (error: IdentityError) => `${error.code}: ${error.message}`,
  );

const lease = async (): Promise<string> =>
  (
    await cluster.request(
      'GET',
      `/apis/coordination.k8s.io/v1/namespaces/${NAMESPACE}/leases/hauberk-controller`,
    )
  ).body.spec.holderIdentity;
const leading = async (controller: Controller): Promise<boolean> =>
  /^hauberk_controller_leader 1$/m.test((await controller.probe('/metrics')).body);
const leader = async (): Promise<Controller | undefined> => {
  const states = await Promise.all(controllers.map((controller) => leading(controller).catch(() => false)));
  const all = controllers.filter((_, i) => states[i]);
  expect(all.length).toBeLessThan(2);
  return all[0];
};

describe('an identity', () => {
  test('is issued to a pod by the token that its kubelet has, by either replica, under one CA', async () => {
    const { name, uid, token } = await cluster.podWithToken('shop', 'greeter', AUDIENCE);
    for (const controller of controllers) {
      const { identity } = await certify(token, controller);
      expect(identity.spiffeId).toBe('spiffe://cluster.local/ns/shop/sa/greeter');
      const hours = (identity.notAfter - Date.now()) / 3_600_000;
      expect(hours).toBeGreaterThan(23.9);
      expect(hours).toBeLessThan(24.01);
      const { spiffeId } = identity;
      const event = await controller.audit.event('svid.issued', (issued) => issued.spiffeId === spiffeId);
      expect(event).toMatchObject({ pod: `shop/${name}`, podUid: uid, keyType: 'p256' });
    }
  });

  test('is not issued by a token of another audience, of no pod, of a pod that has gone, past its time or of another issuer', async () => {
    const pod = await cluster.podWithToken('shop', 'greeter', AUDIENCE);
    const other = await cluster.podWithToken('shop', 'web', { audience: 'vault' });
    expect(await refusal(other.token)).toContain('audience');
    const own = await cluster.podWithToken('shop', 'web');
    expect(await refusal(own.token)).toContain('audience');
    expect(await refusal(await cluster.token('shop', 'web', AUDIENCE))).toContain('not bound to a pod');
    const now = Math.floor(Date.now() / 1000);
    const forged: Array<[string, string]> = [
      ['expired', cluster.forge(pod.token, { exp: now - 60 })],
      ['of another key', cluster.forge(pod.token, {}, anotherKey())],
      ['of another issuer', cluster.forge(pod.token, { iss: 'https://elsewhere.example' })],
    ];
    for (const [what, token] of forged)
      expect([what, await refusal(token)]).toEqual([
        what,
        expect.stringContaining('does not accept the token'),
      ]);
    // The forger's hand is good enough: unchanged claims pass.
    expect(await refusal(cluster.forge(pod.token, {}))).toBe(
      'an SVID of spiffe://cluster.local/ns/shop/sa/greeter',
    );
    const gone = await cluster.podWithToken('shop', 'web', AUDIENCE);
    await cluster.request('DELETE', `/api/v1/namespaces/shop/pods/${gone.name}`);
    expect(await refusal(gone.token)).toContain('does not accept the token');
    const refused = await (controllers[0] as Controller).audit.event('svid.refused');
    expect(JSON.stringify(refused)).not.toContain(other.token.slice(0, 20));
  });

  test('is not taken from whom the sidecar does not expect', async () => {
    const { token } = await cluster.podWithToken('shop', 'greeter', AUDIENCE);
    const imposter = certify(token, controllers[0], 'spiffe://cluster.local/ns/shop/sa/web');
    await expect(imposter).rejects.toMatchObject({ code: 'controller-untrusted' });
  });
});

describe('an app that answers in plaintext', () => {
  /** What a sidecar of the pod tells a replica. */
  async function reporting(token: string, { address } = controllers[0] as Controller) {
    const folder = await mkdtemp(join(cluster.dir, 'sidecar-'));
    const file = join(folder, 'token');
    await writeFile(file, token);
    const bundle = TrustBundle.fromPem(ca, 'cluster.local');
    const channel = new ControlChannel({
      address: { host: address, port: 15010 },
      peer: PEER,
      token: file,
      bundle: () => bundle,
      clock: systemClock,
    });
    onTestFinished(() => channel.close());
    return channel;
  }

  /** As `kubectl describe pod` asks for them. */
  const eventsOf = async (uid: string): Promise<Array<Readonly<Record<string, unknown>>>> => {
    const selector = encodeURIComponent(`involvedObject.uid=${uid}`);
    return (await cluster.request('GET', `/api/v1/namespaces/shop/events?fieldSelector=${selector}`)).body
      .items;
  };

  test('is a warning at its pod, and another event when it does not any more', async () => {
    const [pod, other] = [
      await cluster.podWithToken('shop', 'greeter', AUDIENCE),
      await cluster.podWithToken('shop', 'greeter', AUDIENCE),
    ];
    const report = new ExposureReport({
      channel: await reporting(pod.token),
      clock: systemClock,
      log: silentLogger,
    });
    onTestFinished(() => report.close());
    const involvedObject = { kind: 'Pod', namespace: 'shop', name: pod.name, uid: pod.uid };
    const warning = {
      type: 'Warning',
      reason: 'PlaintextExposed',
      message: expect.stringMatching(/^the app answers in plaintext at port 50051 of the pod's addresses/),
      involvedObject,
      reportingComponent: 'hauberk.mesh/controller',
    };
    report.tell(new Set([50_051]));
    await expect.poll(() => eventsOf(pod.uid), settled).toMatchObject([warning]);
    report.tell(new Set());
    const closed = { type: 'Normal', reason: 'PlaintextClosed', involvedObject };
    await expect.poll(async () => (await eventsOf(pod.uid)).length, settled).toBe(2);
    const byReason = (await eventsOf(pod.uid)).sort((a, b) => (`${a.reason}` < `${b.reason}` ? -1 : 1));
    expect(byReason).toMatchObject([closed, warning]);
    expect(await eventsOf(other.uid)).toEqual([]);
  });

  test('is no event where the token is bound to no pod', async () => {
    const { Report } = await loadExposureDefinition();
    const channel = await reporting(await cluster.token('shop', 'web', AUDIENCE));
    const told = channel.call(Report as never, { exposed: [50_051], closed: [] }, 15_000, {
      authorize: true,
    });
    await expect(told).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
  });
});

describe('replicas', () => {
  test('have one leader; when it crashes the other leads, and identities go on meanwhile', async () => {
    await expect.poll(leader, settled).toBeDefined();
    const first = (await leader()) as Controller;
    const other = controllers.find((controller) => controller !== first) as Controller;
    const held = await lease();
    await first.kill();
    const { token } = await cluster.podWithToken('shop', 'web', AUDIENCE);
    expect((await certify(token, other)).identity.spiffeId).toBe('spiffe://cluster.local/ns/shop/sa/web');
    await expect.poll(() => leading(other), settled).toBe(true);
    expect(await lease()).not.toBe(held);
    await first.run();
    expect(await leader()).toBe(other);
  });

  test('that are stopped hand over at once, and end with code 0', async () => {
    await expect.poll(leader, settled).toBeDefined();
    const first = (await leader()) as Controller;
    const other = controllers.find((controller) => controller !== first) as Controller;
    const held = await lease();
    expect(await first.stop()).toBe(0);
    // It has let go: nobody waits for the end of the Lease.
    expect(await lease()).not.toBe(held);
    await expect.poll(() => leading(other), settled).toBe(true);
    await first.run();
  });
});

describe('the rights of the service account', () => {
  test('are all that a controller needs: none of its requests was forbidden', () => {
    const requests = cluster.requestsOf(ACCOUNT);
    expect(requests.length).toBeGreaterThan(20);
    expect(requests.filter(({ code }) => code === 401 || code === 403)).toEqual([]);
  });

  test.each<[string, string, unknown?]>([
    ['GET', '/api/v1/secrets'],
    ['GET', `/api/v1/namespaces/${NAMESPACE}/secrets`],
    ['GET', '/api/v1/namespaces/shop/secrets'],
    ['GET', '/api/v1/namespaces/shop/configmaps'],
    ['DELETE', `/api/v1/namespaces/${NAMESPACE}/secrets/hauberk-ca`],
    ['POST', '/api/v1/namespaces/shop/secrets', { metadata: { name: 'x' } }],
    [
      'POST',
      '/api/v1/namespaces/shop/pods',
      { metadata: { name: 'x' }, spec: { containers: [{ name: 'x', image: 'x' }] } },
    ],
    ['POST', '/api/v1/namespaces/shop/serviceaccounts/web/token', { spec: { audiences: ['hauberk'] } }],
    ['POST', `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/hauberk-controller/token`, { spec: {} }],
    ['DELETE', '/api/v1/namespaces/shop'],
    ['PATCH', '/api/v1/namespaces/shop', { metadata: { labels: { a: 'b' } } }],
    ['DELETE', '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/hauberk-injector'],
    [
      'POST',
      '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations',
      { metadata: { name: 'x' } },
    ],
    [
      'PATCH',
      '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/another',
      { webhooks: [] },
    ],
    [
      'POST',
      '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings',
      {
        metadata: { name: 'x' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
      },
    ],
    ['GET', '/api/v1/nodes'],
  ])('are no more: %s %s is forbidden', async (method, path, body) => {
    const token = await cluster.token(NAMESPACE, 'hauberk-controller');
    const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    expect((await cluster.request(method, path, { token, body, type })).status).toBe(403);
  });
});

// At the end: while an API server starts, it knows no rights yet.
test('replicas outlive an API server that crashes and one that hangs', async () => {
  const { token: unknown } = await cluster.podWithToken('shop', 'web', AUDIENCE);
  const pids = controllers.map(({ pid }) => pid);
  await cluster.killApiServer();
  expect(await refusal(unknown)).toContain('the API server cannot be asked about the token now');
  await cluster.startApiServer();
  onTestFinished(() => cluster.resumeApiServer());
  await expect.poll(leader, settled).toBeDefined();
  cluster.pauseApiServer();
  await expect.poll(leader, settled).toBeUndefined();
  cluster.resumeApiServer();
  await expect.poll(leader, settled).toBeDefined();
  const { token } = await cluster.podWithToken('shop', 'web', AUDIENCE);
  for (const controller of controllers) await certify(token, controller);
  expect([await caPem(cluster), controllers.map(({ pid }) => pid)]).toEqual([ca, pids]);
});

function anotherKey(): string {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return privateKey.export({ type: 'sec1', format: 'pem' }) as string;
}
