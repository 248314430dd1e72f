import type { Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { beforeAll, describe, expect, it } from 'vitest';
import type { AuditEventOf } from '../../src/audit/event.ts';
import { systemClock } from '../../src/clock/clock.ts';
import { loadCryptoProvider } from '../../src/crypto/provider.ts';
import { PREFACE } from '../../src/http2/frame.ts';
import { loadIdentity } from '../../src/identity/load.ts';
import { encodeClientHello } from '../../src/transport/clienthello.ts';
import { encodeFrame, MESSAGE } from '../../src/transport/frame.ts';
import { XX } from '../../src/transport/mode.ts';
import { EMPTY_SETTINGS } from '../harness/fuzz-input.ts';
import { SayHello } from '../harness/greeter-methods.ts';
import { rawConnection, talk } from '../harness/rawtcp.ts';
import { dialAs } from '../harness/rogue.ts';
import { type Pair, type SidecarProcess, startPair } from '../harness/sidecars.ts';

const crypto = await loadCryptoProvider('native');
const MAX_HALF_OPEN = 256; // the defaults
const PER_ADDRESS = 16;
const PATIENCE_MS = 500; // nobody is made to give way who has only just come
const HELLO = Buffer.from('HBK1\x01\x00\x00\x01', 'latin1'); // and the rest never

/** Every address of 127.0.0.0/8 is this machine, so that one test can come from many. */
const addressOf = (n: number): string => `127.88.0.${n + 1}`;

const gone = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    if (socket.closed || socket.readableEnded) resolve();
    socket.resume();
    socket.once('end', resolve);
    socket.once('close', () => resolve());
  });

async function callable(pair: Pair, from: SidecarProcess): Promise<void> {
  const client = pair.world.client(from.egress, { authority: 'greeter.shop' });
  const { code, details } = await client.unary(SayHello, { name: 'Ada' });
  expect(code, details).toBe(0);
  client.close();
}

describe('a flood of handshakes that nobody finishes', () => {
  let pair: Pair;
  beforeAll(async () => {
    // Nothing but the flood itself makes these end.
    const patient = { firstFrameTimeout: '60s', timeout: '60s', burstPerAddress: 10_000 };
    pair = await startPair({ greeter: { handshake: patient, log: { level: 'error' } } });
  });

  const evicted = async (count: number, after: number): Promise<string[]> =>
    (
      await pair.greeter.audit.events(
        'handshake.failed',
        count,
        ({ reason }) => reason === 'half-open-evicted',
        after,
      )
    ).map(({ remote }) => remote);
  const halfOpen = (): Promise<number> => pair.greeter.metric('hauberk_handshakes_half_open');
  const handshaking = (): Promise<number> =>
    pair.greeter.metric('hauberk_peer_connections', { direction: 'inbound', state: 'handshaking' });

  it('lets the oldest of an address go, and no other', async () => {
    const mark = await pair.greeter.audit.mark();
    const sockets: Socket[] = [];
    const other = await rawConnection(pair.greeter.ingress, addressOf(1));
    other.write(HELLO);
    for (let i = 0; i < PER_ADDRESS + 4; i++) {
      const socket = await rawConnection(pair.greeter.ingress, addressOf(0));
      socket.write(HELLO);
      sockets.push(socket);
    }
    const remotes = await evicted(4, mark);
    expect(remotes).toEqual(sockets.slice(0, 4).map((s) => `${addressOf(0)}:${s.localPort}`));
    await Promise.all(sockets.slice(0, 4).map(gone));
    expect(await halfOpen()).toBe(PER_ADDRESS + 1);
    expect(await handshaking()).toBe(PER_ADDRESS + 1);
    // Those that are under way are counted, not written down.
    const said = (await pair.greeter.audit.all()).filter(({ seq }) => seq > mark);
    expect(said.map(({ type }) => type)).toEqual(Array(4).fill('handshake.failed'));
    for (const socket of [...sockets, other]) socket.destroy();
    await pair.greeter.audit.events(
      'handshake.failed',
      PER_ADDRESS + 1,
      (e) => e.reason === 'connection-lost' && e.state === 'handshaking',
      mark,
    );
    expect(await handshaking()).toBe(0);
  });

  it('from many addresses lets the oldest of all go; a peer that means it still gets in', async () => {
    const mark = await pair.greeter.audit.mark();
    const sockets: Socket[] = [];
    for (let i = 0; i < MAX_HALF_OPEN + 40; i++) {
      if (i === MAX_HALF_OPEN) await pause(PATIENCE_MS + 100);
      const socket = await rawConnection(pair.greeter.ingress, addressOf(i % 20));
      if (i % 2 === 0) socket.write(HELLO);
      sockets.push(socket);
    }
    const remotes = await evicted(40, mark);
    expect(remotes).toEqual(sockets.slice(0, 40).map((s) => `${s.localAddress}:${s.localPort}`));
    expect([await halfOpen(), await handshaking()]).toEqual([MAX_HALF_OPEN, MAX_HALF_OPEN]);
    await callable(pair, pair.web);
    expect((await evicted(41, mark))[40]).toBe(`${sockets[40]?.localAddress}:${sockets[40]?.localPort}`);
    expect(
      await pair.greeter.metric('hauberk_handshakes_total', { result: 'half-open-evicted' }),
    ).toBeGreaterThan(40);
    for (const socket of sockets) socket.destroy();
  });
});

describe('somebody with many addresses who has every handshake answered and finishes none', () => {
  const [ADDRESSES, EACH] = [16, 2];

  it('keeps nobody out', async () => {
    const pair = await startPair({
      greeter: {
        handshake: { maxHalfOpen: ADDRESSES * EACH, maxHalfOpenPerAddress: EACH },
        log: { level: 'silent' },
      },
    });
    const files = await pair.world.trust.issue('newcomer');
    const { identity, bundle } = await loadIdentity({ ...files, trustDomain: 'shop.example' }, systemClock);
    const opening = Buffer.concat([
      encodeClientHello(XX.id, 1 << XX.id),
      encodeFrame(MESSAGE, crypto.generateX25519().publicKey),
    ]);
    let over = false;
    let answered = 0;
    const hold = async (address: string): Promise<void> => {
      while (!over) {
        const socket = await rawConnection(pair.greeter.ingress, address);
        socket.once('data', () => answered++);
        socket.write(opening);
        await Promise.race([gone(socket), pause(480)]);
        socket.destroy();
        await pause(5);
      }
    };
    const holding = Array.from({ length: 2 * ADDRESSES * EACH }, (_, i) => hold(addressOf(i % ADDRESSES)));
    await expect.poll(() => answered, { timeout: 40_000 }).toBeGreaterThan(3 * ADDRESSES * EACH);
    /** Of each newcomer: how often it was kept out though it did its part in time. */
    const keptOut: number[] = [];
    for (let i = 0; i < 6; i++) {
      keptOut.push(0);
      for (let [isIn, wasSlow] = [false, false]; !isIn; ) {
        const began = performance.now();
        const options = {
          expectedPeer: pair.world.spiffeId('greeter'),
          bundle,
          localAddress: `127.99.0.${i + 1}`,
        };
        const channel = await dialAs(identity, pair.greeter.ingress, options).catch(() => undefined);
        channel?.destroy('refused');
        isIn = channel !== undefined;
        // Then this machine was too busy, and the newcomer looks like the others.
        wasSlow ||= performance.now() - began > PATIENCE_MS;
        if (!isIn && !wasSlow) keptOut[i] = (keptOut[i] as number) + 1;
      }
    }
    over = true;
    expect(Math.max(...keptOut)).toBeLessThanOrEqual(2);
    await Promise.all(holding);
  });
});

describe('an address that begins too many handshakes', () => {
  const SINCE = /; (\d+) connections were refused since this was said last$/;

  it('is refused beyond its burst, and no other address is', async () => {
    const strict = { ratePerAddress: 1, burstPerAddress: 5 };
    const pair = await startPair({ greeter: { handshake: strict } });
    const mark = await pair.greeter.audit.mark();
    const flood = [];
    const began = performance.now();
    for (let i = 0; i < 60; i++) flood.push(await rawConnection(pair.greeter.ingress, addressOf(0)));
    await callable(pair, pair.web);
    // One event tells of the first, and one a second of all that came since. Who is let in says nothing, and is told of, too.
    const refusals: Array<AuditEventOf<'handshake.failed'>> = [];
    let [refused, silent] = [0, 0];
    for (let after = mark; refused + silent < flood.length; ) {
      const event = await pair.greeter.audit.event('handshake.failed', () => true, after);
      after = event.seq;
      if (event.reason === 'rate-limited') refusals.push(event);
      if (event.reason === 'rate-limited') refused += Number(SINCE.exec(event.detail)?.[1] ?? 1);
      else if (event.reason === 'first-frame-timeout') silent++;
    }
    const seconds = Math.ceil((performance.now() - began) / 1_000);
    expect(refused + silent).toBe(flood.length);
    expect(silent).toBeGreaterThanOrEqual(5);
    expect(silent).toBeLessThanOrEqual(5 + seconds);
    expect(refusals.length).toBeLessThanOrEqual(1 + seconds);
    for (const { remote, detail } of refusals) {
      expect(remote.split(':')[0]).toBe(addressOf(0));
      expect(detail.replace(SINCE, '')).toBe(
        `More than 1 handshakes a second (burst 5) from ${addressOf(0)}`,
      );
    }
    expect(refusals[0]?.detail).not.toMatch(SINCE);
    for (const socket of flood) socket.destroy();
  });
});

describe('somebody slow', () => {
  let pair: Pair;
  const FRAME_MS = 300;
  beforeAll(async () => {
    pair = await startPair({
      greeter: { handshake: { firstFrameTimeout: `${FRAME_MS}ms`, timeout: '800ms' } },
      // Long enough for what is sent at once to be read first, on a busy machine, too.
      web: { http2: { prefaceTimeout: '1s', settingsTimeout: '1s', headersTimeout: '1s' } },
    });
  });

  /** Writes one byte whenever the timer says so, until the other side has had enough. */
  async function drip(address: string, bytes: Buffer): Promise<void> {
    const socket = await rawConnection(address);
    let at = 0;
    const timer = setInterval(() => socket.write(bytes.subarray(at, ++at)), 20);
    await gone(socket);
    clearInterval(timer);
    socket.destroy();
  }

  it('at the mesh port is not waited for, though he sends a byte now and then', async () => {
    const mark = await pair.greeter.audit.mark();
    await drip(
      pair.greeter.ingress,
      Buffer.concat([HELLO, Buffer.alloc(4), Buffer.of(1, 0, 32), Buffer.alloc(400)]),
    );
    const event = await pair.greeter.audit.event('handshake.failed', () => true, mark);
    expect(event.reason).toBe('first-frame-timeout');
    expect(event.detail).toBe(`CLIENT_HELLO and message 1 did not come within ${FRAME_MS} ms`);
  });

  it('at egress is not waited for if he says nothing', async () => {
    await talk(pair.web.egress, ['']);
    const event = await pair.web.audit.event('connection.refused', ({ reason }) => reason === 'slow-preface');
    expect(event.listener).toBe(pair.web.egress);
    expect(event.remote).toMatch(/^127\.0\.0\.1:\d+$/);
  });

  it('at egress is not waited for with his preface, his SETTINGS or his headers', async () => {
    const settings = EMPTY_SETTINGS;
    const ack = Buffer.from('000000040100000000', 'hex');
    const headers = Buffer.from('000040010400000001', 'hex'); // 64 octets of a header block, of which few come
    const openings: Array<[kind: string, bytes: Buffer]> = [
      ['slow-preface', PREFACE.subarray(0, 3)],
      ['slow-preface', PREFACE.subarray(0, 18)],
      ['slow-settings', PREFACE],
      ['slow-settings', Buffer.concat([PREFACE, settings])],
      ['slow-headers', Buffer.concat([PREFACE, settings, ack, headers, Buffer.of(0x82)])],
    ];
    const mark = await pair.web.audit.mark();
    await Promise.all(openings.map(([, bytes]) => talk(pair.web.egress, [bytes])));
    const floods = await pair.web.audit.events(
      'flood.detected',
      openings.length,
      ({ side }) => side === 'app',
      mark,
    );
    expect(floods.map(({ kind }) => kind).sort()).toEqual(openings.map(([kind]) => kind).sort());
  });

  it('holds up nobody else', async () => {
    await callable(pair, pair.web);
  });
});

describe('an app that speaks the wrong protocol to egress', () => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await startPair();
  });

  it('is told apart and its cure is named, if it is TLS', async () => {
    const socket = connectTls({ port: Number(pair.web.egress.split(':')[1]), rejectUnauthorized: false });
    await new Promise((resolve) => socket.once('error', resolve));
    const event = await pair.web.audit.event('tls.detected');
    expect(event.listener).toBe(pair.web.egress);
    expect(event.remote).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(event.cure).toContain('createInsecure()');
  });

  it('is answered in HTTP/1.1, if it is that', async () => {
    const { received } = await talk(pair.web.egress, ['GET / HTTP/1.1\r\nHost: greeter.shop\r\n\r\n']);
    expect(received.toString()).toMatch(/^HTTP\/1\.1 505 /);
    const event = await pair.web.audit.event('connection.refused');
    expect(event).toMatchObject({ reason: 'not-http2' });
    expect(event.remote).toMatch(/^127\.0\.0\.1:\d+$/);
  });
});
