// What one pod gets: its annotations over the controller's settings, and the rules between them. All that is wrong is told
// at once.
import { quote } from '../../config/pointer.ts';
import { type AnnotationValues, labelProblems, readAnnotations } from './annotations.ts';
import {
  type AllowedPeer,
  amountOf,
  type IdentitySource,
  type Limit,
  type Upstream,
} from './annotationvalues.ts';
import { PREFIX } from './names.ts';
import { type Container, isSidecar, type Pod } from './pod.ts';
import type { InjectorSettings, NamespaceView, ResourceSettings } from './settings.ts';

/** A port that apps call and the listener of the sidecar that it is redirected to. */
export interface Redirect {
  readonly port: number;
  readonly listen: number;
}

export interface InjectionPlan {
  readonly mode: 'explicit' | 'transparent';
  readonly native: boolean;
  readonly meshPort: number;
  readonly egressPort: number;
  readonly probePort: number;
  readonly healthPort: number;
  /** Where the app serves gRPC; none: it only calls. */
  readonly ports: readonly number[];
  readonly upstreams: readonly Upstream[];
  readonly redirects: readonly Redirect[];
  readonly skipPorts: readonly number[];
  readonly skipSubnets: readonly string[];
  readonly skipUsers: readonly number[];
  readonly identity: IdentitySource;
  readonly limits: readonly Limit[];
  /** Undefined: as the controller's policy says. */
  readonly allow: readonly AllowedPeer[] | undefined;
  readonly logLevel: string;
  readonly resources: ResourceSettings;
  readonly rewriteProbes: boolean;
  readonly grpcProxy: boolean;
  /** Hosts that the app calls without the sidecar, as clients read `no_grpc_proxy`. */
  readonly noGrpcProxy: readonly string[];
  readonly namespace: string;
  /** The sidecar's whole end may take so long, seconds. */
  readonly drainSeconds: number;
}

const MESH_PORT = 15_008;
const EGRESS_PORT = 15_001;
const PROBE_PORT = 15_020;
/** Redirect listeners are from here on, in the order of the ports. */
const FIRST_REDIRECT = 15_101;
const LAST_REDIRECT = 15_199;
/** Capture never touches these. */
const OWN_RANGE = [15_001, 15_199] as const;
const DEFAULT_GRACE = 30; // seconds, Kubernetes' own
const LONGEST_DRAIN = 30; // seconds
/** What the app's containers and the kernel need of the grace period when the sidecar has ended. */
const RESERVE = 2; // seconds

/** Containers that run while the app does. */
export function lastingContainers({ spec }: Pod): Container[] {
  return [...(spec.initContainers ?? []).filter(isSidecar), ...spec.containers];
}

function isGrpcPort({ name, protocol }: { name?: string; protocol?: string }): boolean {
  return (protocol ?? 'TCP') === 'TCP' && name !== undefined && /^(grpc|h2c)/i.test(name);
}

/** Ports that the app says are gRPC by their names. */
function namedPorts(pod: Pod): number[] {
  const named = lastingContainers(pod).flatMap(({ ports }) => (ports ?? []).filter(isGrpcPort));
  return [...new Set(named.map(({ containerPort }) => containerPort))];
}

function resources(
  values: AnnotationValues,
  defaults: ResourceSettings,
  problems: string[],
): ResourceSettings {
  const result = { requests: { ...defaults.requests }, limits: { ...defaults.limits } };
  for (const kind of ['cpu', 'memory'] as const) {
    const request = values[`${kind}-request`];
    const limit = values[`${kind}-limit`];
    if (request !== undefined) result.requests[kind] = request.text;
    if (limit !== undefined) result.limits[kind] = limit.text;
    if (request === undefined && limit === undefined) continue;
    const [least, most] = [result.requests[kind], result.limits[kind]];
    if (least === undefined || most === undefined) continue;
    if ((amountOf(least) ?? 0) <= (amountOf(most) ?? Number.POSITIVE_INFINITY)) continue;
    // A request that the controller has set does not stand in the way of a lower limit.
    if (request === undefined) result.requests[kind] = most;
    else {
      problems.push(
        `${PREFIX}${kind}-request: ${least} is more than the limit of ${most}: ${limit === undefined ? `set ${PREFIX}${kind}-limit, too` : 'lower it, or raise the limit'}`,
      );
    }
  }
  return result;
}

/** `transparent` annotations have no meaning in explicit mode, and somebody believes that they have. */
function modeProblems(values: AnnotationValues): string[] {
  return (['capture-ports', 'skip-ports', 'skip-subnets', 'skip-users'] as const)
    .filter((name) => values[name] !== undefined)
    .map(
      (name) =>
        `${PREFIX}${name} has no effect in explicit mode: set ${PREFIX}mode: transparent, or remove it`,
    );
}

const isOwn = (port: number): boolean => port >= OWN_RANGE[0] && port <= OWN_RANGE[1];

function redirectsOf(values: AnnotationValues, ports: readonly number[], problems: string[]): Redirect[] {
  const skipped = values['skip-ports'] ?? [];
  const captured = values['capture-ports'] ?? ports.filter((port) => !skipped.includes(port));
  for (const port of captured.filter((port) => skipped.includes(port))) {
    problems.push(
      `${PREFIX}skip-ports: ${port} is in ${PREFIX}capture-ports as well: remove it from one of them`,
    );
  }
  const own = captured.find((port) => isOwn(port) && !ports.includes(port));
  if (own !== undefined) {
    problems.push(
      `${PREFIX}capture-ports: ${own} is one of the sidecar's own (${OWN_RANGE.join(' to ')}): remove it`,
    );
  }
  const within = ports.find(isOwn);
  if (within !== undefined) {
    problems.push(
      `${PREFIX}ports: ${within} is one of the sidecar's own (${OWN_RANGE.join(' to ')}), which transparent mode never closes to others: have the app listen on another`,
    );
  }
  if (captured.length === 0) {
    problems.push(
      `transparent mode would redirect nothing: name the ports that the app calls in ${PREFIX}capture-ports, as in 50051`,
    );
  }
  if (captured.length > LAST_REDIRECT - FIRST_REDIRECT + 1) {
    problems.push(
      `${PREFIX}capture-ports: at most ${LAST_REDIRECT - FIRST_REDIRECT + 1} ports can be redirected`,
    );
  }
  return [...captured]
    .sort((a, b) => a - b)
    .map((port, index): Redirect => ({ port, listen: FIRST_REDIRECT + index }));
}

/** Each port of the pod's one network belongs to one program. */
function portProblems(pod: Pod, plan: InjectionPlan): string[] {
  const problems: string[] = [];
  const taken = new Map<number, string>();
  const take = (port: number, owner: string, cure: string): void => {
    const other = taken.get(port);
    if (other === undefined) taken.set(port, owner);
    else if (other !== owner) problems.push(`port ${port} is both ${other} and ${owner}: ${cure}`);
  };
  take(plan.meshPort, "the sidecar's mesh port", `set ${PREFIX}mesh-port`);
  take(plan.egressPort, "the sidecar's egress port", `set ${PREFIX}egress-port`);
  take(plan.probePort, "the sidecar's probe port", `set ${PREFIX}probe-port`);
  take(plan.healthPort, "the sidecar's health port (one above the probe port)", `set ${PREFIX}probe-port`);
  for (const { port, listen } of plan.redirects) {
    take(
      listen,
      `the listener for redirected port ${port}`,
      'give the sidecar ports outside of 15101 to 15199',
    );
  }
  for (const { listen, name, port } of plan.upstreams) {
    take(listen, `the port for ${name}:${port} in ${PREFIX}upstreams`, 'choose another for it');
  }
  const cure = `choose another for the app, or for the sidecar by ${PREFIX}mesh-port, ${PREFIX}egress-port, ${PREFIX}probe-port or ${PREFIX}upstreams`;
  for (const port of plan.ports) take(port, `one of the app's (${PREFIX}ports)`, cure);
  for (const { name, ports } of lastingContainers(pod)) {
    for (const { containerPort, protocol } of ports ?? []) {
      if ((protocol ?? 'TCP') !== 'TCP' || plan.ports.includes(containerPort)) continue;
      const other = taken.get(containerPort);
      if (other !== undefined) {
        problems.push(`port ${containerPort} is both ${other} and one of container ${quote(name)}: ${cure}`);
      }
    }
  }
  return problems;
}

function isNative(values: AnnotationValues, settings: InjectorSettings, problems: string[]): boolean {
  const word = values.native ?? { auto: 'auto', always: 'true', never: 'false' }[settings.native];
  if (
    word === 'true' &&
    values.native !== undefined &&
    !settings.serverKnowsNative &&
    settings.native !== 'always'
  ) {
    problems.push(
      `${PREFIX}native: this API server knows no native sidecars (Kubernetes 1.29 does): write auto or false`,
    );
  }
  return word === 'auto' ? settings.serverKnowsNative : word === 'true';
}

const JOB_NEEDS_NATIVE =
  'a sidecar that is a container like others would keep the pod from ever ending, and only native sidecars (Kubernetes 1.29) end with the app';

function podProblems(
  pod: Pod,
  plan: InjectionPlan,
  namespace: NamespaceView,
  settings: InjectorSettings,
): string[] {
  const { spec } = pod;
  const problems: string[] = [];
  if (!plan.native && (spec.restartPolicy ?? 'Always') !== 'Always') {
    problems.push(
      `restartPolicy is ${quote(String(spec.restartPolicy))}, as in a Job: ${JOB_NEEDS_NATIVE}. Set ${PREFIX}inject: disabled, or let the sidecar be native`,
    );
  }
  const lasting = [...lastingContainers(pod), ...(spec.initContainers ?? [])];
  const same = lasting.find(
    ({ securityContext }) => (securityContext?.runAsUser ?? spec.securityContext?.runAsUser) === settings.uid,
  );
  if (same !== undefined && plan.mode === 'transparent') {
    problems.push(
      `container ${quote(same.name)} runs as user ${settings.uid}, which is the sidecar's, and what that user calls is not captured: choose another runAsUser`,
    );
  } else if (same !== undefined && spec.shareProcessNamespace === true) {
    problems.push(
      `container ${quote(same.name)} runs as user ${settings.uid}, which is the sidecar's, and could read its keys, since shareProcessNamespace is on: choose another runAsUser`,
    );
  }
  if (plan.skipUsers.includes(settings.uid)) {
    problems.push(
      `${PREFIX}skip-users: ${settings.uid} is the sidecar's user, which is never captured: remove it`,
    );
  }
  if (plan.identity.kind === 'secret' && typeof spec.securityContext?.fsGroup !== 'number') {
    problems.push(
      `${PREFIX}identity: Kubernetes mounts the Secret for root alone, and the sidecar is user ${settings.uid}: set securityContext.fsGroup of the pod, as in ${settings.uid}, by whose group it can read the key`,
    );
  }
  const level = namespace.labels['pod-security.kubernetes.io/enforce'];
  if (plan.mode === 'transparent' && (level === 'restricted' || level === 'baseline')) {
    problems.push(
      `namespace ${namespace.name} enforces Pod Security ${level}, which forbids the NET_ADMIN of transparent mode: use ${PREFIX}mode: explicit`,
    );
  }
  return problems;
}

/** Calls by kubelet to a captured port that cannot be made over loopback by the sidecar instead. */
function hookProblems(pod: Pod, plan: InjectionPlan): string[] {
  if (plan.mode !== 'transparent') return [];
  return lastingContainers(pod).flatMap(({ name, ports, lifecycle }) =>
    (['postStart', 'preStop'] as const)
      .filter((hook) => {
        const action = lifecycle?.[hook]?.httpGet ?? lifecycle?.[hook]?.tcpSocket;
        const port =
          typeof action?.port === 'string'
            ? (ports ?? []).find((each) => each.name === action.port)?.containerPort
            : action?.port;
        return port !== undefined && plan.ports.includes(port);
      })
      .map(
        (hook) =>
          `container ${quote(name)} has a ${hook} hook that calls a captured port, where kubelet would be refused: use exec, or another port`,
      ),
  );
}

/** What the pod gets, or every reason why it cannot. `problems` being empty, the plan is whole. */
export function planInjection(
  pod: Pod,
  namespace: NamespaceView,
  settings: InjectorSettings,
): { plan: InjectionPlan; problems: string[] } {
  const { values, problems } = readAnnotations(pod.metadata.annotations ?? {});
  problems.push(...labelProblems(pod.metadata.labels ?? {}));
  const mode = values.mode ?? settings.mode;
  const ports = values.ports ?? namedPorts(pod);
  const probePort = values['probe-port'] ?? PROBE_PORT;
  const grace = pod.spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE;
  if (mode === 'explicit') problems.push(...modeProblems(values));
  const grpcProxy = values['grpc-proxy'] ?? mode === 'explicit';
  if (!grpcProxy && values['no-grpc-proxy'] !== undefined) {
    const cure =
      mode === 'transparent'
        ? `leave out what the app calls past the sidecar by ${PREFIX}skip-ports or ${PREFIX}skip-subnets instead`
        : `remove it, or ${PREFIX}grpc-proxy: "false"`;
    problems.push(
      `${PREFIX}no-grpc-proxy has no effect, because containers of the app get no grpc_proxy: ${cure}`,
    );
  }
  const plan: InjectionPlan = {
    mode,
    native: isNative(values, settings, problems),
    meshPort: values['mesh-port'] ?? MESH_PORT,
    egressPort: values['egress-port'] ?? EGRESS_PORT,
    probePort,
    healthPort: probePort + 1,
    ports,
    upstreams: values.upstreams ?? [],
    redirects: mode === 'transparent' ? redirectsOf(values, ports, problems) : [],
    skipPorts: values['skip-ports'] ?? [],
    skipSubnets: values['skip-subnets'] ?? [],
    skipUsers: values['skip-users'] ?? [],
    identity: values.identity ?? { kind: 'serviceaccount' },
    limits: values.limits ?? [],
    allow: values.allow,
    logLevel: values['log-level'] ?? settings.logLevel,
    resources: resources(values, settings.resources, problems),
    rewriteProbes: values['rewrite-probes'] ?? mode === 'transparent',
    grpcProxy,
    noGrpcProxy: values['no-grpc-proxy'] ?? [],
    namespace: namespace.name,
    drainSeconds: Math.max(0, Math.min(LONGEST_DRAIN, grace - RESERVE)),
  };
  if (probePort === 65_535)
    problems.push(`${PREFIX}probe-port: 65535 leaves no port for health: choose a lower one`);
  problems.push(...portProblems(pod, plan));
  problems.push(...podProblems(pod, plan, namespace, settings));
  problems.push(...hookProblems(pod, plan));
  return { plan, problems };
}
