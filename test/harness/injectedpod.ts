/**
 * Pods of a test network as the injector leaves them. Their containers are run in order, as a kubelet would: with the
 * arguments, variables, users, capabilities and volumes that they have been given there, and nothing else.
 */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CAPTURE, PROXY, RUN_VOLUME, TOKEN_VOLUME } from '../../src/kube/injector/names.ts';
import type { InjectorSettings } from '../../src/kube/injector/settings.ts';
import type { Outcome } from './cli.ts';
import type { Container, ContainerOptions, Image, Mount } from './container.ts';
import { configTextOf, injectPod, type TestPod } from './injection.ts';
import type { KubeApi } from './kubeapi.ts';
import type { Host } from './netns.ts';
import type { Cluster, PlainApp } from './pod.ts';
import { atEnd } from './sidecars.ts';

/** What the pods of a test have in common. */
export interface Injected {
  readonly cluster: Cluster;
  readonly api: KubeApi;
  readonly settings: Partial<InjectorSettings>;
}

type Spec = TestPod['spec']['containers'][number];

interface Security {
  readonly runAsUser: number;
  readonly runAsGroup: number;
  readonly capabilities: { readonly add?: readonly string[] };
}

export class InjectedPod {
  readonly name: string;
  readonly host: Host;
  readonly #cluster: Cluster;
  readonly #env: Readonly<Record<string, string>>;
  readonly #startSidecar: () => Container;
  #sidecar: Container;
  #server: PlainApp | undefined;

  private constructor(cluster: Cluster, name: string, host: Host, startSidecar: () => Container, app: Spec) {
    this.#cluster = cluster;
    this.name = name;
    this.host = host;
    this.#startSidecar = startSidecar;
    this.#sidecar = startSidecar();
    this.#env = literals(app);
  }

  /**
   * Injects the pod as its owner writes it, and runs its init containers and its sidecar; resolves when that is ready and
   * the API server knows the pod.
   */
  static async start(
    { cluster, api, settings }: Injected,
    host: Host,
    name: string,
    owners: TestPod,
  ): Promise<InjectedPod> {
    const { pod } = injectPod(owners, settings);
    const { containers, initContainers = [], serviceAccountName } = pod.spec;
    const uid = `uid-${name}`;
    const token = api.tokens.issue({
      namespace: 'shop',
      serviceAccount: serviceAccountName as string,
      pod: { name, uid },
    });
    const mounts = await volumesOf(token);
    const given = (image: Image, container: Spec): Container =>
      image.start(optionsOf(cluster, host, container, mounts));
    const app = containers[0] as Spec;
    let made: InjectedPod | undefined;
    for (const container of initContainers) {
      if (container.name === CAPTURE) {
        const { code, stderr } = await given(cluster.capture, container).outcome;
        if (code !== 0) throw new Error(`${CAPTURE} of ${name}: ${stderr}`);
      } else if (container.name === PROXY) {
        const env = [{ name: 'HAUBERK_CONFIG', value: configTextOf(pod) }];
        const addresses = container.env?.find(({ valueFrom }) => valueFrom !== undefined);
        if (addresses !== undefined) env.push({ name: addresses.name, value: `${host.v4},${host.v6}` });
        made = new InjectedPod(cluster, name, host, () => given(cluster.image, { ...container, env }), app);
        await made.#sidecar.ready();
      } else throw new Error(`${container.name} of ${name} is nothing that this could run`);
    }
    if (made === undefined) throw new Error(`${name} has no sidecar`);
    api.put('/api/v1/namespaces/shop/pods', {
      ...pod,
      metadata: { ...pod.metadata, namespace: 'shop', name, uid },
      status: { phase: 'Running', podIP: host.v4, podIPs: [{ ip: host.v4 }, { ip: host.v6 }] },
    });
    return made;
  }

  /** Runs its app, which says by which pod it was answered. */
  async serve(address: string): Promise<this> {
    this.#server = await this.#cluster.server(this.host, this.name, address);
    return this;
  }

  /** That of `serve`. */
  get server(): PlainApp {
    if (this.#server === undefined) throw new Error(`${this.name} serves nothing`);
    return this.#server;
  }

  /** Its sidecar dies, and is started again with what is in the pod's volumes; resolves when it is ready. */
  async crash(): Promise<void> {
    await this.#sidecar.kill();
    this.#sidecar = this.#startSidecar();
    await this.#sidecar.ready();
  }

  /** As it is deleted: its app ends, and then its sidecar; resolves to how that ended. */
  async end(): Promise<Outcome> {
    await this.server.stop();
    return this.endSidecar();
  }

  async endSidecar(): Promise<Outcome> {
    await this.#sidecar.signal('SIGTERM');
    return this.#sidecar.outcome;
  }

  /** What its sidecar has printed since it was started last, its audit among it. */
  get said(): readonly string[] {
    return this.#sidecar.stdout;
  }

  /** An app of it that calls, with the variables of the app's container. */
  client(target: string, mark: string): PlainApp {
    return this.#cluster.client(this.host, target, mark, { env: this.#env });
  }
}

const literals = ({ env = [] }: Spec): Record<string, string> =>
  Object.fromEntries(env.map(({ name, value = '' }) => [name, value]));

function optionsOf(
  cluster: Cluster,
  host: Host,
  container: Spec,
  mounts: ReadonlyMap<string, string>,
): ContainerOptions {
  const { args = [], volumeMounts = [], securityContext } = container;
  const { runAsUser, runAsGroup, capabilities } = securityContext as Security;
  return {
    args,
    user: `${runAsUser}:${runAsGroup}`,
    capabilities: (capabilities.add ?? []).map((name) => name.toLowerCase()),
    env: literals(container),
    network: host.namespace,
    nameserver: cluster.nameserver,
    mounts: volumeMounts.map(({ name, mountPath, readOnly, subPath }): Mount => {
      const folder = mounts.get(name);
      if (folder === undefined || subPath !== undefined)
        throw new Error(`${mountPath} cannot be mounted here`);
      return { folder, at: mountPath, writable: readOnly !== true };
    }),
  };
}

/** What a kubelet makes of the injector's volumes; by name. */
async function volumesOf(token: string): Promise<Map<string, string>> {
  const made = new Map<string, string>();
  for (const name of [RUN_VOLUME, TOKEN_VOLUME]) {
    const path = await mkdtemp(join(tmpdir(), 'hauberk-volume-'));
    atEnd(() => rm(path, { recursive: true }));
    // Of root, and of everybody.
    await chmod(path, 0o777);
    made.set(name, path);
  }
  await writeFile(join(made.get(TOKEN_VOLUME) as string, 'token'), token, { mode: 0o644 });
  return made;
}
