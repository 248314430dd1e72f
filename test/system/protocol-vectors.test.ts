import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runTool } from '../harness/nghttp2.ts';
import type { ProtocolVectors } from '../transport/reference/vectors.ts';

/*
 * An implementation of HBK/1 in Python, written from docs/protocol.md, comes to the same bytes: the document says enough.
 */

const SCRIPT = fileURLToPath(new URL('./peers/python/hbk1.py', import.meta.url));
const VECTORS = fileURLToPath(new URL('../vectors/hbk1.json', import.meta.url));

let vectors: ProtocolVectors;
let work: string;
beforeAll(async () => {
  vectors = JSON.parse(await readFile(VECTORS, 'utf8'));
  work = await mkdtemp(join(tmpdir(), 'hauberk-vectors-'));
});
afterAll(() => rm(work, { recursive: true }));

describe('Python', () => {
  it('recomputes every connection of test/vectors/hbk1.json', async () => {
    const { code, stdout, stderr } = await runTool('grpc-python', [SCRIPT, VECTORS]);
    expect(code, stderr).toBe(0);
    const records = vectors.handshakes.reduce((sum, handshake) => sum + handshake.records.length, 0);
    expect(JSON.parse(stdout.toString())).toEqual({
      handshakes: vectors.handshakes.map((h) => h.name),
      records,
    });
  });

  it.each([
    ['message', 'flights'],
    ['record', 'records'],
  ] as const)('does not if a byte of a %s is another', async (what, list) => {
    const changed = structuredClone(vectors) as unknown as {
      handshakes: Record<typeof list, Record<'bytes' | 'wire', string>[]>[];
    };
    const last = changed.handshakes.at(-1)?.[list].at(-1) as Record<'bytes' | 'wire', string>;
    const field = list === 'flights' ? 'bytes' : 'wire';
    last[field] = `${last[field].slice(0, -1)}${last[field].endsWith('0') ? '1' : '0'}`;
    const path = join(work, `${what}.json`);
    await writeFile(path, JSON.stringify(changed));
    const { code, stderr } = await runTool('grpc-python', [SCRIPT, path]);
    expect(code).toBe(1);
    expect(stderr).toContain('was computed');
  });
});
