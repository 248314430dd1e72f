import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { CLOSE_REASONS, HANDSHAKE_ERROR_CODES } from '../../src/transport/errors.ts';
import { MODES } from '../../src/transport/mode.ts';

const text = readFileSync(new URL('../../docs/protocol.md', import.meta.url), 'utf8');
const section = (number: number): string => {
  const start = text.indexOf(`\n## ${number}. `);
  const end = text.indexOf('\n## ', start + 1);
  return text.slice(start, end === -1 ? undefined : end);
};
const quoted = (part: string): string[] =>
  [...part.matchAll(/`([a-z-]+)`/g)].map((match) => match[1] as string);

describe('docs/protocol.md', () => {
  it('names every handshake error code, and no other, in the table of section 12', () => {
    const rows = section(12)
      .split('\n')
      .filter((line) => line.startsWith('| `'));
    const named = rows.flatMap((row) => quoted(row.split('|')[1] as string));
    expect(named.toSorted()).toEqual([...HANDSHAKE_ERROR_CODES].toSorted());
  });

  it('names every reason for which a channel ends, and no other', () => {
    const after = section(12).slice(section(12).indexOf('An open channel'));
    expect(quoted(after).toSorted()).toEqual([...CLOSE_REASONS].toSorted());
  });

  it('has every mode that is spoken in the table of section 4', () => {
    for (const { id, protocol, overhead } of MODES) {
      const sizes = overhead.map((bytes, i) => (i === 0 ? `${bytes}` : `${bytes}+P`)).join(' / ');
      expect(section(4)).toContain(`| ${id} | \`${protocol}\` | ${sizes} |`);
    }
  });
});
