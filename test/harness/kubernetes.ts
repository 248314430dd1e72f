/**
 * The real API server of Kubernetes and etcd, in a network of their own, with certificates and keys made at run time.
 * There is no kubelet, no scheduler and no controller manager: pods exist and do not run, and ServiceAccounts,
 * EndpointSlices and the pods of a Deployment are there only if a test creates them.
 *
 *   const cluster = await Kubernetes.make();
 *   await cluster.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } });
 *   const { status, body } = await cluster.request('GET', '/api/v1/namespaces/shop');
 */
import { spawn } from 'node:child_process';
import { sign } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { ApiServer } from './apiserver.ts';
import { CHART, type Helm } from './helm.ts';
import { PrivateNetwork } from './privatenetwork.ts';
import { atEnd } from './sidecars.ts';

/** An object as it is sent. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly [key: string]: unknown };
  readonly [key: string]: unknown;
}

export interface TokenOptions {
  readonly audience?: string;
  /** Binds the token to a pod: it is valid for no longer than the pod is there. */
  readonly pod?: { readonly name: string; readonly uid: string };
  /** At least 600. */
  readonly seconds?: number;
}

/** How a tool ended. */
export interface ToolOutput {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class Kubernetes extends ApiServer {
  /** Path of the administrator's configuration for kubectl and helm. */
  readonly kubeconfig: string;

  private constructor(network: PrivateNetwork, dir: string) {
    super(network, dir);
    this.kubeconfig = join(dir, 'admin.kubeconfig');
  }

  /** It ends with the test file. */
  static async make(): Promise<Kubernetes> {
    const dir = await mkdtemp(join(tmpdir(), 'hauberk-kubernetes-'));
    atEnd(() => rm(dir, { recursive: true, force: true }));
    const cluster = new Kubernetes(await PrivateNetwork.make(), dir);
    await writeFile(cluster.kubeconfig, JSON.stringify(cluster.#configOf(cluster.adminToken)), {
      mode: 0o600,
    });
    await cluster.start();
    return cluster;
  }

  #configOf(token: string): unknown {
    return {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'test', cluster: { server: this.server, 'certificate-authority': this.ca } }],
      users: [{ name: 'user', user: { token } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'user' } }],
      'current-context': 'test',
    };
  }

  /** Creates objects or brings them to what is given (server-side apply); returns them as they are then. */
  // biome-ignore lint/suspicious/noExplicitAny: any object of Kubernetes
  async apply(...objects: Manifest[]): Promise<any[]> {
    const made: unknown[] = [];
    for (const object of objects) {
      const path = `${collectionOf(object)}/${object.metadata.name}?fieldManager=test&force=true`;
      const { status, body } = await this.request('PATCH', path, {
        body: object,
        type: 'application/apply-patch+yaml',
      });
      if (status > 201) throw new Error(`${object.kind} ${object.metadata.name}: ${body.message ?? body}`);
      made.push(body);
    }
    return made;
  }

  /** A namespace and service accounts in it: what the controller manager would make of itself is made here. */
  async namespace(
    name: string,
    labels: Readonly<Record<string, string>> = {},
    ...accounts: string[]
  ): Promise<void> {
    await this.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } });
    for (const account of ['default', ...accounts])
      await this.apply({
        apiVersion: 'v1',
        kind: 'ServiceAccount',
        metadata: { name: account, namespace: name },
      });
  }

  /** A token of a service account, as a kubelet would ask for it (TokenRequest). */
  async token(namespace: string, account: string, options: TokenOptions = {}): Promise<string> {
    const { audience, pod, seconds = 3600 } = options;
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`;
    const { status, body } = await this.request('POST', path, {
      body: {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        spec: {
          ...(audience !== undefined && { audiences: [audience] }),
          expirationSeconds: seconds,
          ...(pod !== undefined && { boundObjectRef: { apiVersion: 'v1', kind: 'Pod', ...pod } }),
        },
      },
    });
    if (status !== 201) throw new Error(`token of ${namespace}/${account}: ${JSON.stringify(body)}`);
    return body.status.token;
  }

  /** Gives a service account rights in its namespace. */
  async grant(namespace: string, account: string, rules: readonly unknown[]): Promise<void> {
    const group = 'rbac.authorization.k8s.io';
    const metadata = { name: account, namespace };
    await this.apply(
      { apiVersion: `${group}/v1`, kind: 'Role', metadata, rules },
      {
        apiVersion: `${group}/v1`,
        kind: 'RoleBinding',
        metadata,
        roleRef: { apiGroup: group, kind: 'Role', name: account },
        subjects: [{ kind: 'ServiceAccount', name: account, namespace }],
      },
    );
  }

  /** Creates a pod that runs nowhere, and a token that is bound to it, as its kubelet would get one. */
  async podWithToken(
    namespace: string,
    account: string,
    options: TokenOptions = {},
  ): Promise<{ name: string; uid: string; token: string }> {
    const { status, body } = await this.request('POST', `/api/v1/namespaces/${namespace}/pods`, {
      body: {
        metadata: { generateName: `${account}-`, annotations: { 'hauberk.mesh/inject': 'disabled' } },
        spec: { serviceAccountName: account, containers: [{ name: 'app', image: 'app' }] },
      },
    });
    if (status !== 201) throw new Error(`a pod of ${namespace}: ${JSON.stringify(body)}`);
    const { name, uid } = body.metadata;
    return { name, uid, token: await this.token(namespace, account, { pod: { name, uid }, ...options }) };
  }

  /** A token like those of the server, with other claims, signed by its key or another. */
  forge(token: string, claims: Readonly<Record<string, unknown>>, key = this.signingKey): string {
    const [header, payload] = token.split('.') as [string, string];
    const read = JSON.parse(Buffer.from(payload, 'base64url').toString());
    const signed = `${header}.${Buffer.from(JSON.stringify({ ...read, ...claims })).toString('base64url')}`;
    const signature = sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' });
    return `${signed}.${signature.toString('base64url')}`;
  }

  /** Where a Service's pods are: what the EndpointSlice controller would write. Ports are by name. */
  endpointSlice(
    namespace: string,
    service: string,
    addresses: readonly string[],
    ports: Readonly<Record<string, number>>,
  ): Manifest {
    return {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: `${service}-1`, namespace, labels: { 'kubernetes.io/service-name': service } },
      addressType: 'IPv4',
      endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready: true } })),
      ports: Object.entries(ports).map(([name, port]) => ({ name, port, protocol: 'TCP' })),
    };
  }

  /** How a program of a service account's gets at the server: paths as a pod has them, of its own folder. */
  async accessOf(token: string): Promise<{ server: string; ca: string; token: string }> {
    const folder = await mkdtemp(join(this.dir, 'account-'));
    await writeFile(join(folder, 'token'), token, { mode: 0o600 });
    return { server: this.server, ca: this.ca, token: join(folder, 'token') };
  }

  /** Installs the chart in `hauberk-system`, with further arguments of Helm. */
  async install(helm: Helm, ...args: string[]): Promise<void> {
    const { code, stderr } = await this.tool(helm, [
      'install',
      'hauberk',
      CHART,
      '-n',
      'hauberk-system',
      ...args,
    ]);
    if (code !== 0) throw new Error(stderr);
  }

  /** Resolves once each webhook of a configuration has its `caBundle`. */
  async webhooksKnown(configuration: string): Promise<void> {
    const path = `/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/${configuration}`;
    for (let tries = 0; tries < 300; tries++) {
      const { body } = await this.request('GET', path);
      const hooks: ReadonlyArray<{ clientConfig: { caBundle?: string } }> = body.webhooks ?? [];
      if (hooks.length > 0 && hooks.every(({ clientConfig }) => clientConfig.caBundle !== undefined)) return;
      await pause(100);
    }
    throw new Error(`nobody has written the caBundle of ${configuration}`);
  }

  kubectl(args: readonly string[], input?: string): Promise<ToolOutput> {
    return this.tool('kubectl', args, input);
  }

  /** Runs kubectl, helm4 or helm3 as the administrator, with `input` as its standard input; at most a minute. */
  async tool(name: string, args: readonly string[], input = ''): Promise<ToolOutput> {
    const child = spawn(name, args, {
      stdio: 'pipe',
      timeout: 60_000,
      killSignal: 'SIGKILL',
      env: { PATH: process.env.PATH, HOME: this.dir, KUBECONFIG: this.kubeconfig },
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.stdin.on('error', () => {}).end(input);
    const [code] = (await once(child, 'close').catch((cause: unknown) => {
      throw new Error(`${name} could not be run; .ci/run installs it`, { cause });
    })) as [number | null];
    return { code, stdout, stderr };
  }
}

// The plural names that a rule does not give.
const PLURALS: Readonly<Record<string, string>> = {
  Endpoints: 'endpoints',
  NetworkPolicy: 'networkpolicies',
  PriorityClass: 'priorityclasses',
};
const CLUSTER_WIDE = new Set([
  'Namespace',
  'ClusterRole',
  'ClusterRoleBinding',
  'MutatingWebhookConfiguration',
  'FlowSchema',
  'PriorityLevelConfiguration',
  'PriorityClass',
]);

/** The path of the collection that an object is in. */
function collectionOf({ apiVersion, kind, metadata }: Manifest): string {
  const root = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const plural = PLURALS[kind] ?? `${kind.toLowerCase()}s`;
  return CLUSTER_WIDE.has(kind) ? `${root}/${plural}` : `${root}/namespaces/${metadata.namespace}/${plural}`;
}
