/** A cluster as discovery knows it, made of plain Kubernetes objects. */

import {
  type KnownService,
  type KnownSlice,
  keepPod,
  keepService,
  keepSlice,
  type MeshPod,
} from '../../../src/kube/discovery/known.ts';
import type { ClusterState } from '../../../src/kube/discovery/resolve.ts';
import type { EndpointSlice, Pod, Service } from '../../../src/kube/objects.ts';

type Spec = NonNullable<Service['spec']>;
type Endpoint = NonNullable<EndpointSlice['endpoints']>[number];

/** `name.namespace`, `app` by default. */
function split(name: string): { name: string; namespace: string } {
  const [first = '', namespace = 'shop'] = name.split('.');
  return { name: first, namespace };
}

export function service(name: string, spec: Partial<Spec> = {}): Service {
  return {
    metadata: split(name),
    spec: {
      clusterIP: '10.96.0.1',
      selector: { app: split(name).name },
      ports: [{ name: 'grpc', port: 50051, protocol: 'TCP' }],
      ...spec,
    },
  };
}

export function slice(
  of: string,
  endpoints: readonly Endpoint[],
  more: Partial<EndpointSlice> = {},
): EndpointSlice {
  const { name, namespace } = split(of);
  return {
    metadata: { name: `${name}-abc`, namespace, labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv4',
    endpoints,
    ports: [{ name: 'grpc', port: 50051, protocol: 'TCP' }],
    ...more,
  };
}

/** An endpoint that is a pod, ready unless its conditions say otherwise. */
export function endpoint(address: string, pod: string | undefined, more: Partial<Endpoint> = {}): Endpoint {
  return {
    addresses: [address],
    conditions: { ready: true, serving: true, terminating: false },
    ...(pod === undefined
      ? {}
      : {
          targetRef: {
            kind: 'Pod',
            name: split(pod).name,
            namespace: split(pod).namespace,
            uid: `uid-${pod}`,
          },
        }),
    ...more,
  };
}

/** A pod in the mesh. */
export function pod(
  name: string,
  ips: readonly string[],
  more: Partial<Pod> & { account?: string } = {},
): Pod {
  const { account = 'greeter', ...rest } = more;
  return {
    metadata: {
      ...split(name),
      uid: `uid-${name}`,
      labels: { 'hauberk.mesh/injected': 'true' },
      annotations: { 'hauberk.mesh/port': '15008' },
    },
    spec: { serviceAccountName: account },
    status: { phase: 'Running', podIPs: ips.map((ip) => ({ ip })) },
    ...rest,
  };
}

export interface Objects {
  readonly services?: readonly Service[];
  readonly slices?: readonly EndpointSlice[];
  /** Those in the mesh. */
  readonly pods?: readonly Pod[];
}

/** Looks everything up by walking: the twin of what caches with indexes answer. */
export function cluster({ services = [], slices = [], pods = [] }: Objects): ClusterState {
  const kept = <K>(all: ReadonlyArray<K | undefined>): K[] => all.filter((one) => one !== undefined);
  const known: readonly KnownService[] = kept(services.map(keepService));
  const told: readonly KnownSlice[] = kept(slices.map(keepSlice));
  const meshed: readonly MeshPod[] = kept(pods.map((one) => keepPod(one, 'hauberk.mesh/port')));
  return {
    service: (namespace, name) => known.find((one) => one.namespace === namespace && one.name === name),
    serviceAt: (address) => known.find(({ addresses }) => addresses.includes(address)),
    servicesNamed: (name) => known.filter((one) => one.name === name),
    slices: (namespace, name) => told.filter((one) => one.namespace === namespace && one.service === name),
    slicesAt: (address) => told.filter(({ endpoints }) => endpoints.some((one) => one.address === address)),
    pod: (namespace, name) => meshed.find((one) => one.namespace === namespace && one.name === name),
    podAt: (address) => meshed.find((one) => !one.sharesAddress && one.addresses.includes(address)),
  };
}
