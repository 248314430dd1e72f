/** The chart on the real API server, by Helm 4 and Helm 3: what is stored, upgrades, rollback, and what is left. */
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { CHART, HELMS } from '../harness/helm.ts';
import { Kubernetes, type ToolOutput } from '../harness/kubernetes.ts';

const NAMESPACE = 'hauberk-system';
const HOOKS = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/hauberk-injector';
const secretPath = (name: string): string => `/api/v1/namespaces/${NAMESPACE}/secrets/${name}`;

describe.each(HELMS)('%s', (helm) => {
  let cluster: Kubernetes;
  const run = async (...args: string[]): Promise<string> => succeeded(await cluster.tool(helm, args));
  const kubectl = async (input: string, ...args: string[]): Promise<ToolOutput> =>
    cluster.kubectl(args, input);

  beforeAll(async () => {
    cluster = await Kubernetes.make();
    // The strictest that a namespace can be.
    await cluster.namespace(NAMESPACE, { 'pod-security.kubernetes.io/enforce': 'restricted' });
  });

  test('installs; the server keeps every field of every object, and has nothing to warn of', async () => {
    await run('install', 'hauberk', CHART, '-n', NAMESPACE);
    const manifest = await run('get', 'manifest', 'hauberk', '-n', NAMESPACE);
    const dry = await kubectl(manifest, 'apply', '--dry-run=server', '--validate=strict', '-f', '-');
    expect([
      dry.code,
      dry.stderr.replaceAll(/Warning: resource \S+ is missing the kubectl\S+ annotation.*\n/g, ''),
    ]).toEqual([0, '']);
    const diff = await kubectl(manifest, 'diff', '--server-side', '--force-conflicts', '-f', '-');
    expect([diff.code, diff.stdout]).toEqual([0, '']);
  });

  test('a pod of its Deployment is one that Pod Security `restricted` takes', async () => {
    const { body } = await cluster.request(
      'GET',
      `/apis/apps/v1/namespaces/${NAMESPACE}/deployments/hauberk-controller`,
    );
    const { metadata, spec } = body.spec.template;
    const pod = { metadata: { ...metadata, generateName: 'hauberk-controller-' }, spec };
    const made = await cluster.request(
      'POST',
      `/api/v1/namespaces/${NAMESPACE}/pods?fieldValidation=Strict&dryRun=All`,
      { body: pod },
    );
    expect([made.status, made.body.message]).toEqual([201, undefined]);
  });

  test('an upgrade and a rollback leave what the controller has written', async () => {
    const token = await cluster.token(NAMESPACE, 'hauberk-controller');
    const { body } = await cluster.request('GET', HOOKS, { token });
    const patch = body.webhooks.map((_: unknown, i: number) => ({
      op: 'add',
      path: `/webhooks/${i}/clientConfig/caBundle`,
      value: toBase64(PEM),
    }));
    const patched = await cluster.request('PATCH', HOOKS, {
      token,
      body: patch,
      type: 'application/json-patch+json',
    });
    expect(patched.status).toBe(200);
    for (const name of ['hauberk-ca', 'hauberk-webhook-tls']) {
      const secret = { metadata: { name }, data: { text: toBase64(name) } };
      const made = await cluster.request('POST', `/api/v1/namespaces/${NAMESPACE}/secrets`, {
        token,
        body: secret,
      });
      expect(made.status).toBe(201);
    }
    const kept = async (): Promise<unknown> => {
      const hooks = (await cluster.request('GET', HOOKS)).body;
      const secrets = ['hauberk-ca', 'hauberk-webhook-tls'].map(
        async (name) => (await cluster.request('GET', secretPath(name))).body.data.text,
      );
      return [
        hooks.webhooks.map((hook: { clientConfig: { caBundle?: string }; failurePolicy: string }) => [
          hook.clientConfig.caBundle,
          hook.failurePolicy,
        ]),
        ...(await Promise.all(secrets)),
      ];
    };
    const all = (failurePolicy: string): unknown => [
      patch.map(() => [toBase64(PEM), failurePolicy]),
      toBase64('hauberk-ca'),
      toBase64('hauberk-webhook-tls'),
    ];
    expect(await kept()).toEqual(all('Fail'));
    await run(
      'upgrade',
      'hauberk',
      CHART,
      '-n',
      NAMESPACE,
      '--set',
      'webhook.failurePolicy=Ignore',
      '--set',
      'replicas=3',
    );
    expect(await kept()).toEqual(all('Ignore'));
    await run('upgrade', 'hauberk', CHART, '-n', NAMESPACE, '-f', join(CHART, 'values-ha.yaml'));
    expect(await kept()).toEqual(all('Fail'));
    await run('rollback', 'hauberk', '2', '-n', NAMESPACE);
    expect(await kept()).toEqual(all('Ignore'));
    await run('rollback', 'hauberk', '1', '-n', NAMESPACE);
    expect(await kept()).toEqual(all('Fail'));
  });

  test('an upgrade with values that do not fit is refused before anything changes', async () => {
    const before = await run('history', 'hauberk', '-n', NAMESPACE, '-o', 'json');
    const refused = await cluster.tool(helm, [
      'upgrade',
      'hauberk',
      CHART,
      '-n',
      NAMESPACE,
      '--set',
      'config.issuer.svidTtl=soon',
    ]);
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toContain('svidTtl');
    expect(await run('history', 'hauberk', '-n', NAMESPACE, '-o', 'json')).toBe(before);
  });

  test('an upgrade that would cut off the pods that run is refused, unless it is accepted', async () => {
    for (const value of [
      'ports.control=16010',
      'fullnameOverride=mesh',
      'config.issuer.audience=mesh',
      'config.trustDomain=shop.example',
    ]) {
      const upgrade = (...more: string[]) =>
        cluster.tool(helm, ['upgrade', 'hauberk', CHART, '-n', NAMESPACE, '--set', value, ...more]);
      const refused = await upgrade('--dry-run=server');
      expect([refused.code, refused.stderr]).toEqual([
        1,
        expect.stringContaining(`${value.split('=')[0]} would change from`),
      ]);
      const accepted = await upgrade('--dry-run=server', '--set', 'acceptCutOff=true');
      expect(accepted.code, accepted.stderr).toBe(0);
    }
  });

  test('without a controller pods that ask for a sidecar wait, and others do not; uninstalled, nothing is in the way', async () => {
    await cluster.namespace('shop', { 'hauberk.mesh/inject': 'enabled' });
    await cluster.namespace('other');
    const create = async (namespace: string): Promise<[number, string | undefined]> => {
      const { status, body } = await cluster.request('POST', `/api/v1/namespaces/${namespace}/pods`, {
        body: { metadata: { generateName: 'app-' }, spec: { containers: [{ name: 'app', image: 'app' }] } },
      });
      return [status, body.message];
    };
    expect(await create('shop')).toEqual([
      500,
      expect.stringContaining('failed calling webhook "namespace.injector.hauberk.mesh"'),
    ]);
    expect((await create('other'))[0]).toBe(201);
    await run('uninstall', 'hauberk', '-n', NAMESPACE);
    await expect.poll(async () => (await create('shop'))[0], { timeout: 30_000 }).toBe(201);
    const left = succeeded(
      await kubectl('', 'get', '-A', '-o', 'name', `--selector=app.kubernetes.io/instance=hauberk`, KINDS),
    );
    expect(left).toBe('');
    // It holds the CA of all identities: nobody but an administrator takes it away.
    expect((await cluster.request('GET', secretPath('hauberk-ca'))).status).toBe(200);
  });

  test('installs again where its CA still is', async () => {
    await run('install', 'hauberk', CHART, '-n', NAMESPACE);
    expect((await cluster.request('GET', secretPath('hauberk-ca'))).body.data.text).toBe(
      toBase64('hauberk-ca'),
    );
  });
});

const KINDS =
  'all,configmaps,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,mutatingwebhookconfigurations,networkpolicies,poddisruptionbudgets,priorityclasses';

const PEM = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n';

function toBase64(text: string): string {
  return Buffer.from(text).toString('base64');
}

function succeeded({ code, stdout, stderr }: ToolOutput): string {
  if (code !== 0) throw new Error(stderr);
  return stdout;
}
