import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../../clock/clock.ts';
import { type Logger, silentLogger } from '../../telemetry/log.ts';
import type { KubeClient, Selection, WatchEvent } from '../client/client.ts';
import { KubeError, quotable } from '../client/errors.ts';
import { actionOf } from '../client/resource.ts';
import type { KubeObject } from '../objects.ts';
import { type Indexers, Indexes } from './indexes.ts';
import { Trouble } from './trouble.ts';

/** A watch that ends sooner counts as failed, or a server that ends each at once would be asked without a pause. */
const SHORT_MS = 1000;
/** Watches end by themselves between these, so that those of many clients do not end together. */
const WATCH_SECONDS = [240, 480] as const;

export interface CacheOptions<T extends KubeObject, K> {
  readonly client: KubeClient;
  readonly clock: Clock;
  /** Of `collectionPath`. */
  readonly path: string;
  readonly selection?: Selection | undefined;
  /**
   * What is kept of an object: no more of it stays in memory. Undefined: nothing, as if the object did not exist. What it
   * throws is logged and counts as undefined.
   */
  readonly keep: (object: T) => K | undefined;
  readonly indexers?: Indexers<K> | undefined;
  /** In [0, 1). */
  readonly random?: (() => number) | undefined;
  readonly log?: Logger | undefined;
  /** As of WatchOptions. */
  readonly quietMs?: number | undefined;
  /** Objects a page of a list; 500 by default. */
  readonly limit?: number | undefined;
}

/** An object that was deleted and made again between two looks is `modified`. */
export type CacheChange<K> =
  | { readonly type: 'added'; readonly object: K }
  | { readonly type: 'modified'; readonly object: K; readonly before: K }
  /** `object` as it was last known. */
  | { readonly type: 'deleted'; readonly object: K };

interface Entry<K> {
  version: string | undefined;
  object: K;
}

/**
 * One collection of the API server, kept up to date by a list and a watch. While the server is away it keeps what it has;
 * after 410 it lists again and tells the difference, without ever being empty in between.
 *
 *     list --all pages--> watch --410, an event that cannot be read--> list
 *       └── failed ── backoff ──┴── broken off, silent: watch again from the last version
 */
export class Cache<T extends KubeObject, K> {
  readonly #options: CacheOptions<T, K>;
  readonly #log: Logger;
  readonly #trouble: Trouble;
  readonly #entries = new Map<string, Entry<K>>();
  readonly #indexes: Indexes<K>;
  readonly #listeners = new Set<(change: CacheChange<K>) => void>();
  #waiting: Array<() => void> = [];
  #stopping: AbortController | undefined;
  #synced = false;
  /** Up to which all is known; undefined: the collection is to be listed. */
  #version: string | undefined;
  #heardAt: number;
  #lists = 0;

  constructor(options: CacheOptions<T, K>) {
    this.#options = options;
    const { resource, namespace } = actionOf('GET', options.path);
    this.#log = (options.log ?? silentLogger).child({
      resource,
      ...(namespace !== undefined && { namespace }),
    });
    this.#trouble = new Trouble({
      clock: options.clock,
      log: this.#log,
      random: options.random ?? Math.random,
    });
    this.#indexes = new Indexes(options.indexers ?? {});
    this.#heardAt = options.clock.monotonic();
  }

  /** The whole collection has been seen once. Stays true while the server is away. */
  get synced(): boolean {
    return this.#synced;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Why the server cannot be heard at the moment. */
  get failure(): KubeError | undefined {
    return this.#trouble.failure;
  }

  /** Milliseconds since the server was last heard; a quiet collection is heard of once a minute. */
  get silentMs(): number {
    return this.#options.clock.monotonic() - this.#heardAt;
  }

  /** How often the collection has been listed. */
  get lists(): number {
    return this.#lists;
  }

  /** `namespace` is undefined for kinds that have none. */
  get(namespace: string | undefined, name: string): K | undefined {
    return this.#entries.get(keyOf(namespace, name))?.object;
  }

  *all(): IterableIterator<K> {
    for (const { object } of this.#entries.values()) yield object;
  }

  /** Those that the index has under the value, in no order; valid until the next change. */
  by(index: string, value: string): readonly K[] {
    return this.#indexes.by(index, value);
  }

  /**
   * Calls `listener` after each change that can be seen in what is kept. What it throws is logged. Returns the function
   * that ends it.
   */
  onChange(listener: (change: CacheChange<K>) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Resolves once `synced`; never, if it is stopped before. */
  whenSynced(): Promise<void> {
    return this.#synced ? Promise.resolve() : new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** A second call does nothing. */
  start(): void {
    if (this.#stopping !== undefined) return;
    this.#stopping = new AbortController();
    void this.#run(this.#stopping.signal);
  }

  /** Ends the watch for good. What is kept stays. */
  stop(): void {
    this.#stopping ??= new AbortController();
    this.#stopping.abort();
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (this.#version === undefined) await this.#list(signal);
        else await this.#follow(this.#version, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (await this.#trouble.failed(error, signal)) this.#version = undefined;
      }
    }
  }

  async #list(signal: AbortSignal): Promise<void> {
    const { client, path, selection, limit } = this.#options;
    const seen = new Set<string>();
    let version: string | undefined;
    for await (const page of client.pages<T>(path, { ...selection, limit, signal })) {
      for (const object of page.items) {
        const key = keyOfObject(object);
        seen.add(key);
        if (this.#entries.get(key)?.version !== (object.metadata.resourceVersion ?? ''))
          this.#put(key, object);
      }
      version = page.metadata.resourceVersion;
      this.#heard();
    }
    if (version === undefined) {
      throw new KubeError(
        `the API server ${client.server} gave a list of ${path} without a resource version`,
        {
          reason: 'Malformed',
        },
      );
    }
    for (const key of this.#entries.keys()) if (!seen.has(key)) this.#drop(key);
    this.#version = version;
    this.#lists++;
    this.#synced = true;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  async #follow(resourceVersion: string, signal: AbortSignal): Promise<void> {
    const { client, path, selection, quietMs, clock, random = Math.random } = this.#options;
    const [least, most] = WATCH_SECONDS;
    const timeoutSeconds = Math.round(least + random() * (most - least));
    const begun = clock.monotonic();
    const onOpen = (): void => {
      this.#heard();
      this.#trouble.connected();
    };
    const options = { ...selection, resourceVersion, timeoutSeconds, quietMs, signal, onOpen };
    for await (const event of client.watch<T>(path, options)) {
      this.#apply(event);
      this.#heard();
      this.#trouble.recovered();
    }
    if (clock.monotonic() - begun >= SHORT_MS) this.#trouble.recovered();
    else throw new KubeError('the watch was ended as soon as it had begun', { reason: 'Unreachable' });
  }

  #apply({ type, object }: WatchEvent<T>): void {
    const { resourceVersion } = object.metadata;
    if (resourceVersion === undefined || isBefore(resourceVersion, this.#version as string)) {
      // As after etcd was restored from a backup: what has happened since is not in the watch.
      throw new KubeError('the watch told a resource version older than one told before', {
        reason: 'Malformed',
      });
    }
    if (type === 'DELETED') this.#drop(keyOfObject(object));
    else if (type !== 'BOOKMARK') this.#put(keyOfObject(object), object);
    this.#version = resourceVersion;
  }

  #put(key: string, raw: T): void {
    const object = this.#kept(raw);
    if (object === undefined) {
      this.#drop(key);
      return;
    }
    const version = raw.metadata.resourceVersion ?? '';
    const entry = this.#entries.get(key);
    if (entry === undefined) {
      this.#entries.set(key, { version, object });
      this.#indexes.add(object);
      this.#tell({ type: 'added', object });
      return;
    }
    entry.version = version;
    if (isDeepStrictEqual(entry.object, object)) return;
    const before = entry.object;
    this.#indexes.remove(before);
    entry.object = object;
    this.#indexes.add(object);
    this.#tell({ type: 'modified', object, before });
  }

  #kept(raw: T): K | undefined {
    try {
      return this.#options.keep(raw);
    } catch (error) {
      const { name, namespace } = raw.metadata;
      this.#log.error(
        { name, namespace, error: quotable(String(error)) },
        'an object cannot be read; it is left out',
      );
      return undefined;
    }
  }

  #drop(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#indexes.remove(entry.object);
    this.#tell({ type: 'deleted', object: entry.object });
  }

  #tell(change: CacheChange<K>): void {
    for (const listener of this.#listeners) {
      try {
        listener(change);
      } catch (error) {
        this.#log.error({ error: quotable(String(error)) }, 'a listener for changes failed');
      }
    }
  }

  #heard(): void {
    this.#heardAt = this.#options.clock.monotonic();
  }
}

const keyOf = (namespace: string | undefined, name: string): string =>
  namespace === undefined ? name : `${namespace}/${name}`;

const keyOfObject = ({ metadata: { namespace, name = '' } }: KubeObject): string => keyOf(namespace, name);

/** Resource versions are decimal numbers that grow; where one is not, nothing is said. */
function isBefore(a: string, b: string): boolean {
  if (!/^[0-9]+$/.test(a) || !/^[0-9]+$/.test(b)) return false;
  return a.length === b.length ? a < b : a.length < b.length;
}
