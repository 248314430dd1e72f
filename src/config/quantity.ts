import { ValueError } from './errors.ts';

const MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const BYTES = { B: 1, KiB: 1_024, MiB: 1_048_576, GiB: 1_073_741_824, TiB: 1_099_511_627_776 } as const;

export const DURATION_PATTERN = '^[0-9]+(\\.[0-9]+)?(ms|s|m|h|d)$';
export const SIZE_PATTERN = '^[0-9]+(\\.[0-9]+)?(B|KiB|MiB|GiB|TiB)$';

const DURATION = new RegExp(DURATION_PATTERN);
const SIZE = new RegExp(SIZE_PATTERN);

/** A number with one unit, into whole base units. */
function quantity(
  text: string,
  pattern: RegExp,
  units: Readonly<Record<string, number>>,
): number | undefined {
  const unit = pattern.exec(text)?.[2];
  if (unit === undefined) return undefined;
  const amount = Number(text.slice(0, -unit.length)) * units[unit];
  return Number.isSafeInteger(Math.round(amount)) ? Math.round(amount) : undefined;
}

/** `500ms`, `60s`, `1.5h` -> milliseconds. */
export function parseDuration(text: string): number {
  const ms = quantity(text, DURATION, MS);
  if (ms !== undefined) return ms;
  if (/^[0-9.]+$/.test(text))
    throw new ValueError(`has no unit: write ${text}s, ${text}ms, ${text}m or ${text}h`);
  throw new ValueError('is not a duration: write a number and one of ms, s, m, h, d, as in 60s');
}

const INTERVAL = [100, MS.d] as const;
export const INTERVAL_PATTERN = `^off$|${DURATION_PATTERN}`;

/** A duration of 100 ms to a day -> milliseconds; `off` -> 0. */
export function parseInterval(text: string): number {
  if (text === 'off') return 0;
  const ms = parseDuration(text);
  if (ms >= INTERVAL[0] && ms <= INTERVAL[1]) return ms;
  throw new ValueError('is not an interval: write 100ms to 1d, or off');
}

/** `512B`, `64KiB`, `16MiB` -> bytes. */
export function parseSize(text: string): number {
  const bytes = quantity(text, SIZE, BYTES);
  if (bytes !== undefined) return bytes;
  throw new ValueError('is not a size: write a number and one of B, KiB, MiB, GiB, TiB, as in 64KiB');
}

/** The shortest exact way to write a number of base units. */
function format(amount: number, units: Readonly<Record<string, number>>): string {
  const fits = Object.entries(units).filter(([, size]) => amount % size === 0);
  const [unit, size] = amount === 0 ? Object.entries(units)[0] : fits[fits.length - 1];
  return `${amount / size}${unit}`;
}

/** The shortest exact way to write milliseconds. */
export const formatDuration = (ms: number): string => format(ms, MS);
export const formatSize = (bytes: number): string => format(bytes, BYTES);
