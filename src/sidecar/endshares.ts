/** What each step of a sidecar's end may take, one after the other; milliseconds. */
export interface EndShares {
  /** For calls under way to finish. */
  readonly calls: number;
  /** For CLOSE and GOAWAY to be answered, and sockets to close. */
  readonly closing: number;
  /** For audit adapters to take what is left. */
  readonly audit: number;
  /** For the admin API's last words and the last lines of the log. */
  readonly last: number;
}

/** Of a deadline that is long enough. */
const CLOSING_MS = 2_000;
const AUDIT_MS = 5_000;
const LAST_MS = 500;
const RESERVED_MS = CLOSING_MS + AUDIT_MS + LAST_MS;
/** However short the deadline is. They are used up only by what hangs. */
const LEAST_CLOSING_MS = 100;
const LEAST_AUDIT_MS = 1_000;
const LEAST_LAST_MS = 100;

/**
 * Shares a deadline out. What comes after the calls has up to 7.5 s of it, but no more than its half; the audit has a
 * second at least, so that a deadline below 3 s may be exceeded by what hangs.
 */
export function endShares(deadlineMs: number): EndShares {
  const reserved = Math.min(RESERVED_MS, deadlineMs / 2);
  const scale = reserved / RESERVED_MS;
  return {
    calls: deadlineMs - reserved,
    closing: Math.max(CLOSING_MS * scale, LEAST_CLOSING_MS),
    audit: Math.max(AUDIT_MS * scale, LEAST_AUDIT_MS),
    last: Math.max(LAST_MS * scale, LEAST_LAST_MS),
  };
}
