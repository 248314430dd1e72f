// Pods as the injector leaves them, for whoever wants to look at one.
import { inject } from '../../src/kube/injector/inject.ts';
import type { InjectorSettings, NamespaceView } from '../../src/kube/injector/settings.ts';
import { applyJsonPatch, type JsonPatch } from './jsonpatch.ts';

/** As the controller's defaults make them. */
export const INJECTOR_SETTINGS: InjectorSettings = {
  version: '0.0.0-test',
  trustDomain: 'cluster.local',
  namespace: 'hauberk-system',
  controllerAddress: 'hauberk-controller.hauberk-system.svc:15010',
  controllerPeer: 'spiffe://cluster.local/ns/hauberk-system/sa/hauberk-controller',
  bundlePem: '-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIQ\n-----END CERTIFICATE-----\n',
  audience: 'hauberk',
  image: 'ghcr.io/hauberk-mesh/hauberk:0.0.0-test',
  captureImage: 'ghcr.io/hauberk-mesh/hauberk-capture:0.0.0-test',
  pullPolicy: 'IfNotPresent',
  uid: 15_008,
  mode: 'explicit',
  native: 'auto',
  serverKnowsNative: true,
  logLevel: 'info',
  resources: { requests: { cpu: '50m', memory: '96Mi' }, limits: { memory: '256Mi' } },
  excludedNamespaces: ['excluded'],
  policy: 'enforce',
  proxy: {},
};

export interface InjectedPod {
  readonly pod: TestPod;
  readonly warnings: readonly string[];
  readonly patch: JsonPatch;
}

interface TestContainer {
  name: string;
  image?: string;
  args?: string[];
  command?: string[];
  restartPolicy?: string;
  env?: Array<{ name: string; value?: string; valueFrom?: Record<string, unknown> }>;
  ports?: Array<{ name?: string; containerPort: number; protocol?: string }>;
  volumeMounts?: Array<{ name: string; mountPath: string; [field: string]: unknown }>;
  [field: string]: unknown;
}

/** A pod as tests write and read it. */
export interface TestPod {
  apiVersion: string;
  kind: string;
  [field: string]: unknown;
  metadata: {
    name?: string;
    generateName?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    [field: string]: unknown;
  };
  spec: {
    containers: TestContainer[];
    initContainers?: TestContainer[];
    volumes?: Array<{ name: string; [field: string]: unknown }>;
    [field: string]: unknown;
  };
}

export const NAMESPACE: NamespaceView = { name: 'shop', labels: { 'hauberk.mesh/inject': 'enabled' } };

/** The pod that the API server would store. Throws the sentence of a refusal, or why the pod is left alone. */
export function injectPod(
  pod: object,
  settings: Partial<InjectorSettings> = {},
  namespace: NamespaceView = NAMESPACE,
): InjectedPod {
  const result = inject(pod, namespace, { ...INJECTOR_SETTINGS, ...settings });
  if ('refused' in result) throw new Error(result.refused);
  if ('skipped' in result) throw new Error(`skipped: ${result.skipped}`);
  return {
    pod: applyJsonPatch(pod as TestPod, result.patch as JsonPatch),
    warnings: result.warnings,
    patch: result.patch as JsonPatch,
  };
}

/** A pod of one container that serves gRPC on 50051; `annotations` without their prefix. */
export function greeterPod(annotations: Readonly<Record<string, string>> = {}): TestPod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      generateName: 'greeter-7d9c-',
      labels: { app: 'greeter' },
      annotations: Object.fromEntries(
        Object.entries(annotations).map(([name, text]) => [`hauberk.mesh/${name}`, text]),
      ),
    },
    spec: {
      serviceAccountName: 'greeter',
      securityContext: { fsGroup: 2000 },
      containers: [
        {
          name: 'app',
          image: 'example.com/greeter:1',
          ports: [{ name: 'grpc', containerPort: 50_051 }],
        },
      ],
    },
  };
}

/** The text of HAUBERK_CONFIG as the process gets it: kubelet makes one `$` of two. */
export function configTextOf(pod: TestPod): string {
  const all = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
  const proxy = all.find(({ name }) => name === 'hauberk-proxy');
  const text = proxy?.env?.find(({ name }) => name === 'HAUBERK_CONFIG')?.value;
  if (text === undefined) throw new Error('the pod has no hauberk-proxy with HAUBERK_CONFIG');
  return expanded(text);
}

/** kubelet's expansion of a variable's text where nothing that it names is known. */
function expanded(text: string): string {
  return text.replaceAll(/\$(\$|\([^)]*\))?/g, (all, next: string | undefined) => {
    if (next === '$') return '$';
    if (next?.startsWith('(')) throw new Error(`kubelet would replace ${all}`);
    return all;
  });
}
