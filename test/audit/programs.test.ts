import { mkdtemp, readFile, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openFileAdapter, streamAdapter } from '../../src/audit/adapters/programs.ts';
import type { AuditEvent } from '../../src/audit/event.ts';
import { EventFormat, eventLine } from '../../src/audit/line.ts';
import { Recorder } from '../../src/audit/recorder.ts';
import { systemClock } from '../../src/clock/clock.ts';
import { call, ready, SOURCE } from './collector.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hauberk-adapters-'));
});
afterEach(() => rm(folder, { recursive: true }));

const format = new EventFormat(SOURCE);
const AT = Date.UTC(2026, 0, 2);

it('a line says of an event what the lines of hauberk run say', () => {
  for (const input of [ready(), call({ error: 'a \u202e "trap"\n' })]) {
    const event = format.event(input, AT, 7);
    expect(eventLine(event)).toBe(format.plainLine(input, AT, 7));
    expect(JSON.parse(eventLine(event))).toEqual(event);
  }
});

it('events written to a file are those that were recorded, across a rotation', async () => {
  const path = join(folder, 'audit.jsonl');
  const adapter = await openFileAdapter(path);
  const seen: AuditEvent[] = [];
  const wrapped = {
    ...adapter,
    write: (events: readonly AuditEvent[]) => {
      seen.push(...events);
      return adapter.write(events);
    },
  };
  const recorder = new Recorder({
    clock: systemClock,
    source: SOURCE,
    adapters: [wrapped as typeof wrapped & { name: string }],
  });
  recorder.record(ready());
  await recorder.flush();
  await rename(path, `${path}.1`);
  await adapter.reopen?.();
  recorder.record(call());
  await recorder.close(5_000);
  const [before, after] = await Promise.all([readFile(`${path}.1`, 'utf8'), readFile(path, 'utf8')]);
  expect([before, after]).toEqual(seen.map(eventLine));
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(adapter.name).toBe(`file:${path}`);
});

it('a file that cannot be written is an error at once that names it', async () => {
  const path = join(folder, 'missing', 'audit.jsonl');
  await expect(openFileAdapter(path)).rejects.toThrowError(
    expect.objectContaining({ code: 'file-unusable', message: expect.stringContaining(path) }),
  );
});

it('a stream gets the lines, and refuses more while it has not taken them', async () => {
  const stream = new PassThrough({ highWaterMark: 1 });
  const adapter = streamAdapter(stream, 'mine');
  const event = format.event(ready(), AT, 1);
  const first = adapter.write([event, event]);
  await expect(Promise.resolve(adapter.write([event]))).rejects.toMatchObject({ code: 'output-blocked' });
  expect(String(stream.read())).toBe(eventLine(event) + eventLine(event));
  await first;
  expect([adapter.name, streamAdapter(stream).name]).toEqual(['mine', 'stream']);
});
