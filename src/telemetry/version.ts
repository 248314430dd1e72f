import { readFileSync } from 'node:fs';

let known: string | undefined;

/** The version in the package's own package.json. */
export function version(): string {
  known ??= read();
  return known;
}

function read(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
