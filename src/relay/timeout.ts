/** grpc-timeout, as "gRPC over HTTP/2" has it: 1 to 8 digits and a unit. */
const UNITS: Record<string, number> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 }; // ms

/** Milliseconds, or undefined if it is not a timeout, or there is none. */
export function parseTimeout(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const unit = UNITS[value.charAt(value.length - 1)];
  if (unit === undefined || value.length < 2 || value.length > 9) return undefined;
  let digits = 0;
  for (let i = 0; i < value.length - 1; i++) {
    const digit = value.charCodeAt(i) - 0x30;
    if (digit < 0 || digit > 9) return undefined;
    digits = digits * 10 + digit;
  }
  return digits * unit;
}

/** The longest timeout of at most 8 digits that is not above `ms`: a deadline is never lengthened. */
export function formatTimeout(ms: number): string {
  if (ms <= 0) return '0n';
  if (ms < 99) return `${Math.floor(ms * 1e6)}n`;
  if (ms < 99_999) return `${Math.floor(ms * 1e3)}u`;
  if (ms < 99_999_999) return `${Math.floor(ms)}m`;
  return `${Math.min(99_999_999, Math.floor(ms / 1000))}S`;
}
