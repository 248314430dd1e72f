/**
 * What becomes of a pod. Reading order of this folder: inject.ts (the way), optin.ts (whether at all), annotations.ts and
 * plan.ts (what this pod gets), sidecarconfig.ts, appprobes.ts, proxyvariables.ts and containers.ts (the parts),
 * status.ts and mending.ts (injected before?), jsonpatch.ts (the answer). Everything here is a function of its arguments:
 * no clock, no network.
 */
import { quote } from '../../config/pointer.ts';
import { planProbes, type RewrittenProbe, rewriteProbe } from './appprobes.ts';
import { captureContainer, proxyContainer, volumes } from './containers.ts';
import { InjectionError } from './errors.ts';
import { diff, type JsonPatchOperation } from './jsonpatch.ts';
import { ensureContainer, ensureVolume } from './mending.ts';
import {
  CAPTURE,
  DEFAULT_CONTAINER,
  INJECT,
  INJECTED,
  PORT,
  PREFIX,
  PROXY,
  STATUS,
  VERSION,
} from './names.ts';
import { optIn } from './optin.ts';
import { type InjectionPlan, planInjection } from './plan.ts';
import { type Container, type Pod, podName, readPod, type Volume } from './pod.ts';
import { addVariables, appendedTo, closedList, exemptHosts } from './proxyvariables.ts';
import type { InjectorSettings, NamespaceView } from './settings.ts';
import { configProblems, configText, sidecarConfig } from './sidecarconfig.ts';
import {
  fingerprintOf,
  type InjectionStatus,
  mountProblems,
  nameProblems,
  readStatus,
  withoutInjection,
} from './status.ts';

/** `patch` is empty where an injected pod lacks nothing. */
export type InjectionResult =
  | { readonly patch: readonly JsonPatchOperation[]; readonly warnings: readonly string[] }
  | { readonly refused: string }
  | { readonly skipped: string; readonly warnings?: readonly string[] };

const MAX_PROBLEMS = 10;

/**
 * Injects a pod, which stays as it is: the answer is a JSON Patch for it, why it is refused, or why it is left alone.
 * What is no pod is refused, too.
 */
export function inject(
  object: unknown,
  namespace: NamespaceView,
  settings: InjectorSettings,
): InjectionResult {
  try {
    const pod = readPod(object);
    const choice = optIn(pod, namespace, settings);
    if ('skipped' in choice) return choice;
    const skipped = unfit(pod, choice.askedBy, settings);
    if (skipped !== undefined) {
      return { skipped, warnings: [`hauberk: pod ${podName(pod)} gets no sidecar: ${skipped}`] };
    }
    return injected(pod, object, namespace, settings);
  } catch (error) {
    if (error instanceof InjectionError) return { refused: `hauberk: ${error.message}` };
    throw error;
  }
}

/** Why a pod that somebody wants injected cannot be. Throws where that must not be passed over. */
function unfit(pod: Pod, askedBy: 'pod' | 'namespace', settings: InjectorSettings): string | undefined {
  const { spec, metadata } = pod;
  const system = spec.os?.name ?? spec.nodeSelector?.['kubernetes.io/os'] ?? 'linux';
  if (system === 'windows') {
    if (askedBy === 'namespace') return 'it runs on Windows';
    throw new InjectionError(
      `pod ${podName(pod)} runs on Windows, for which there is no sidecar: set ${INJECT}: disabled`,
    );
  }
  if (spec.hostNetwork !== true) return undefined;
  const said = metadata.annotations?.[`${PREFIX}mode`]?.trim();
  if (said === 'transparent' || (askedBy === 'pod' && (said ?? settings.mode) === 'transparent')) {
    throw new InjectionError(
      `pod ${podName(pod)} is on its node's network (hostNetwork), and transparent mode would redirect the whole node: set ${INJECT}: disabled`,
    );
  }
  if (askedBy === 'namespace') return "it is on its node's network (hostNetwork)";
  throw new InjectionError(
    `pod ${podName(pod)} is on its node's network (hostNetwork), where every other pod of the node would reach the sidecar's loopback ports and speak with its identity: turn hostNetwork off, or set ${INJECT}: disabled`,
  );
}

function injected(
  pod: Pod,
  given: unknown,
  namespace: NamespaceView,
  settings: InjectorSettings,
): InjectionResult {
  const status = readStatus(pod);
  const base = status === undefined ? pod : withoutInjection(pod, status);
  const { plan, problems } = planInjection(base, namespace, settings);
  problems.push(...(status === undefined ? nameProblems(pod) : mountProblems(allContainers(base))));
  if (problems.length > 0) throw new InjectionError(`pod ${podName(pod)}: ${listed(problems)}`);
  const parts = partsOf(base, plan, settings);
  const fingerprint = fingerprintOf(parts);
  // What is of the same making may have been changed by others since, and is only made whole.
  const target = structuredClone(status?.fingerprint === fingerprint ? pod : base);
  apply(target, parts, plan, status);
  const written: InjectionStatus = {
    version: settings.version,
    mode: plan.mode,
    native: plan.native,
    fingerprint,
    env: variablesOf(target, pod, plan, status),
    probes: parts.probes,
    ...appendedOf(target, base),
    ...defaultContainerOf(base, plan, status),
  };
  annotate(target, plan, settings, written);
  return { patch: diff(given, target), warnings: warningsOf(base, plan, settings) };
}

interface Parts {
  readonly proxy: Container;
  readonly capture: Container | undefined;
  readonly volumes: readonly Volume[];
  readonly probes: readonly RewrittenProbe[];
  /** Hosts that the app's containers call directly. */
  readonly exempt: readonly string[] | undefined;
}

function partsOf(base: Pod, plan: InjectionPlan, settings: InjectorSettings): Parts {
  const { probes, rewritten } = planProbes(base, plan);
  const config = sidecarConfig(plan, settings, probes);
  const problems = configProblems(config);
  if (problems.length > 0) throw new InjectionError(`pod ${podName(base)}: ${listed(problems)}`);
  return {
    proxy: proxyContainer(plan, settings, configText(config)),
    capture: plan.mode === 'transparent' ? captureContainer(plan, settings) : undefined,
    volumes: volumes(plan, settings),
    probes: rewritten,
    exempt: exemptHosts(plan),
  };
}

/**
 * Puts the parts in their places. A native sidecar comes first of all, so that the app's init containers have it too; where
 * it is not native, redirects come after them, because nothing would answer there yet.
 */
function apply(target: Pod, parts: Parts, plan: InjectionPlan, status: InjectionStatus | undefined): void {
  const { spec } = target;
  const inits = spec.initContainers ?? [];
  if (plan.native) {
    ensureContainer(inits, parts.proxy, 'first');
    if (parts.capture !== undefined) ensureContainer(inits, parts.capture, 'first');
  } else {
    if (parts.capture !== undefined) ensureContainer(inits, parts.capture, 'last');
    ensureContainer(spec.containers, parts.proxy, 'first');
  }
  if (inits.length > 0) spec.initContainers = inits;
  const volumes = spec.volumes ?? [];
  for (const volume of parts.volumes) ensureVolume(volumes, volume);
  spec.volumes = volumes;
  for (const { container, field, probe } of parts.probes) {
    for (const each of allContainers(target)) {
      if (each.name === container) each[field] = rewriteProbe({ container, field, probe }, plan);
    }
  }
  for (const container of proxied(target, plan))
    addVariables(container, plan, ownVariables(container, status));
}

const allContainers = ({ spec }: Pod): Container[] => [...(spec.initContainers ?? []), ...spec.containers];

/** Containers of the app that run while the sidecar does. */
function proxied({ spec }: Pod, plan: InjectionPlan): Container[] {
  const inits = plan.native ? (spec.initContainers ?? []) : [];
  return [...inits, ...spec.containers].filter(({ name }) => name !== PROXY && name !== CAPTURE);
}

/** Names of a container's variables that an earlier injection has added. */
const ownVariables = ({ name }: Container, status: InjectionStatus | undefined): readonly string[] =>
  status !== undefined && Object.hasOwn(status.env, name) ? (status.env[name] ?? []) : [];

/** Which variables of the app's containers are ours. */
function variablesOf(
  target: Pod,
  pod: Pod,
  plan: InjectionPlan,
  status: InjectionStatus | undefined,
): Record<string, string[]> {
  const found: Record<string, string[]> = Object.create(null);
  for (const container of proxied(target, plan)) {
    const { name, env = [] } = container;
    const before = allContainers(pod).find((container) => container.name === name)?.env ?? [];
    const known = ownVariables(container, status);
    const own = env
      .map((each) => each.name)
      .filter((each) => known.includes(each) || !before.some((other) => other.name === each));
    if (own.length > 0) found[name] = own;
  }
  return found;
}

/** A sidecar that is not native is the first container, and kubectl would mean it. */
function defaultContainerOf(
  { metadata, spec }: Pod,
  plan: InjectionPlan,
  status: InjectionStatus | undefined,
): Pick<InjectionStatus, 'defaultContainer'> {
  if (plan.native || metadata.annotations?.[DEFAULT_CONTAINER] !== undefined) return {};
  const names = spec.containers.map(({ name }) => name);
  // Who has put another before the app's since has not become the app.
  const name = names.find((each) => each === status?.defaultContainer) ?? names[0];
  return name === undefined ? {} : { defaultContainer: name };
}

/** What was appended to lists of the app's containers, which are `base` without it. */
function appendedOf(target: Pod, base: Pod): Pick<InjectionStatus, 'exempt'> {
  const exempt: Record<string, string> = Object.create(null);
  for (const container of allContainers(target)) {
    const before = allContainers(base).find(({ name }) => name === container.name);
    const added = appendedTo(container, before);
    if (added !== undefined) exempt[container.name] = added;
  }
  return Object.keys(exempt).length === 0 ? {} : { exempt };
}

function annotate(
  target: Pod,
  plan: InjectionPlan,
  settings: InjectorSettings,
  status: InjectionStatus,
): void {
  const { metadata } = target;
  metadata.labels = { ...metadata.labels, [INJECTED]: 'true' };
  metadata.annotations = {
    ...metadata.annotations,
    [VERSION]: settings.version,
    [STATUS]: JSON.stringify(status),
    ...(status.defaultContainer === undefined ? {} : { [DEFAULT_CONTAINER]: status.defaultContainer }),
    ...(plan.ports.length > 0 ? { [PORT]: String(plan.meshPort) } : {}),
  };
}

/** Whether a glob can match what the controller certifies, which is `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`. */
function couldBePod(glob: string): boolean {
  const parts = glob.split('/');
  const fits = (at: number, word: string): boolean => parts[at]?.includes('*') === true || parts[at] === word;
  return parts.length === 7 && fits(3, 'ns') && fits(5, 'sa');
}

function warningsOf(base: Pod, plan: InjectionPlan, settings: InjectorSettings): string[] {
  const warnings: string[] = [];
  const name = podName(base);
  if (plan.ports.length === 0 && base.metadata.annotations?.[`${PREFIX}ports`] === undefined) {
    warnings.push(
      `hauberk: pod ${name} names no gRPC port, so that its sidecar only calls and nobody reaches it: set ${PREFIX}ports, or name a container port grpc; ${PREFIX}ports: none says that this is meant`,
    );
  }
  if (plan.ports.length > 0 && plan.allow === undefined && settings.policy === 'enforce') {
    warnings.push(`hauberk: pod ${name} has no ${PREFIX}allow, so that its sidecar denies every call`);
  }
  for (const { peer } of plan.allow ?? []) {
    if (!couldBePod(peer)) {
      warnings.push(
        `hauberk: pod ${name} has ${quote(peer)} in ${PREFIX}allow, which no pod's identity matches, for * does not cross a /: write it as in spiffe://${settings.trustDomain}/ns/*/sa/*`,
      );
    }
  }
  for (const container of plan.grpcProxy ? proxied(base, plan) : []) {
    const variable = closedList(container);
    if (variable === undefined) continue;
    warnings.push(
      `hauberk: container ${quote(container.name)} of pod ${name} has its ${variable} from somewhere else, and nothing can be added to it: have it list ${exemptHosts(plan)?.join(',')}, or calls to these go to the sidecar`,
    );
  }
  const { dnsPolicy } = base.spec;
  if (dnsPolicy === 'Default' || dnsPolicy === 'None') {
    warnings.push(
      `hauberk: pod ${name} has dnsPolicy ${dnsPolicy}: unless names of services are found, its sidecar waits for its controller for ever; ClusterFirst finds them`,
    );
  }
  if (base.spec.shareProcessNamespace === true) {
    warnings.push(
      `hauberk: pod ${name} has shareProcessNamespace, so that its containers that run as root can read the sidecar's keys`,
    );
  }
  return warnings;
}

function listed(problems: readonly string[]): string {
  const more = problems.length - MAX_PROBLEMS;
  return [...problems.slice(0, MAX_PROBLEMS), ...(more > 0 ? [`and ${more} more`] : [])].join('; ');
}
