import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { GrpcStatus, RELAY_ERRORS } from '../../src/relay/errors.ts';
import { CLOSE_REASONS, HANDSHAKE_ERROR_CODES } from '../../src/transport/errors.ts';

const file = (path: string): string =>
  readFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), 'utf8');

/** The rows of each table of docs/errors.md, by the heading above it. */
function tables(): Map<string, string[][]> {
  const found = new Map<string, string[][]>();
  for (const section of file('docs/errors.md').split(/^## /m).slice(1)) {
    const [heading = '', ...lines] = section.split('\n');
    const rows = lines.filter((line) => line.startsWith('| `'));
    found.set(
      heading,
      rows.map((row) =>
        row
          .slice(1, -1)
          .split(' | ')
          .map((cell) => cell.trim()),
      ),
    );
  }
  return found;
}

/** The literals of a union, as the source has them. */
function codesIn(path: string, begin: RegExp, end: RegExp): string[] {
  const source = file(path);
  const from = source.search(begin);
  const rest = source.slice(from);
  const block = rest.slice(0, rest.search(end));
  return [...block.matchAll(/^ *\| '([a-z-]+)'/gm)].map(([, code]) => code as string);
}

const documented = (heading: string): string[] =>
  (tables().get(heading) ?? []).map(([code = '']) => code.replaceAll('`', '')).sort();

describe('docs/errors.md', () => {
  it('has every error that a sidecar answers with, and no other', () => {
    expect(documented('What a caller gets')).toEqual(Object.keys(RELAY_ERRORS).sort());
  });

  it('says the same of each as the code does, and what to do', () => {
    const names = new Map<number, string>(Object.entries(GrpcStatus).map(([name, code]) => [code, name]));
    for (const [cell = '', grpc, http, meaning, cure] of tables().get('What a caller gets') ?? []) {
      const row = RELAY_ERRORS[cell.replaceAll('`', '') as keyof typeof RELAY_ERRORS];
      expect([cell, grpc, http, meaning]).toEqual([
        cell,
        `${row.grpc} ${names.get(row.grpc)}`,
        String(row.http),
        row.meaning,
      ]);
      expect(cure).toMatch(/\.|\?$/);
    }
  });

  it('has every code of a handshake that failed, and no other', () => {
    expect(documented('Why a handshake failed')).toEqual([...HANDSHAKE_ERROR_CODES].sort());
  });

  it('has every reason for which a connection or a session ends, and no other', () => {
    expect(documented('Why a connection with a peer ended')).toEqual([...CLOSE_REASONS].sort());
  });

  it('has every code of an identity, and no other', () => {
    const codes = codesIn('src/identity/errors.ts', /type IdentityErrorCode =/, /;$/m);
    expect(codes.length).toBeGreaterThan(30);
    expect(documented('What is wrong with an identity')).toEqual(codes.sort());
  });

  it('has no row without a meaning and a cure', () => {
    for (const rows of tables().values())
      for (const row of rows)
        expect([row[0], row.length >= 3 && row.every((cell) => cell !== '')]).toEqual([row[0], true]);
  });
});

it('every error of the table is made somewhere', () => {
  const folder = fileURLToPath(new URL('../../src/relay/', import.meta.url));
  const sources = readdirSync(folder)
    .filter((name) => name !== 'errors.ts')
    .map((name) => file(`src/relay/${name}`))
    .join('\n');
  for (const code of Object.keys(RELAY_ERRORS))
    expect([code, sources.includes(`'${code}'`)]).toEqual([code, true]);
});
