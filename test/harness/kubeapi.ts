/**
 * A STUB of the Kubernetes API server, over real TLS: get, list (paged), watch (bookmarks, selectors, 410), create,
 * replace, patch and delete with resource versions and conflicts, for whatever path it is asked, and TokenReview with
 * tokens that the test hands out. No validation, defaults, admission or controllers: the system tests that need those
 * run a real kube-apiserver. Tests make it fail: see `fail`, `deny`, `slowMs`, `expire`, `silence`, `tearEvent`, `stop`.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KubeAccess } from '../../src/config/incluster.ts';
import { actionOf } from '../../src/kube/client/resource.ts';
import { applyJsonPatch, applyMergePatch, type JsonPatch } from './jsonpatch.ts';
import { type AnyObject, type Change, KubeStore, keyOf, Refusal, selects } from './kubestore.ts';
import { makeServerCertificate, type ServerCertificate } from './kubetls.ts';
import { ServiceAccountTokens } from './kubetokens.ts';

export interface Asked {
  readonly verb: string;
  /** As RBAC has it, `pods/status` for a subresource. */
  readonly resource: string;
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly token: string | undefined;
}

export interface Failure {
  /** Of which requests; of all, if it is left out. */
  readonly of?: (asked: Asked) => boolean;
  /** How many of them; 1 by default. */
  readonly times?: number;
  readonly status: number;
  readonly reason?: string;
  readonly message?: string;
  /** Field `retry-after`, as it stands. */
  readonly retryAfter?: string;
}

interface Target {
  readonly collection: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
}

interface Watch {
  readonly send: (change: Change) => void;
  readonly bookmark: () => void;
  readonly response: ServerResponse;
}

export class KubeApi {
  readonly store = new KubeStore();
  readonly tokens = new ServiceAccountTokens();
  /** Every request that came, in order. */
  readonly asked: Asked[] = [];
  /** How the program under test reaches it: files in a folder of its own. */
  readonly access: KubeAccess;
  /** What GET /version says. */
  serverVersion = { major: '1', minor: '35' };
  /** Each answer begins so much later; Infinity: never. */
  slowMs = 0;
  /** How an expired resource version is told to watches. Servers do both. */
  expiredAs: 'event' | 'status' = 'event';
  /** Called before a request is answered: for tests that hold one up. */
  hold: ((asked: Asked) => Promise<void>) | undefined;
  readonly #folder: string;
  readonly #certificate: ServerCertificate;
  readonly #denied = new Set<string>();
  readonly #failures: Array<Failure & { left: number }> = [];
  readonly #watches = new Set<Watch>();
  readonly #sockets = new Set<Socket>();
  readonly #pages = new Map<string, { items: AnyObject[]; version: string }>();
  #accepted = new Set<string>();
  #server: Server | undefined;
  #port = 0;
  #silent = false;
  #tears = false;

  private constructor(folder: string, certificate: ServerCertificate, port: number) {
    this.#folder = folder;
    this.#certificate = certificate;
    this.#port = port;
    const files = { ca: join(folder, 'ca.crt'), token: join(folder, 'token') };
    const self = this;
    this.access = {
      ...files,
      get server() {
        return `https://127.0.0.1:${self.#port}`;
      },
    };
    this.store.onChange((change) => this.#publish(change));
  }

  /** Listens on a free port of 127.0.0.1. */
  static async start(): Promise<KubeApi> {
    const folder = await mkdtemp(join(tmpdir(), 'hauberk-kubeapi-'));
    const api = new KubeApi(folder, await makeServerCertificate(), 0);
    await writeFile(api.access.ca, api.#certificate.ca);
    await api.useToken('stub-controller-token');
    await api.listen();
    return api;
  }

  /** How many watches are open. */
  get watching(): number {
    return this.#watches.size;
  }

  /** Writes the token file anew; only this token is accepted from now on, unless others are given too. */
  async useToken(token: string, alsoAccepted: readonly string[] = []): Promise<void> {
    await writeFile(this.access.token, `${token}\n`, { mode: 0o600 });
    this.#accepted = new Set([token, ...alsoAccepted]);
  }

  /** Comes back on the port that it had. */
  async listen(): Promise<void> {
    const { cert, key } = this.#certificate;
    const server = createServer({ cert, key, keepAlive: true }, (request, response) => {
      void this.#serve(request, response);
    });
    // Those whose TLS handshake is not over yet, too: else the server would wait for them when it is stopped.
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    server.on('tlsClientError', () => undefined);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#port, '127.0.0.1', resolve);
    });
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  /** As if its process had been killed; what it holds stays. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = new Promise((resolve) => server.close(resolve));
    this.cut();
    server.closeAllConnections();
    await closed;
  }

  /** Ends for good. */
  async end(): Promise<void> {
    await this.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }

  /** Resets every connection. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  fail(failure: Failure): void {
    this.#failures.push({ ...failure, left: failure.times ?? 1 });
  }

  /** As if RBAC did not grant it: a verb and a resource, as `list pods`. */
  deny(what: string): void {
    this.#denied.add(what);
  }

  allow(what: string): void {
    this.#denied.delete(what);
  }

  /** Everything watched or paged from before now is answered with 410; watches that are open end. */
  expire(): void {
    this.store.compact();
    this.#pages.clear();
    for (const { response } of this.#watches) response.end();
  }

  /** A bookmark to every watch. */
  bookmark(): void {
    if (this.#silent) return;
    for (const watch of this.#watches) watch.bookmark();
  }

  /** Watches hear nothing more, although their connections stay: as behind a firewall that forgot them. */
  silence(silent = true): void {
    this.#silent = silent;
  }

  /** Of the next event half of the line is sent, then the connection is reset. */
  tearEvent(): void {
    this.#tears = true;
  }

  /** Octets to every watch, as they are. */
  sendRaw(text: string): void {
    for (const { response } of this.#watches) response.write(text);
  }

  /** Creates an object, or replaces it, as a user with kubectl would. `path` is that of its collection. */
  put<T extends object>(path: string, object: T): AnyObject {
    const { collection, namespace } = targetOf(path);
    const given = object as unknown as AnyObject;
    const key = keyOf(namespace, given.metadata.name as string);
    const before = this.store.get(collection, key);
    if (before === undefined) return this.store.create(collection, given, namespace);
    const { resourceVersion: _, ...metadata } = given.metadata;
    return this.store.replace(collection, key, { ...given, metadata });
  }

  remove(path: string): void {
    const { collection, namespace, name } = targetOf(path);
    this.store.delete(collection, keyOf(namespace, name as string));
  }

  /** The object at a path, for a test to look at. */
  at<T>(path: string): T | undefined {
    const { collection, namespace, name } = targetOf(path);
    return this.store.get(collection, keyOf(namespace, name as string)) as T | undefined;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => undefined);
    try {
      const url = new URL(request.url as string, 'https://stub');
      const method = request.method as string;
      const { verb, resource } = actionOf(method, url.pathname, url.searchParams.get('watch') === 'true');
      const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
      const asked: Asked = { verb, resource, method, path: url.pathname, query: url.searchParams, token };
      this.asked.push(asked);
      const body = await bodyOf(request);
      await this.hold?.(asked);
      if (this.slowMs === Number.POSITIVE_INFINITY) return;
      if (this.slowMs > 0) await new Promise((resolve) => setTimeout(resolve, this.slowMs));
      if (token === undefined || !this.#accepted.has(token))
        throw new Refusal(401, 'Unauthorized', 'Unauthorized');
      if (this.#failed(asked, response)) return;
      if (this.#denied.has(`${verb} ${resource}`)) {
        throw new Refusal(
          403,
          'Forbidden',
          `${resource} is forbidden: User "stub" cannot ${verb} resource "${resource}"`,
        );
      }
      if (verb === 'watch') this.#watch(url, response);
      else answer(response, method === 'POST' ? 201 : 200, this.#answer(request, url, body));
    } catch (error) {
      if (error instanceof Refusal) refuse(response, error);
      else refuse(response, new Refusal(500, 'InternalError', String(error)));
    }
  }

  #failed(asked: Asked, response: ServerResponse): boolean {
    const failure = this.#failures.find(({ of, left }) => left > 0 && (of === undefined || of(asked)));
    if (failure === undefined) return false;
    failure.left--;
    const { status, reason = 'StubFailure', message = 'the test wants it so', retryAfter } = failure;
    if (retryAfter !== undefined) response.setHeader('retry-after', retryAfter);
    refuse(response, new Refusal(status, reason, message));
    return true;
  }

  #answer(request: IncomingMessage, url: URL, body: string): unknown {
    if (url.pathname === '/version') return this.serverVersion;
    const target = targetOf(url.pathname);
    const { collection, namespace, name } = target;
    const key = keyOf(namespace, name ?? '');
    const sent = (): AnyObject => JSON.parse(body) as AnyObject;
    if (collection.endsWith('/tokenreviews')) return this.tokens.review(sent());
    switch (request.method) {
      case 'GET':
        return name === undefined ? this.#list(target, url.searchParams) : this.#existing(collection, key);
      case 'POST':
        return this.store.create(collection, sent(), namespace);
      case 'PUT':
        return this.store.replace(collection, key, sent());
      case 'PATCH':
        return this.#patch(target, key, request.headers['content-type'] ?? '', body);
      case 'DELETE':
        return this.store.delete(collection, key);
      default:
        throw new Refusal(405, 'MethodNotAllowed', `${request.method}`);
    }
  }

  #existing(collection: string, key: string): AnyObject {
    const object = this.store.get(collection, key);
    if (object === undefined) throw new Refusal(404, 'NotFound', `${collection} "${key}" not found`);
    return object;
  }

  #patch({ collection, namespace, name }: Target, key: string, type: string, body: string): AnyObject {
    const patch = JSON.parse(body) as unknown;
    const before = this.store.get(collection, key);
    if (type.startsWith('application/apply-patch') && before === undefined) {
      const applied = patch as AnyObject;
      return this.store.create(
        collection,
        { ...applied, metadata: { ...applied.metadata, name: name as string } },
        namespace,
      );
    }
    const existing = before ?? this.#existing(collection, key);
    const patched = type.startsWith('application/json-patch')
      ? patchedBy(existing, patch as JsonPatch)
      : applyMergePatch(existing, patch, !type.startsWith('application/merge-patch'));
    return this.store.replace(collection, key, patched);
  }

  #list(target: Target, query: URLSearchParams): unknown {
    const limit = Number(query.get('limit') ?? 0);
    const token = query.get('continue');
    let page = token === null ? undefined : this.#pages.get(token);
    if (token !== null && page === undefined) {
      throw new Refusal(410, 'Expired', 'The provided continue parameter is too old');
    }
    page ??= { items: this.#selected(target, query), version: this.store.version };
    const rest = limit > 0 ? page.items.slice(limit) : [];
    const metadata: Record<string, unknown> = { resourceVersion: page.version };
    if (rest.length > 0) {
      metadata.continue = Buffer.from(`${page.version}/${Math.random()}`).toString('base64url');
      metadata.remainingItemCount = rest.length;
      this.#pages.set(metadata.continue as string, { items: rest, version: page.version });
    }
    return {
      apiVersion: 'v1',
      kind: 'List',
      metadata,
      items: limit > 0 ? page.items.slice(0, limit) : page.items,
    };
  }

  #selected({ collection, namespace }: Target, query: URLSearchParams): AnyObject[] {
    return this.store.all(collection).filter((object) => matches(object, namespace, query));
  }

  #watch(url: URL, response: ServerResponse): void {
    const target = targetOf(url.pathname);
    const query = url.searchParams;
    const from = query.get('resourceVersion') ?? '';
    const missed = from === '' || from === '0' ? [] : this.store.since(Number(from));
    const expired = new Refusal(410, 'Expired', `too old resource version: ${from}`);
    if (missed === undefined && this.expiredAs === 'status') throw expired;
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    const send = (type: string, object: unknown): void => {
      const line = `${JSON.stringify({ type, object })}\n`;
      if (this.#silent) return;
      if (this.#tears) {
        this.#tears = false;
        response.write(line.slice(0, line.length / 2), () => response.destroy());
      } else response.write(line);
    };
    if (missed === undefined) {
      send('ERROR', statusOf(expired));
      response.end();
      return;
    }
    const watch: Watch = {
      response,
      send: (change) => {
        if (change.collection !== target.collection) return;
        const was = change.before !== undefined && matches(change.before, target.namespace, query);
        const is = change.after !== undefined && matches(change.after, target.namespace, query);
        if (is) send(was ? 'MODIFIED' : 'ADDED', change.after);
        else if (was) {
          const gone = change.after ?? (change.before as AnyObject);
          send('DELETED', {
            ...gone,
            metadata: { ...gone.metadata, resourceVersion: String(change.version) },
          });
        }
      },
      bookmark: () => {
        if (query.get('allowWatchBookmarks') !== 'true') return;
        send('BOOKMARK', { metadata: { resourceVersion: this.store.version } });
      },
    };
    if (from === '' || from === '0')
      for (const object of this.#selected(target, query)) send('ADDED', object);
    for (const change of missed) watch.send(change);
    this.#watches.add(watch);
    const timeout = setTimeout(
      () => response.end(),
      Number(query.get('timeoutSeconds') ?? 300) * 1000,
    ).unref();
    response.on('close', () => {
      clearTimeout(timeout);
      this.#watches.delete(watch);
    });
  }

  #publish(change: Change): void {
    for (const watch of this.#watches) watch.send(change);
  }
}

/** Where a path points: `/api/v1/namespaces/shop/pods/web/status` and the like. */
function targetOf(path: string): Target {
  const steps = path.split('/').slice(1).map(decodeURIComponent);
  const root = steps.splice(0, steps[0] === 'apis' ? 3 : 2);
  const namespaced = steps[0] === 'namespaces' && steps.length > 2;
  const [, namespace] = namespaced ? steps.splice(0, 2) : [];
  const [resource, name, subresource] = steps;
  return { collection: `/${root.join('/')}/${resource}`, namespace, name, subresource };
}

const matches = (object: AnyObject, namespace: string | undefined, query: URLSearchParams): boolean =>
  (namespace === undefined || object.metadata.namespace === namespace) &&
  selects(object, query.get('labelSelector') ?? '', query.get('fieldSelector') ?? '');

function patchedBy(object: AnyObject, patch: JsonPatch): AnyObject {
  try {
    return applyJsonPatch(object, patch);
  } catch (error) {
    throw new Refusal(422, 'Invalid', `the patch does not fit: ${(error as Error).message}`);
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

const statusOf = ({ status, reason, message }: Refusal) => ({
  kind: 'Status',
  apiVersion: 'v1',
  metadata: {},
  status: 'Failure',
  message,
  reason,
  code: status,
});

function answer(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
}

function refuse(response: ServerResponse, refusal: Refusal): void {
  if (response.headersSent) response.destroy();
  else answer(response, refusal.status, statusOf(refusal));
}
