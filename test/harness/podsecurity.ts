// The Pod Security Standards, evaluated as the API server's own admission does (Linux pods).
import type { Pod } from './podfaults.ts';

type Fields = Record<string, unknown>;

interface SecurityContext extends Fields {
  runAsNonRoot?: boolean;
  runAsUser?: number;
  privileged?: boolean;
  allowPrivilegeEscalation?: boolean;
  procMount?: string;
  capabilities?: { add?: string[]; drop?: string[] };
  seccompProfile?: { type?: string };
  appArmorProfile?: { type?: string };
  seLinuxOptions?: { type?: string; user?: string; role?: string };
  windowsOptions?: { hostProcess?: boolean };
  sysctls?: Array<{ name: string }>;
}

/** A pod-level or container-level context, and whose it is. */
interface Place {
  readonly where: string;
  readonly context: SecurityContext;
  readonly container?: Fields;
}

type Rule = (pod: Pod, places: readonly Place[]) => string[];

const BASELINE_CAPABILITIES = [
  'AUDIT_WRITE',
  'CHOWN',
  'DAC_OVERRIDE',
  'FOWNER',
  'FSETID',
  'KILL',
  'MKNOD',
  'NET_BIND_SERVICE',
  'SETFCAP',
  'SETGID',
  'SETPCAP',
  'SETUID',
  'SYS_CHROOT',
];
const SAFE_SYSCTLS = [
  'kernel.shm_rmid_forced',
  'net.ipv4.ip_local_port_range',
  'net.ipv4.ip_unprivileged_port_start',
  'net.ipv4.tcp_syncookies',
  'net.ipv4.ping_group_range',
  'net.ipv4.ip_local_reserved_ports',
  'net.ipv4.tcp_keepalive_time',
  'net.ipv4.tcp_fin_timeout',
  'net.ipv4.tcp_keepalive_intvl',
  'net.ipv4.tcp_keepalive_probes',
  'net.ipv4.tcp_rmem',
  'net.ipv4.tcp_wmem',
];
const SELINUX_TYPES = ['', 'container_t', 'container_init_t', 'container_kvm_t', 'container_engine_t'];
const RESTRICTED_VOLUMES = [
  'configMap',
  'csi',
  'downwardAPI',
  'emptyDir',
  'ephemeral',
  'persistentVolumeClaim',
  'projected',
  'secret',
];

/** One violation for each place of which a claim does not hold. */
const each =
  (bad: (place: Place) => string | false | undefined): Rule =>
  (_pod, places) =>
    places.flatMap((place) => {
      const problem = bad(place);
      return problem ? [`${place.where} ${problem}`] : [];
    });

const containersOnly = (bad: (place: Place) => string | false | undefined): Rule =>
  each((place) => place.container !== undefined && bad(place));

/** By the name of the control. */
const BASELINE: Record<string, Rule> = {
  windowsHostProcess: each(
    ({ context }) => context.windowsOptions?.hostProcess === true && 'is a host process',
  ),
  hostNamespaces: ({ spec }) =>
    ['hostNetwork', 'hostPID', 'hostIPC'].filter((key) => spec[key] === true).map((key) => `pod has ${key}`),
  privileged: containersOnly(({ context }) => context.privileged === true && 'is privileged'),
  capabilities_baseline: containersOnly(({ context }) => {
    const added = (context.capabilities?.add ?? []).filter((one) => !BASELINE_CAPABILITIES.includes(one));
    return added.length > 0 && `adds ${added.join(', ')}`;
  }),
  hostPathVolumes: ({ spec }) =>
    (spec.volumes ?? [])
      .filter(({ hostPath }) => hostPath !== undefined)
      .map(({ name }) => `volume ${name} is hostPath`),
  hostPorts: containersOnly(({ container }) => {
    const ports = ((container?.ports ?? []) as Array<{ hostPort?: number }>).filter(
      ({ hostPort }) => hostPort,
    );
    return ports.length > 0 && 'has a hostPort';
  }),
  hostProbesAndHostLifecycle: containersOnly(({ container = {} }) => {
    const { postStart, preStop } = (container.lifecycle ?? {}) as Fields;
    const { livenessProbe, readinessProbe, startupProbe } = container;
    const handlers = [postStart, preStop, livenessProbe, readinessProbe, startupProbe] as Array<
      Fields | undefined
    >;
    const named = handlers.some((handler) =>
      ['httpGet', 'tcpSocket'].some((key) => ((handler?.[key] ?? {}) as { host?: string }).host),
    );
    return named && 'has a probe or hook of another host';
  }),
  appArmorProfile: each(
    ({ context }) => context.appArmorProfile?.type === 'Unconfined' && 'is not confined by AppArmor',
  ),
  seLinuxOptions: each(({ context: { seLinuxOptions: options } }) => {
    const custom = options?.user || options?.role || !SELINUX_TYPES.includes(options?.type ?? '');
    return custom && 'has SELinux options of its own';
  }),
  procMount: containersOnly(
    ({ context }) => (context.procMount ?? 'Default') !== 'Default' && 'has a procMount of its own',
  ),
  seccompProfile_baseline: each(
    ({ context }) => context.seccompProfile?.type === 'Unconfined' && 'is not confined by seccomp',
  ),
  sysctls: each(({ context }) => {
    const unsafe = (context.sysctls ?? []).filter(({ name }) => !SAFE_SYSCTLS.includes(name));
    return unsafe.length > 0 && `sets ${unsafe.map(({ name }) => name).join(', ')}`;
  }),
};

/** `bad` holds for a container that the pod's own value does not stand in for. */
const inherited =
  (own: (context: SecurityContext) => unknown, good: (value: unknown) => boolean, problem: string): Rule =>
  (_pod, places) => {
    const pod = places[0] as Place;
    return places
      .slice(1)
      .filter(({ context }) => !good(own(context) ?? own(pod.context)))
      .map(({ where }) => `${where} ${problem}`);
  };

const RESTRICTED: Record<string, Rule> = {
  ...BASELINE,
  restrictedVolumes: ({ spec }) =>
    (spec.volumes ?? []).flatMap(({ name, ...source }) =>
      Object.keys(source)
        .filter((key) => !RESTRICTED_VOLUMES.includes(key))
        .map((key) => `volume ${name} is ${key}`),
    ),
  allowPrivilegeEscalation: containersOnly(
    ({ context }) => context.allowPrivilegeEscalation !== false && 'may escalate privileges',
  ),
  runAsNonRoot: inherited(
    (context) => context.runAsNonRoot,
    (value) => value === true,
    'may run as root',
  ),
  runAsUser: each(({ context }) => context.runAsUser === 0 && 'runs as root'),
  seccompProfile_restricted: inherited(
    (context) => context.seccompProfile?.type,
    (value) => value === 'RuntimeDefault' || value === 'Localhost',
    'has no seccomp profile',
  ),
  capabilities_restricted: containersOnly(({ context: { capabilities } }) => {
    if (capabilities?.drop?.includes('ALL') !== true) return 'does not drop ALL capabilities';
    const added = (capabilities.add ?? []).filter((one) => one !== 'NET_BIND_SERVICE');
    return added.length > 0 && `adds ${added.join(', ')}`;
  }),
};

const CONTROLS = { baseline: BASELINE, restricted: RESTRICTED };

/**
 * What of a pod the standard does not allow, each as `control: where what`; none if the pod fits. Init and ephemeral containers
 * count as containers do.
 */
export function podSecurityViolations(pod: Pod, level: 'baseline' | 'restricted'): string[] {
  const { spec } = pod;
  const containers = [
    ...(spec.initContainers ?? []),
    ...spec.containers,
    ...(spec.ephemeralContainers ?? []),
  ];
  const places: Place[] = [
    { where: 'pod', context: (spec.securityContext ?? {}) as SecurityContext },
    ...containers.map((container) => ({
      where: `container ${container.name}`,
      context: (container.securityContext ?? {}) as SecurityContext,
      container,
    })),
  ];
  return Object.entries(CONTROLS[level]).flatMap(([control, rule]) =>
    rule(pod, places).map((problem) => `${control}: ${problem}`),
  );
}
