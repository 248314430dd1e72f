import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { HELMS, only, run, template } from '../harness/helm.ts';
import { injectPod } from '../harness/injection.ts';
import { type KubernetesObject, schemaFaults } from '../harness/kubernetes-schema.ts';
import { podOf } from '../harness/podfaults.ts';
import { podSecurityViolations } from '../harness/podsecurity.ts';

const DEMO = fileURLToPath(new URL('../../helm/hauberk-demo', import.meta.url));

const MATRIX: Record<string, string[]> = {
  defaults: [],
  transparent: ['--set', 'mode=transparent'],
  'a namespace that is there': ['--set', 'namespace.create=false,namespace.name=shop'],
  'another image, trust domain and size': [
    '--set',
    'image.registry=,image.repository=hauberk,image.tag=dev,trustDomain=shop.example,greeter.replicas=1,web.every=100ms',
  ],
};

const render = (helm: (typeof HELMS)[number], args: readonly string[], namespace = 'default') =>
  template(helm, args, { chart: DEMO, namespace });

/** Settings of a control plane that fits: the two must name the same trust domain. */
function controlPlaneOf(args: readonly string[]): object {
  const trustDomain = /trustDomain=([^,]+)/.exec(args.join(' '))?.[1];
  if (trustDomain === undefined) return {};
  return { trustDomain, controllerPeer: `spiffe://${trustDomain}/ns/hauberk-system/sa/hauberk-controller` };
}

/** As a ReplicaSet makes it. */
function madePod(object: KubernetesObject): object {
  const { metadata, spec } = podOf(object) as NonNullable<ReturnType<typeof podOf>>;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { generateName: `${object.metadata?.name}-`, ...metadata },
    spec,
  };
}

describe.each(HELMS)('%s', (helm) => {
  it('lints and packages the chart', async () => {
    const { code, stdout } = await run(helm, ['lint', '--strict', DEMO]);
    expect(code, stdout).toBe(0);
  });

  it.each(Object.entries(MATRIX))(
    '%s: every object is right, before and after its injection',
    async (_case, args) => {
      const objects = await render(helm, args);
      const pods = objects.filter((object) => podOf(object) !== undefined);
      expect(pods.map(({ kind }) => kind).toSorted()).toEqual(['Deployment', 'Deployment', 'Pod']);
      for (const object of objects) expect(schemaFaults(object), object.kind).toEqual([]);
      for (const object of pods) {
        const made = madePod(object);
        expect(podSecurityViolations(made as never, 'restricted')).toEqual([]);
        const { pod, warnings } = injectPod(made, controlPlaneOf(args));
        expect(warnings).toEqual([]);
        expect(schemaFaults(pod)).toEqual([]);
        expect(pod.spec.initContainers?.map(({ name }) => name)).toContain('hauberk-proxy');
        const violations = podSecurityViolations(pod as never, 'restricted');
        if (!args.includes('mode=transparent')) expect(violations).toEqual([]);
        else expect(violations.every((one) => one.includes('container hauberk-capture'))).toBe(true);
      }
    },
  );

  it.each([
    ['an unknown value', ['--set', 'web.target=a:1'], 'default', /target/],
    [
      'a namespace of Kubernetes',
      ['--set', 'namespace.name=kube-system'],
      'default',
      /no pod in kube-system gets a sidecar: choose another/,
    ],
    [
      'a namespace that is there already',
      [],
      'hauberk-demo',
      /the release lives in hauberk-demo.*set namespace\.create=false, or install into another/,
    ],
    ['an interval without a unit', ['--set-string', 'web.every=5'], 'default', /every[\s\S]*pattern/],
  ])('refuses %s', async (_what, args, namespace, said) => {
    await expect(render(helm, args, namespace)).rejects.toThrow(said);
  });
});

it('is of the version of the program and of the other chart', () => {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  for (const chart of ['hauberk', 'hauberk-demo']) {
    const text = readFileSync(new URL(`../../helm/${chart}/Chart.yaml`, import.meta.url), 'utf8');
    expect(text).toContain(`\nversion: ${version}\nappVersion: ${version}\n`);
  }
});

it('web calls what greeter serves, and greeter lets web call', async () => {
  const objects = await render('helm4', []);
  const service = only(objects, 'Service') as never as {
    metadata: { name: string; namespace: string };
    spec: { ports: Array<{ port: number }> };
  };
  const containers = podOf(only(objects, 'Deployment', 'web'))?.spec.containers ?? [];
  expect(containers[0]?.args).toContain(
    `${service.metadata.name}.${service.metadata.namespace}:${service.spec.ports[0]?.port}`,
  );
  const greeter = injectPod(
    madePod(only(objects, 'Deployment', 'greeter')),
    {},
    { name: 'hauberk-demo', labels: { 'hauberk.mesh/inject': 'enabled' } },
  );
  const [proxy] = greeter.pod.spec.initContainers ?? [];
  const config = proxy?.env?.find(({ name }) => name === 'HAUBERK_CONFIG')?.value;
  expect(config).toContain('spiffe://cluster.local/ns/hauberk-demo/sa/web');
  expect(config).toContain('/hauberk.demo.v1.Greeter/*');
  expect(greeter.pod.spec.containers[0]?.readinessProbe).toMatchObject({
    httpGet: { path: '/app-probe/greeter/readyz', port: 15_020 },
  });
});
