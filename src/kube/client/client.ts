import type { KubeList, KubeObject } from '../objects.ts';

/** `metadata`: of each object only its metadata is asked for. */
export interface RequestOptions {
  readonly signal?: AbortSignal | undefined;
  /** For the whole of it, repetitions included; 10 s by default, 30 s for a page of a list. */
  readonly deadlineMs?: number | undefined;
}

/** Selectors in the API's own syntax. */
export interface Selection {
  /** As in `app=web,tier!=cache`. */
  readonly labelSelector?: string | undefined;
  /** As in `metadata.name=web`. */
  readonly fieldSelector?: string | undefined;
}

export interface ListOptions extends RequestOptions, Selection {
  /** Objects a page; 500 by default. */
  readonly limit?: number | undefined;
}

export interface WatchOptions extends Selection {
  /** What comes after it is told. */
  readonly resourceVersion: string;
  readonly signal?: AbortSignal | undefined;
  /** When the server ends the watch by itself; 300 s by default. */
  readonly timeoutSeconds?: number | undefined;
  /**
   * After so much time without an octet the connection counts as dead; 150 s by default, for servers send a bookmark a
   * minute.
   */
  readonly quietMs?: number | undefined;
  /** The server has accepted the watch. */
  readonly onOpen?: (() => void) | undefined;
}

/** A bookmark holds nothing but the resource version up to which all has been told. */
export interface WatchEvent<T> {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK';
  readonly object: T;
}

export type PatchType = 'json' | 'merge' | 'strategic' | 'apply';

export interface PatchOptions extends RequestOptions {
  /** Who owns the fields; needed by `apply`. */
  readonly fieldManager?: string | undefined;
  /** `apply` takes fields from their owners. */
  readonly force?: boolean | undefined;
}

export interface ServerVersion {
  readonly major: string;
  readonly minor: string;
}

/**
 * The API server, over HTTPS. Paths are made by `collectionPath` and `objectPath`. Everything throws KubeError. 429 and
 * 503 with a Retry-After that fits into the deadline are waited for and the request is sent again; nothing else is, but
 * for one attempt with a token that has been read anew after 401.
 */
export interface KubeClient {
  /** Where it is, for messages. */
  readonly server: string;
  get<T extends KubeObject>(path: string, options?: RequestOptions): Promise<T>;
  /** The whole collection, asked for page by page. */
  list<T extends KubeObject>(path: string, options?: ListOptions): Promise<KubeList<T>>;
  /** The same, a page at a time, for whoever keeps little of each object. All pages are of one resource version. */
  pages<T extends KubeObject>(path: string, options?: ListOptions): AsyncIterable<KubeList<T>>;
  create<T extends KubeObject>(path: string, body: T, options?: RequestOptions): Promise<T>;
  /** Fails with `conflict` where the body's resource version is not the current one. */
  replace<T extends KubeObject>(path: string, body: T, options?: RequestOptions): Promise<T>;
  patch<T extends KubeObject>(
    path: string,
    body: unknown,
    type: PatchType,
    options?: PatchOptions,
  ): Promise<T>;
  delete(path: string, options?: RequestOptions): Promise<void>;
  /**
   * What changes in a collection, until the server ends it (the iteration ends) or something fails: an ERROR event is
   * thrown as the KubeError that it holds, 410 above all. Whoever leaves the loop closes the connection.
   */
  watch<T extends KubeObject>(path: string, options: WatchOptions): AsyncIterable<WatchEvent<T>>;
  /** What the server itself is, as `{ major: '1', minor: '29' }`; providers may add a `+`. */
  version(options?: RequestOptions): Promise<ServerVersion>;
  /** Ends all connections; requests that are open fail. */
  close(): void;
}
