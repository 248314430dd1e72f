import { describe, expect, it } from 'vitest';
import { type KubernetesObject, schemaFaults } from '../harness/kubernetes-schema.ts';
import { podSecurityViolations } from '../harness/podsecurity.ts';

/** Parsed YAML, as its tests write into it. */
// biome-ignore lint/suspicious/noExplicitAny: any field of any kind of object
type Loose = any;
type Edit = (pod: Loose) => void;

/** A pod that fits `restricted`, changed by `edit`. */
function pod(edit: Edit = () => {}): Loose {
  const container = (name: string): object => ({
    name,
    image: 'example/app:1',
    ports: [{ name: 'grpc', containerPort: 50_051 }],
    env: [{ name: 'A_B', value: 'c' }],
    resources: { requests: { cpu: '100m', memory: '64Mi' }, limits: { cpu: 1, memory: '128Mi' } },
    volumeMounts: [{ name: 'data', mountPath: '/data' }],
    readinessProbe: { httpGet: { path: '/', port: 'grpc' } },
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
  });
  const made = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web', namespace: 'shop', labels: { app: 'web' } },
    spec: {
      containers: [container('app')],
      initContainers: [
        { ...container('proxy'), ports: [{ name: 'grpc', containerPort: 15_008 }], restartPolicy: 'Always' },
      ],
      volumes: [{ name: 'data', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } }],
      securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
    },
  };
  edit(made);
  return made;
}

describe('the check of Kubernetes objects', () => {
  it('has nothing to say of a right pod', () => {
    expect(schemaFaults(pod())).toEqual([]);
  });

  const deployment = (edit: Edit): KubernetesObject => {
    const { spec, metadata } = pod(edit);
    return {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'web' },
      spec: { selector: { matchLabels: { app: 'web' } }, template: { metadata, spec } },
    };
  };

  it.each<[string, RegExp, Edit]>([
    [
      'a misspelt field',
      /\/spec\/containers\/0: unknown field imagePullPolice/,
      ({ spec }) => (spec.containers[0].imagePullPolice = 'Always'),
    ],
    [
      'a field at the wrong place',
      /\/spec: unknown field readOnlyRootFilesystem/,
      ({ spec }) => (spec.readOnlyRootFilesystem = true),
    ],
    [
      'a number as text',
      /containerPort: must be integer/,
      ({ spec }) => (spec.containers[0].ports[0].containerPort = '80'),
    ],
    [
      'a number as the value of a variable',
      /env\/0\/value: must be string/,
      ({ spec }) => (spec.containers[0].env[0].value = 1),
    ],
    ['null', /emptyDir: must be object/, ({ spec }) => (spec.volumes[0].emptyDir = null)],
    ['a missing field', /must have required property 'name'/, ({ spec }) => delete spec.containers[0].name],
    [
      'a quantity that is none',
      /cpu: must match pattern/,
      ({ spec }) => (spec.containers[0].resources.limits.cpu = 'one'),
    ],
    [
      'two variables of one name',
      /env: two items with the same key/,
      ({ spec }) => spec.containers[0].env.push({ name: 'A_B' }),
    ],
    ['a label that is too long', /labels\/app: /, ({ metadata }) => (metadata.labels.app = 'a'.repeat(64))],
    [
      'a key of a label with two slashes',
      /no key of a label/,
      ({ metadata }) => (metadata.labels['a/b/c'] = ''),
    ],
    [
      'a key of an annotation with a space',
      /no key of an annotation/,
      ({ metadata }) => (metadata.annotations = { 'a b': '' }),
    ],
    [
      'a mount of nothing',
      /mounts date, which is no volume/,
      ({ spec }) => (spec.containers[0].volumeMounts[0].name = 'date'),
    ],
    ['a volume of nothing', /has 0 sources/, ({ spec }) => (spec.volumes = [{ name: 'data' }])],
    [
      'two containers of one name',
      /two containers are called proxy/,
      ({ spec }) => (spec.containers[0].name = 'proxy'),
    ],
    [
      'a port twice',
      /two containers have port 15008/,
      ({ spec }) => (spec.containers[0].ports[0].containerPort = 15_008),
    ],
    [
      'a port that is none',
      /70000 is no port/,
      ({ spec }) => (spec.containers[0].ports[0].containerPort = 70_000),
    ],
    [
      'a long name of a port',
      /is no name for a port/,
      ({ spec }) => (spec.containers[0].ports[0].name = 'a-name-that-is-too-long'),
    ],
    [
      'a probe of an unknown port',
      /readinessProbe: no port http/,
      ({ spec }) => (spec.containers[0].readinessProbe.httpGet.port = 'http'),
    ],
    [
      'a probe of nothing',
      /0 handlers/,
      ({ spec }) => (spec.containers[0].readinessProbe = { periodSeconds: 1 }),
    ],
    [
      'a probe of a container that ends',
      /may have no readinessProbe/,
      ({ spec }) => delete spec.initContainers[0].restartPolicy,
    ],
    [
      'more requested than allowed',
      /requests more memory \(1Gi\) than its limit \(128Mi\)/,
      ({ spec }) => (spec.containers[0].resources.requests.memory = '1Gi'),
    ],
    [
      'a variable with a value of two origins',
      /has a value and valueFrom/,
      ({ spec }) => (spec.containers[0].env[0].valueFrom = { fieldRef: { fieldPath: 'status.podIP' } }),
    ],
    ['no image', /no image/, ({ spec }) => (spec.containers[0].image = '')],
    [
      'a container named with capitals',
      /no name for a container/,
      ({ spec }) => (spec.containers[0].name = 'App'),
    ],
  ])('finds %s, in a pod and in a template', (_what, message, edit) => {
    for (const object of [pod(edit), deployment(edit)]) {
      const faults = schemaFaults(object).filter((fault) => message.test(fault));
      expect(faults, String(schemaFaults(object))).toHaveLength(1);
    }
  });

  it.each<[string, RegExp, KubernetesObject]>([
    ['a kind that is none', /no such kind: v1\/Deployment/, { apiVersion: 'v1', kind: 'Deployment' }],
    [
      'a name with capitals',
      /"Web" is no name/,
      { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'Web' } },
    ],
    [
      'a port of a Service twice',
      /two items with the same key/,
      { apiVersion: 'v1', kind: 'Service', spec: { ports: [{ port: 1 }, { port: 1, protocol: 'TCP' }] } },
    ],
    [
      'what a PodMonitor has not',
      /unknown field podMetricEndpoints/,
      {
        apiVersion: 'monitoring.coreos.com/v1',
        kind: 'PodMonitor',
        metadata: { name: 'a' },
        spec: { selector: {}, podMetricsEndpoints: [{ port: 'a' }], podMetricEndpoints: [] },
      },
    ],
  ])('finds %s', (_what, message, object) => {
    expect(schemaFaults(object)).toEqual([expect.stringMatching(message)]);
  });
});

describe('Pod Security', () => {
  it('lets a pod pass that fits', () => {
    expect(podSecurityViolations(pod(), 'restricted')).toEqual([]);
  });

  it('lets a container say what its pod does not', () => {
    const own = pod(({ spec }) => {
      spec.securityContext = {};
      for (const { securityContext } of [...spec.containers, ...spec.initContainers]) {
        Object.assign(securityContext, { runAsNonRoot: true, seccompProfile: { type: 'Localhost' } });
      }
    });
    expect(podSecurityViolations(own, 'restricted')).toEqual([]);
  });

  const of = (spec: Loose): Loose => spec.containers[0].securityContext;

  it.each<[string, Edit]>([
    ['windowsHostProcess', ({ spec }) => (spec.securityContext.windowsOptions = { hostProcess: true })],
    ['hostNamespaces', ({ spec }) => (spec.hostNetwork = true)],
    ['hostNamespaces', ({ spec }) => (spec.hostPID = true)],
    ['hostNamespaces', ({ spec }) => (spec.hostIPC = true)],
    ['privileged', ({ spec }) => (of(spec).privileged = true)],
    ['capabilities_baseline', ({ spec }) => (of(spec).capabilities.add = ['NET_ADMIN'])],
    ['hostPathVolumes', ({ spec }) => spec.volumes.push({ name: 'a', hostPath: { path: '/' } })],
    ['hostPorts', ({ spec }) => (spec.containers[0].ports[0].hostPort = 80)],
    [
      'hostProbesAndHostLifecycle',
      ({ spec }) => (spec.containers[0].readinessProbe.httpGet.host = '10.0.0.1'),
    ],
    [
      'hostProbesAndHostLifecycle',
      ({ spec }) => (spec.initContainers[0].lifecycle = { preStop: { tcpSocket: { host: 'a' } } }),
    ],
    ['appArmorProfile', ({ spec }) => (of(spec).appArmorProfile = { type: 'Unconfined' })],
    ['seLinuxOptions', ({ spec }) => (spec.securityContext.seLinuxOptions = { type: 'spc_t' })],
    ['seLinuxOptions', ({ spec }) => (of(spec).seLinuxOptions = { user: 'root' })],
    ['procMount', ({ spec }) => (of(spec).procMount = 'Unmasked')],
    ['seccompProfile_baseline', ({ spec }) => (spec.securityContext.seccompProfile.type = 'Unconfined')],
    ['sysctls', ({ spec }) => (spec.securityContext.sysctls = [{ name: 'kernel.msgmax', value: '1' }])],
  ])('%s: refused by baseline, and so by restricted', (control, edit) => {
    for (const level of ['baseline', 'restricted'] as const) {
      const violations = podSecurityViolations(pod(edit), level);
      expect(violations.filter((one) => one.startsWith(`${control}: `))).toHaveLength(1);
    }
  });

  it.each<[string, Edit]>([
    ['restrictedVolumes', ({ spec }) => spec.volumes.push({ name: 'a', nfs: { path: '/', server: 'a' } })],
    ['allowPrivilegeEscalation', ({ spec }) => delete of(spec).allowPrivilegeEscalation],
    ['runAsNonRoot', ({ spec }) => (of(spec).runAsNonRoot = false)],
    ['runAsUser', ({ spec }) => (of(spec).runAsUser = 0)],
    ['runAsUser', ({ spec }) => (spec.securityContext.runAsUser = 0)],
    ['seccompProfile_restricted', ({ spec }) => (of(spec).seccompProfile = { type: 'Other' })],
    ['capabilities_restricted', ({ spec }) => delete of(spec).capabilities],
    ['capabilities_restricted', ({ spec }) => (of(spec).capabilities.add = ['CHOWN'])],
  ])('%s: refused by restricted alone', (control, edit) => {
    const violations = podSecurityViolations(pod(edit), 'restricted');
    expect(violations).toEqual([expect.stringMatching(`^${control}: `)]);
    expect(podSecurityViolations(pod(edit), 'baseline')).toEqual([]);
  });

  it('counts init containers', () => {
    const root = pod(({ spec }) => (spec.initContainers[0].securityContext = {}));
    expect(podSecurityViolations(root, 'restricted')).toHaveLength(2);
  });
});
