import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CONTROLLER_FORM, WRITTEN_BY_INJECTOR } from '../../src/config/controllerform.ts';
import { parseConfig, parseForm } from '../../src/config/parse.ts';
import { CHART, HELMS, only, run, template } from '../harness/helm.ts';
import { type KubernetesObject, schemaFaults } from '../harness/kubernetes-schema.ts';
import { podOf } from '../harness/podfaults.ts';
import { podSecurityViolations } from '../harness/podsecurity.ts';

// biome-ignore lint/suspicious/noExplicitAny: any field of any kind of object
type Loose = any;

const folder = mkdtempSync(join(tmpdir(), 'hauberk-helm-'));
const CA = join(folder, 'ca.pem');
const KEY = join(folder, 'ca.key');

beforeAll(() => {
  writeFileSync(CA, '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n');
  writeFileSync(KEY, '-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const set = (...values: string[]): string[] => values.flatMap((value) => ['--set', value]);
const PROMETHEUS = ['--api-versions', 'monitoring.coreos.com/v1'];
const CERT_MANAGER = ['--api-versions', 'cert-manager.io/v1'];
const EXTERNAL = [...set('webhook.tls=external', 'webhook.tlsSecret=web-cert')];

/** What the chart is rendered with. */
const MATRIX: Record<string, string[]> = {
  defaults: [],
  'high availability': ['-f', join(CHART, 'values-ha.yaml')],
  'cert-manager, an issuer': [...EXTERNAL, ...set('webhook.certManager.issuerRef.name=ca'), ...CERT_MANAGER],
  'cert-manager, a certificate': [...EXTERNAL, ...set('webhook.certManager.certificate=pki/web')],
  'PEM of the user': [
    ...set('webhook.tls=files', 'webhook.tlsSecret=web-cert'),
    '--set-file',
    `webhook.caBundle=${CA}`,
  ],
  'the Prometheus Operator is there': PROMETHEUS,
  'a template of everything': set('dashboards.enabled=true').concat(PROMETHEUS, CERT_MANAGER),
  'monitors although it is not': set(
    'podMonitor.enabled=true',
    'prometheusRule.enabled=true',
    'podMonitor.labels.release=prom',
  ),
  'monitors off': [...PROMETHEUS, ...set('podMonitor.enabled=false', 'prometheusRule.enabled=false')],
  dashboards: set('dashboards.enabled=true', 'dashboards.annotations.folder=Mesh'),
  'failurePolicy Ignore': set('webhook.failurePolicy=Ignore', 'replicas=1'),
  'failurePolicy Fail with one replica': set('replicas=1'),
  'excluded namespaces': set('config.injector.excludedNamespaces={monitoring,kube-system}'),
  'transparent, enforced': set('config.injector.mode=transparent', 'config.injector.policy=enforce'),
  'the oldest cluster': ['--kube-version', '1.28.0'],
  'policies before apps': set('appNetworkPolicies.namespaces={shop,billing}'),
  'nothing that can be left out': set(
    'podDisruptionBudget.enabled=false',
    'priorityClass.create=false',
    'priorityClass.name=',
    'networkPolicy.enabled=false',
    'podAntiAffinity=off',
  ),
  'everything else': set(
    'image.registry=mirror.example:5000',
    `image.digest=sha256:${'a'.repeat(64)}`,
    'captureImage.tag=1.2.3',
    'imagePullSecrets[0].name=pull',
    'fullnameOverride=mesh',
    'ports.control=16010',
    'config.trustDomain=shop.example',
    'config.injector.uid=1000001',
    'config.injector.proxy.session.idle=30m',
    'config.monitoring.adapters={stdout}',
    'config.injector.resources.limits.cpu=2',
    'podDisruptionBudget.minAvailable=1',
    'nodeSelector.disk=ssd',
    'tolerations[0].key=a',
    'tolerations[0].operator=Exists',
    'serviceAccount.annotations.a=b',
    'podAnnotations.a=b',
    'podLabels.a=b',
    'commonLabels.team=mesh',
  ).concat(['--set-string', 'config.injector.resources.requests.cpu=1']),
};

describe.each(HELMS)('%s', (helm) => {
  it('lints the chart, strictly, with each of its values files', async () => {
    const files = readdirSync(CHART).filter((file) => /^values.*\.yaml$/.test(file));
    expect(files).toContain('values-ha.yaml');
    for (const file of files) {
      const { code, stdout, stderr } = await run(helm, ['lint', '--strict', CHART, '-f', join(CHART, file)]);
      expect(code, stdout + stderr).toBe(0);
      expect(stdout).toContain('0 chart(s) failed');
    }
  });

  it('packages the chart', async () => {
    const { code, stdout, stderr } = await run(helm, ['package', CHART, '-d', folder]);
    expect(code, stderr).toBe(0);
    const archive = /saved it to: (.*\.tgz)/.exec(stdout)?.[1] as string;
    const packed = await template(helm, [], { chart: archive });
    expect(packed).toEqual(await template(helm, []));
    rmSync(archive);
  });

  it.each(Object.entries(MATRIX))(
    '%s: every object is right, and every pod fits `restricted`',
    async (_case, args) => {
      const objects = await template(helm, args);
      expect(objects.length).toBeGreaterThan(8);
      for (const object of objects) {
        expect(schemaFaults(object), `${object.kind} ${object.metadata?.name}`).toEqual([]);
        const pod = podOf(object);
        if (pod !== undefined) expect(podSecurityViolations(pod, 'restricted')).toEqual([]);
      }
      const { data } = only(
        objects,
        'ConfigMap',
        args.join(' ').includes('=mesh') ? 'mesh' : 'hauberk-controller',
      ) as Loose;
      expect(() =>
        parseForm(CONTROLLER_FORM, data['controller.yaml'], { file: '/etc/hauberk/controller.yaml' }),
      ).not.toThrow();
    },
  );
});

/** Helm 4 installs kinds in another order. */
const sorted = (objects: KubernetesObject[]): KubernetesObject[] =>
  objects.toSorted((a, b) => (`${a.kind} ${a.metadata?.name}` < `${b.kind} ${b.metadata?.name}` ? -1 : 1));

it('both make the same of it', async () => {
  for (const args of Object.values(MATRIX)) {
    expect(sorted(await template('helm4', args))).toEqual(sorted(await template('helm3', args)));
  }
});

describe('what is refused', () => {
  const wrong: Array<[what: string, args: string[], said: RegExp]> = [
    ['an unknown value', set('replica=3'), /additional propert.*'?replica'?/i],
    ['an unknown value below config', set('config.issuer.svidTTL=1h'), /config.*issuer.*svidTTL|svidTTL/],
    ["an unknown key of the sidecars' configuration", set('config.injector.proxy.sesion.idle=1h'), /sesion/],
    ['what the chart sets itself', set('config.webhook.tls=files'), /additional propert.*webhook/i],
    [
      'a word that is none',
      set('webhook.failurePolicy=Warn'),
      /failurePolicy[\s\S]*'?"?Fail"?'?, '?"?Ignore/,
    ],
    [
      'a cluster that knows no matchConditions',
      ['--kube-version', '1.27.3'],
      /requires kubeVersion: >=1\.28\.0-0/,
    ],
    ['text for a number', set('replicas=three'), /replicas.*integer/],
    ['a number that is too large', set('webhook.timeoutSeconds=31'), /timeoutSeconds[\s\S]*30/],
    ['a port that only root may have', set('ports.webhook=443'), /ports.*webhook[\s\S]*1024|1,?024/],
    ['a duration without a unit', ['--set-string', 'config.issuer.svidTtl=24'], /svidTtl[\s\S]*pattern/],
    [
      'a name with capitals',
      set('config.injector.excludedNamespaces={Shop}'),
      /excludedNamespaces[\s\S]*pattern/,
    ],
    ['a digest that is none', set('image.digest=latest'), /digest[\s\S]*pattern/],
    [
      'a duration out of range',
      set('config.issuer.svidTtl=5m'),
      /config\.issuer\.svidTtl: 5m is out of range: write 10m to 7d\./,
    ],
    [
      'a tag and a digest',
      set('image.tag=v1', `image.digest=sha256:${'0'.repeat(64)}`),
      /image has a tag \(v1\) and a digest: set one/,
    ],
    [
      'two listeners of one port',
      set('ports.probes=15010'),
      /ports\.control and ports\.probes are both 15010: each listener/,
    ],
    [
      'a budget that stops every drain',
      set('replicas=1', 'podDisruptionBudget.minAvailable=1'),
      /minAvailable: 1 with replicas: 1 lets no node be drained: raise replicas, or use maxUnavailable: 1\./,
    ],
    [
      'a budget of two kinds',
      set('podDisruptionBudget.minAvailable=1', 'podDisruptionBudget.maxUnavailable=1'),
      /minAvailable and maxUnavailable: Kubernetes takes one/,
    ],
    [
      'the high availability of one',
      ['-f', join(CHART, 'values-ha.yaml'), ...set('replicas=1')],
      /minAvailable: 2 with replicas: 1/,
    ],
    [
      'files without their Secret',
      set('webhook.tls=files'),
      /webhook\.tls: files needs webhook\.tlsSecret.*--set-file webhook\.caBundle=ca\.pem/,
    ],
    [
      'a CA that is base64',
      set('webhook.tls=files', 'webhook.tlsSecret=a', 'webhook.caBundle=TUlJ'),
      /webhook\.caBundle is no PEM text/,
    ],
    [
      'a CA with its key',
      [...set('webhook.tls=files', 'webhook.tlsSecret=a'), '--set-file', `webhook.caBundle=${KEY}`],
      /webhook\.caBundle has a private key in it/,
    ],
    [
      'a CA of clients that is no PEM',
      set('webhook.clientCa=TUlJ'),
      /webhook\.clientCa is no PEM text.*--set-file webhook\.clientCa=ca\.pem/,
    ],
    [
      'a CA that nobody asked for',
      ['--set-file', `webhook.caBundle=${CA}`],
      /webhook\.caBundle is set, but webhook\.tls is self/,
    ],
    [
      'a Secret that nobody asked for',
      set('webhook.tlsSecret=a'),
      /webhook\.tlsSecret is set, but webhook\.tls is self/,
    ],
    [
      'external without a Secret',
      set('webhook.tls=external'),
      /webhook\.tls: external needs webhook\.tlsSecret/,
    ],
    [
      'external without cert-manager',
      EXTERNAL,
      /webhook\.tls: external needs webhook\.certManager\.issuerRef\.name.*or webhook\.certManager\.certificate/,
    ],
    [
      'external with both',
      [
        ...EXTERNAL,
        ...CERT_MANAGER,
        ...set('webhook.certManager.issuerRef.name=a', 'webhook.certManager.certificate=a/b'),
      ],
      /has issuerRef and certificate/,
    ],
    [
      'an issuer where there is no cert-manager',
      [...EXTERNAL, ...set('webhook.certManager.issuerRef.name=a')],
      /this cluster has no cert-manager/,
    ],
    [
      'cert-manager without external',
      set('webhook.certManager.certificate=a/b'),
      /webhook\.certManager is set, but webhook\.tls is self/,
    ],
    [
      'one Secret for two things',
      set('webhook.secret=hauberk-ca'),
      /config\.issuer\.caSecret and webhook\.secret are both hauberk-ca/,
    ],
    [
      "the CA's Secret for the webhook",
      [...EXTERNAL, ...set('webhook.tlsSecret=hauberk-ca', 'webhook.certManager.certificate=a/b')],
      /webhook\.tlsSecret are both hauberk-ca/,
    ],
    [
      'a policy before pods without a sidecar',
      set('appNetworkPolicies.namespaces={kube-system}'),
      /appNetworkPolicies\.namespaces has kube-system, whose pods get no sidecar/,
    ],
    [
      "a policy before the controller's own pods",
      set('appNetworkPolicies.namespaces={hauberk-system}'),
      /has hauberk-system, whose pods get no sidecar/,
    ],
    [
      'a leader that steps down too late',
      set('config.leader.renew=20s'),
      /config\.leader\.renew \(20s\) must be shorter than config\.leader\.duration \(15s\)/,
    ],
    [
      'a leader that tries too seldom',
      set('config.leader.retry=10s'),
      /config\.leader\.retry \(10s\) must be shorter/,
    ],
    [
      'a leader that tries just too seldom for the controller',
      set('config.leader.retry=4s'),
      /config\.leader\.retry \(4s\) must be shorter than two fifths of config\.leader\.renew \(10s\)/,
    ],
    [
      'what the injector writes itself',
      set('config.injector.proxy.egress.maxConnections=9'),
      /additional propert.*'?egress/i,
    ],
    [
      'an audit file where nothing can be written',
      set('config.monitoring.adapters[0].file.path=/var/log/audit.jsonl'),
      /config\.monitoring\.adapters has the file \/var\/log\/audit\.jsonl, which cannot be written/,
    ],
    [
      "an audit file of sidecars' where nothing can be written",
      set('config.injector.proxy.monitoring.adapters[0].file.path=audit.jsonl'),
      /config\.injector\.proxy\.monitoring\.adapters has the file audit\.jsonl/,
    ],
    [
      "a label that is a selector's",
      set('commonLabels.app\\.kubernetes\\.io/name=mine'),
      /commonLabels has app\.kubernetes\.io\/name, which is the chart's own/,
    ],
    [
      "a label of pods that is a selector's",
      set('podLabels.app\\.kubernetes\\.io/instance=mine'),
      /podLabels has app\.kubernetes\.io\/instance/,
    ],
    [
      'an end that Kubernetes cuts short',
      set('config.drain.deadline=0.5m'),
      /config\.drain\.deadline \(0\.5m\) must be shorter than terminationGracePeriodSeconds \(30\)/,
    ],
    [
      'a priority without a name',
      set('priorityClass.name='),
      /priorityClass\.create needs priorityClass\.name/,
    ],
    [
      "a priority of Kubernetes' own",
      set('priorityClass.name=system-cluster-critical'),
      /is Kubernetes' own: set priorityClass\.create: false/,
    ],
  ];

  it.each(wrong)('%s', async (_what, args, said) => {
    for (const helm of HELMS) await expect(template(helm, args), helm).rejects.toThrow(said);
  });

  // The chart knows each rule of the controller: what installs, starts.
  const edges: Array<[value: string, takes: boolean]> = [
    ['config.leader.retry=3900ms', true],
    ['config.leader.retry=4s', false],
    ['config.leader.renew=15s', false],
    ['config.leader.renew=14s', true],
    ['config.issuer.svidTtl=9m', false],
    ['config.issuer.svidTtl=10m', true],
    ['webhook.secret=hauberk-ca', false],
    ['ports.probes=15017', false],
    ['config.monitoring.adapters={stdout}', true],
    ['config.injector.proxy.session.idle=30m', true],
    ...WRITTEN_BY_INJECTOR.map((key): [string, boolean] => [`config.injector.proxy.${key}=x`, false]),
  ];
  it.each(edges)('%s: the chart says what the controller says', async (value, takes) => {
    const made = template('helm4', set(value));
    if (!takes) return await expect(made).rejects.toThrow();
    const { data } = only(await made, 'ConfigMap', 'hauberk-controller') as Loose;
    expect(() => parseForm(CONTROLLER_FORM, data['controller.yaml'], { file: 'it' })).not.toThrow();
    return undefined;
  });

  it.each(['default', 'kube-system'])('the namespace %s', async (namespace) => {
    for (const helm of HELMS) {
      await expect(template(helm, [], { namespace })).rejects.toThrow(
        `cannot live in the namespace ${namespace}, whose pods the injector never touches: install it into one of its own, with \`--namespace hauberk-system --create-namespace\``,
      );
    }
  });
});

describe('what the values do', () => {
  const kinds = (objects: readonly KubernetesObject[]): string[] => objects.map(({ kind }) => kind);
  const rendered = async (...args: string[]): Promise<KubernetesObject[]> => template('helm4', args);
  const webhooksOf = (objects: readonly KubernetesObject[]): Loose[] =>
    (only(objects, 'MutatingWebhookConfiguration') as Loose).webhooks;

  it('high availability: replicas, budget, nodes and zones', async () => {
    const objects = await rendered('-f', join(CHART, 'values-ha.yaml'));
    const { spec } = only(objects, 'Deployment') as Loose;
    expect(spec.replicas).toBe(3);
    expect(spec.strategy.rollingUpdate).toEqual({ maxSurge: 0, maxUnavailable: 1 });
    const { affinity, topologySpreadConstraints } = spec.template.spec;
    const [term] = affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution;
    expect(term.topologyKey).toBe('kubernetes.io/hostname');
    expect(topologySpreadConstraints[0].topologyKey).toBe('topology.kubernetes.io/zone');
    for (const { labelSelector } of [term, topologySpreadConstraints[0]]) {
      expect(spec.template.metadata.labels).toMatchObject(labelSelector.matchLabels);
    }
    expect((only(objects, 'PodDisruptionBudget') as Loose).spec.minAvailable).toBe(2);
  });

  it('selectors of Service, budget and policy are of the pods that there are', async () => {
    const objects = await rendered(...set('commonLabels.team=mesh'));
    const { spec } = only(objects, 'Deployment') as Loose;
    const { labels } = spec.template.metadata;
    expect(labels).toMatchObject(spec.selector.matchLabels);
    expect(labels).toMatchObject((only(objects, 'Service') as Loose).spec.selector);
    expect(labels).toMatchObject((only(objects, 'PodDisruptionBudget') as Loose).spec.selector.matchLabels);
    expect(labels).toMatchObject((only(objects, 'NetworkPolicy') as Loose).spec.podSelector.matchLabels);
    expect(spec.selector.matchLabels).not.toHaveProperty('team');
  });

  it('another configuration makes other pods, and the same one the same', async () => {
    const checksum = async (...args: string[]): Promise<string> =>
      (only(await rendered(...args), 'Deployment') as Loose).spec.template.metadata.annotations[
        'checksum/config'
      ];
    expect(await checksum()).toBe(await checksum());
    expect(await checksum(...set('config.log.level=debug'))).not.toBe(await checksum());
  });

  it('monitors come with the API, or by order', async () => {
    expect(kinds(await rendered())).not.toContain('PodMonitor');
    const there = kinds(await rendered(...PROMETHEUS));
    expect(there.filter((kind) => kind === 'PodMonitor')).toHaveLength(2);
    expect(there).toContain('PrometheusRule');
    expect(kinds(await rendered(...(MATRIX['monitors although it is not'] as string[])))).toContain(
      'PodMonitor',
    );
    expect(kinds(await rendered(...(MATRIX['monitors off'] as string[])))).not.toContain('PodMonitor');
  });

  it('no alert says that an app is exposed where a policy closes it', async () => {
    const alert = async (...args: string[]): Promise<string | undefined> => {
      const [, expression] =
        /HauberkAppExposed","expr":"((?:[^"\\]|\\.)*)"/.exec(
          JSON.stringify(await rendered(...PROMETHEUS, ...args)),
        ) ?? [];
      return expression?.replaceAll('\\', '');
    };
    expect(await alert()).toBe('hauberk_app_exposed_addresses > 0');
    expect(await alert(...set('appNetworkPolicies.namespaces={shop,billing}'))).toBe(
      'hauberk_app_exposed_addresses{namespace!~"shop|billing"} > 0',
    );
  });

  it('caBundle is never the chart’s: an upgrade would take out what the controllers have written', async () => {
    const files = await rendered(...(MATRIX['PEM of the user'] as string[]));
    for (const objects of [await rendered(), files])
      for (const { clientConfig } of webhooksOf(objects)) expect(clientConfig).not.toHaveProperty('caBundle');
    expect(JSON.stringify(only(files, 'ConfigMap', 'hauberk-controller'))).toContain(
      'caBundle: |\\n    -----BEGIN CERTIFICATE-----',
    );
    expect(JSON.stringify(only(files, 'ClusterRole'))).toContain('mutatingwebhookconfigurations');
  });

  it('cert-manager is told which certificate, and what it is for', async () => {
    const objects = await rendered(...(MATRIX['cert-manager, an issuer'] as string[]));
    const { metadata } = only(objects, 'MutatingWebhookConfiguration');
    expect(metadata?.annotations).toEqual({
      'cert-manager.io/inject-ca-from': 'hauberk-system/hauberk-controller-webhook',
    });
    const { spec } = only(objects, 'Certificate') as Loose;
    expect(spec.dnsNames).toContain('hauberk-controller.hauberk-system.svc');
    expect(spec.secretName).toBe('web-cert');
    expect(spec.issuerRef).toEqual({ name: 'ca', kind: 'Issuer', group: 'cert-manager.io' });
  });

  it('no Secret is the chart’s: the controller makes its own, which upgrades leave', async () => {
    for (const args of Object.values(MATRIX)) {
      expect(kinds(await template('helm4', args))).not.toContain('Secret');
    }
  });

  it('helm test asks for a certificate, with a configuration that is right, and without the key of the CA', async () => {
    const { spec, metadata } = only(await rendered(), 'Pod') as Loose;
    expect(metadata.annotations['helm.sh/hook']).toBe('test');
    const [{ args, env }] = spec.containers;
    expect(args).toEqual(['check-config', '--ask-controller']);
    const { controller, identity } = parseConfig(env[0].value, { file: 'HAUBERK_CONFIG' });
    expect(identity.issuer).toBe('controller');
    expect(controller?.peer).toBe('spiffe://cluster.local/ns/hauberk-system/sa/hauberk-controller');
    expect(controller?.address.host).toBe('hauberk-controller.hauberk-system.svc');
    const { secret } = spec.volumes.find(({ name }: { name: string }) => name === 'ca');
    expect(secret).toEqual({ secretName: 'hauberk-ca', items: [{ key: 'ca.crt', path: 'ca.crt' }] });
  });

  it('RBAC: nothing by wildcard, Secrets of two names, and writing only where it must be', async () => {
    const objects = await rendered();
    const rules = [only(objects, 'Role'), only(objects, 'ClusterRole')].flatMap(
      ({ rules }) => rules as Loose[],
    );
    for (const rule of rules) expect(JSON.stringify(rule)).not.toContain('*');
    const secrets = rules.filter(({ resources }) => resources.includes('secrets'));
    expect(secrets.map(({ verbs, resourceNames }) => [resourceNames, verbs.includes('create')])).toEqual([
      [undefined, true],
      [['hauberk-ca', 'hauberk-webhook-tls'], false],
    ]);
    const cluster = (only(objects, 'ClusterRole') as Loose).rules as Loose[];
    const rights = (some: Loose[]): string[] =>
      some.flatMap(({ apiGroups, resources, verbs }) =>
        resources.map((resource: string) => `${apiGroups.join()}/${resource}: ${verbs.join(' ')}`),
      );
    expect(rights(cluster)).toEqual([
      '/services: list watch',
      '/pods: list watch',
      'discovery.k8s.io/endpointslices: list watch',
      '/namespaces: get',
      'authentication.k8s.io/tokenreviews: create',
      'events.k8s.io/events: create patch',
      'admissionregistration.k8s.io/mutatingwebhookconfigurations: get watch patch',
    ]);
    expect(cluster.at(-1).resourceNames).toEqual(['hauberk-injector']);
    const external = only(
      await rendered(...(MATRIX['cert-manager, an issuer'] as string[])),
      'ClusterRole',
    ) as Loose;
    expect(rights(external.rules)).toEqual(rights(cluster).slice(0, -1));
  });
});
