import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { inject } from '../../src/kube/injector/inject.ts';
import type { InjectorSettings } from '../../src/kube/injector/settings.ts';
import {
  configTextOf,
  greeterPod,
  INJECTOR_SETTINGS,
  injectPod,
  NAMESPACE,
  type TestPod,
} from '../harness/injection.ts';
import { schemaFaults } from '../harness/kubernetes-schema.ts';
import { podSecurityViolations } from '../harness/podsecurity.ts';

const configOf = (pod: TestPod) => parse(configTextOf(pod));
const names = (list: ReadonlyArray<{ name: string }> | undefined) => list?.map(({ name }) => name);
const skippedBecause = (pod: object, namespace = NAMESPACE, settings: Partial<InjectorSettings> = {}) => {
  const result = inject(pod, namespace, { ...INJECTOR_SETTINGS, ...settings });
  return 'skipped' in result ? result.skipped : result;
};

/** As Pod Security `restricted` wants the app itself. */
function restrictedPod(annotations: Record<string, string> = {}): TestPod {
  const pod = greeterPod(annotations);
  pod.spec.securityContext = {
    runAsNonRoot: true,
    runAsUser: 1000,
    fsGroup: 2000,
    seccompProfile: { type: 'RuntimeDefault' },
  };
  Object.assign(pod.spec.containers[0] as object, {
    securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
  });
  return pod;
}

it('a native sidecar comes first among the init containers and gates the others by its startup probe', () => {
  const pod = greeterPod();
  pod.spec.initContainers = [{ name: 'migrate', image: 'example.com/migrate:1' }];
  const injected = injectPod(pod).pod;
  expect(names(injected.spec.initContainers)).toEqual(['hauberk-proxy', 'migrate']);
  expect(names(injected.spec.containers)).toEqual(['app']);
  const [proxy] = injected.spec.initContainers ?? [];
  expect(proxy).toMatchObject({
    restartPolicy: 'Always',
    image: INJECTOR_SETTINGS.image,
    args: ['run'],
    startupProbe: { httpGet: { path: '/startupz', port: 15020 } },
  });
  expect(proxy).not.toHaveProperty('lifecycle');
  expect(schemaFaults(injected)).toEqual([]);
});

it('in explicit mode the pod still passes Pod Security restricted, in either form and with any identity', () => {
  expect(podSecurityViolations(restrictedPod(), 'restricted')).toEqual([]);
  for (const annotations of [
    {},
    { native: 'false' },
    { identity: 'secret:web' },
    { upstreams: '50061=a.shop:1' },
  ]) {
    const { pod } = injectPod(restrictedPod(annotations));
    expect(podSecurityViolations(pod, 'restricted')).toEqual([]);
    expect(schemaFaults(pod)).toEqual([]);
  }
});

it('transparent mode puts the redirects in place before the sidecar, and after the init containers where it is not native', () => {
  const pod = greeterPod({
    mode: 'transparent',
    'capture-ports': '9090,50051',
    'skip-subnets': '10.9.0.0/16',
  });
  pod.spec.initContainers = [{ name: 'migrate', image: 'example.com/migrate:1' }];
  const native = injectPod(pod).pod;
  expect(names(native.spec.initContainers)).toEqual(['hauberk-capture', 'hauberk-proxy', 'migrate']);
  expect(native.spec.initContainers?.[0]?.args).toEqual([
    ...['capture', 'install', '--redirect', '9090=15101', '--redirect', '50051=15102', '--uid', '15008'],
    ...['--inbound-ports', '50051', '--skip-subnets', '10.9.0.0/16'],
  ]);
  expect(native.spec.initContainers?.[0]?.securityContext).toMatchObject({
    capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW'] },
    allowPrivilegeEscalation: false,
  });
  expect(configOf(native).egress.redirects).toEqual([
    { port: 9090, listen: 'localhost:15101' },
    { port: 50051, listen: 'localhost:15102' },
  ]);
  const legacy = injectPod(pod, { serverKnowsNative: false }).pod;
  expect(names(legacy.spec.initContainers)).toEqual(['migrate', 'hauberk-capture']);
  expect(names(legacy.spec.containers)).toEqual(['hauberk-proxy', 'app']);
  for (const result of [native, legacy]) expect(schemaFaults(result)).toEqual([]);
});

it('a port that is not redirected is as closed to kubelet as others', () => {
  const pod = greeterPod({ mode: 'transparent', 'capture-ports': '9090', 'skip-ports': '50051' });
  Object.assign(pod.spec.containers[0] as object, { readinessProbe: { grpc: { port: 50051 } } });
  const { pod: injected } = injectPod(pod);
  expect(injected.spec.containers.at(-1)).toMatchObject({
    readinessProbe: { httpGet: { path: '/app-probe/app/readyz', port: 15020 } },
  });
});

it('a sidecar that is not native holds the app back by postStart', () => {
  const { pod } = injectPod(greeterPod(), { native: 'never' });
  const [proxy, app] = pod.spec.containers;
  expect(app?.name).toBe('app');
  expect(proxy).toMatchObject({
    lifecycle: {
      postStart: {
        exec: { command: ['hauberk', 'wait', '--probes', '127.0.0.1:15020', '--timeout', '60s'] },
      },
    },
  });
  expect(proxy).not.toHaveProperty('restartPolicy');
  expect(pod.spec).not.toHaveProperty('initContainers');
});

it('native is a matter of the API server, then of the setting, then of the annotation', () => {
  const isNative = (annotations: Record<string, string>, settings: Partial<InjectorSettings>) =>
    injectPod(greeterPod(annotations), settings).pod.spec.initContainers !== undefined;
  expect(isNative({}, { serverKnowsNative: true })).toBe(true);
  expect(isNative({}, { serverKnowsNative: false })).toBe(false);
  expect(isNative({}, { serverKnowsNative: true, native: 'never' })).toBe(false);
  expect(isNative({}, { serverKnowsNative: false, native: 'always' })).toBe(true);
  expect(isNative({ native: 'false' }, { native: 'always' })).toBe(false);
  expect(isNative({ native: 'auto' }, { native: 'never' })).toBe(true);
});

it('a Job gets a native sidecar, and is refused where it would never end', () => {
  const pod = greeterPod({ ports: 'none' });
  pod.spec.restartPolicy = 'Never';
  expect(injectPod(pod).pod.spec.initContainers).toHaveLength(1);
  expect(() => injectPod(pod, { serverKnowsNative: false })).toThrow(
    'restartPolicy is "Never", as in a Job: a sidecar that is a container like others would keep the pod from ever ending',
  );
});

it('containers of the app get the proxy variables, unless they have their own', () => {
  const pod = greeterPod();
  pod.spec.containers.push(
    { name: 'own', env: [{ name: 'grpc_proxy', value: 'http://elsewhere:1' }] },
    { name: 'exempt', env: [{ name: 'no_grpc_proxy', value: 'db' }] },
  );
  pod.spec.initContainers = [{ name: 'migrate' }];
  const variables = (result: TestPod) =>
    [...(result.spec.initContainers ?? []), ...result.spec.containers]
      .filter(({ name }) => !name.startsWith('hauberk'))
      .map(({ name, env }) => [name, env]);
  const ours = [
    { name: 'grpc_proxy', value: 'http://127.0.0.1:15011' },
    { name: 'no_grpc_proxy', value: 'localhost,127.0.0.1,::1' },
  ];
  pod.metadata.annotations = { 'hauberk.mesh/egress-port': '15011' };
  const native = injectPod(pod).pod;
  expect(variables(native)).toEqual([
    ['migrate', ours],
    ['app', ours],
    ['own', [{ name: 'grpc_proxy', value: 'http://elsewhere:1' }]],
    ['exempt', [{ name: 'no_grpc_proxy', value: 'db,localhost,127.0.0.1,::1' }, ours[0]]],
  ]);
  expect(variables(injectPod(pod, { native: 'never' }).pod)[0]).toEqual(['migrate', undefined]);
  const without = injectPod(greeterPod({ 'grpc-proxy': 'false' })).pod;
  expect(without.spec.containers[0]).not.toHaveProperty('env');
});

it('what a container exempts by no_proxy stays exempt', () => {
  const pod = greeterPod();
  const reference = { name: 'no_proxy', valueFrom: { configMapKeyRef: { name: 'proxy', key: 'none' } } };
  pod.spec.containers = [
    { name: 'text', env: [{ name: 'no_proxy', value: '.googleapis.com,, db:5432' }] },
    { name: 'reference', env: [reference] },
    { name: 'empty', env: [{ name: 'no_proxy', value: '' }] },
  ] as typeof pod.spec.containers;
  const injected = injectPod(pod).pod.spec.containers;
  const value = (name: string) =>
    injected.find((each) => each.name === name)?.env?.find((each) => each.name === 'no_grpc_proxy')?.value;
  expect(value('text')).toBe('localhost,127.0.0.1,::1,.googleapis.com, db:5432');
  expect(value('reference')).toBeUndefined();
  expect(value('empty')).toBe('localhost,127.0.0.1,::1');
});

it('whom an annotation names is called directly by every container, beside loopback and what it exempts itself', () => {
  const pod = greeterPod({ 'no-grpc-proxy': 'otel.obs, .googleapis.com,127.0.0.1' });
  pod.spec.containers = [
    { name: 'none' },
    { name: 'general', env: [{ name: 'no_proxy', value: 'db,otel.obs' }] },
    { name: 'list', env: [{ name: 'no_grpc_proxy', value: 'otel.obs,localhost' }] },
    { name: 'comma', env: [{ name: 'no_grpc_proxy', value: 'db,' }] },
    { name: 'blank', env: [{ name: 'no_grpc_proxy' }] },
    {
      name: 'whole',
      env: [{ name: 'no_grpc_proxy', value: '::1,127.0.0.1,localhost,.googleapis.com,otel.obs' }],
    },
    {
      name: 'own',
      env: [
        { name: 'grpc_proxy', value: 'http://elsewhere:1' },
        { name: 'no_grpc_proxy', value: 'db' },
      ],
    },
  ];
  const { pod: injected, warnings } = injectPod(pod);
  expect(warnings.filter((warning) => warning.includes('proxy'))).toEqual([]);
  const lists = Object.fromEntries(
    injected.spec.containers.map(({ name, env = [] }) => [
      name,
      env.filter((each) => each.name === 'no_grpc_proxy').map(({ value }) => value),
    ]),
  );
  expect(lists).toEqual({
    none: ['localhost,127.0.0.1,::1,otel.obs,.googleapis.com'],
    general: ['localhost,127.0.0.1,::1,otel.obs,.googleapis.com,db,otel.obs'],
    list: ['otel.obs,localhost,127.0.0.1,::1,.googleapis.com'],
    comma: ['db,localhost,127.0.0.1,::1,otel.obs,.googleapis.com'],
    blank: ['localhost,127.0.0.1,::1,otel.obs,.googleapis.com'],
    whole: ['::1,127.0.0.1,localhost,.googleapis.com,otel.obs'],
    own: ['db'],
  });
  expect(injectPod(injected).patch).toEqual([]);
});

it('a list that something else holds is left as it is, with a warning that says what it needs', () => {
  const pod = greeterPod({ 'no-grpc-proxy': 'otel.obs' });
  const valueFrom = { configMapKeyRef: { name: 'proxy', key: 'none' } };
  const cases = [
    [{ name: 'no_grpc_proxy', valueFrom }],
    [{ name: 'no_grpc_proxy', value: '$(NONE)' }],
    [{ name: 'no_proxy', value: 'db,$(NONE)' }],
  ];
  for (const env of cases) {
    pod.spec.containers = [{ name: 'app', env }];
    const { pod: injected, warnings } = injectPod(pod);
    expect(injected.spec.containers[0]?.env).toEqual([
      ...env,
      { name: 'grpc_proxy', value: 'http://127.0.0.1:15001' },
    ]);
    expect(warnings).toContainEqual(
      `hauberk: container "app" of pod "greeter-7d9c-..." has its ${env[0]?.name} from somewhere else, and nothing can be added to it: have it list localhost,127.0.0.1,::1,otel.obs, or calls to these go to the sidecar`,
    );
    expect(injectPod(injected).patch).toEqual([]);
  }
});

it('the configuration is whole: identity, controller, ports, upstreams, rules and limits', () => {
  const { pod } = injectPod(
    greeterPod({
      ports: '50051,50052',
      upstreams: '50061=Billing.shop:50051',
      allow:
        'spiffe://cluster.local/ns/shop/sa/* /shop.Greeter/* /shop.Stock/Get; spiffe://cluster.local/ns/ops/sa/cron',
      limits: 'session=1000/60s, peer=5000/1m',
      'log-level': 'debug',
      'mesh-port': '15108',
    }),
    { policy: 'open' },
  );
  expect(configOf(pod)).toEqual({
    trustDomain: 'cluster.local',
    identity: {
      svid: '/run/hauberk/svid.pem',
      key: '/run/hauberk/svid.key',
      bundle: '/run/hauberk/bundle.pem',
      issuer: 'controller',
    },
    controller: {
      address: 'hauberk-controller.hauberk-system.svc:15010',
      peer: 'spiffe://cluster.local/ns/hauberk-system/sa/hauberk-controller',
      token: '/var/run/secrets/hauberk/token',
      bundlePem: INJECTOR_SETTINGS.bundlePem,
    },
    egress: {
      listen: 'localhost:15001',
      discovery: true,
      namespace: 'shop',
      routes: [{ service: 'billing.shop:50051', discovery: true, listen: '127.0.0.1:50061' }],
      redirects: [],
    },
    ingress: {
      listen: ':15108',
      apps: [
        { service: '*', address: '127.0.0.1:50051' },
        { service: '*', address: '127.0.0.1:50052' },
      ],
      allow: [
        { peer: 'spiffe://cluster.local/ns/shop/sa/*', methods: ['/shop.Greeter/*', '/shop.Stock/Get'] },
        { peer: 'spiffe://cluster.local/ns/ops/sa/cron', methods: ['/*/*'] },
      ],
    },
    policy: 'enforce',
    limits: [
      { scope: 'session', maxRequests: 1000, window: '60s' },
      { scope: 'peer', maxRequests: 5000, window: '1m' },
    ],
    probes: { http: ':15020', grpc: ':15021', apps: [] },
    monitoring: { adapters: ['stdout'], calls: 'failed' },
    drain: { deadline: '28s' },
    log: { level: 'debug' },
  });
  expect(pod.metadata.annotations?.['hauberk.mesh/port']).toBe('15108');
});

it('what the controller sets for all proxies holds, but for what the injector sets', () => {
  const proxy = {
    session: { idle: '10m' },
    monitoring: { calls: 'all' },
    egress: { maxConnections: 9, listen: 'off' },
  };
  expect(configOf(injectPod(greeterPod(), { proxy, policy: 'open' }).pod)).toMatchObject({
    session: { idle: '10m' },
    monitoring: { adapters: ['stdout'], calls: 'all' },
    egress: { maxConnections: 9, listen: 'localhost:15001' },
    policy: 'open',
  });
});

it('a configuration that the sidecar would refuse is refused with what it would say', () => {
  expect(() => injectPod(greeterPod(), { proxy: { sesion: {} } })).toThrow(
    'its sidecar would refuse its configuration: sesion: unknown key: did you mean session?',
  );
  expect(() => injectPod(greeterPod({ limits: 'session=1/60s,session=2/1m' }))).toThrow(
    'its sidecar would refuse its configuration: limits[1]: a second limit has the scope session and the window 1m: keep one',
  );
});

it('a dollar sign survives kubelet, which replaces $(NAME) in variables', () => {
  const method = '/shop.Greeter/$(PATH)$$x';
  const { pod } = injectPod(greeterPod({ allow: `spiffe://cluster.local/ns/shop/sa/web ${method}` }));
  expect(configOf(pod).ingress.allow[0].methods).toEqual([method]);
});

it('the sidecar ends within the grace period of its pod', () => {
  const deadline = (terminationGracePeriodSeconds: number) => {
    const pod = greeterPod();
    pod.spec.terminationGracePeriodSeconds = terminationGracePeriodSeconds;
    return configOf(injectPod(pod).pod).drain.deadline;
  };
  expect([600, 30, 10, 1, 0].map(deadline)).toEqual(['30s', '28s', '8s', '0s', '0s']);
});

it('a pod that only calls has no mesh port, and is told so unless it says that this is meant', () => {
  const pod = greeterPod();
  delete pod.spec.containers[0]?.ports;
  const { pod: injected, warnings } = injectPod(pod);
  expect(configOf(injected).ingress).toMatchObject({ listen: 'off', apps: [] });
  expect(injected.metadata.annotations).not.toHaveProperty('hauberk.mesh/port');
  expect(warnings).toEqual([expect.stringContaining('names no gRPC port, so that its sidecar only calls')]);
  expect(injectPod(greeterPod({ ports: 'none' })).warnings).toEqual([]);
});

it('gRPC ports are found by their names, of TCP only', () => {
  const pod = greeterPod();
  Object.assign(pod.spec.containers[0] as object, {
    ports: [
      { name: 'grpc-web', containerPort: 1 },
      { name: 'h2c', containerPort: 2 },
      { name: 'http', containerPort: 3 },
      { containerPort: 4 },
      { name: 'grpc-udp', containerPort: 5, protocol: 'UDP' },
    ],
  });
  expect(configOf(injectPod(pod).pod).ingress.apps).toEqual([
    { service: '*', address: '127.0.0.1:1' },
    { service: '*', address: '127.0.0.1:2' },
  ]);
});

it('an identity from a Secret needs no certificate of the controller', () => {
  const { pod } = injectPod(greeterPod({ identity: 'secret:web-svid' }));
  const closed = greeterPod({ identity: 'secret:web-svid' });
  delete closed.spec.securityContext;
  expect(() => injectPod(closed)).toThrow(
    'hauberk.mesh/identity: Kubernetes mounts the Secret for root alone',
  );
  expect(configOf(pod).identity).toMatchObject({
    svid: '/var/run/secrets/hauberk-identity/svid.pem',
    issuer: 'files',
  });
  expect(pod.spec.volumes?.find(({ name }) => name === 'hauberk-identity')).toMatchObject({
    secret: { secretName: 'web-svid' },
  });
});

it('pods are stamped with the version and found by their label', () => {
  const { metadata } = injectPod(greeterPod()).pod;
  expect(metadata.labels).toEqual({ app: 'greeter', 'hauberk.mesh/injected': 'true' });
  expect(metadata.annotations?.['hauberk.mesh/version']).toBe('0.0.0-test');
});

it('the pod wins over its namespace, and either over nothing', () => {
  const off = { name: 'shop', labels: { 'hauberk.mesh/inject': 'disabled' } };
  const silent = { name: 'shop', labels: {} };
  expect(skippedBecause(greeterPod(), silent)).toBe(
    'neither the pod nor its namespace has hauberk.mesh/inject: enabled',
  );
  expect(skippedBecause(greeterPod(), off)).toBe('namespace shop says hauberk.mesh/inject: disabled');
  expect(skippedBecause(greeterPod({ inject: 'disabled' }))).toBe(
    'the pod says hauberk.mesh/inject: disabled',
  );
  expect(injectPod(greeterPod({ inject: 'enabled' }), {}, off).patch).not.toEqual([]);
  const labelled = greeterPod();
  labelled.metadata.labels = { 'hauberk.mesh/inject': 'enabled' };
  expect(injectPod(labelled, {}, silent).patch).not.toEqual([]);
});

it('where nobody asks, a misspelt key is refused and one without effect is warned of', () => {
  const silent = { name: 'shop', labels: {} };
  const said = (pod: TestPod) => inject(pod, silent, INJECTOR_SETTINGS);
  expect(said(greeterPod({ injct: 'enabled' }))).toEqual({
    refused: expect.stringContaining('"hauberk.mesh/injct" is not known: did you mean hauberk.mesh/inject?'),
  });
  const labelled = greeterPod();
  labelled.metadata.labels = { 'hauberk.mesh/allow': 'x' };
  expect(said(labelled)).toEqual({ refused: expect.stringContaining('make it an annotation') });
  expect(said(greeterPod({ allow: 'spiffe://cluster.local/ns/shop/sa/web' }))).toEqual({
    skipped: expect.any(String),
    warnings: [
      expect.stringMatching(/hauberk.mesh\/allow, which has no effect.*set hauberk.mesh\/inject: enabled$/),
    ],
  });
  expect(said(injectPod(greeterPod()).pod)).toMatchObject({ warnings: [] });
});

it('some namespaces and pods are left alone whatever they say', () => {
  for (const name of ['kube-system', 'kube-public', 'kube-node-lease', 'hauberk-system', 'excluded']) {
    const namespace = { name, labels: { 'hauberk.mesh/inject': 'enabled' } };
    expect(skippedBecause(greeterPod({ inject: 'enabled' }), namespace)).toContain(`namespace ${name}`);
  }
  expect(skippedBecause(greeterPod(), { name: 'kube-system', labels: {} }, { excludedNamespaces: [] })).toBe(
    'namespace kube-system belongs to Kubernetes',
  );
  const mirror = greeterPod({ inject: 'enabled' });
  mirror.metadata.annotations = { ...mirror.metadata.annotations, 'kubernetes.io/config.mirror': 'x' };
  expect(skippedBecause(mirror)).toBe('it is a mirror of a static pod');
});

it("pods on their node's network and on Windows are skipped, or refused if they ask themselves", () => {
  const host = greeterPod();
  host.spec.hostNetwork = true;
  expect(skippedBecause(host)).toBe("it is on its node's network (hostNetwork)");
  expect(skippedBecause(host, NAMESPACE, { mode: 'transparent' })).toBe(
    "it is on its node's network (hostNetwork)",
  );
  expect(inject(host, NAMESPACE, INJECTOR_SETTINGS)).toMatchObject({
    warnings: [expect.stringMatching(/^hauberk: pod .* gets no sidecar: it is on its node's network/)],
  });
  host.metadata.annotations = { 'hauberk.mesh/inject': 'enabled' };
  expect(() => injectPod(host, { mode: 'transparent' })).toThrow('would redirect the whole node');
  expect(() => injectPod(host)).toThrow('every other pod of the node would reach the sidecar');
  host.metadata.annotations = { 'hauberk.mesh/mode': 'transparent' };
  expect(() => injectPod(host)).toThrow('transparent mode would redirect the whole node');
  for (const spec of [{ os: { name: 'windows' } }, { nodeSelector: { 'kubernetes.io/os': 'windows' } }]) {
    const windows = greeterPod();
    Object.assign(windows.spec, spec);
    expect(skippedBecause(windows)).toBe('it runs on Windows');
    windows.metadata.annotations = { 'hauberk.mesh/inject': 'enabled' };
    expect(() => injectPod(windows)).toThrow('runs on Windows, for which there is no sidecar');
  }
});

it('a rule that lets nobody in is warned of', () => {
  const warned = (...peers: string[]) => injectPod(greeterPod({ allow: peers.join(';') })).warnings;
  expect(
    warned(
      'spiffe://cluster.local/ns/shop/sa/web',
      'spiffe://cluster.local/ns/*/sa/*',
      'spiffe://cluster.local/*/*/*/a*',
    ),
  ).toEqual([]);
  for (const peer of [
    'spiffe://cluster.local/*',
    'spiffe://cluster.local/ns/shop/sa/web/x',
    'spiffe://cluster.local/ns/shop/as/web',
  ]) {
    expect(warned(peer)).toEqual([
      `hauberk: pod "greeter-7d9c-..." has "${peer}" in hauberk.mesh/allow, which no pod's identity matches, for * does not cross a /: write it as in spiffe://cluster.local/ns/*/sa/*`,
    ]);
  }
});

it('a pod that may not find the controller by its name is warned of', () => {
  const warned = (dnsPolicy: string) => {
    const pod = greeterPod({ allow: 'spiffe://cluster.local/ns/shop/sa/web' });
    pod.spec.dnsPolicy = dnsPolicy;
    return injectPod(pod).warnings;
  };
  expect(warned('ClusterFirst')).toEqual([]);
  for (const policy of ['Default', 'None']) {
    expect(warned(policy)).toEqual([expect.stringContaining(`has dnsPolicy ${policy}: unless names`)]);
  }
});

it('the init container has a CPU limit where the sidecar has one', () => {
  const capture = (annotations: Record<string, string>) =>
    injectPod(greeterPod({ mode: 'transparent', ...annotations })).pod.spec.initContainers?.[0]?.resources;
  const memory = { requests: { memory: '64Mi' }, limits: { memory: '128Mi' } };
  expect(capture({})).toEqual({ requests: { ...memory.requests, cpu: '10m' }, limits: memory.limits });
  expect(capture({ 'cpu-limit': '1' })).toEqual({
    requests: { ...memory.requests, cpu: '10m' },
    limits: { ...memory.limits, cpu: '1' },
  });
  expect(capture({ 'cpu-limit': '5m' })).toMatchObject({ requests: { cpu: '5m' }, limits: { cpu: '5m' } });
});

it("a container that runs as the sidecar's user is refused where that would open a way around it", () => {
  const pod = greeterPod();
  pod.spec.securityContext = { runAsUser: 15008 };
  expect(injectPod(pod).warnings).toHaveLength(1);
  expect(() => injectPod(pod, { mode: 'transparent' })).toThrow(
    'container "app" runs as user 15008, which is the sidecar\'s, and what that user calls is not captured',
  );
  pod.spec.shareProcessNamespace = true;
  expect(() => injectPod(pod)).toThrow('could read its keys, since shareProcessNamespace is on');
  Object.assign(pod.spec.containers[0] as object, { securityContext: { runAsUser: 1000 } });
  expect(injectPod(pod).warnings).toContainEqual(expect.stringContaining('shareProcessNamespace'));
});

it('transparent mode is refused where Pod Security forbids what it needs', () => {
  const labels = { ...NAMESPACE.labels, 'pod-security.kubernetes.io/enforce': 'restricted' };
  expect(() => injectPod(greeterPod(), { mode: 'transparent' }, { name: 'shop', labels })).toThrow(
    'namespace shop enforces Pod Security restricted, which forbids the NET_ADMIN of transparent mode',
  );
});
