import { describe, expect, it } from 'vitest';
import { headerField } from '../../src/hpack/field.ts';
import { HeaderList } from '../../src/hpack/headerlist.ts';
import { Connection } from '../../src/http2/connection.ts';
import type { ConnectionHandler } from '../../src/http2/options.ts';
import type { Stream, StreamHandler } from '../../src/http2/stream.ts';
import type { RelayContext } from '../../src/relay/context.ts';
import { type MemoryWire, memoryWires } from '../../src/relay/memorywire.ts';
import { RECORD_BUFFER } from '../../src/transport/bufferpool.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { contextOn, settled } from './memorywire.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const HIGH_WATER = 512 * KIB;
const MAX_BACKLOG = 16 * MIB;

/** Writes `octets` of one letter in one piece. */
function write(wire: MemoryWire, octets: number, letter = 'x'): boolean {
  const buffer = wire.acquire();
  buffer.fill(letter, 0, octets);
  return wire.write(buffer, 0, octets);
}

/** Writes pieces of `size` until `octets` are under way. */
function flood(wire: MemoryWire, octets: number, size = 32 * KIB): void {
  for (let written = 0; written < octets; written += size) write(wire, size);
}

/** An end of which everything that happens is written down. */
function watched(wire: MemoryWire) {
  const log: string[] = [];
  let text = '';
  wire.onDrain = () => void log.push('drain');
  wire.onClose = (reason, detail, kind) =>
    void log.push(['close', reason, kind, detail].filter((word) => word).join(' '));
  wire.onData = (octets) => {
    text += octets.toString('latin1');
    log.push('data');
  };
  return { wire, log, text: () => text };
}

/** Two ends that read. */
function pair() {
  const [one, other] = memoryWires();
  return [watched(one), watched(other)] as const;
}

describe('memory wires', () => {
  it('carry octets in order, both ways, in a later turn', async () => {
    const [one, other] = pair();
    for (const letter of 'abc') write(one.wire, 1, letter);
    write(other.wire, 1, 'z');
    expect([one.text(), other.text()]).toEqual(['', '']);
    expect(one.wire.backlog).toBe(3);
    await settled();
    expect([one.text(), other.text()]).toEqual(['z', 'abc']);
    expect(one.wire.backlog).toBe(0);
  });

  it('keep what comes before there is a listener', async () => {
    const [one, other] = memoryWires();
    write(one, 3);
    one.close();
    await settled();
    const late = watched(other);
    await settled();
    expect(late.text()).toBe('xxx');
    expect(late.log.at(-1)).toBe('close peer-closed');
  });

  it('ask the writer to hold back at a high-water mark, and tell it once of room', async () => {
    const [one, other] = pair();
    other.wire.pause();
    flood(one.wire, HIGH_WATER - 32 * KIB);
    expect(write(one.wire, 32 * KIB - 1)).toBe(true);
    expect(write(one.wire, 1)).toBe(false);
    await settled();
    expect([one.log, other.log]).toEqual([[], []]);
    other.wire.resume();
    await settled();
    expect(one.log).toEqual(['drain']);
    expect(other.text().length).toBe(HIGH_WATER);
    expect(write(one.wire, 1)).toBe(true);
  });

  it('tell of room whoever writes on while they are read', async () => {
    const [one, other] = memoryWires();
    const drained: number[] = [];
    one.onDrain = () => void drained.push(one.backlog);
    let read = 0;
    other.onData = (octets) => {
      read += octets.length;
      if (read <= HIGH_WATER) write(one, 1);
    };
    flood(one, HIGH_WATER);
    await settled();
    expect(drained).toHaveLength(1);
    expect(drained[0]).toBeLessThan(HIGH_WATER);
  });

  it('stop at the piece at which they are paused, and see no end before they have gone on', async () => {
    const [one, other] = memoryWires();
    const heard: string[] = [];
    other.onClose = (reason) => void heard.push(reason);
    other.onData = (octets) => {
      heard.push(octets.toString());
      other.pause();
      if (heard.length === 1) {
        write(one, 1, 'c');
        one.close();
      }
    };
    for (const letter of 'ab') write(one, 1, letter);
    await settled();
    for (const next of ['b', 'c', 'peer-closed']) {
      expect(heard.pop()).not.toBe(next);
      other.resume();
      await settled();
      expect(heard.at(-1)).toBe(next);
    }
  });

  it('read what was written while they read, before the end', async () => {
    const [one, other] = memoryWires();
    const heard: string[] = [];
    other.onClose = (reason) => void heard.push(reason);
    other.onData = (octets) => {
      heard.push(octets.toString());
      write(one, 1, 'b');
      one.close();
    };
    write(one, 1, 'a');
    await settled();
    expect(heard).toEqual(['a', 'b', 'peer-closed']);
  });

  it('give back the buffers of what is small, and of what a slow reader leaves', () => {
    const [one, other] = pair();
    other.wire.pause();
    const given = one.wire.acquire();
    one.wire.write(given, 0, 100);
    expect(one.wire.acquire()).toBe(given); // the first that is free
    const full = one.wire.acquire();
    one.wire.write(full, 0, RECORD_BUFFER);
    expect(one.wire.acquire()).not.toBe(full);
    const half = one.wire.acquire();
    one.wire.write(half, 0, RECORD_BUFFER >> 1);
    expect(one.wire.acquire()).toBe(half);
  });

  it('cut off an end that takes nothing, and drop what waits for it', async () => {
    const [one, other] = pair();
    other.wire.pause();
    flood(one.wire, MAX_BACKLOG);
    await settled();
    expect(one.log).toEqual([]);
    write(one.wire, 1);
    expect(one.log).toEqual([]); // the writer does not expect its end
    await settled();
    expect(one.log).toEqual([
      `close flood backlog it has not taken ${MAX_BACKLOG} octets of what it was sent`,
    ]);
    expect(one.wire.backlog).toBe(0);
    expect(other.log).toEqual([`close peer-closed cut off with ${MAX_BACKLOG} octets unread`]);
    other.wire.resume();
    await settled();
    expect(other.text()).toBe('');
  });

  it('bear a burst that is read at once', async () => {
    const [one, other] = pair();
    flood(one.wire, MAX_BACKLOG + MIB);
    await settled();
    expect(one.log).toEqual(['drain']);
    expect(other.text().length).toBe(MAX_BACKLOG + MIB);
  });

  it('when closed carry what was written, and end at both ends once', async () => {
    const [one, other] = pair();
    write(one.wire, 3, 'a');
    write(other.wire, 3, 'b');
    one.wire.close();
    one.wire.close();
    write(one.wire, 3, 'c');
    await settled();
    expect(other.text()).toBe('aaa');
    expect(one.text()).toBe('bbb');
    expect(one.log.at(-1)).toBe('close local-closed');
    expect(other.log.at(-1)).toBe('close peer-closed');
    write(other.wire, 1, 'd');
    other.wire.close();
    one.wire.destroy('shutdown');
    await settled();
    expect(one.log.filter((line) => line.startsWith('close'))).toHaveLength(1);
    expect(other.log.filter((line) => line.startsWith('close'))).toHaveLength(1);
    expect(one.text()).toBe('bbb');
  });

  it('when both are closed know that each has closed itself', async () => {
    const [one, other] = pair();
    one.wire.close();
    other.wire.close();
    await settled();
    expect([one.log, other.log]).toEqual([['close local-closed'], ['close local-closed']]);
  });

  it('when destroyed are gone at once, and the other end still reads what it was sent', async () => {
    const [one, other] = pair();
    write(one.wire, 3, 'a');
    write(other.wire, 3, 'b');
    one.wire.destroy('shutdown');
    expect(one.log).toEqual(['close shutdown']);
    await settled();
    expect(one.text()).toBe('');
    expect(other.log).toEqual(['data', 'close peer-closed']);
    expect(other.text()).toBe('aaa');
  });

  it('say nothing after an end that came while reading', async () => {
    const [one, other] = memoryWires();
    const log: string[] = [];
    other.onClose = (reason) => void log.push(reason);
    other.onData = () => {
      log.push('data');
      other.destroy('shutdown');
    };
    for (let i = 0; i < 3; i++) write(one, 10);
    await settled();
    expect(log).toEqual(['data', 'shutdown']);
    expect(one.backlog).toBe(0);
  });

  it('that are closed do not wait for ever for an end that does not read', async () => {
    const [one, other] = pair();
    other.wire.pause();
    write(one.wire, 1);
    one.wire.close();
    await expect.poll(() => one.log, { timeout: 10_000 }).toEqual(['close local-closed']);
    other.wire.resume();
    await settled();
    expect(other.log).toEqual(['data', 'close peer-closed']);
  });
});

// ---- HTTP/2 over them ------------------------------------------------------------------------------

const REQUEST = HeaderList.of([
  headerField(':method', 'POST'),
  headerField(':scheme', 'http'),
  headerField(':path', '/a/b'),
  headerField(':authority', 'a'),
]);
const RESPONSE = HeaderList.of([headerField(':status', '200')]);

const OWNER: ConnectionHandler = {
  onRequest() {},
  onOversizeRequest() {},
  onReady() {},
  onRoom() {},
  onGoaway() {},
  onStreamError() {},
  onEnd() {},
};
const NOBODY: StreamHandler = {
  onHeaders() {},
  onTrailers() {},
  onData() {},
  onTaken() {},
  onReset() {},
};

/** A connection on an end, as the relay puts them there. */
function connect(
  context: RelayContext,
  wire: MemoryWire,
  role: 'client' | 'server',
  handler: Partial<ConnectionHandler> = {},
): Connection {
  const connection = new Connection({
    role,
    sink: wire,
    handler: {
      ...OWNER,
      onEnd: () => wire.close(),
      ...handler,
    },
    monotonic: context.monotonic,
    schedule: context.turn.schedule,
    ...context.http2For('app', role),
  });
  wire.onDrain = () => connection.drained();
  wire.onClose = () => connection.transportClosed();
  wire.onData = (octets) => context.turn.receive(connection, octets);
  return connection;
}

function handOver(stream: Stream, handler: StreamHandler): void {
  stream.handler = handler;
}

/** Octets that come on a stream, which are taken at once, or not. */
function reader(taking: boolean) {
  const heard = { octets: 0, fin: false, reset: false };
  const handler: StreamHandler = {
    ...NOBODY,
    onData(stream, _buf, start, end, fin) {
      heard.octets += end - start;
      heard.fin ||= fin;
      if (taking) stream.credit(end - start);
    },
    onReset() {
      heard.reset = true;
    },
  };
  return { heard, handler };
}

describe('HTTP/2 over memory wires', () => {
  it('moves 32 MiB each way at a time', async () => {
    const context = contextOn(new FakeClock());
    const [near, far] = memoryWires();
    const up = reader(true);
    const down = reader(true);
    const body = Buffer.alloc(32 * MIB);
    connect(context, far, 'server', {
      onRequest(stream: Stream) {
        stream.handler = up.handler;
        stream.sendHeaders(RESPONSE, false);
        stream.send(body, 0, body.length, false);
      },
    });
    const client = connect(context, near, 'client');
    await settled();
    client.open(REQUEST, false, down.handler).send(body, 0, body.length, true);
    const moved = () => [up.heard.octets, up.heard.fin, down.heard.octets];
    await expect.poll(moved, { timeout: 20_000 }).toEqual([body.length, true, body.length]);
  });

  it('holds no more than the windows for a reader that takes nothing', async () => {
    const context = contextOn(new FakeClock());
    const [near, far] = memoryWires();
    const up = reader(false);
    connect(context, far, 'server', { onRequest: (stream: Stream) => handOver(stream, up.handler) });
    const client = connect(context, near, 'client');
    await settled();
    const stream = client.open(REQUEST, false, NOBODY);
    stream.send(Buffer.alloc(MIB), 0, MIB, true);
    for (let i = 0; i < 20; i++) await settled();
    expect(up.heard.octets).toBe(64 * KIB);
    expect(client.queued).toBe(MIB - 64 * KIB);
    expect(near.backlog).toBe(0);
  });

  it('keeps DATA in its stream while the far end is paused', async () => {
    const context = contextOn(new FakeClock());
    const [near, far] = memoryWires();
    const up = reader(true);
    const server = connect(context, far, 'server', {
      onRequest: (stream: Stream) => handOver(stream, up.handler),
    });
    const client = connect(context, near, 'client');
    await settled();
    // Windows as large as they get.
    const warm = client.open(REQUEST, false, NOBODY);
    warm.send(Buffer.alloc(32 * MIB), 0, 32 * MIB, true);
    await expect.poll(() => up.heard.fin, { timeout: 20_000 }).toBe(true);
    far.pause();
    const streams = Array.from({ length: 64 }, () => client.open(REQUEST, false, NOBODY));
    for (const stream of streams) stream.send(Buffer.alloc(64 * KIB), 0, 64 * KIB, true);
    for (let i = 0; i < 20; i++) await settled();
    expect(near.backlog).toBeLessThan(HIGH_WATER + RECORD_BUFFER);
    expect(client.queued).toBeGreaterThan(2 * MIB);
    far.resume();
    await expect.poll(() => up.heard.octets, { timeout: 20_000 }).toBe(36 * MIB);
    expect(server.ended).toBe(false);
  });

  it('ends with the calls under way when either side shuts down', async () => {
    for (const side of ['client', 'server'] as const) {
      const context = contextOn(new FakeClock());
      const [near, far] = memoryWires();
      const up = reader(true);
      const down = reader(true);
      const server = connect(context, far, 'server', {
        onRequest: (stream: Stream) => handOver(stream, up.handler),
      });
      const client = connect(context, near, 'client');
      await settled();
      client.open(REQUEST, false, down.handler);
      await settled();
      (side === 'client' ? client : server).shutDown();
      await settled();
      expect([server.ended, client.ended]).toEqual([true, true]);
      expect([up.heard.reset, down.heard.reset]).toEqual([true, true]);
    }
  });
});
