/*
 * What discovery keeps of the cluster. Reading order of this folder: this file, name.ts (what an authority may mean),
 * resolve.ts (where that is; pure), clusterview.ts (the caches that tell), topics.ts (who is to be told again, and when),
 * discoveryserver.ts (gRPC).
 */
import { isIP } from 'node:net';
import type { EndpointSlice, Pod, Service } from '../objects.ts';
import { canonicalAddress } from './name.ts';

export interface KnownPort {
  /** Empty where it has none. */
  readonly name: string;
  readonly port: number;
  readonly isGrpc: boolean;
}

export interface KnownService {
  readonly namespace: string;
  readonly name: string;
  /** None of a headless one, and none of an ExternalName. */
  readonly addresses: readonly string[];
  readonly isHeadless: boolean;
  /** Of an ExternalName; else undefined. */
  readonly externalName: string | undefined;
  readonly hasSelector: boolean;
  /** TCP. */
  readonly ports: readonly KnownPort[];
}

export interface KnownEndpoint {
  readonly address: string;
  readonly state: 'ready' | 'terminating' | 'unready';
  /** Empty where it has none, as the next. */
  readonly hostname: string;
  readonly zone: string;
  /** Those that it is meant for; undefined: nothing is said. */
  readonly forZones: readonly string[] | undefined;
  /** Undefined: it is no pod, or nobody says which. */
  readonly pod: { readonly name: string; readonly uid: string } | undefined;
}

export interface KnownSlice {
  readonly namespace: string;
  readonly name: string;
  readonly service: string;
  /** TCP. */
  readonly ports: ReadonlyArray<Pick<KnownPort, 'name' | 'port'>>;
  readonly endpoints: readonly KnownEndpoint[];
}

/** A pod with a sidecar of ours. */
export interface MeshPod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly addresses: readonly string[];
  /** Its addresses are those of its node, and others' too. */
  readonly sharesAddress: boolean;
  readonly serviceAccount: string;
  readonly meshPort: number;
}

const MESH_PORT = 15008;
const isTcp = ({ protocol }: { readonly protocol?: string }): boolean => (protocol ?? 'TCP') === 'TCP';

export function keepService({ metadata, spec = {} }: Service): KnownService | undefined {
  const { namespace, name } = metadata;
  if (namespace === undefined || name === undefined) return undefined;
  const given = spec.clusterIPs ?? (spec.clusterIP === undefined ? [] : [spec.clusterIP]);
  const external = spec.type === 'ExternalName' ? (spec.externalName ?? '') : undefined;
  return {
    namespace,
    name,
    addresses:
      external === undefined ? given.filter((address) => isIP(address) !== 0).map(canonicalAddress) : [],
    isHeadless: external === undefined && given.includes('None'),
    externalName: external,
    hasSelector: Object.keys(spec.selector ?? {}).length > 0,
    ports: (spec.ports ?? []).filter(isTcp).map((port) => ({
      name: port.name ?? '',
      port: port.port,
      isGrpc: /^(grpc|kubernetes\.io\/h2c|h2c|http2)/.test(port.appProtocol ?? port.name ?? ''),
    })),
  };
}

const SERVICE_LABEL = 'kubernetes.io/service-name';

export function keepSlice(slice: EndpointSlice): KnownSlice | undefined {
  const { namespace, name, labels } = slice.metadata;
  const service = labels?.[SERVICE_LABEL];
  if (namespace === undefined || name === undefined || service === undefined) return undefined;
  if (slice.addressType === 'FQDN') return undefined;
  return {
    namespace,
    name,
    service,
    ports: (slice.ports ?? [])
      .filter(isTcp)
      .flatMap(({ name: port = '', port: number }) =>
        number === undefined ? [] : [{ name: port, port: number }],
      ),
    endpoints: (slice.endpoints ?? []).flatMap((endpoint) => {
      // All that it has are the same thing, and consumers take the first.
      const [address] = endpoint.addresses ?? [];
      return address === undefined || isIP(address) === 0
        ? []
        : [keepEndpoint(canonicalAddress(address), endpoint)];
    }),
  };
}

/** What is not said of its conditions: `ready` is true then, `serving` is as `ready`, `terminating` is false. */
function keepEndpoint(
  address: string,
  { conditions = {}, hostname, zone, hints, targetRef }: NonNullable<EndpointSlice['endpoints']>[number],
): KnownEndpoint {
  const isReady = conditions.ready ?? true;
  const isServing = conditions.serving ?? isReady;
  const lasts = conditions.terminating === true && isServing ? 'terminating' : 'unready';
  return {
    address,
    state: isReady ? 'ready' : lasts,
    hostname: hostname ?? '',
    zone: zone ?? '',
    forZones: hints?.forZones?.map(({ name }) => name),
    pod:
      targetRef?.kind === 'Pod' && targetRef.name !== undefined
        ? { name: targetRef.name, uid: targetRef.uid ?? '' }
        : undefined,
  };
}

/** `portAnnotation` is where its injector has written the port of its mesh listener. */
export function keepPod({ metadata, spec, status }: Pod, portAnnotation: string): MeshPod | undefined {
  const { namespace, name, uid, annotations } = metadata;
  if (namespace === undefined || name === undefined) return undefined;
  if (status?.phase === 'Succeeded' || status?.phase === 'Failed') return undefined;
  const written = Number(annotations?.[portAnnotation] ?? MESH_PORT);
  const given = status?.podIPs?.map(({ ip }) => ip) ?? (status?.podIP === undefined ? [] : [status.podIP]);
  return {
    namespace,
    name,
    uid: uid ?? '',
    addresses: given.filter((address) => isIP(address) !== 0).map(canonicalAddress),
    sharesAddress: spec?.hostNetwork === true,
    serviceAccount: spec?.serviceAccountName ?? 'default',
    meshPort: Number.isInteger(written) && written > 0 && written < 65_536 ? written : MESH_PORT,
  };
}
