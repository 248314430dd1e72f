import { once } from 'node:events';
import { connect, createServer } from 'node:http2';
import type { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { WireStream } from '../../src/mesh/wirestream.ts';
import { memoryWires } from '../../src/relay/memorywire.ts';

const MIB = 1024 * 1024;

function pair(): [WireStream, WireStream] {
  const [one, other] = memoryWires();
  return [new WireStream(one), new WireStream(other)];
}

const turns = async (): Promise<void> => {
  for (let i = 0; i < 50; i++) await nextTurn();
};

/** Octets of which no two neighbourhoods are alike. */
function patterned(octets: number): Buffer {
  const out = Buffer.alloc(octets);
  for (let at = 0; at + 4 <= octets; at += 4) out.writeUInt32LE((at * 2_654_435_761) >>> 0, at);
  return out;
}

/** Writes until the stream asks to wait, and further until it takes no more in many turns; at most 64 MiB. */
async function fill(stream: Duplex): Promise<number> {
  let written = 0;
  const chunk = Buffer.alloc(16_384);
  while (stream.write(chunk)) written += chunk.length;
  for (;;) {
    const drained = once(stream, 'drain').then(() => true);
    if (!(await Promise.race([drained, turns().then(() => false)]))) return written;
    do written += chunk.length;
    while (stream.write(chunk) && written < 64 * MIB);
    if (written >= 64 * MIB) return written;
  }
}

describe('a stream over a memory wire', () => {
  it('carries octets as they are, in chunks of any size', async () => {
    const [one, other] = pair();
    const sent = patterned(3 * MIB);
    const got = buffer(other);
    for (let at = 0, size = 1; at < sent.length; at += size, size = (size * 7) % 200_003) {
      if (!one.write(sent.subarray(at, at + size))) await once(one, 'drain');
    }
    one.end();
    expect((await got).equals(sent)).toBe(true);
  });

  it('does not share the memory of what was written, or of what is read', async () => {
    const [one, other] = pair();
    for (const octets of [100, 100_000]) {
      const chunk = Buffer.alloc(octets, 'a');
      await new Promise<void>((resolve) => one.write(chunk, () => resolve()));
      chunk.fill('b');
      await turns();
      const read = other.read() as Buffer;
      one.write(Buffer.alloc(100_000, 'c'));
      await turns();
      expect(read.every((octet) => octet === 97)).toBe(true);
      while (other.read() !== null) await turns();
    }
  });

  it('has the writer wait for a reader that does not read, and go on when it does', async () => {
    const [one, other] = pair();
    const held = await fill(one);
    expect(held).toBeLessThan(MIB);
    expect(one.writableNeedDrain).toBe(true);
    other.resume();
    await once(one, 'drain');
    let read = 0;
    other.on('data', (chunk: Buffer) => {
      read += chunk.length;
    });
    one.end(Buffer.alloc(MIB));
    await once(other, 'end');
    expect(read).toBeGreaterThanOrEqual(MIB);
  });

  it('ends both ways once one end has, after what was written', async () => {
    const [one, other] = pair();
    one.resume();
    const closed = Promise.all([once(one, 'close'), once(other, 'close')]);
    one.end('last');
    expect(String(await buffer(other))).toBe('last');
    await closed;
    expect([one.errored, other.errored]).toEqual([null, null]);
  });

  it('ends the other end when it is destroyed, and fails what is written to it then', async () => {
    const [one, other] = pair();
    const errors: unknown[] = [];
    other.on('error', (error: NodeJS.ErrnoException) => errors.push(error.code));
    await fill(other);
    const waiting = new Promise((resolve) => other.write('more', resolve));
    const closed = new Promise((resolve) => other.on('close', resolve));
    one.destroy();
    await expect(waiting).resolves.toMatchObject({ code: 'ECONNRESET' });
    await closed;
    expect(errors).toEqual(['ECONNRESET']);
  });

  it('calls back a writer that waits when its own end is destroyed', async () => {
    const [one, other] = pair();
    await fill(one);
    const failed = new Promise((resolve) => one.write('more', resolve));
    one.destroy(new RangeError('mine')).on('error', () => {});
    await expect(failed).resolves.toBeInstanceOf(Error);
    other.resume();
    await once(other, 'close');
  });

  it('carries HTTP/2 between a client and a server of Node', async () => {
    const [near, far] = pair();
    const body = patterned(MIB);
    const server = createServer();
    server.on('stream', (stream) => {
      stream.respond({ ':status': 200 });
      stream.pipe(stream);
    });
    server.emit('connection', far);
    const client = connect('http://mesh', { createConnection: () => near });
    onTestFinished(() => client.destroy());
    const echoes = Array.from({ length: 4 }, () => {
      const request = client.request({ ':method': 'POST', ':path': '/' });
      request.end(body);
      return buffer(request);
    });
    for (const echo of await Promise.all(echoes)) expect(echo.equals(body)).toBe(true);
    const ended = Promise.all([once(near, 'close'), once(far, 'close')]);
    client.close();
    await ended;
  });
});
