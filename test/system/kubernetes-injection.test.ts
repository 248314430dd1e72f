/** Pods that are created on the real API server, with the chart installed: which get a sidecar, and what becomes of them. */
import { beforeAll, describe, expect, test } from 'vitest';
import type { InjectorSettings } from '../../src/kube/injector/settings.ts';
import { startAdmissionServer } from '../harness/admissionserver.ts';
import { Controller, serve } from '../harness/controllers.ts';
import { configTextOf, greeterPod, injectPod, type TestPod } from '../harness/injection.ts';
import { Kubernetes } from '../harness/kubernetes.ts';

const RESTRICTED = { 'pod-security.kubernetes.io/enforce': 'restricted' };
const ENABLED = { 'hauberk.mesh/inject': 'enabled' };

let cluster: Kubernetes;
let settings: InjectorSettings;

beforeAll(async () => {
  cluster = await Kubernetes.make();
  await cluster.namespace('hauberk-system', RESTRICTED);
  await cluster.install('helm4');
  const controller = await Controller.start(cluster);
  await serve(cluster, [controller]);
  settings = await controller.injectorSettings();
  await cluster.namespace('shop', { ...ENABLED, ...RESTRICTED }, 'greeter');
  await cluster.namespace('loose', ENABLED, 'greeter');
  await cluster.namespace('plain', {}, 'greeter');
  await cluster.namespace('closed', { 'hauberk.mesh/inject': 'disabled' }, 'greeter');
  await cluster.namespace('typing', { 'hauberk.mesh/inject': 'enabeld' }, 'greeter');
});

interface Made {
  readonly status: number;
  readonly message: string | undefined;
  readonly pod: TestPod;
}

async function create(namespace: string, pod: TestPod, query = ''): Promise<Made> {
  const path = `/api/v1/namespaces/${namespace}/pods?fieldValidation=Strict${query}`;
  const { status, body } = await cluster.request('POST', path, { body: pod });
  return { status, message: body.message, pod: body };
}

/** A greeter that Pod Security `restricted` takes. */
function strict(
  annotations: Readonly<Record<string, string>> = {},
  spec: Readonly<Record<string, unknown>> = {},
): TestPod {
  const pod = greeterPod(annotations);
  const [app] = pod.spec.containers;
  return {
    ...pod,
    spec: {
      ...pod.spec,
      securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
      ...spec,
      containers: [
        {
          ...(app as NonNullable<typeof app>),
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
          readinessProbe: { grpc: { port: 50_051 } },
        },
      ],
    },
  };
}

const labelled = (pod: TestPod, labels: Record<string, string>): TestPod => ({
  ...pod,
  metadata: { ...pod.metadata, labels: { ...pod.metadata.labels, ...labels } },
});
/** Without what the server gives each container for itself. */
function withoutApiAccess(pod: TestPod): TestPod {
  const keep = ({ name }: { name: string }): boolean => !name.startsWith('kube-api-access-');
  const stripped = structuredClone(pod);
  const { spec } = stripped;
  spec.volumes = (spec.volumes ?? []).filter(keep);
  for (const container of [...(spec.initContainers ?? []), ...spec.containers])
    if (container.volumeMounts !== undefined) container.volumeMounts = container.volumeMounts.filter(keep);
  return stripped;
}

const namesOf = (containers: TestPod['spec']['initContainers'] = []): string[] =>
  containers.map(({ name }) => name);
const isInjected = ({ pod }: Made): boolean => namesOf(pod.spec.initContainers).includes('hauberk-proxy');

describe('a pod that asks for a sidecar', () => {
  test('gets one that starts before it and stays, within Pod Security `restricted`', async () => {
    const { status, message, pod } = await create(
      'shop',
      strict({ allow: 'spiffe://cluster.local/ns/shop/sa/*' }),
    );
    expect([status, message]).toEqual([201, undefined]);
    expect(pod.metadata.labels).toEqual({ app: 'greeter', 'hauberk.mesh/injected': 'true' });
    expect(pod.metadata.annotations).toMatchObject({
      'hauberk.mesh/version': settings.version,
      'hauberk.mesh/port': '15008',
    });
    expect(pod.spec.initContainers).toMatchObject([
      { name: 'hauberk-proxy', restartPolicy: 'Always', args: ['run'] },
    ]);
    expect(namesOf(pod.spec.containers)).toEqual(['app']);
    expect(withoutApiAccess(pod).spec.volumes).toMatchObject([
      { name: 'hauberk-run', emptyDir: { medium: 'Memory' } },
      {
        name: 'hauberk-token',
        projected: { sources: [{ serviceAccountToken: { audience: 'hauberk', path: 'token' } }] },
      },
    ]);
    // The app's own token for the API server is not the sidecar's.
    const [proxy] = pod.spec.initContainers ?? [];
    expect(withoutApiAccess(pod).spec.initContainers?.[0]?.volumeMounts).toEqual(proxy?.volumeMounts);
    const config = configTextOf(pod);
    expect(config).toContain('address: hauberk-controller.hauberk-system.svc:15010');
    expect(config).toContain('peer: spiffe://cluster.local/ns/hauberk-system/sa/hauberk-controller');
    expect(config).toContain(settings.bundlePem.trim().split('\n')[1]);
  });

  test.each<[string, string, TestPod]>([
    [
      'with every annotation of explicit mode',
      'shop',
      strict({
        ports: '50051,50052',
        upstreams: '50061=web.shop:50051',
        'mesh-port': '15108',
        'egress-port': '15011',
        'probe-port': '15030',
        'cpu-request': '10m',
        'cpu-limit': '1',
        'memory-request': '64Mi',
        'memory-limit': '128Mi',
        'log-level': 'debug',
        limits: 'session=1000/60s,peer=5000/60s',
        allow: 'spiffe://cluster.local/ns/*/sa/* /shop.Greeter/*',
        native: 'true',
        'grpc-proxy': 'false',
      }),
    ],
    ['not native, and its own probes', 'shop', strict({ native: 'false' })],
    ['that ends, as of a Job', 'shop', strict({}, { restartPolicy: 'Never' })],
    ['without a token of its own', 'shop', strict({}, { automountServiceAccountToken: false })],
    [
      'in transparent mode',
      'loose',
      greeterPod({
        mode: 'transparent',
        'capture-ports': '50051',
        'skip-ports': '50052',
        'skip-subnets': '10.9.0.0/16',
        'skip-users': '1337',
      }),
    ],
    ['in transparent mode and not native', 'loose', greeterPod({ mode: 'transparent', native: 'false' })],
  ])('%s, is stored with all that was put into it', async (_, namespace, asked) => {
    const { status, message, pod } = await create(namespace, asked);
    expect([status, message]).toEqual([201, undefined]);
    const { pod: wanted } = injectPod(asked, settings, { name: namespace, labels: ENABLED });
    expect(withoutApiAccess(pod)).toMatchObject(wanted);
  });

  test('in transparent mode, which needs NET_ADMIN, is not for a namespace of `restricted`', async () => {
    const { status, message } = await create('shop', strict({ mode: 'transparent' }));
    expect(status).toBe(403);
    expect(message).toMatch(
      /namespace shop enforces Pod Security restricted.*use hauberk.mesh\/mode: explicit$/,
    );
  });

  test('may be tried without being made', async () => {
    const dry = await create('shop', strict(), '&dryRun=All');
    expect([dry.status, isInjected(dry)]).toEqual([201, true]);
    expect(
      (await cluster.request('GET', `/api/v1/namespaces/shop/pods/${dry.pod.metadata.name}`)).status,
    ).toBe(404);
  });
});

describe('who is asked', () => {
  const asking = (text: string): TestPod => greeterPod({ inject: text });
  test.each<[string, string, TestPod, boolean]>([
    ['the namespace asks', 'loose', greeterPod(), true],
    ['nobody asks', 'plain', greeterPod(), false],
    ["the pod's annotation asks", 'plain', asking('enabled'), true],
    ["the pod's label asks", 'plain', labelled(greeterPod(), ENABLED), true],
    ["the pod's annotation refuses", 'loose', asking('disabled'), false],
    [
      "the pod's label refuses",
      'loose',
      labelled(greeterPod(), { 'hauberk.mesh/inject': 'disabled' }),
      false,
    ],
    ['the namespace refuses', 'closed', greeterPod(), false],
    ['the namespace refuses and the pod asks', 'closed', asking('enabled'), true],
    ['kube-system, and the pod asks', 'kube-system', asking('enabled'), false],
    [
      "the controller's own namespace, and the pod asks",
      'hauberk-system',
      strict({ inject: 'enabled' }),
      false,
    ],
  ])('%s', async (_, namespace, pod, injected) => {
    if (namespace === 'kube-system' || namespace === 'hauberk-system')
      await cluster.apply({
        apiVersion: 'v1',
        kind: 'ServiceAccount',
        metadata: { name: 'greeter', namespace },
      });
    const made = await create(namespace, pod);
    expect([made.status, made.message, isInjected(made)]).toEqual([201, undefined, injected]);
  });

  test('words that contradict each other are refused, whichever of them asks and whatever the namespace says', async () => {
    for (const namespace of ['loose', 'plain', 'closed']) {
      for (const [annotation, label] of [
        ['enabled', 'disabled'],
        ['disabled', 'enabled'],
      ] as const) {
        const pod = labelled(asking(annotation), { 'hauberk.mesh/inject': label });
        const { status, message } = await create(namespace, pod);
        expect([status, message]).toEqual([
          403,
          expect.stringContaining(`is ${annotation} by its annotation hauberk.mesh/inject and ${label} by`),
        ]);
      }
    }
  });

  test('a misspelt request is refused although nobody else asks, by an annotation and by a label', async () => {
    expect((await create('plain', greeterPod({ injct: 'enabled' }))).message).toMatch(
      /"hauberk.mesh\/injct" is not known: did you mean hauberk.mesh\/inject\?/,
    );
    const label = labelled(greeterPod(), { 'hauberk.mesh/injct': 'enabled' });
    expect((await create('plain', label)).message).toMatch(/the label "hauberk.mesh\/injct" is not known/);
  });

  test('a word that is neither of the two is refused, of a pod and of a namespace', async () => {
    expect((await create('plain', asking('yes'))).message).toMatch(/"?hauberk.mesh\/inject"?.*enabled/);
    expect((await create('typing', greeterPod())).message).toMatch(/enabeld.*enabled/);
  });
});

test('a container that another webhook adds later is led to the sidecar, too, of which there is one', async () => {
  await cluster.namespace('crowded', ENABLED, 'greeter');
  const late = { name: 'late', image: 'late' };
  await startAdmissionServer(cluster, 'crowded', 'pods', () => ({
    patch: [{ op: 'add', path: '/spec/containers/-', value: late }],
  }));
  await expect
    .poll(async () => namesOf((await create('crowded', greeterPod())).pod.spec.containers), {
      timeout: 30_000,
    })
    .toEqual(['app', 'late']);
  const { pod } = await create('crowded', greeterPod());
  expect(namesOf(pod.spec.initContainers)).toEqual(['hauberk-proxy']);
  for (const { env } of pod.spec.containers)
    expect(env).toContainEqual({ name: 'grpc_proxy', value: 'http://127.0.0.1:15001' });
});

describe('kubectl', () => {
  const kubectl = (pod: TestPod, ...args: string[]) =>
    cluster.kubectl([...args, '-n', 'loose', '-f', '-'], JSON.stringify(pod));

  test('shows whoever made a mistake the sentence that helps', async () => {
    const { code, stderr } = await kubectl(greeterPod({ portz: '50051' }), 'create');
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /admission webhook "namespace.injector.hauberk.mesh" denied the request: hauberk: pod .* the annotation "hauberk.mesh\/portz" is not known: did you mean hauberk.mesh\/ports\?\n$/,
    );
  });

  test('shows warnings', async () => {
    const pod = greeterPod();
    delete (pod.spec.containers[0] as { ports?: unknown }).ports;
    const { code, stderr } = await kubectl(pod, 'create');
    expect([code, stderr]).toEqual([
      0,
      expect.stringMatching(/^Warning: hauberk: pod .* names no gRPC port/),
    ]);
  });

  test('may apply the same pod again, label it and delete it', async () => {
    const pod = greeterPod();
    const named: TestPod = { ...pod, metadata: { name: 'greeter', labels: { app: 'greeter' } } };
    for (const said of ['pod/greeter created\n', 'pod/greeter unchanged\n']) {
      const { code, stdout, stderr } = await kubectl(named, 'apply');
      expect([code, stdout, stderr]).toEqual([0, said, '']);
    }
    const label = await cluster.kubectl(['-n', 'loose', 'label', 'pod', 'greeter', 'tier=web']);
    expect([label.code, label.stderr]).toEqual([0, '']);
    const gone = await cluster.kubectl(['-n', 'loose', 'delete', 'pod', 'greeter']);
    expect([gone.code, gone.stderr]).toEqual([0, '']);
  });
});
