/** Where a service is, from what is known of the cluster. Pure. */
import { isIPv6 } from 'node:net';
import type { EndpointMessage, EndpointsMessage, WatchRequest } from '../../control/messages.ts';
import type { KnownEndpoint, KnownPort, KnownService, KnownSlice, MeshPod } from './known.ts';
import { type Candidate, candidatesOf, parseAsked } from './name.ts';

/** What is known of the cluster. */
export interface ClusterState {
  service(namespace: string, name: string): KnownService | undefined;
  serviceAt(address: string): KnownService | undefined;
  /** Of that name, in any namespace. */
  servicesNamed(name: string): readonly KnownService[];
  slices(namespace: string, service: string): readonly KnownSlice[];
  /** That have an endpoint with the address. */
  slicesAt(address: string): readonly KnownSlice[];
  pod(namespace: string, name: string): MeshPod | undefined;
  podAt(address: string): MeshPod | undefined;
}

export interface ResolveOptions {
  readonly trustDomain: string;
  readonly clusterDomain: string;
  /** Of the caller; empty: unknown. */
  readonly zone: string;
}

const CURE = 'set hauberk.mesh/inject: enabled on its namespace or pods, and make them anew';

/** What a request means, found without looking at endpoints. Requests with the same key have the same answer, in one zone. */
type Target = { readonly key: string } & (
  | { readonly kind: 'service'; readonly service: KnownService; readonly wanted: Wanted }
  | { readonly kind: 'address'; readonly address: string; readonly port: number }
  | { readonly kind: 'nothing'; readonly hint: string }
);

/** What a request means now. Never throws. */
export function targetOf(state: ClusterState, request: WatchRequest, clusterDomain: string): Target {
  const { authority, namespace } = request;
  const asked = parseAsked(authority, request.port, clusterDomain);
  if (asked === undefined) return nothing(`${quoted(authority)} is no name and no address`);
  if (asked.kind === 'address') {
    const { address, port } = asked;
    const service = state.serviceAt(address);
    if (service === undefined) return { kind: 'address', key: `address ${address} ${port}`, address, port };
    return serviceTarget(service, { port, host: undefined, v6: isIPv6(address) });
  }
  const candidates = candidatesOf(asked, namespace);
  for (const { namespace: ns, name, host } of candidates) {
    const service = state.service(ns, name);
    if (service === undefined || (host !== undefined && !isHostOf(state, service, host))) continue;
    return serviceTarget(service, { port: asked.port, host, v6: undefined });
  }
  return nothing(whyUnknown(state, asked.labels, candidates));
}

/** The whole answer. Never throws. */
export function answerTo(state: ClusterState, target: Target, options: ResolveOptions): EndpointsMessage {
  if (target.kind === 'nothing') return unknown(target.hint);
  if (target.kind === 'address') return podAnswer(state, target.address, target.port, options);
  return serviceAnswer(state, target.service, target.wanted, options);
}

const nothing = (hint: string): Target => ({ kind: 'nothing', key: `nothing ${hint}`, hint });

function serviceTarget(service: KnownService, wanted: Wanted): Target {
  const { port, host = '', v6 = '' } = wanted;
  return {
    kind: 'service',
    key: `service ${service.namespace}/${service.name} ${port} ${host} ${v6}`,
    service,
    wanted,
  };
}

/** The services on which the answer to a request may depend; undefined: any. */
export function dependencies(request: WatchRequest, clusterDomain: string): readonly Candidate[] | undefined {
  const asked = parseAsked(request.authority, request.port, clusterDomain);
  if (asked === undefined) return [];
  return asked.kind === 'address' ? undefined : candidatesOf(asked, request.namespace);
}

const quoted = (text: string): string => JSON.stringify(text.slice(0, 128));

function unknown(hint: string): EndpointsMessage {
  return { found: false, service: '', port: 0, endpoints: [], hint, zone: '' };
}

function whyUnknown(
  state: ClusterState,
  labels: readonly string[],
  candidates: readonly Candidate[],
): string {
  const [first] = candidates;
  if (first === undefined) return `${quoted(labels.join('.'))} is no name of a service of the cluster`;
  const { namespace, name, host } = first;
  if (host !== undefined) {
    const there = state.service(namespace, name) !== undefined;
    return there
      ? `no pod ${host} of the service ${name}.${namespace}`
      : `${quoted(labels.join('.'))} is no name of a service or a pod of the cluster`;
  }
  const others = state
    .servicesNamed(name)
    .map((other) => `${other.name}.${other.namespace}`)
    .sort()
    .slice(0, 3);
  const near = others.length === 0 ? '' : `; there is ${others.join(', ')}`;
  return `no service ${name}.${namespace}${near}`;
}

function isHostOf(state: ClusterState, { namespace, name }: KnownService, host: string): boolean {
  return state.slices(namespace, name).some(({ endpoints }) => endpoints.some((one) => hasHost(one, host)));
}

const hasHost = ({ hostname, pod }: KnownEndpoint, host: string): boolean =>
  hostname === '' ? pod?.name === host : hostname === host;

interface Wanted {
  readonly port: number;
  /** One pod of the service only. */
  readonly host: string | undefined;
  /** The family that was asked for; undefined: each pod's first. */
  readonly v6: boolean | undefined;
}

function serviceAnswer(
  state: ClusterState,
  service: KnownService,
  wanted: Wanted,
  options: ResolveOptions,
): EndpointsMessage {
  const canonical = `${service.name}.${service.namespace}`;
  const none = (hint: string, port = wanted.port): EndpointsMessage => ({
    ...unknown(hint),
    found: true,
    service: canonical,
    port,
  });
  if (service.externalName !== undefined) {
    const outside = `${canonical} stands for ${service.externalName}, outside of the mesh`;
    return none(
      `${outside}: call that without the sidecar (the annotation hauberk.mesh/no-grpc-proxy lists it; in transparent mode hauberk.mesh/skip-subnets has its addresses)`,
    );
  }
  const chosen = choosePort(service, wanted.port);
  if (typeof chosen === 'string') return none(chosen);
  const tally = new Tally(canonical, service);
  for (const slice of state.slices(service.namespace, service.name)) {
    const targetPort = chosen.literal ?? slice.ports.find(({ name }) => name === chosen.name)?.port;
    if (targetPort === undefined) continue;
    for (const endpoint of slice.endpoints) {
      if (wanted.host !== undefined && !hasHost(endpoint, wanted.host)) continue;
      tally.add(endpoint, podOf(state, slice.namespace, endpoint), targetPort, options.trustDomain);
    }
  }
  const zone = tally.isNearWanted ? options.zone : '';
  const endpoints = tally.endpoints(wanted.v6, zone);
  return { found: true, service: canonical, port: chosen.port, endpoints, hint: tally.hint(), zone };
}

/** `literal`: the port of the pods, whatever the service says. */
interface ChosenPort {
  readonly port: number;
  readonly name: string;
  readonly literal: number | undefined;
}

/** Which port is meant, or why none can be. */
function choosePort(
  { name, namespace, ports, isHeadless }: KnownService,
  wanted: number,
): ChosenPort | string {
  const canonical = `${name}.${namespace}`;
  const choose = ({ name: portName, port }: KnownPort): ChosenPort => ({
    port,
    name: portName,
    literal: undefined,
  });
  if (wanted > 0) {
    const found = ports.find(({ port }) => port === wanted);
    if (found !== undefined) return choose(found);
    // Its name leads to the pods themselves.
    if (isHeadless) return { port: wanted, name: '', literal: wanted };
    return ports.length === 0
      ? `${canonical} has no TCP port`
      : `${canonical} has no port ${wanted}, but ${listed(ports)}`;
  }
  const [only] = ports;
  if (only === undefined) return `${canonical} has no TCP port`;
  if (ports.length === 1) return choose(only);
  const grpc = ports.filter(({ isGrpc }) => isGrpc);
  const [first] = grpc;
  if (first !== undefined && grpc.length === 1) return choose(first);
  return `${canonical} has the ports ${listed(ports)}: say which, as in ${canonical}:${only.port}`;
}

function listed(ports: readonly KnownPort[]): string {
  return ports.map(({ name, port }) => (name === '' ? `${port}` : `${port} (${name})`)).join(', ');
}

/** The pod in the mesh that an endpoint is; a slice may be older than the pod that has its address now. */
function podOf(
  state: ClusterState,
  namespace: string,
  { pod: named, address }: KnownEndpoint,
): MeshPod | undefined {
  const pod = named === undefined ? state.podAt(address) : state.pod(namespace, named.name);
  if (pod === undefined) return undefined;
  if (named !== undefined && named.uid !== '' && pod.uid !== '' && named.uid !== pod.uid) return undefined;
  return pod.addresses.includes(address) ? pod : undefined;
}

interface Placed {
  readonly message: EndpointMessage;
  readonly source: KnownEndpoint;
  /** It is its pod's first address. */
  readonly isFirst: boolean;
}

/** Gathers the endpoints of a service, each pod and port once, and counts what is left out. */
class Tally {
  readonly #canonical: string;
  readonly #service: KnownService;
  /** By pod and port, an address of each family. */
  readonly #placed = new Map<string, Placed[]>();
  readonly #outside = new Set<string>();
  readonly #unready = new Set<string>();
  #hints = 0;
  #total = 0;

  constructor(canonical: string, service: KnownService) {
    this.#canonical = canonical;
    this.#service = service;
  }

  add(endpoint: KnownEndpoint, pod: MeshPod | undefined, targetPort: number, trustDomain: string): void {
    const { address, state, pod: named } = endpoint;
    if (pod === undefined) {
      this.#outside.add(named?.name ?? address);
      return;
    }
    const podKey = `${pod.namespace}/${pod.name}`;
    if (state === 'unready') {
      this.#unready.add(podKey);
      return;
    }
    this.#total++;
    if (endpoint.forZones !== undefined) this.#hints++;
    const key = `${podKey}:${targetPort}`;
    const message = {
      ...endpointOf(pod, address, targetPort, trustDomain),
      zone: endpoint.zone,
      ready: state === 'ready',
    };
    const others = this.#placed.get(key) ?? [];
    // Slices may tell the same pod twice for a while.
    if (others.some((other) => other.message.address === address)) return;
    this.#placed.set(key, [...others, { message, source: endpoint, isFirst: pod.addresses[0] === address }]);
  }

  /**
   * One address a pod: of the family that was asked for, else its first; in the order of their addresses. With a zone,
   * those that are meant for it count as being there, and only those.
   */
  endpoints(v6: boolean | undefined, zone: string): EndpointMessage[] {
    return [...this.#placed.values()]
      .map((placed) => {
        const asked = placed.find(({ message }) => v6 !== undefined && isIPv6(message.address) === v6);
        const { message, source } = asked ?? placed.find(({ isFirst }) => isFirst) ?? (placed[0] as Placed);
        if (zone === '') return message;
        return { ...message, zone: source.forZones?.includes(zone) === true ? zone : '' };
      })
      .sort(
        (a, b) => (a.address < b.address ? -1 : Number(a.address > b.address)) || a.targetPort - b.targetPort,
      );
  }

  /** Its owner has asked for near endpoints, and all have been given their zones. */
  get isNearWanted(): boolean {
    return this.#total > 0 && this.#hints === this.#total;
  }

  /** What is left out, and why; empty if nothing is. */
  hint(): string {
    const [inMesh, outside, unready] = [this.#placed.size, this.#outside.size, this.#unready.size];
    const canonical = this.#canonical;
    const total = inMesh + outside + unready;
    if (total === 0) {
      return this.#service.hasSelector
        ? `${canonical} has no endpoints: no pod that its selector matches is running`
        : `${canonical} has no selector and no endpoints`;
    }
    if (inMesh === 0 && unready === 0) {
      const why = this.#service.hasSelector ? `: ${CURE}` : ', and no selector: it leads out of the cluster';
      return `${canonical} has ${counted(outside)}, none in the mesh${why}`;
    }
    if (inMesh === 0) {
      const others = outside === 0 ? '' : `, and ${outside} not in the mesh`;
      return `${canonical} has ${counted(unready)} in the mesh that ${unready === 1 ? 'is' : 'are'} not ready${others}`;
    }
    return outside === 0
      ? ''
      : `${outside} of ${counted(total)} of ${canonical} are not in the mesh: ${CURE}`;
  }
}

const counted = (n: number): string => `${n} ${n === 1 ? 'endpoint' : 'endpoints'}`;

function endpointOf(
  { namespace, serviceAccount, meshPort }: MeshPod,
  address: string,
  targetPort: number,
  trustDomain: string,
): Pick<EndpointMessage, 'address' | 'meshPort' | 'targetPort' | 'spiffeId'> {
  const spiffeId = `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`;
  return { address, meshPort, targetPort, spiffeId };
}

/** For an address that is no service's: the pod that has it. */
function podAnswer(
  state: ClusterState,
  address: string,
  port: number,
  { trustDomain }: ResolveOptions,
): EndpointsMessage {
  const slices = state.slicesAt(address);
  const services = [...new Set(slices.map(({ service, namespace }) => `${service}.${namespace}`))].sort();
  const pod = state.podAt(address);
  if (pod === undefined) {
    const of = services[0] === undefined ? '' : `; it is an endpoint of ${services[0]}: ${CURE}`;
    return unknown(`no service and no pod in the mesh has the address ${address}${of}`);
  }
  const service = serviceOfPort(slices, port) ?? `${pod.name}.${pod.namespace}`;
  const found = { found: true, service, port, zone: '' };
  if (port === 0) {
    return {
      ...found,
      endpoints: [],
      hint: `${address} is the pod ${pod.name}.${pod.namespace}: say which port of it`,
    };
  }
  const of = slices.flatMap(({ endpoints }) => endpoints).find((endpoint) => endpoint.address === address);
  const endpoint = { ...endpointOf(pod, address, port, trustDomain), zone: of?.zone ?? '', ready: true };
  return { ...found, endpoints: [endpoint], hint: '' };
}

/** The first by name of the services that send calls to that port of a pod. */
function serviceOfPort(slices: readonly KnownSlice[], port: number): string | undefined {
  return slices
    .filter(({ ports }) => ports.some((one) => one.port === port))
    .map(({ service, namespace }) => `${service}.${namespace}`)
    .sort()[0];
}
