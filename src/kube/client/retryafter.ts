const MAX_MS = 10 * 60_000; // of a server that asks for more, no more is believed

/** Milliseconds of a Retry-After field: seconds, or a date (RFC 9110, 10.2.3). Undefined where it is neither. */
export function retryAfterOf(field: string | undefined, nowMs: number): number | undefined {
  if (field === undefined) return undefined;
  if (/^[0-9]{1,9}$/.test(field.trim())) return Math.min(Number(field) * 1000, MAX_MS);
  const at = Date.parse(field);
  return Number.isNaN(at) ? undefined : Math.min(Math.max(at - nowMs, 0), MAX_MS);
}
