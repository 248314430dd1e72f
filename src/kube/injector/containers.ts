// The containers and volumes that a pod gets. In explicit mode they are what Pod Security `restricted` admits.
import { amountOf } from './annotationvalues.ts';
import {
  API_ACCESS_FOLDER,
  CAPTURE,
  IDENTITY_FOLDER,
  IDENTITY_VOLUME,
  PROXY,
  RUN_FOLDER,
  RUN_VOLUME,
  TOKEN_FOLDER,
  TOKEN_VOLUME,
} from './names.ts';
import type { InjectionPlan } from './plan.ts';
import type { Container, ContainerPort, Probe, Volume } from './pod.ts';
import type { InjectorSettings, ResourceSettings } from './settings.ts';

const TOKEN_LIFE = 3600; // seconds; kubelet renews it at 80 %
const HOLD_SECONDS = 60;
const CAPTURE_CPU = '10m';

/** As much as the sidecar writes: its SVID, key and bundle. */
const RUN_SIZE = '1Mi';

/**
 * Where the API server would mount the app's token for itself, which our containers have no use for; and as it then has
 * nothing to add, it need not ask the webhook a second time.
 */
const WITHOUT_API_ACCESS = { name: TOKEN_VOLUME, mountPath: API_ACCESS_FOLDER, readOnly: true };

const RESTRICTED = {
  allowPrivilegeEscalation: false,
  capabilities: { drop: ['ALL'] },
  readOnlyRootFilesystem: true,
  seccompProfile: { type: 'RuntimeDefault' },
} as const;

function probe(path: string, port: number, timing: Readonly<Record<string, number>>): Probe {
  return { httpGet: { path, port }, ...timing };
}

function ports(plan: InjectionPlan): ContainerPort[] {
  const port = (name: string, containerPort: number): ContainerPort => ({
    name,
    containerPort,
    protocol: 'TCP',
  });
  return [
    ...(plan.ports.length > 0 ? [port('hauberk-mesh', plan.meshPort)] : []),
    port('hauberk-probes', plan.probePort),
    port('hauberk-health', plan.healthPort),
  ];
}

/**
 * What its exposure check dials. In transparent mode the kernel refuses others there, and a pod that dials itself could
 * not tell.
 */
const POD_IPS = {
  name: 'HAUBERK_POD_IPS',
  valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'status.podIPs' } },
};

/** The sidecar; `configText` is its whole configuration, as kubelet is to be given it. */
export function proxyContainer(
  plan: InjectionPlan,
  settings: InjectorSettings,
  configText: string,
): Container {
  const { image, pullPolicy, uid } = settings;
  return {
    name: PROXY,
    image,
    imagePullPolicy: pullPolicy,
    args: ['run'],
    ...(plan.native ? { restartPolicy: 'Always' } : {}),
    env: [{ name: 'HAUBERK_CONFIG', value: configText }, ...(plan.mode === 'explicit' ? [POD_IPS] : [])],
    ports: ports(plan),
    resources: plan.resources,
    // Containers and init containers that come after it wait until it has started, or, where it is not native, for postStart.
    startupProbe: probe('/startupz', plan.probePort, {
      periodSeconds: 1,
      timeoutSeconds: 2,
      // It may be waiting for the controller, and says so; a restart would hide that, and come no sooner.
      failureThreshold: 86_400,
    }),
    livenessProbe: probe('/livez', plan.probePort, {
      periodSeconds: 10,
      timeoutSeconds: 5,
      failureThreshold: 6,
    }),
    readinessProbe: probe('/readyz', plan.probePort, {
      periodSeconds: 5,
      timeoutSeconds: 3,
      failureThreshold: 3,
    }),
    ...(plan.native ? {} : { lifecycle: { postStart: { exec: { command: holdCommand(plan) } } } }),
    securityContext: { ...RESTRICTED, runAsNonRoot: true, runAsUser: uid, runAsGroup: uid },
    terminationMessagePolicy: 'FallbackToLogsOnError',
    volumeMounts: [
      { name: RUN_VOLUME, mountPath: RUN_FOLDER },
      { name: TOKEN_VOLUME, mountPath: TOKEN_FOLDER, readOnly: true },
      WITHOUT_API_ACCESS,
      ...(plan.identity.kind === 'secret'
        ? [{ name: IDENTITY_VOLUME, mountPath: IDENTITY_FOLDER, readOnly: true }]
        : []),
    ],
  };
}

/** kubelet starts the next container when this has ended. */
function holdCommand({ probePort }: InjectionPlan): string[] {
  return ['hauberk', 'wait', '--probes', `127.0.0.1:${probePort}`, '--timeout', `${HOLD_SECONDS}s`];
}

/** Puts the redirects of transparent mode into the pod's network, and ends. */
export function captureContainer(plan: InjectionPlan, settings: InjectorSettings): Container {
  const listed = (option: string, values: ReadonlyArray<string | number>): string[] =>
    values.length === 0 ? [] : [option, values.join(',')];
  return {
    name: CAPTURE,
    image: settings.captureImage,
    imagePullPolicy: settings.pullPolicy,
    args: [
      'capture',
      'install',
      ...plan.redirects.flatMap(({ port, listen }) => ['--redirect', `${port}=${listen}`]),
      '--uid',
      String(settings.uid),
      ...listed('--inbound-ports', plan.ports),
      ...listed('--skip-ports', plan.skipPorts),
      ...listed('--skip-subnets', plan.skipSubnets),
      ...listed('--skip-users', plan.skipUsers),
    ],
    resources: captureResources(plan.resources.limits.cpu),
    securityContext: {
      ...RESTRICTED,
      capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW'] },
      runAsNonRoot: false,
      runAsUser: 0,
      runAsGroup: 0,
    },
    terminationMessagePolicy: 'FallbackToLogsOnError',
    volumeMounts: [WITHOUT_API_ACCESS],
  };
}

/** With a CPU limit where the sidecar has one: a ResourceQuota may ask for one of every container. */
function captureResources(limit: string | undefined): ResourceSettings {
  const isBelow = limit !== undefined && (amountOf(limit) ?? 0) < (amountOf(CAPTURE_CPU) as number);
  return {
    requests: { cpu: isBelow ? limit : CAPTURE_CPU, memory: '64Mi' },
    limits: { ...(limit === undefined ? {} : { cpu: limit }), memory: '128Mi' },
  };
}

export function volumes(plan: InjectionPlan, settings: InjectorSettings): Volume[] {
  const token = { audience: settings.audience, expirationSeconds: TOKEN_LIFE, path: 'token' };
  const made: Volume[] = [
    { name: RUN_VOLUME, emptyDir: { medium: 'Memory', sizeLimit: RUN_SIZE } },
    { name: TOKEN_VOLUME, projected: { sources: [{ serviceAccountToken: token }] } },
  ];
  if (plan.identity.kind === 'secret') {
    const items = [
      { key: 'tls.crt', path: 'svid.pem' },
      { key: 'tls.key', path: 'svid.key' },
      { key: 'ca.crt', path: 'bundle.pem' },
    ];
    made.push({
      name: IDENTITY_VOLUME,
      secret: { secretName: plan.identity.name, items, defaultMode: 0o440 },
    });
  }
  return made;
}
