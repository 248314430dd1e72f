import type { Clock } from '../../clock/clock.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { KubeClient } from '../client/client.ts';
import { collectionPath, ENDPOINT_SLICES, PODS, SERVICES } from '../client/resource.ts';
import { INJECTED, PORT } from '../injector/names.ts';
import type { EndpointSlice, Pod, Service } from '../objects.ts';
import { Cache } from '../watch/cache.ts';
import {
  type KnownService,
  type KnownSlice,
  keepPod,
  keepService,
  keepSlice,
  type MeshPod,
} from './known.ts';
import type { ClusterState } from './resolve.ts';

/** What has changed, for whoever has answered by it: the services of that name, or all of the namespace. */
export interface ClusterChange {
  readonly namespace: string;
  readonly service: string | undefined;
}

/** The services, endpoint slices and pods in the mesh of a cluster, kept by watching them. */
export class ClusterView implements ClusterState {
  readonly #services: Cache<Service, KnownService>;
  readonly #slices: Cache<EndpointSlice, KnownSlice>;
  readonly #pods: Cache<Pod, MeshPod>;

  constructor(options: { readonly client: KubeClient; readonly clock: Clock; readonly log?: Logger }) {
    this.#services = new Cache<Service, KnownService>({
      ...options,
      path: collectionPath(SERVICES),
      keep: keepService,
      indexers: { address: ({ addresses }) => addresses, name: ({ name }) => [name] },
    });
    this.#slices = new Cache<EndpointSlice, KnownSlice>({
      ...options,
      path: collectionPath(ENDPOINT_SLICES),
      keep: keepSlice,
      indexers: {
        service: ({ namespace, service }) => [`${namespace}/${service}`],
        address: ({ endpoints }) => endpoints.map(({ address }) => address),
      },
    });
    this.#pods = new Cache<Pod, MeshPod>({
      ...options,
      path: collectionPath(PODS),
      selection: { labelSelector: `${INJECTED}=true` },
      keep: (pod) => keepPod(pod, PORT),
      indexers: { address: ({ addresses, sharesAddress }) => (sharesAddress ? [] : addresses) },
    });
  }

  /** Everything has been seen once: until then nothing may be told. */
  get synced(): boolean {
    return this.#services.synced && this.#slices.synced && this.#pods.synced;
  }

  async whenSynced(): Promise<void> {
    await Promise.all([this.#services.whenSynced(), this.#slices.whenSynced(), this.#pods.whenSynced()]);
  }

  start(): void {
    for (const cache of [this.#services, this.#slices, this.#pods]) cache.start();
  }

  stop(): void {
    for (const cache of [this.#services, this.#slices, this.#pods]) cache.stop();
  }

  onChange(listener: (change: ClusterChange) => void): void {
    this.#services.onChange(({ object: { namespace, name } }) => listener({ namespace, service: name }));
    this.#slices.onChange(({ object: { namespace, service } }) => listener({ namespace, service }));
    this.#pods.onChange(({ object: { namespace } }) => listener({ namespace, service: undefined }));
  }

  service(namespace: string, name: string): KnownService | undefined {
    return this.#services.get(namespace, name);
  }

  serviceAt(address: string): KnownService | undefined {
    return this.#services.by('address', address)[0];
  }

  servicesNamed(name: string): readonly KnownService[] {
    return this.#services.by('name', name);
  }

  slices(namespace: string, service: string): readonly KnownSlice[] {
    return this.#slices.by('service', `${namespace}/${service}`);
  }

  slicesAt(address: string): readonly KnownSlice[] {
    return this.#slices.by('address', address);
  }

  pod(namespace: string, name: string): MeshPod | undefined {
    return this.#pods.get(namespace, name);
  }

  podAt(address: string): MeshPod | undefined {
    return this.#pods.by('address', address)[0];
  }

  /** Where a pod in the mesh is: some slice has to tell. Empty if none does. */
  zoneOf(namespace: string, pod: string): string {
    for (const address of this.pod(namespace, pod)?.addresses ?? []) {
      for (const { endpoints } of this.slicesAt(address)) {
        const zone = endpoints.find((one) => one.address === address)?.zone;
        if (zone !== undefined && zone !== '') return zone;
      }
    }
    return '';
  }
}
