/** The pairs of proxies that are compared; `direct` is the client on the back end, with no proxy between. */
export const PAIR_NAMES = ['hauberk', 'nghttpx', 'haproxy', 'nginx', 'direct'] as const;
export type PairName = (typeof PAIR_NAMES)[number];

/** What the proxies use; 0 for `direct`. */
export interface Used {
  /** User + system time of all processes of both proxies, of A, and of B, divided by the time that passed. */
  readonly cores: number;
  readonly coresA: number;
  readonly coresB: number;
  /** Resident memory of the same at the end of a measurement. */
  readonly rssMiB: number;
  readonly rssMiBA: number;
  readonly rssMiBB: number;
}

/** What is measured of one pair under one load. */
export interface Figures extends Used {
  /** User + system time of all processes of both proxies, microseconds a call; 0 for `direct`. */
  readonly cpuUsPerCall: number;
  readonly callsPerSecond: number;
  /** The same of messages, counting both ways. */
  readonly cpuUsPerMib: number;
  readonly mibPerSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

/** Medians over the rounds of one pair under one load. */
export interface Row extends Figures {
  /** A PairName, or the name of another build of Hauberk. */
  readonly pair: string;
  readonly load: string;
  /** Calls that were measured, the sum over the rounds (warm-up excluded). */
  readonly calls: number;
  /** Calls, of these and of the warm-up, that got no complete answer of the right length with status 2xx. */
  readonly failed: number;
  /** In order: a round of one pair was measured right before or after the same round of another. */
  readonly rounds: readonly Figures[];
}

/** The proxies of a pair before their first call, MiB. */
export interface Idle {
  readonly pair: string;
  readonly rssMiBA: number;
  readonly rssMiBB: number;
}

/** Handshakes in one mode with a sidecar. */
export interface Handshakes {
  /** 0: X25519. 1: with ML-KEM-768. 2: with a ticket. */
  readonly mode: number;
  readonly count: number;
  /** User + system time of the responder for each. */
  readonly cpuUs: number;
  /** How many one core answers in a second. */
  readonly perCoreSecond: number;
}

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryMiB: number;
  readonly kernel: string;
  readonly node: string;
  /** First line of what each tool says of its own version. */
  readonly tools: Readonly<Record<string, string>>;
}

/** What `bench/results/latest.json` holds. */
export interface Result {
  readonly machine: Machine;
  /** ISO 8601. */
  readonly startedAt: string;
  /** The whole run took. */
  readonly minutes: number;
  readonly rounds: number;
  readonly secondsPerMeasurement: number;
  readonly rows: readonly Row[];
  readonly idle: readonly Idle[];
  /** By mode; none where they were not asked for. */
  readonly handshakes: readonly Handshakes[];
}
