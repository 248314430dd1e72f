/** What a key has used of its present window. */
export interface Use {
  /** The question was for points, and all of them were given. */
  readonly granted: boolean;
  /** Points used, with those just given. */
  readonly used: number;
  /** Until the window ends; 0 if there is none. */
  readonly msLeft: number;
}

/** Counts one limit in whole requests: all points that a request costs, or none. */
export interface UseTable {
  take(key: string, cost: number): Use | Promise<Use>;
  look(key: string): Use | Promise<Use>;
  /** Ends a key's window. */
  forget(key: string): void | Promise<void>;
}
