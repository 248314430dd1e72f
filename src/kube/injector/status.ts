// What the annotation `hauberk.mesh/status` keeps of an injection, so that one that comes again knows what is its own.
import { createHash } from 'node:crypto';
import { quote } from '../../config/pointer.ts';
import { APP_PROBE, type RewrittenProbe } from './appprobes.ts';
import { InjectionError } from './errors.ts';
import { DEFAULT_CONTAINER, INJECTED, OWN_CONTAINERS, OWN_VOLUMES, PORT, STATUS, VERSION } from './names.ts';
import { type Container, type Pod, PROBE_FIELDS, type Probe, podName } from './pod.ts';
import { withoutAppended } from './proxyvariables.ts';

export interface InjectionStatus {
  readonly version: string;
  readonly mode: string;
  readonly native: boolean;
  /** Of everything that is injected: another one stands for another version, other settings or annotations. */
  readonly fingerprint: string;
  /** Names of variables by container. */
  readonly env: Readonly<Record<string, readonly string[]>>;
  readonly probes: readonly RewrittenProbe[];
  /** What was appended to lists of hosts by container. */
  readonly exempt?: Readonly<Record<string, string>>;
  /** What the annotation DEFAULT_CONTAINER was given, if it was. */
  readonly defaultContainer?: string;
}

/** What Kubernetes gives all annotations of an object. */
const MAX_STATUS = 262_144; // characters

export function fingerprintOf(injected: unknown): string {
  return createHash('sha256').update(JSON.stringify(injected)).digest('hex').slice(0, 16);
}

const isMapping = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function isStatus(value: unknown): value is InjectionStatus {
  if (!isMapping(value) || typeof value.version !== 'string' || typeof value.fingerprint !== 'string')
    return false;
  const { env, probes, exempt = {}, defaultContainer } = value;
  if (!isMapping(env) || !Array.isArray(probes) || !isMapping(exempt)) return false;
  if (!Object.values(exempt).every((text) => typeof text === 'string')) return false;
  if (defaultContainer !== undefined && typeof defaultContainer !== 'string') return false;
  const named = Object.values(env).every(
    (names) => Array.isArray(names) && names.every((name) => typeof name === 'string'),
  );
  return named && probes.every(isRewritten);
}

function isRewritten(value: unknown): value is RewrittenProbe {
  return (
    isMapping(value) &&
    typeof value.container === 'string' &&
    (PROBE_FIELDS as readonly unknown[]).includes(value.field) &&
    isMapping(value.probe)
  );
}

/** What an earlier injection has left; undefined if there was none. Throws InjectionError where it is not the injector's. */
export function readStatus(pod: Pod): InjectionStatus | undefined {
  const text = pod.metadata.annotations?.[STATUS];
  if (text === undefined) return undefined;
  try {
    const value: unknown = text.length > MAX_STATUS ? undefined : JSON.parse(text);
    if (isStatus(value)) return value;
  } catch {
    // Said below.
  }
  throw new InjectionError(
    `pod ${podName(pod)} has an annotation ${STATUS} that no injector has written: remove it, and whatever else was copied from an injected pod`,
  );
}

/** Names that are ours, in a pod that we have not injected. */
export function nameProblems({ spec }: Pod): string[] {
  const containers = [spec.containers, spec.initContainers ?? [], spec.ephemeralContainers ?? []].flat();
  const problems = containers
    .filter(({ name }) => OWN_CONTAINERS.includes(name))
    .map(({ name }) => `it has a container ${quote(name)} of its own, and that name is Hauberk's: rename it`);
  for (const { name } of spec.volumes ?? []) {
    if (OWN_VOLUMES.includes(name)) {
      problems.push(`it has a volume ${quote(name)} of its own, and that name is Hauberk's: rename it`);
    }
  }
  return [...problems, ...mountProblems(containers)];
}

/** The sidecar's volumes hold its key and its token. */
export function mountProblems(containers: readonly Container[]): string[] {
  return containers
    .filter(({ name }) => !OWN_CONTAINERS.includes(name))
    .flatMap(({ name, volumeMounts }) =>
      (volumeMounts ?? [])
        .filter((mount) => OWN_VOLUMES.includes(mount.name))
        .map(
          (mount) =>
            `container ${quote(name)} mounts ${quote(mount.name)}, which is the sidecar's alone: remove the mount`,
        ),
    );
}

const isOurs = (probe: Probe | undefined): boolean => probe?.httpGet?.path?.startsWith(APP_PROBE) === true;

/** The pod as it was before; `pod` stays as it is. What others have added since remains. */
export function withoutInjection(pod: Pod, status: InjectionStatus): Pod {
  const base = structuredClone(pod);
  const { metadata, spec } = base;
  for (const key of [VERSION, STATUS, PORT]) delete metadata.annotations?.[key];
  delete metadata.labels?.[INJECTED];
  if (
    status.defaultContainer !== undefined &&
    metadata.annotations?.[DEFAULT_CONTAINER] === status.defaultContainer
  ) {
    delete metadata.annotations[DEFAULT_CONTAINER];
  }
  const isForeign = ({ name }: { name: string }): boolean => !OWN_CONTAINERS.includes(name);
  spec.containers = spec.containers.filter(isForeign);
  if (spec.initContainers) spec.initContainers = spec.initContainers.filter(isForeign);
  if (spec.volumes) spec.volumes = spec.volumes.filter(({ name }) => !OWN_VOLUMES.includes(name));
  for (const container of [...spec.containers, ...(spec.initContainers ?? [])]) {
    restoreEnv(
      container,
      Object.hasOwn(status.env, container.name) ? (status.env[container.name] ?? []) : [],
    );
    const { exempt = {} } = status;
    withoutAppended(container, Object.hasOwn(exempt, container.name) ? exempt[container.name] : undefined);
  }
  restoreProbes(base, status.probes);
  return base;
}

function restoreEnv(container: Container, names: readonly string[]): void {
  if (!container.env || names.length === 0) return;
  container.env = container.env.filter(({ name }) => !names.includes(name));
}

function restoreProbes({ spec }: Pod, probes: readonly RewrittenProbe[]): void {
  for (const container of [...spec.containers, ...(spec.initContainers ?? [])]) {
    for (const { container: name, field, probe } of probes) {
      if (name === container.name && isOurs(container[field])) container[field] = structuredClone(probe);
    }
  }
}
