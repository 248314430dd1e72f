import { InvalidArgumentError } from 'commander';
import { parseDuration } from '../config/quantity.ts';

/** The value of a duration option, in ms. */
export function duration(text: string): number {
  try {
    return parseDuration(text);
  } catch {
    throw new InvalidArgumentError('Expected a number and a unit: 30m, 12h, 365d.');
  }
}

/** What help shows at its end. */
export function example(...lines: string[]): string {
  return `\n${lines.length === 1 ? 'Example' : 'Examples'}:\n${lines.map((line) => `  ${line}`).join('\n')}`;
}
