/** The processes kube-apiserver and etcd: started, ended, paused, asked, and what they write. */
import type { ChildProcess } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { openSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { runTool } from './nghttp2.ts';
import type { PrivateNetwork } from './privatenetwork.ts';
import { atEnd } from './sidecars.ts';

const ISSUER = 'https://kubernetes.default.svc.cluster.local';
const PORT = 6443;
const ETCD_PORT = 2379;
const START_MS = 90_000;

/** What the server answers: JSON, parsed. */
export interface KubeAnswer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: any object of Kubernetes
  readonly body: any;
}

export interface RequestOptions {
  /** The administrator's by default; '' for none. */
  readonly token?: string;
  readonly body?: unknown;
  /** Of the body: JSON by default. */
  readonly type?: string;
}

/** A request that the server has answered, by its own audit log. */
export interface AuditedRequest {
  readonly user: string;
  readonly verb: string;
  /** With the API group unless that is the core's, and a subresource: `leases.coordination.k8s.io`, `pods/status`. */
  readonly resource: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly code: number;
}

/** The two processes, and what they say. */
export class ApiServer {
  readonly network: PrivateNetwork;
  /** A folder for what belongs to this cluster; it goes with the test file. */
  readonly dir: string;
  /** `https://ADDRESS:PORT` */
  readonly server: string;
  /** Path of the certificate by which clients know the server. */
  readonly ca: string;
  /** Of the group `system:masters`. */
  readonly adminToken = randomBytes(24).toString('hex');
  #etcd: ChildProcess | undefined;
  #apiserver: ChildProcess | undefined;

  constructor(network: PrivateNetwork, dir: string) {
    this.network = network;
    this.dir = dir;
    this.server = `https://${network.address}:${PORT}`;
    this.ca = join(dir, 'server.pem');
  }

  /** Starts both; they end with the test file. */
  async start(): Promise<void> {
    atEnd(() => this.#stop());
    await this.#prepare();
    this.#startEtcd();
    await this.startApiServer();
  }

  async #prepare(): Promise<void> {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    await writeFile(join(this.dir, 'sa.key'), privateKey.export({ type: 'sec1', format: 'pem' }), {
      mode: 0o600,
    });
    await writeFile(join(this.dir, 'sa.pub'), publicKey.export({ type: 'spki', format: 'pem' }));
    await writeFile(join(this.dir, 'tokens.csv'), `${this.adminToken},admin,admin,system:masters\n`, {
      mode: 0o600,
    });
    const policy = { omitStages: ['RequestReceived'], rules: [{ level: 'Metadata' }] };
    await writeFile(
      join(this.dir, 'audit.yaml'),
      JSON.stringify({ apiVersion: 'audit.k8s.io/v1', kind: 'Policy', ...policy }),
    );
    const names = [`IP:${this.network.address}`, 'DNS:kubernetes.default.svc'];
    await this.certificate('server', names);
  }

  /** A certificate that is its own authority, with its key; returns the paths. Names are as in `DNS:hook.shop.svc`. */
  async certificate(name: string, names: readonly string[]): Promise<{ cert: string; key: string }> {
    const files = { cert: join(this.dir, `${name}.pem`), key: join(this.dir, `${name}.key`) };
    const { code, stderr } = await runTool('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...['-subj', `/CN=${name}`, '-addext', `subjectAltName=${names.join(',')}`],
      ...['-keyout', files.key, '-out', files.cert],
    ]);
    if (code !== 0) throw new Error(`openssl: ${stderr}`);
    return files;
  }

  #startEtcd(): void {
    const urls = `http://${this.network.address}:${ETCD_PORT}`;
    const peers = `http://127.0.0.1:${ETCD_PORT + 1}`;
    this.#etcd = this.#run('etcd', [
      `--data-dir=${join(this.dir, 'etcd')}`,
      `--listen-client-urls=${urls}`,
      `--advertise-client-urls=${urls}`,
      `--listen-peer-urls=${peers}`,
      `--initial-advertise-peer-urls=${peers}`,
      `--initial-cluster=default=${peers}`,
      '--log-level=warn',
    ]);
  }

  /** Starts the API server, for the first time or once more; resolves when it says that it is ready. */
  async startApiServer(...more: readonly string[]): Promise<void> {
    const file = (name: string): string => join(this.dir, name);
    const server = this.#run('kube-apiserver', [
      `--etcd-servers=http://${this.network.address}:${ETCD_PORT}`,
      `--bind-address=${this.network.address}`,
      `--advertise-address=${this.network.address}`,
      `--secure-port=${PORT}`,
      `--cert-dir=${this.dir}`,
      `--tls-cert-file=${this.ca}`,
      `--tls-private-key-file=${file('server.key')}`,
      `--token-auth-file=${file('tokens.csv')}`,
      '--authorization-mode=RBAC',
      `--service-account-issuer=${ISSUER}`,
      `--service-account-signing-key-file=${file('sa.key')}`,
      `--service-account-key-file=${file('sa.pub')}`,
      '--service-cluster-ip-range=10.96.0.0/16',
      // Webhooks are called at the addresses of their EndpointSlices: nobody here routes the addresses of Services.
      '--enable-aggregator-routing=true',
      `--audit-policy-file=${file('audit.yaml')}`,
      `--audit-log-path=${file('audit.jsonl')}`,
      // Compaction is what tests ask for.
      '--etcd-compaction-interval=0',
      '--shutdown-delay-duration=0',
      ...more,
    ]);
    this.#apiserver = server;
    const until = Date.now() + START_MS;
    for (;;) {
      const ready = await this.request('GET', '/readyz', {}).catch(() => undefined);
      if (ready?.status === 200) return;
      if (server.exitCode !== null || Date.now() > until)
        throw new Error(`kube-apiserver was not ready:\n${this.log('kube-apiserver').slice(-4000)}`);
      await pause(100);
    }
  }

  /** Ends the API server as a crash would. */
  async killApiServer(): Promise<void> {
    await end(this.#apiserver);
  }

  /** Stops it answering, with its connections open, until `resume`. */
  pauseApiServer(): void {
    this.#apiserver?.kill('SIGSTOP');
  }

  resumeApiServer(): void {
    this.#apiserver?.kill('SIGCONT');
  }

  /** PEM, of the key that signs the tokens of service accounts. */
  get signingKey(): string {
    return readFileSync(join(this.dir, 'sa.key'), 'utf8');
  }

  /** What etcd or kube-apiserver has logged. */
  log(name: 'etcd' | 'kube-apiserver'): string {
    return readFileSync(join(this.dir, `${name}.log`), 'utf8');
  }

  /** What was asked by those whose user name begins so, until now. */
  requestsOf(user: string): AuditedRequest[] {
    const text = readFileSync(join(this.dir, 'audit.jsonl'), 'utf8');
    // The last line may be one that is being written.
    return text
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line))
      .filter((entry) => entry.user.username?.startsWith(user) && entry.objectRef !== undefined)
      .map(({ user: { username }, verb, objectRef, responseStatus }) => ({
        user: username,
        verb,
        resource:
          objectRef.resource +
          (objectRef.apiGroup ? `.${objectRef.apiGroup}` : '') +
          (objectRef.subresource ? `/${objectRef.subresource}` : ''),
        namespace: objectRef.namespace,
        name: objectRef.name,
        code: responseStatus?.code ?? 0,
      }));
  }

  /** Forgets all revisions before the present one: who goes on from an older one is answered 410. */
  async compact(): Promise<void> {
    const { header } = await this.#etcdCall('/v3/kv/range', { key: Buffer.from('/').toString('base64') });
    await this.#etcdCall('/v3/kv/compaction', { revision: header.revision, physical: true });
  }

  // biome-ignore lint/suspicious/noExplicitAny: etcd's JSON
  async #etcdCall(path: string, body: unknown): Promise<any> {
    const url = `http://${this.network.address}:${ETCD_PORT}${path}`;
    const request = httpRequest(url, { method: 'POST', agent: false });
    request.end(JSON.stringify(body));
    const { status, text } = await answerTo(request);
    if (status !== 200) throw new Error(`etcd: ${status} ${text}`);
    return JSON.parse(text);
  }

  /** One request on a connection of its own. Nothing of Hauberk's takes part. */
  async request(method: string, path: string, options: RequestOptions = {}): Promise<KubeAnswer> {
    const { token = this.adminToken, body, type = 'application/json' } = options;
    const request = httpsRequest(`${this.server}${path}`, {
      method,
      agent: false,
      ca: readFileSync(this.ca),
      headers: {
        ...(token !== '' && { authorization: `Bearer ${token}` }),
        ...(body !== undefined && { 'content-type': type }),
      },
    });
    request.end(body === undefined ? undefined : JSON.stringify(body));
    const { status, text } = await answerTo(request);
    return { status, body: text.startsWith('{') ? JSON.parse(text) : text };
  }

  #run(name: 'etcd' | 'kube-apiserver', args: readonly string[]): ChildProcess {
    const log = openSync(join(this.dir, `${name}.log`), 'a', 0o600);
    return this.network.spawn(name, args, { stdio: ['ignore', log, log] });
  }

  async #stop(): Promise<void> {
    await end(this.#apiserver);
    await end(this.#etcd);
  }
}

async function answerTo(request: ReturnType<typeof httpRequest>): Promise<{ status: number; text: string }> {
  request.setTimeout(30_000, () => request.destroy(new Error('no answer for 30 s')));
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  let text = '';
  for await (const part of response.setEncoding('utf8')) text += part;
  return { status: response.statusCode as number, text };
}

async function end(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}
