import { InvalidArgumentError } from 'commander';
import { parseEndpoint } from '../config/address.ts';
import type { Endpoint } from '../config/config.ts';
import { parseDuration } from '../config/quantity.ts';

/** The value of a duration option, in ms. */
export function duration(text: string): number {
  try {
    return parseDuration(text);
  } catch {
    throw new InvalidArgumentError('Expected a number and a unit: 30m, 12h, 365d.');
  }
}

/** The value of an option that says where something listens. */
export function endpoint(text: string): Endpoint {
  try {
    return parseEndpoint(text);
  } catch {
    throw new InvalidArgumentError(`${text} is no address: write one as in 127.0.0.1:15020.`);
  }
}

/** What help shows at its end. */
export function example(...lines: string[]): string {
  return `\n${lines.length === 1 ? 'Example' : 'Examples'}:\n${lines.map((line) => `  ${line}`).join('\n')}`;
}
