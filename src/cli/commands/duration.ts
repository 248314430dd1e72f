import { InvalidArgumentError } from 'commander';
import { parseDuration } from '../../config/quantity.ts';

/** A `--ttl`, in ms; undefined where none was given. */
export function optionalDuration(text: string | undefined): { ttlMs?: number } {
  if (text === undefined) return {};
  try {
    return { ttlMs: parseDuration(text) };
  } catch {
    throw new InvalidArgumentError(
      `--ttl ${JSON.stringify(text)}: expected a duration like 12h, 30m or 365d`,
    );
  }
}
