/** How values of the admin API are shown: JSON for programs, short forms for people. */
import type { Timestamp } from '../../admin/messages.ts';

/** A message as JSON: times are ISO 8601, enumerations in lower case. */
export function json(message: unknown, indent?: number): string {
  return harmless(JSON.stringify(plain(message), undefined, indent));
}

/** What JSON leaves as it is and a terminal may act upon. */
function harmless(text: string): string {
  return text.replace(
    /[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function plain(value: unknown, key?: string): unknown {
  if (Array.isArray(value)) return value.map((item) => plain(item));
  if (isTimestamp(value)) return isoTime(value);
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, plain(item, name)]));
  }
  return key === 'direction' ? String(value).toLowerCase() : value;
}

function isTimestamp(value: unknown): value is Timestamp {
  if (typeof value !== 'object' || value === null) return false;
  return Object.keys(value).sort().join() === 'nanos,seconds';
}

export function millisecondsOf({ seconds, nanos }: Timestamp): number {
  return seconds * 1000 + nanos / 1_000_000;
}

export function isoTime(time: Timestamp): string {
  return new Date(millisecondsOf(time)).toISOString();
}

/** `5s`, `12m`, `3h20m`, `2d4h`. */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours}h${minutes % 60 === 0 ? '' : `${minutes % 60}m`}`;
  return `${Math.floor(hours / 24)}d${hours % 24 === 0 ? '' : `${hours % 24}h`}`;
}

/** `812 B`, `1.5 MiB`. */
export function octets(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let at = 0;
  while (count >= 1024 && at < units.length - 1) {
    count /= 1024;
    at++;
  }
  return `${at === 0 ? count : count.toFixed(1)} ${units[at]}`;
}

/** `1 session`, `2 sessions`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
