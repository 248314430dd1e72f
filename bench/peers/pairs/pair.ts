import type { Certificates } from '../certificates.ts';
import type { Processes } from '../proc.ts';
import type { ToolPaths } from '../tools.ts';

/**
 * Two proxies in a row, each with one worker: A takes plaintext HTTP/2 from the client and speaks to B, encrypted
 * and mutually authenticated; B speaks plaintext HTTP/2 to the back end.
 */
export interface Pair {
  readonly name: string;
  /** It knows limits, metrics and call audit, which some loads want. */
  readonly observable?: boolean;
  /** Starts both proxies, B first, in `place.processes`. */
  start(place: Place): Promise<RunningPair>;
}

/** What a pair needs to start. */
export interface Place {
  /** The pair's own folder, empty at first. */
  readonly folder: string;
  readonly backendPort: number;
  /** Limits, metrics and call audit are on; only for pairs that are `observable`. */
  readonly observed: boolean;
  readonly processes: Processes;
  readonly tools: ToolPaths;
  /** For the pairs that speak TLS; made at the first call. */
  certificates(): Certificates;
}

export interface RunningPair {
  readonly name: string;
  /** Where the client connects. */
  readonly port: number;
  /** The hop between the proxies: B's port and what is spoken there; none for `direct`. */
  readonly between?: { readonly port: number; readonly protocol: 'tls' | 'hauberk' };
  /** The processes that were started; their workers descend from them. */
  readonly pids: readonly number[];
  /** They are compiled while they run. */
  readonly justInTime?: boolean;
  /** Where the proxies write an event for each call, if they do. */
  readonly callLogs?: readonly string[];
}
