import { PassThrough, Writable } from 'node:stream';
import { expect, it } from 'vitest';
import { StdoutAdapter } from '../../src/audit/adapters/stdout.ts';
import { ready, recorderOf, turns } from './collector.ts';

/** A stream whose reader takes nothing until `take` is called. */
class StalledStream extends Writable {
  chunks: string[] = [];
  #waiting: Array<(error?: Error) => void> = [];

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.chunks.push(chunk.toString());
    this.#waiting.push(done);
  }

  take(error?: Error): void {
    this.#waiting.shift()?.(error);
  }
}

it('writes the lines of a batch in one piece', async () => {
  const stream = new PassThrough();
  await new StdoutAdapter(stream).writeLines(Buffer.from('{"a":1}\n{"b":2}\n'));
  expect(stream.read().toString()).toBe('{"a":1}\n{"b":2}\n');
});

it('gives a stream whose reader stalls no more than one batch', async () => {
  const stream = new StalledStream();
  const { recorder, tick } = recorderOf([new StdoutAdapter(stream)], { queueLimit: 1000, batchSize: 10 });
  for (let round = 0; round < 100; round++) {
    for (let i = 0; i < 50; i++) recorder.record(ready(i));
    await tick(5000);
  }
  expect(stream.chunks).toHaveLength(1);
  expect(stream.writableLength).toBeLessThan(10_000);
  const [stats] = recorder.stats().adapters;
  expect(stats).toMatchObject({ state: 'suspended', lastError: expect.stringContaining('stalled') });

  stream.take();
  await turns();
  for (let i = 0; i < 500; i++) {
    stream.take();
    await tick(20);
  }
  const lines = stream.chunks.join('').trimEnd().split('\n');
  const seqs = lines.map((line) => (JSON.parse(line) as { seq: number }).seq);
  expect(seqs).toEqual([...new Set(seqs)]);
  const after = recorder.stats();
  expect(lines.length + (after.adapters[0]?.dropped ?? 0)).toBe(after.recorded);
});

it('a broken pipe is a failure of the adapter and nothing else', async () => {
  const stream = new StalledStream();
  const adapter = new StdoutAdapter(stream);
  const written = adapter.writeLines(Buffer.from('{}\n'));
  stream.take(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
  await expect(written).rejects.toMatchObject({
    code: 'output-failed',
    message: expect.stringContaining('EPIPE'),
  });
  await expect(adapter.writeLines(Buffer.from('{}\n'))).rejects.toMatchObject({ code: 'output-failed' });
});

it('flush waits for the batch that is being written', async () => {
  const stream = new StalledStream();
  const adapter = new StdoutAdapter(stream);
  void adapter.writeLines(Buffer.from('{}\n'));
  let flushed = false;
  void adapter.flush().then(() => {
    flushed = true;
  });
  await turns();
  expect(flushed).toBe(false);
  stream.take();
  await turns();
  expect(flushed).toBe(true);
});
