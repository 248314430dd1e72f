import { once } from 'node:events';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { loadCryptoProvider } from '../../src/crypto/provider.ts';
import type { HandshakeError } from '../../src/transport/errors.ts';
import { DATA } from '../../src/transport/record.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { makeTrust, type Trust } from '../harness/trust.ts';
import { Bench, gone, type Meddler, Party } from '../transport/wire.ts';

let trust: Trust;
let bench: Bench;
const manyHandshakes = { limits: { handshake: { burstPerAddress: 100_000 } } };
beforeAll(async () => {
  trust = await makeTrust({ clock: new FakeClock() });
});
beforeEach(async () => {
  bench = await Bench.open(manyHandshakes, trust);
});
afterEach(() => bench.close());

const failure = async (attempt: Promise<unknown>): Promise<HandshakeError> => {
  try {
    await attempt;
  } catch (error) {
    return error as HandshakeError;
  }
  throw new RangeError('the connection was made');
};

/** Turns of the event loop, until `done`. */
const until = async (done: () => boolean): Promise<void> => {
  while (!done()) await new Promise((resolve) => setImmediate(resolve));
};

describe('a man in the middle of an open channel', () => {
  /** Opens a channel, arms the meddler, lets the client send; how the server's end ends. */
  async function attack(
    meddle: Meddler,
    act?: (client: Party) => void,
  ): Promise<{ reason: string; got: string }> {
    let armed = false;
    const port = await bench.middle((chunk, ...rest) => (armed ? meddle(chunk, ...rest) : chunk));
    const { client, server } = await bench.connect({ port });
    client.send('before');
    await server.received(6);
    armed = true;
    if (act === undefined) client.send('the message');
    else act(client);
    const { reason } = await server.ended;
    await client.ended;
    return { reason, got: Buffer.concat(server.data).toString() };
  }

  const flipped =
    (at: number): Meddler =>
    (chunk) => {
      const copy = Buffer.from(chunk);
      copy[at] = (copy[at] as number) ^ 0x80;
      return copy;
    };

  it('who flips a bit of tag or ciphertext is found out', async () => {
    for (const at of [2, 5, 12, 31]) {
      expect(await attack(flipped(at))).toEqual({ reason: 'bad-record', got: 'before' });
    }
  });

  it('who makes a length promise bytes that never come is cut off after 10 s', async () => {
    let armed = false;
    const port = await bench.middle((chunk, direction, at, link) =>
      armed && direction === 'up' ? flipped(0)(chunk, direction, at, link) : chunk,
    );
    const { client, server } = await bench.connect({ port });
    armed = true;
    client.send('the message');
    let waited = 0;
    while (!server.channel.closed) {
      await new Promise((resolve) => setImmediate(resolve));
      bench.clock.advance(500);
      waited += 500;
    }
    expect((await server.ended).reason).toBe('record-timeout');
    expect(waited).toBeGreaterThanOrEqual(10_000);
    expect(server.data).toEqual([]);
  });

  it('who drops a record is found out by the next', async () => {
    let drop = true;
    const outcome = await attack(
      (chunk, direction) => {
        if (direction === 'down' || !drop) return chunk;
        drop = false;
        return chunk.subarray(2 + chunk.readUInt16BE(0));
      },
      (client) => {
        client.send('dropped');
        client.send('kept');
      },
    );
    expect(outcome).toEqual({ reason: 'bad-record', got: 'before' });
  });

  it('who repeats a record is found out', async () => {
    const outcome = await attack((chunk, direction) =>
      direction === 'up' ? Buffer.concat([chunk, chunk]) : chunk,
    );
    expect(outcome).toEqual({ reason: 'bad-record', got: 'beforethe message' });
  });

  it('who swaps two records is found out', async () => {
    const held: Buffer[] = [];
    const outcome = await attack(
      (chunk, direction) => {
        if (direction === 'down') return chunk;
        held.push(chunk);
        const all = Buffer.concat(held);
        if (all.length < 2 * 27) return undefined;
        held.length = 0;
        return Buffer.concat([all.subarray(27), all.subarray(0, 27)]);
      },
      (client) => {
        client.send('first ');
        client.send('second');
      },
    );
    expect(outcome).toEqual({ reason: 'bad-record', got: 'before' });
  });

  it('who sends our own records back to us is found out', async () => {
    let armed = false;
    const port = await bench.middle((chunk, direction, _at, link) => {
      if (!armed || direction === 'down') return chunk;
      link.client.write(chunk);
      return undefined;
    });
    const { client, server } = await bench.connect({ port });
    armed = true;
    client.send('echo?');
    expect((await client.ended).reason).toBe('bad-record');
    expect((await server.ended).reason).toMatch(/truncated|socket-error/);
    expect(client.data).toEqual([]);
  });

  it('who cuts the connection cannot make it look like an end', async () => {
    const outcome = await attack((chunk, direction, _at, link) => {
      if (direction === 'up') link.server.end(chunk);
      return direction === 'up' ? undefined : chunk;
    });
    expect(outcome).toEqual({ reason: 'truncated', got: 'beforethe message' });
    const half = await attack((chunk, direction, _at, link) => {
      if (direction === 'up') link.server.end(chunk.subarray(0, 20));
      return direction === 'up' ? undefined : chunk;
    });
    expect(half).toEqual({ reason: 'truncated', got: 'before' });
  });

  it('who withholds CLOSE turns an end into a truncation', async () => {
    const outcome = await attack(
      (chunk, direction, _at, link) => {
        if (direction === 'up') link.server.end();
        return direction === 'up' ? undefined : chunk;
      },
      (client) => client.channel.close(),
    );
    expect(outcome.reason).toBe('truncated');
  });

  it('who appends a byte is waited for and then cut off', async () => {
    const rogue = await bench.rogue();
    const server = new Party(await bench.channels.next());
    rogue.socket.write(Buffer.concat([rogue.sealed(DATA, Buffer.from('ok')), Buffer.of(0)]));
    await server.received(2);
    bench.clock.advance(9_999);
    expect(server.channel.closed).toBe(false);
    bench.clock.advance(1);
    expect((await server.ended).reason).toBe('record-timeout');
  });

  it('records that take long, but not too long each, are no reason to end', async () => {
    const rogue = await bench.rogue();
    const server = new Party(await bench.channels.next());
    let rest: Buffer = Buffer.alloc(0);
    for (let i = 1; i <= 4; i++) {
      const whole = rogue.sealed(DATA, Buffer.from('slow'));
      const begun = rogue.sealed(DATA, Buffer.from('!'));
      rogue.socket.write(Buffer.concat([rest, whole, begun.subarray(0, 7)]));
      rest = begun.subarray(7);
      await server.received(i * 5 - 1);
      bench.clock.advance(9_999);
    }
    expect(server.channel.closed).toBe(false);
    bench.clock.advance(1);
    expect((await server.ended).reason).toBe('record-timeout');
  });
});

describe('a man in the middle of a handshake', () => {
  it('changes no byte of it without ending it at both ends', async () => {
    let total = { up: 0, down: 0 };
    const counting = await bench.middle((chunk, direction, at) => {
      total[direction] = Math.max(total[direction], at + chunk.length);
      return chunk;
    });
    await bench.connect({ port: counting });
    // Without the first records, which other tests change, and what a signature may be shorter next time: whoever
    // waits for a record whose length has grown waits for the clock.
    total = { up: total.up - 29 - 8, down: total.down - 29 - 8 };
    expect(total.up).toBeGreaterThan(500);
    for (const direction of ['up', 'down'] as const) {
      for (let at = 0; at < total[direction]; at += 41) {
        let client: Party | undefined;
        const port = await bench.middle((chunk, way, from) => {
          if (way !== direction || at < from || at >= from + chunk.length) return chunk;
          const copy = Buffer.from(chunk);
          copy[at - from] = (copy[at - from] as number) ^ 0x10;
          return copy;
        });
        const ended = failure(
          bench.dial({ port }).then((channel) => {
            client = new Party(channel);
          }),
        );
        let over = false;
        void ended.then(() => {
          over = true;
        });
        // A changed length makes an end wait, until its deadline.
        await until(() => over || bench.refusals.length > 0);
        for (let i = 0; i < 50 && !over; i++) await new Promise((resolve) => setImmediate(resolve));
        if (!over) bench.clock.advance(5_000);
        const { code } = await ended;
        const refusal = await bench.refusals.next();
        expect(client, `byte ${at} ${direction}`).toBeUndefined();
        expect([code, refusal.reason]).not.toContain('internal-error');
      }
    }
    expect(bench.channels.length).toBe(0);
  });

  it('who answers with our own messages gets nowhere', async () => {
    const port = await bench.listen((socket) => socket.on('error', () => {}).pipe(socket));
    expect((await failure(bench.dial({ port }))).code).toBe('unexpected-frame');
    const clever = await bench.listen((socket) => {
      socket.on('error', () => {}).once('data', (chunk) => socket.write(chunk.subarray(12)));
    });
    expect((await failure(bench.dial({ port: clever }))).code).toBe('reflected-key');
  });

  it('who leads us back to ourselves gets nowhere', async () => {
    const staticKey = bench.staticKey();
    const self = await Bench.open({ staticKey }, trust);
    const error = await failure(self.dial({ staticKey, expectedPeer: self.greeter.spiffeId }));
    expect(error.code).toBe('reflected-key');
    await self.close();
  });
});

describe('a responder', () => {
  it('refuses a foreign trust domain, and says why in its audit only', async () => {
    const foreign = await makeTrust({ clock: new FakeClock() });
    const error = await failure(bench.dial({ identity: await foreign.identity('web') }));
    expect(error).toMatchObject({ code: 'not-confirmed', peer: bench.greeter.spiffeId });
    expect(error.message).toContain('it may have refused our identity');
    const refusal = await bench.refusals.next();
    expect(refusal.reason).toBe('untrusted-peer');
    expect(refusal.detail).toMatch(/refused, untrusted-issuer|refused, /);
    expect(refusal.peer).toBeUndefined();
    expect(refusal.remoteAddress).toBe('127.0.0.1');
  });

  it('refuses an expired certificate', async () => {
    const identity = await trust.identity('web', { ttlMs: 60_000 });
    bench.clock.advance(120_000);
    const error = await failure(
      bench.dial({
        identity: { ...identity, notAfter: Number.MAX_SAFE_INTEGER, sign: (data) => identity.sign(data) },
      }),
    );
    expect(error.code).toBe('not-confirmed');
    const refusal = await bench.refusals.next();
    expect(refusal.reason).toBe('untrusted-peer');
    expect(refusal.detail).toContain('expired');
  });

  it('closes on silence after 2 s', async () => {
    const socket = await bench.raw();
    await until(() => bench.acceptor.halfOpen === 1);
    socket.write('HBK1');
    bench.clock.advance(1_999);
    expect(bench.acceptor.halfOpen).toBe(1);
    bench.clock.advance(1);
    expect((await bench.refusals.next()).reason).toBe('first-frame-timeout');
    await gone(socket);
  });

  it('closes on a handshake that stops half way after 5 s', async () => {
    let dropped = false;
    const port = await bench.middle((chunk, direction, at) => {
      if (direction !== 'up' || at === 0) return chunk;
      dropped = true;
      return undefined;
    });
    const ended = failure(bench.dial({ port, limits: { handshake: { timeoutMs: 60_000 } } }));
    await until(() => dropped);
    expect(bench.acceptor.halfOpen).toBe(1);
    bench.clock.advance(5_000);
    expect((await bench.refusals.next()).reason).toBe('handshake-timeout');
    expect((await ended).code).toMatch(/not-confirmed/);
  });

  it('does not hand out a channel before the initiator’s first record: a recorded opening gains nothing', async () => {
    // Everything but the initiator's last 29 bytes, its first record, gets through.
    const recorded: Buffer[] = [];
    const port = await bench.middle((chunk, direction) => {
      if (direction === 'up') recorded.push(chunk);
      return chunk;
    });
    await bench.connect({ port });
    const socket = await bench.raw();
    socket.write(recorded[0] as Buffer);
    await once(socket, 'data');
    socket.write(Buffer.concat(recorded.slice(1)));
    expect((await bench.refusals.next()).reason).toBe('decrypt-failed');
    expect(bench.channels.length).toBe(0);
  });

  it('answers an unknown version with the highest that it speaks, and nothing else with anything', async () => {
    const socket = await bench.raw();
    socket.write('HBK1\x02whatever version 2 says');
    const [alert] = (await once(socket, 'data')) as [Buffer];
    expect(alert.toString('hex')).toBe('0300020101');
    await gone(socket);
    expect((await bench.refusals.next()).reason).toBe('unknown-version');
    for (const garbage of [
      'GET / HTTP/1.1\r\n\r\n',
      '\x16\x03\x01\x02\x00',
      'HBK2',
      'HBK1\x01\x05\x00\x01\x00\x00\x00\x00',
    ]) {
      const stranger = await bench.raw();
      let answer = 0;
      stranger.on('data', (chunk) => {
        answer += chunk.length;
      });
      stranger.write(Buffer.from(garbage, 'latin1'));
      await gone(stranger);
      expect(answer).toBe(0);
      expect((await bench.refusals.next()).reason).toMatch(/not-hauberk|bad-hello/);
    }
  });

  it('lets the oldest of 16 half-open connections of an address go for a newer one', async () => {
    const first = await bench.raw();
    await until(() => bench.acceptor.halfOpen === 1);
    for (let i = 0; i < 15; i++) await bench.raw();
    await until(() => bench.acceptor.halfOpen === 16);
    expect((await failure(bench.dial())).code).toBe('connection-lost'); // they have only just come
    expect((await bench.refusals.next()).reason).toBe('overloaded');
    bench.clock.advance(500);
    const { client } = await bench.connect(); // takes the place of `first`
    expect((await bench.refusals.next()).reason).toBe('half-open-evicted');
    await gone(first);
    expect(client.channel.closed).toBe(false);
    expect(bench.acceptor.halfOpen).toBe(15);
  });

  it('refuses more handshakes of an address than its rate allows', async () => {
    const strict = await Bench.open(
      { limits: { handshake: { burstPerAddress: 3, ratePerAddress: 1 } } },
      trust,
    );
    for (let i = 0; i < 3; i++) await strict.connect();
    expect((await failure(strict.dial())).code).toBe('connection-lost');
    expect(await strict.refusals.next()).toMatchObject({ reason: 'rate-limited', count: 1 });
    for (let i = 0; i < 4; i++) await failure(strict.dial());
    expect(strict.refusals.length).toBe(0); // whoever floods the port shall not flood the audit
    strict.clock.advance(1_000);
    expect(await strict.refusals.next()).toMatchObject({ reason: 'rate-limited', count: 4 });
    await strict.connect();
    await strict.close();
  });

  it('refuses full handshakes while its event loop lags', async () => {
    let lag = 51;
    const busy = await Bench.open({ lagMs: () => lag }, trust);
    expect((await failure(busy.dial())).code).toBe('connection-lost');
    expect((await busy.refusals.next()).reason).toBe('overloaded');
    lag = 50;
    await busy.connect();
    await busy.close();
  });

  it('refuses everything once it is closed, and lets its channels live', async () => {
    const { client, server } = await bench.connect();
    const silent = await bench.raw();
    await until(() => bench.acceptor.halfOpen === 1);
    bench.acceptor.close();
    await gone(silent);
    expect((await bench.refusals.next()).reason).toBe('shutting-down');
    expect((await failure(bench.dial())).code).toBe('connection-lost');
    expect((await bench.refusals.next()).reason).toBe('shutting-down');
    client.send('alive');
    expect(await server.received(5)).toBe('alive');
  });

  it('outlives random and mutated bytes, and leaves nothing open', async () => {
    const strict = await Bench.open(manyHandshakes, trust);
    const { opening } = await recordOpening(strict);
    const before = strict.clock.pending;
    let seed = 1;
    const random = (below: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) & 0x7fff_ffff;
      return seed % below;
    };
    const sockets = [];
    for (let i = 0; i < 300; i++) {
      const bytes = Buffer.from(opening);
      for (let n = random(4); n >= 0; n--) bytes[random(n % 2 === 0 ? 16 : bytes.length)] = random(256);
      const socket = await strict.raw();
      socket.end(bytes.subarray(0, random(bytes.length + 1)));
      sockets.push(gone(socket.resume()));
    }
    await Promise.all(sockets);
    await until(() => strict.acceptor.halfOpen === 0);
    const reasons = new Set<string>();
    while (strict.refusals.length > 0) reasons.add((await strict.refusals.next()).reason);
    expect(reasons).not.toContain('internal-error');
    expect(reasons).toContain('not-hauberk');
    strict.clock.advance(1_000); // alerts linger as long
    await until(() => strict.sockets === 0);
    expect(strict.clock.pending).toBe(before);
    await strict.close();
  });
});

/** What an initiator sends first, from a connection that is over. */
async function recordOpening(target: Bench): Promise<{ opening: Buffer }> {
  let opening = Buffer.alloc(0);
  const port = await target.middle((chunk, direction, at) => {
    if (direction === 'up' && at === 0) opening = Buffer.from(chunk);
    return chunk;
  });
  const { client, server } = await target.connect({ port });
  client.channel.close();
  await Promise.all([client.ended, server.ended]);
  await until(() => target.sockets === 0);
  return { opening };
}

describe('an initiator', () => {
  it('refuses another service, and never shows itself to it', async () => {
    let sent = 0;
    const port = await bench.middle((chunk, direction, at) => {
      if (direction === 'up') sent = at + chunk.length;
      return chunk;
    });
    const error = await failure(
      bench.dial({ port, expectedPeer: 'spiffe://shop.example/ns/default/sa/other' }),
    );
    expect(error).toMatchObject({ code: 'wrong-peer', peer: bench.greeter.spiffeId });
    expect((await bench.refusals.next()).reason).toBe('connection-lost');
    expect(sent).toBe(12 + 3 + 1216);
  });

  it('refuses a foreign trust domain', async () => {
    const foreign = await makeTrust({ clock: new FakeClock() });
    const identity = await foreign.identity('greeter');
    const impostor = await Bench.open({ identity: () => identity }, trust);
    expect(await failure(impostor.dial())).toMatchObject({ code: 'untrusted-peer', peer: undefined });
    await impostor.close();
  });

  it('that cannot even begin fails its dial, and nothing else', async () => {
    const crypto = await loadCryptoProvider('native'); // without ML-KEM, which mode 1 needs
    expect(await failure(bench.dial({ crypto }))).toMatchObject({
      code: 'internal-error',
      cause: { code: 'provider-not-loaded' },
    });
    expect((await bench.refusals.next()).reason).toBe('connection-lost');
  });

  it('does not begin with an expired identity', async () => {
    const identity = await trust.identity('web', { ttlMs: 60_000 });
    bench.clock.advance(120_000);
    expect((await failure(bench.dial({ identity }))).code).toBe('local-identity-expired');
  });

  it('says that nobody listens', async () => {
    const port = await bench.listen(() => {});
    const closed = await Bench.open({}, trust);
    await closed.close();
    const error = await failure(bench.dial({ port: closed.port }));
    expect(error.code).toBe('connect-failed');
    expect(error.message).toContain(`127.0.0.1:${closed.port}`);
    expect(port).not.toBe(closed.port);
  });

  it('gives up a TCP connection that does not come about in time', async () => {
    const attempt = failure(bench.dial());
    bench.clock.advance(5_000);
    expect((await attempt).code).toBe('connect-timeout');
  });

  it('gives up a handshake after 5 s', async () => {
    let accepted = 0;
    const port = await bench.listen(() => {
      accepted++;
    });
    const attempt = failure(bench.dial({ port }));
    await until(() => accepted === 1);
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
    bench.clock.advance(5_000);
    expect((await attempt).code).toBe('handshake-timeout');
  });

  it('can be called off at any time', async () => {
    const early = new AbortController();
    early.abort();
    expect((await failure(bench.dial({ signal: early.signal }))).code).toBe('aborted');
    const connecting = new AbortController();
    const first = failure(bench.dial({ signal: connecting.signal }));
    connecting.abort();
    expect((await first).code).toBe('aborted');
    const shaking = new AbortController();
    const port = await bench.middle((chunk, direction) => {
      if (direction === 'down') shaking.abort();
      return chunk;
    });
    expect((await failure(bench.dial({ port, signal: shaking.signal }))).code).toBe('aborted');
  });

  it('refuses trailing bytes and oversize answers', async () => {
    const trailing = await bench.middle((chunk, direction) =>
      direction === 'down' ? Buffer.concat([chunk, Buffer.of(0)]) : chunk,
    );
    expect((await failure(bench.dial({ port: trailing }))).code).toBe('unexpected-bytes');
    const oversize = await bench.listen((socket) => {
      socket.on('error', () => {}).write(Buffer.of(1, 0x40, 0x01));
    });
    expect((await failure(bench.dial({ port: oversize }))).code).toBe('message-too-large');
  });
});

it('every channel that ended leaves neither sockets nor timers', async () => {
  const own = await Bench.open(manyHandshakes, trust);
  await recordOpening(own); // warms the static keys up
  const before = own.clock.pending;
  const staticKey = own.staticKey();
  const timers = own.clock.pending - before;
  for (let i = 0; i < 20; i++) {
    const { client, server } = await own.connect({ staticKey });
    if (i % 2 === 0) client.channel.close();
    else server.channel.destroy('evicted');
    await Promise.all([client.ended, server.ended]);
  }
  await until(() => own.sockets === 0);
  expect(own.clock.pending).toBe(before + timers);
  expect(own.acceptor.halfOpen).toBe(0);
  await own.close();
});
