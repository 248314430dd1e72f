/**
 * A controller's discovery in the test's process, over the real protocol and TLS, with a stub of the API server behind it;
 * and sidecars for its pods, each on an address of 127.0.0.0/8 of its own.
 *
 *   const stage = await DiscoveryStage.make();
 *   const greeter = await stage.pod('greeter-1', { app: app.address });
 *   stage.service('greeter', app, [greeter]);
 *   const web = await stage.caller();
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { Recorder } from '../../src/audit/recorder.ts';
import { systemClock } from '../../src/clock/clock.ts';
import { loadDiscoveryDefinition } from '../../src/control/definition.ts';
import { openKubeClient } from '../../src/kube/client/httpsclient.ts';
import {
  collectionPath,
  ENDPOINT_SLICES,
  objectPath,
  PODS,
  SERVICES,
} from '../../src/kube/client/resource.ts';
import { ClusterView } from '../../src/kube/discovery/clusterview.ts';
import { DiscoveryServer } from '../../src/kube/discovery/discoveryserver.ts';
import type { EndpointSlice } from '../../src/kube/objects.ts';
import { TokenReviewer } from '../../src/kube/tokenreview.ts';
import { silentLogger } from '../../src/telemetry/log.ts';
import { KubeApi } from './kubeapi.ts';
import { atEnd, type ConfigFile, merge, type SidecarProcess, World } from './sidecars.ts';

const CONTROLLER = 'hauberk-system/hauberk-controller';
const NAMESPACE = 'shop';

/** One replica of the controller, as far as discovery goes. */
interface Replica {
  readonly port: number;
  readonly server: DiscoveryServer;
  stop(): void;
}

export interface PodProcess {
  readonly name: string;
  readonly address: string;
  readonly account: string;
  readonly sidecar: SidecarProcess;
}

/** How an endpoint of a slice is, if not ready. */
export type Endpoints = ReadonlyArray<{
  readonly pod: Pick<PodProcess, 'name' | 'address'>;
  readonly state?: 'terminating' | 'unready';
}>;

let addresses = 10;

export class DiscoveryStage {
  readonly world: World;
  readonly api: KubeApi;
  #replica: Replica | undefined;
  #port = 0;

  private constructor(world: World, api: KubeApi) {
    this.world = world;
    this.api = api;
  }

  static async make(): Promise<DiscoveryStage> {
    const api = await KubeApi.start();
    atEnd(() => api.end());
    const stage = new DiscoveryStage(await World.make(), api);
    await stage.start();
    return stage;
  }

  /** What it has told, and to how many. */
  get stats(): DiscoveryServer['stats'] {
    return (this.#replica as Replica).server.stats;
  }

  /** The controller comes up, on the port that it had. */
  async start(): Promise<void> {
    const { api, world } = this;
    const client = openKubeClient({ access: api.access, clock: systemClock });
    const cluster = new ClusterView({ client, clock: systemClock });
    const tokens = new TokenReviewer({
      client,
      clock: systemClock,
      audience: 'hauberk',
      log: silentLogger,
      bounds: { maxPerSecond: 200, maxWaiting: 4096, maxPerAddress: 10_000 },
    });
    const source = {
      instance: '00',
      spiffeId: 'spiffe://shop.example/ns/hauberk-system/sa/hauberk-controller',
    };
    const server = new DiscoveryServer({
      cluster,
      tokens,
      trustDomain: world.trust.trustDomain,
      clusterDomain: 'cluster.local',
      clock: systemClock,
      recorder: new Recorder({ clock: systemClock, source, adapters: [] }),
      log: silentLogger,
      grpc,
    });
    const listener = new grpc.Server();
    const definition = (await loadDiscoveryDefinition()) as grpc.ServiceDefinition;
    listener.addService(definition, server.handlers as grpc.UntypedServiceImplementation);
    const { svid, key } = await world.identityFiles(CONTROLLER);
    const pair = { private_key: await readFile(key), cert_chain: await readFile(svid) };
    const credentials = grpc.ServerCredentials.createSsl(null, [pair]);
    this.#port = await new Promise<number>((resolve, reject) =>
      listener.bindAsync(`127.0.0.1:${this.#port}`, credentials, (error, port) =>
        error === null ? resolve(port) : reject(error),
      ),
    );
    cluster.start();
    const stop = (): void => {
      listener.forceShutdown();
      server.close();
      cluster.stop();
      client.close();
    };
    this.#replica = { port: this.#port, server, stop };
    atEnd(stop);
  }

  /** The controller is gone, as if it had been killed. */
  stop(): void {
    this.#replica?.stop();
  }

  /** What every sidecar of the stage has in its configuration. */
  async #controller(name: string, account: string): Promise<ConfigFile> {
    const token = join(this.world.dir, `token-${name}`);
    const claims = { namespace: NAMESPACE, serviceAccount: account, pod: { name, uid: `uid-${name}` } };
    await writeFile(token, this.api.tokens.issue(claims));
    return {
      controller: {
        address: `127.0.0.1:${this.#port}`,
        peer: `spiffe://shop.example/ns/hauberk-system/sa/hauberk-controller`,
        token,
        bundle: this.world.trust.bundle,
      },
    };
  }

  /** A sidecar that delivers whatever is asked for to an app, and its pod. */
  async pod(
    name: string,
    { app, account = 'greeter', identity = account }: { app: string; account?: string; identity?: string },
  ): Promise<PodProcess> {
    const address = `127.0.1.${addresses++}`;
    const sidecar = await this.world.sidecar(
      name,
      {
        policy: 'open',
        egress: { listen: 'off' },
        ingress: { listen: `${address}:0`, apps: [{ service: '*', address: app }] },
        pool: { backoff: '10ms', maxBackoff: '100ms' },
      },
      { identity: `${NAMESPACE}/${identity}` },
    );
    const made = { name, address, account, sidecar };
    this.meshed(made, Number(sidecar.ingress.split(':')[1]));
    return made;
  }

  /** The API server knows the pod, with a sidecar. */
  meshed({ name, address, account }: Omit<PodProcess, 'sidecar'>, meshPort = 15008): void {
    this.api.put(collectionPath(PODS, NAMESPACE), {
      metadata: {
        name,
        namespace: NAMESPACE,
        uid: `uid-${name}`,
        labels: { 'hauberk.mesh/injected': 'true' },
        annotations: { 'hauberk.mesh/port': String(meshPort) },
      },
      spec: { serviceAccountName: account },
      status: { phase: 'Running', podIP: address, podIPs: [{ ip: address }] },
    });
  }

  remove(pod: Pick<PodProcess, 'name'>): void {
    this.api.remove(objectPath(PODS, pod.name, NAMESPACE));
  }

  /** A service with the port 50051, and another address for it: `10.96.0.1`. */
  service(name: string, targetPort: number, endpoints: Endpoints): void {
    this.api.put(collectionPath(SERVICES, NAMESPACE), {
      metadata: { name, namespace: NAMESPACE },
      spec: {
        clusterIP: '10.96.0.1',
        selector: { app: name },
        ports: [{ name: 'grpc', port: 50_051, targetPort }],
      },
    });
    this.endpoints(name, targetPort, endpoints);
  }

  /** There is no such service any more. */
  forget(name: string): void {
    this.api.remove(objectPath(SERVICES, name, NAMESPACE));
    this.api.remove(objectPath(ENDPOINT_SLICES, `${name}-1`, NAMESPACE));
  }

  endpoints(name: string, targetPort: number, endpoints: Endpoints): void {
    const slice: EndpointSlice = {
      metadata: {
        name: `${name}-1`,
        namespace: NAMESPACE,
        labels: { 'kubernetes.io/service-name': name },
      },
      addressType: 'IPv4',
      ports: [{ name: 'grpc', port: targetPort, protocol: 'TCP' }],
      endpoints: endpoints.map(({ pod, state }) => ({
        addresses: [pod.address],
        conditions: {
          ready: state === undefined,
          serving: state !== 'unready',
          terminating: state === 'terminating',
        },
        targetRef: { kind: 'Pod', name: pod.name, namespace: NAMESPACE, uid: `uid-${pod.name}` },
      })),
    };
    this.api.put(collectionPath(ENDPOINT_SLICES, NAMESPACE), slice);
  }

  /** A sidecar that calls whatever discovery tells. Once more: another process for the same pod. */
  async caller(config: ConfigFile = {}, nodeArgs: readonly string[] = []): Promise<SidecarProcess> {
    const base = await this.#controller('web', 'web');
    const egress = { discovery: true, namespace: NAMESPACE };
    const pool = { backoff: '10ms', maxBackoff: '100ms', waitTimeout: '3s' };
    return this.world.sidecar('web', merge(merge(base, { egress, pool }), config), {
      identity: `${NAMESPACE}/web`,
      nodeArgs,
    });
  }
}

/** The port of an address. */
export const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(':') + 1));
