import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { appendFile, mkdtemp, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { FileAdapter } from '../../src/audit/adapters/file.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { ready, recorderOf, turns } from './collector.ts';

let folder: string;
let path: string;
let clock: FakeClock;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hauberk-audit-'));
  path = join(folder, 'audit.jsonl');
  clock = new FakeClock();
});

afterEach(() => rm(folder, { recursive: true }));

it('is created for its owner only, whatever the umask allows', async () => {
  const adapter = await FileAdapter.open(path, clock);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  await adapter.close();
});

it('appends, and leaves what is there', async () => {
  await writeFile(path, '{"old":1}\n', { mode: 0o640 });
  const adapter = await FileAdapter.open(path, clock);
  await adapter.writeLines(Buffer.from('{"a":1}\n{"b":2}\n'));
  await adapter.writeLines(Buffer.from('{"c":3}\n'));
  await adapter.close();
  expect(await readFile(path, 'utf8')).toBe('{"old":1}\n{"a":1}\n{"b":2}\n{"c":3}\n');
  expect((await stat(path)).mode & 0o777).toBe(0o640);
});

it('ends a line that a crash has cut before it goes on', async () => {
  await writeFile(path, '{"whole":1}\n{"cut":');
  const adapter = await FileAdapter.open(path, clock);
  await adapter.writeLines(Buffer.from('{"a":1}\n'));
  await adapter.writeLines(Buffer.from('{"b":2}\n'));
  await adapter.close();
  expect(await readFile(path, 'utf8')).toBe('{"whole":1}\n{"cut":\n{"a":1}\n{"b":2}\n');
});

it('follows a rotation by rename within a second', async () => {
  const adapter = await FileAdapter.open(path, clock);
  await adapter.writeLines(Buffer.from('1\n'));
  await rename(path, `${path}.1`);
  await adapter.writeLines(Buffer.from('2\n'));
  clock.advance(1000);
  await adapter.writeLines(Buffer.from('3\n'));
  await adapter.close();
  expect(await readFile(`${path}.1`, 'utf8')).toBe('1\n2\n');
  expect(await readFile(path, 'utf8')).toBe('3\n');
});

it('follows a removal', async () => {
  const adapter = await FileAdapter.open(path, clock);
  await rm(path);
  clock.advance(1000);
  await adapter.writeLines(Buffer.from('1\n'));
  await adapter.close();
  expect(await readFile(path, 'utf8')).toBe('1\n');
});

it('opens anew at once when asked to', async () => {
  const adapter = await FileAdapter.open(path, clock);
  await adapter.writeLines(Buffer.from('1\n'));
  await rename(path, `${path}.1`);
  await adapter.reopen();
  await adapter.writeLines(Buffer.from('2\n'));
  await adapter.close();
  expect(await readFile(`${path}.1`, 'utf8')).toBe('1\n');
  expect(await readFile(path, 'utf8')).toBe('2\n');
});

it('keeps the order of writes that were not waited for, with a close among them', async () => {
  const adapter = await FileAdapter.open(path, clock);
  await Promise.all([
    adapter.writeLines(Buffer.from('1\n')),
    adapter.writeLines(Buffer.from('2\n')),
    adapter.close(),
    adapter.flush(),
  ]);
  expect(await readFile(path, 'utf8')).toBe('1\n2\n');
});

it('a folder that does not exist is an error that names the path and the cure', async () => {
  const missing = join(folder, 'no', 'audit.jsonl');
  await expect(FileAdapter.open(missing, clock)).rejects.toMatchObject({
    code: 'file-unusable',
    message: expect.stringMatching(/no\/audit\.jsonl.*folder must exist/s),
    cause: expect.objectContaining({ code: 'ENOENT' }),
  });
});

it.each([
  ['a folder', async () => folder],
  ['a device', async () => '/dev/null'],
  [
    'a named pipe, which would block',
    async () => {
      const pipe = join(folder, 'pipe');
      execFileSync('mkfifo', [pipe]);
      return pipe;
    },
  ],
])('%s is refused', async (_, make) => {
  await expect(FileAdapter.open(await make(), clock)).rejects.toMatchObject({ code: 'file-unusable' });
});

/** Opens real files that take `room` more bytes, then fail as a full disk does. */
function fullAfter(disk: { room: number }): typeof open {
  return async (...args) => {
    const handle = await open(...args);
    const write = handle.write.bind(handle) as (
      b: Buffer,
      o: number,
      n: number,
    ) => Promise<{ bytesWritten: number }>;
    Object.assign(handle, {
      write: async (bytes: Buffer, offset: number, length: number) => {
        if (disk.room <= 0)
          throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
        const result = await write(bytes, offset, Math.min(length, disk.room));
        disk.room -= result.bytesWritten;
        return result;
      },
    });
    return handle;
  };
}

it('a full disk is a failure of the adapter: when there is room again, everything follows', async () => {
  const disk = { room: 100 };
  const adapter = await FileAdapter.open(path, clock, fullAfter(disk));
  await expect(adapter.writeLines(Buffer.from(`${'x'.repeat(150)}\n`))).rejects.toMatchObject({
    code: 'file-write-failed',
    message: expect.stringContaining('no space left'),
  });
  disk.room = 10_000;
  await adapter.writeLines(Buffer.from(`${'x'.repeat(150)}\n`));
  await adapter.close();
  expect(await readFile(path, 'utf8')).toBe(`${'x'.repeat(100)}\n${'x'.repeat(150)}\n`);
});

it('behind a recorder, every event is whole in the file although the disk was full meanwhile', async () => {
  const disk = { room: 1000 };
  const adapter = await FileAdapter.open(path, clock, fullAfter(disk));
  const { recorder, tick } = recorderOf([adapter]);
  const settle = async (): Promise<void> => {
    await tick(1000);
    await adapter.flush().catch(() => {});
    await turns();
  };
  for (let i = 0; i < 20; i++) recorder.record(ready(i));
  for (let i = 0; i < 3; i++) await settle();
  disk.room = 1e6;
  for (let i = 0; i < 30; i++) await settle();
  expect(await recorder.close(1000)).toEqual([]);
  const seqs = new Set<number>();
  for (const line of (await readFile(path, 'utf8')).split('\n')) {
    try {
      seqs.add((JSON.parse(line) as { seq: number }).seq);
    } catch {
      // A line that the full disk cut.
    }
  }
  expect(seqs.size).toBe(recorder.stats().recorded);
});

it('a file that cannot be made again is retried, and nothing is lost', async () => {
  const adapter = await FileAdapter.open(path, clock);
  await rm(folder, { recursive: true });
  clock.advance(1000);
  await expect(adapter.writeLines(Buffer.from('1\n'))).rejects.toMatchObject({ code: 'file-unusable' });
  expect(existsSync(path)).toBe(false);
  folder = await mkdtemp(join(tmpdir(), 'hauberk-audit-'));
  await rename(folder, join(path, '..'));
  folder = join(path, '..');
  await adapter.writeLines(Buffer.from('1\n'));
  await appendFile(path, '2\n');
  await adapter.close();
  expect(await readFile(path, 'utf8')).toBe('1\n2\n');
});
