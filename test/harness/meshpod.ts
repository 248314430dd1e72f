/**
 * An injected pod of the real API server, of which only the sidecar runs: in the cluster's network at an address of the pod's,
 * with the configuration that was injected and the token that a kubelet would mount. What its app would be is elsewhere.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readFileSync } from 'node:fs';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parse, stringify } from 'yaml';
import { AuditFile } from './auditfile.ts';
import type { Controller } from './controllers.ts';
import { configTextOf, type TestPod } from './injection.ts';
import type { Kubernetes } from './kubernetes.ts';
import { atEnd, type ConfigFile, merge } from './sidecars.ts';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const READY_MS = 60_000;

export interface MeshPodOptions {
  readonly namespace: string;
  /** As its owner writes it; it has to ask for a sidecar. */
  readonly pod: TestPod;
  /** Whom its sidecar asks. */
  readonly controller: Controller;
  /** Where what listens on the app's port really is. */
  readonly app?: string;
}

export class MeshPod {
  readonly name: string;
  readonly uid: string;
  readonly namespace: string;
  readonly address: string;
  readonly audit: AuditFile;
  readonly #folder: string;
  readonly #child: ChildProcess;

  private constructor(
    namespace: string,
    { name, uid }: { name: string; uid: string },
    address: string,
    folder: string,
    child: ChildProcess,
  ) {
    this.namespace = namespace;
    this.name = name;
    this.uid = uid;
    this.address = address;
    this.#folder = folder;
    this.#child = child;
    this.audit = new AuditFile(join(folder, 'audit.jsonl'), `the audit of ${name}`);
  }

  /** Creates the pod and runs its sidecar; resolves when that is ready. It ends with the test file. */
  static async start(cluster: Kubernetes, options: MeshPodOptions): Promise<MeshPod> {
    const { namespace, pod } = options;
    const pods = `/api/v1/namespaces/${namespace}/pods`;
    const { status, body } = await cluster.request('POST', pods, { body: pod });
    if (status !== 201) throw new Error(`a pod of ${namespace}: ${body.message}`);
    const { name, uid } = body.metadata as { name: string; uid: string };
    const address = await cluster.network.addAddress();
    const folder = await mkdtemp(join(cluster.dir, `${name}-`));
    await writeFile(join(folder, 'token'), await mountedToken(cluster, namespace, body));
    const config = merge(parse(configTextOf(body)) as ConfigFile, here(options, address, folder));
    const log = openSync(join(folder, 'log'), 'a', 0o600);
    const child = cluster.network.spawn(process.execPath, [MAIN, 'run'], {
      stdio: ['ignore', log, log],
      env: { PATH: process.env.PATH, HAUBERK_CONFIG: stringify(config), HAUBERK_POD_IPS: address },
    });
    const made = new MeshPod(namespace, { name, uid }, address, folder, child);
    atEnd(() => made.kill());
    await made.#ready();
    const podStatus = { phase: 'Running', podIP: address, podIPs: [{ ip: address }] };
    await cluster.request('PATCH', `${pods}/${name}/status`, {
      body: { status: podStatus },
      type: 'application/merge-patch+json',
    });
    return made;
  }

  async #ready(): Promise<void> {
    const until = Date.now() + READY_MS;
    const answer = (): Promise<Response | undefined> =>
      fetch(`http://${this.address}:15020/readyz`).catch(() => undefined);
    while ((await answer())?.status !== 200) {
      if (this.#child.exitCode !== null || Date.now() > until)
        throw new Error(`the sidecar of ${this.name} was not ready:\n${this.log.slice(-4000)}`);
      await pause(50);
    }
  }

  /** Where its app would call. */
  get egress(): string {
    return `${this.address}:15001`;
  }

  get log(): string {
    return readFileSync(join(this.#folder, 'log'), 'utf8');
  }

  /** As an endpoint of an EndpointSlice. */
  get endpoint(): unknown {
    const { namespace, name, uid, address } = this;
    return {
      addresses: [address],
      conditions: { ready: true, serving: true, terminating: false },
      targetRef: { kind: 'Pod', namespace, name, uid },
    };
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }
}

/** What differs because pods share a network here, and the file system with everybody. */
function here({ controller, app }: MeshPodOptions, address: string, folder: string): ConfigFile {
  const at = (name: string): string => join(folder, name);
  return {
    identity: { svid: at('svid.pem'), key: at('svid.key'), bundle: at('bundle.pem') },
    controller: { address: `${controller.address}:15010`, token: at('token') },
    egress: { listen: `${address}:15001`, allowNonLoopback: true },
    ingress: {
      listen: `${address}:15008`,
      ...(app === undefined ? {} : { apps: [{ service: '*', address: app }], allowRemoteApps: true }),
    },
    probes: { http: `${address}:15020`, grpc: `${address}:15021` },
    monitoring: { adapters: [{ file: { path: at('audit.jsonl') } }], calls: 'all' },
  };
}

interface Projected {
  readonly projected?: {
    readonly sources: ReadonlyArray<{ readonly serviceAccountToken?: { readonly audience?: string } }>;
  };
}

/** The token of the volume `hauberk-token`. */
function mountedToken(cluster: Kubernetes, namespace: string, pod: TestPod): Promise<string> {
  const volume = pod.spec.volumes?.find(({ name }) => name === 'hauberk-token') as Projected | undefined;
  const audience = volume?.projected?.sources[0]?.serviceAccountToken?.audience;
  if (audience === undefined) throw new Error('the pod was not injected');
  const { name = '', uid } = pod.metadata as { name?: string; uid: string };
  return cluster.token(namespace, pod.spec.serviceAccountName as string, { audience, pod: { name, uid } });
}
