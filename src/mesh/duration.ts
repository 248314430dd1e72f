import { tryKind } from '../config/kinds.ts';
import type { Duration } from './options.ts';

/** Milliseconds; undefined for what is neither a number nor a duration. */
export function durationMs(given: Duration | undefined): number | undefined {
  if (typeof given !== 'string') return given;
  const parsed = tryKind('duration', given, (path) => path);
  return 'value' in parsed ? (parsed.value as number) : undefined;
}
