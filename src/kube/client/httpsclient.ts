import type { IncomingMessage } from 'node:http';
import { setImmediate as turn } from 'node:timers/promises';
import type { Clock } from '../../clock/clock.ts';
import type { KubeAccess } from '../../config/incluster.ts';
import type { KubeList, KubeObject } from '../objects.ts';
import type {
  KubeClient,
  ListOptions,
  PatchOptions,
  PatchType,
  RequestOptions,
  ServerVersion,
  WatchEvent,
  WatchOptions,
} from './client.ts';
import { Credentials, type Proof } from './credentials.ts';
import { connectionError, KubeError, localError, refusal } from './errors.ts';
import { type Answer, Exchange, type Question, StaleConnection } from './exchange.ts';
import { linesOf } from './lines.ts';
import { type Action, actionOf } from './resource.ts';
import { retryAfterOf } from './retryafter.ts';

const DEADLINE_MS = 10_000;
const LIST_DEADLINE_MS = 30_000;
const PAGE_LIMIT = 500;
const WATCH_TIMEOUT_S = 300;
const QUIET_MS = 150_000;
const MAX_ANSWER_BYTES = 64 << 20; // a page of 500 objects of 128 KiB
const MAX_EVENT_BYTES = 8 << 20; // servers take objects of 3 MiB; escapes may lengthen them
const MAX_REPEATS = 5;

const PATCH_TYPES: Readonly<Record<PatchType, string>> = {
  json: 'application/json-patch+json',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  apply: 'application/apply-patch+yaml', // of which JSON is a part
};

export interface KubeClientOptions {
  readonly access: KubeAccess;
  readonly clock: Clock;
  /** Octets of an answer; 64 MiB by default. */
  readonly maxAnswerBytes?: number;
  /** Octets of an event of a watch; 8 MiB by default. */
  readonly maxEventBytes?: number;
}

interface Call extends RequestOptions {
  readonly method: string;
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly body?: unknown;
  readonly contentType?: string;
}

/** Connects when it is first used. Throws KubeError if the address is not one of HTTPS. */
export function openKubeClient(options: KubeClientOptions): KubeClient {
  return new HttpsKubeClient(options);
}

class HttpsKubeClient implements KubeClient {
  readonly server: string;
  readonly #clock: Clock;
  readonly #credentials: Credentials;
  readonly #exchange: Exchange;
  readonly #maxEventBytes: number;

  constructor({ access, clock, maxAnswerBytes = MAX_ANSWER_BYTES, maxEventBytes }: KubeClientOptions) {
    const url = URL.canParse(access.server) ? new URL(access.server) : undefined;
    if (url?.protocol !== 'https:' || url.username !== '' || url.search !== '') {
      throw new KubeError('the address of the API server must be https://HOST:PORT', { reason: 'Malformed' });
    }
    this.server = url.host;
    this.#clock = clock;
    this.#credentials = new Credentials(access, clock);
    this.#exchange = new Exchange(url, clock, maxAnswerBytes);
    this.#maxEventBytes = maxEventBytes ?? MAX_EVENT_BYTES;
  }

  get<T extends KubeObject>(path: string, options: RequestOptions = {}): Promise<T> {
    return this.#object({ ...options, method: 'GET', path });
  }

  async list<T extends KubeObject>(path: string, options: ListOptions = {}): Promise<KubeList<T>> {
    const items: T[] = [];
    let resourceVersion: string | undefined;
    for await (const page of this.pages<T>(path, options)) {
      for (const item of page.items) items.push(item);
      resourceVersion = page.metadata.resourceVersion;
    }
    return { metadata: resourceVersion === undefined ? {} : { resourceVersion }, items };
  }

  async *pages<T extends KubeObject>(path: string, options: ListOptions = {}): AsyncGenerator<KubeList<T>> {
    const { labelSelector, fieldSelector, limit = PAGE_LIMIT, ...rest } = options;
    let next: string | undefined;
    do {
      const query = { labelSelector, fieldSelector, limit, continue: next };
      const call = { deadlineMs: LIST_DEADLINE_MS, ...rest, method: 'GET', path, query };
      const page = await this.#json<KubeList<T>>(call);
      // An empty collection is `null` in some answers.
      const items: unknown = page.items ?? [];
      if (!Array.isArray(items) || typeof page.metadata !== 'object' || page.metadata === null) {
        throw this.#malformed(call, 'the answer is not a list');
      }
      yield { metadata: page.metadata, items };
      next = page.metadata.continue || undefined;
      await turn(); // a page took milliseconds to parse
    } while (next !== undefined);
  }

  async version(options: RequestOptions = {}): Promise<ServerVersion> {
    const call = { ...options, method: 'GET', path: '/version' };
    const { major, minor } = await this.#json<Partial<ServerVersion>>(call);
    if (typeof major !== 'string' || typeof minor !== 'string') {
      throw this.#malformed(call, 'the answer is not a version');
    }
    return { major, minor };
  }

  create<T extends KubeObject>(path: string, body: T, options: RequestOptions = {}): Promise<T> {
    return this.#object({ ...options, method: 'POST', path, body });
  }

  replace<T extends KubeObject>(path: string, body: T, options: RequestOptions = {}): Promise<T> {
    return this.#object({ ...options, method: 'PUT', path, body });
  }

  patch<T extends KubeObject>(
    path: string,
    body: unknown,
    type: PatchType,
    options: PatchOptions = {},
  ): Promise<T> {
    const { fieldManager = type === 'apply' ? 'hauberk' : undefined, force, ...rest } = options;
    const query = { fieldManager, force };
    return this.#object({ ...rest, method: 'PATCH', path, body, query, contentType: PATCH_TYPES[type] });
  }

  async delete(path: string, options: RequestOptions = {}): Promise<void> {
    await this.#json({ ...options, method: 'DELETE', path });
  }

  async *watch<T extends KubeObject>(path: string, options: WatchOptions): AsyncGenerator<WatchEvent<T>> {
    const { signal, resourceVersion, labelSelector, fieldSelector, quietMs = QUIET_MS } = options;
    const { timeoutSeconds = WATCH_TIMEOUT_S } = options;
    const action = actionOf('GET', path, true);
    const message = await this.#beginWatch(action, signal, {
      path,
      query: {
        watch: true,
        allowWatchBookmarks: true,
        resourceVersion,
        timeoutSeconds,
        labelSelector,
        fieldSelector,
      },
    });
    const aborted = (): void =>
      void message.destroy(localError(action, this.server, 'Aborted', 'the watch is not wanted any more'));
    signal?.addEventListener('abort', aborted);
    if (signal?.aborted) aborted();
    const tooLong = (): KubeError =>
      localError(action, this.server, 'TooLarge', `an event is larger than ${this.#maxEventBytes} bytes`);
    try {
      options.onOpen?.();
      for await (const line of linesOf(this.#heard(action, message, quietMs), this.#maxEventBytes, tooLong)) {
        yield this.#event<T>(action, line);
      }
    } catch (error) {
      throw error instanceof KubeError ? error : connectionError(action, this.server, error);
    } finally {
      signal?.removeEventListener('abort', aborted);
      message.destroy();
    }
  }

  close(): void {
    this.#exchange.close();
    this.#credentials.wipe();
  }

  /** The octets of a watch; fails once none have come for too long. */
  async *#heard(action: Action, message: IncomingMessage, quietMs: number): AsyncGenerator<Buffer> {
    const what = `nothing was heard of the watch for ${quietMs} ms`;
    const dead = (): void => void message.destroy(localError(action, this.server, 'Silent', what));
    // Only while they are waited for: it is not the server that is slow to take them.
    let timer = this.#clock.after(quietMs, dead);
    try {
      for await (const chunk of message) {
        this.#clock.clear(timer);
        yield chunk;
        timer = this.#clock.after(quietMs, dead);
      }
    } finally {
      this.#clock.clear(timer);
    }
  }

  #event<T>(action: Action, line: string): WatchEvent<T> {
    let event: { type?: unknown; object?: unknown } | null;
    try {
      event = JSON.parse(line);
    } catch {
      throw localError(action, this.server, 'Malformed', 'an event of the watch is not JSON');
    }
    const { type, object } = event ?? {};
    if (type === 'ERROR') {
      throw refusal(action, this.server, { status: 200, body: JSON.stringify(object ?? null) });
    }
    const known = type === 'ADDED' || type === 'MODIFIED' || type === 'DELETED' || type === 'BOOKMARK';
    if (!known || !isObject(object)) {
      throw localError(action, this.server, 'Malformed', 'what came is not an event of a watch');
    }
    return { type, object: object as T };
  }

  async #beginWatch(
    action: Action,
    signal: AbortSignal | undefined,
    target: Pick<Call, 'path' | 'query'>,
  ): Promise<IncomingMessage> {
    const question = { action, method: 'GET', path: pathOf(target), watching: true, signal };
    let proof = await this.#credentials.current();
    for (;;) {
      const message = await this.#exchange.begin({ ...question, proof, deadlineMs: LIST_DEADLINE_MS });
      if (message.statusCode === 200) return message;
      const answer = await this.#exchange.rest({ ...question, proof, deadlineMs: DEADLINE_MS }, message);
      const renewed = answer.status === 401 ? await this.#credentials.after(proof) : undefined;
      if (renewed === undefined) throw this.#refusal(action, answer, proof);
      proof = renewed;
    }
  }

  async #object<T extends KubeObject>(call: Call): Promise<T> {
    const value = await this.#json<T>(call);
    if (!isObject(value)) throw this.#malformed(call, 'the answer is not an object of Kubernetes');
    return value;
  }

  async #json<T>(call: Call): Promise<T> {
    const { body } = await this.#send(call);
    try {
      const value: unknown = JSON.parse(body);
      if (typeof value === 'object' && value !== null) return value as T;
    } catch {
      // as any other answer that is not an object
    }
    throw this.#malformed(call, 'the answer is not JSON');
  }

  /** Asks until there is an answer of 2xx, as far as it may be asked again within the deadline. */
  async #send(call: Call): Promise<Answer> {
    const { method, signal, deadlineMs = DEADLINE_MS } = call;
    const action = actionOf(method, call.path);
    const question = {
      action,
      method,
      path: pathOf(call),
      signal,
      body: call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body)),
      contentType: call.contentType,
    };
    const endsAt = this.#clock.monotonic() + deadlineMs;
    let proof = await this.#credentials.current();
    for (let repeats = 0; ; repeats++) {
      const left = endsAt - this.#clock.monotonic();
      const answer = await this.#ask({ ...question, proof, deadlineMs: left });
      if (answer === undefined) continue;
      if (answer.status >= 200 && answer.status < 300) return answer;
      const failure = this.#refusal(action, answer, proof);
      if (repeats >= MAX_REPEATS) throw failure;
      if (answer.status === 401) {
        const renewed = await this.#credentials.after(proof);
        if (renewed === undefined) throw failure;
        proof = renewed;
        continue;
      }
      const pause = answer.retryAfter === undefined ? undefined : failure.retryAfterMs;
      const again = answer.status === 429 || answer.status === 503;
      if (!again || pause === undefined || this.#clock.monotonic() + pause >= endsAt) throw failure;
      await this.#pause(action, pause, signal);
    }
  }

  /** Undefined where a connection that had been kept was closed: the question may be repeated. */
  async #ask(question: Question): Promise<Answer | undefined> {
    try {
      return await this.#exchange.ask(question);
    } catch (error) {
      if (!(error instanceof StaleConnection)) throw error;
      if (question.method === 'GET') return undefined;
      throw error.cause;
    }
  }

  #pause(action: Action, ms: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        this.#clock.clear(timer);
        reject(localError(action, this.server, 'Aborted', 'given up, for nobody waits for it any more'));
      };
      const timer = this.#clock.after(ms, () => {
        signal?.removeEventListener('abort', abort);
        resolve();
      });
      if (signal?.aborted) abort();
      else signal?.addEventListener('abort', abort, { once: true });
    });
  }

  #refusal(action: Action, { status, body, retryAfter }: Answer, { authorization }: Proof): KubeError {
    const retryAfterMs = retryAfterOf(retryAfter, this.#clock.now());
    // Should whatever stands before the server repeat what it was sent.
    const safe = body.replaceAll(authorization.slice('Bearer '.length), '[secret]');
    return refusal(action, this.server, { status, body: safe, retryAfterMs });
  }

  #malformed({ method, path }: Pick<Call, 'method' | 'path'>, what: string): KubeError {
    return localError(actionOf(method, path), this.server, 'Malformed', what);
  }
}

const isObject = (value: unknown): value is KubeObject =>
  typeof value === 'object' &&
  value !== null &&
  typeof (value as KubeObject).metadata === 'object' &&
  (value as KubeObject).metadata !== null;

function pathOf({ path, query = {} }: Pick<Call, 'path' | 'query'>): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== '') parameters.set(name, String(value));
  }
  return parameters.size === 0 ? path : `${path}?${parameters}`;
}
