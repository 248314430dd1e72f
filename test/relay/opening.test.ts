import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Route } from '../../src/relay/egress.ts';
import { Opening } from '../../src/relay/opening.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { settled } from './memorywire.ts';

/** The sidecar's end of a connection; what it writes is kept. */
class End extends Duplex {
  written = '';

  override _read(): void {}

  override _write(octets: Buffer, _encoding: string, done: () => void): void {
    this.written += octets.toString('latin1');
    done();
  }

  destroySoon(): void {
    this.destroy();
  }
}

const ROUTE = { config: { service: 'greeter.shop' } } as Route;

function open(allowConnect = true) {
  const clock = new FakeClock();
  const socket = new End();
  const heard: string[] = [];
  const details: string[] = [];
  let first: Buffer = Buffer.alloc(0);
  const opening = new Opening(socket as unknown as Socket, {
    monotonic: () => clock.monotonic(),
    timeoutMs: 5000,
    allowConnect,
    matchConnect: (authority) => (authority.startsWith('greeter.shop') ? ROUTE : undefined),
    onHttp2: (octets, connected) => {
      first = octets;
      heard.push(connected === undefined ? 'http2' : `http2 to ${connected.config.service}`);
    },
    onRefused: (reason, detail) => {
      heard.push(reason);
      details.push(detail);
    },
    onClosed: () => heard.push('closed'),
  });
  return { clock, socket, heard, details, opening, first: () => first };
}

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';

const CASES: Array<[what: string, octets: string, heard: string[], allowConnect?: boolean]> = [
  ['HTTP/2', PREFACE, ['http2']],
  [
    'CONNECT, then HTTP/2',
    `CONNECT greeter.shop:80 HTTP/1.1\r\nhost: x\r\n\r\n${PREFACE}`,
    ['http2 to greeter.shop'],
  ],
  ['CONNECT by HTTP/1.0', `CONNECT greeter.shop:80 HTTP/1.0\r\n\r\n${PREFACE}`, ['http2 to greeter.shop']],
  ['CONNECT to no route', 'CONNECT other:80 HTTP/1.1\r\n\r\n', ['no-route']],
  ['CONNECT where it is not allowed', 'CONNECT greeter.shop:80 HTTP/1.1\r\n\r\n', ['not-http2'], false],
  [
    'CONNECT twice',
    'CONNECT greeter.shop HTTP/1.1\r\n\r\nCONNECT greeter.shop HTTP/1.1\r\n\r\n',
    ['not-http2'],
  ],
  ['CONNECT, then TLS', 'CONNECT greeter.shop HTTP/1.1\r\n\r\n\x16\x03\x01\x00\x01', ['tls']],
  ['a malformed CONNECT', 'CONNECT greeter.shop\r\n\r\n', ['bad-connect']],
  ['a CONNECT without end', `CONNECT greeter.shop HTTP/1.1\r\n${'x: y\r\n'.repeat(2000)}`, ['bad-connect']],
  ['TLS', '\x16\x03\x01\x02\x00\x01', ['tls']],
  ['HTTP/1.1', 'GET / HTTP/1.1\r\n\r\n', ['not-http2']],
  ['zeros', '\0\0\0\0', ['not-http2']],
  ['a line that is no request', 'INVALID CONNECTION PREFACE\r\n\r\n', ['not-http2']],
  ['a request line without end', `GET /${'x'.repeat(10_000)}`, ['not-http2']],
];

it.each([
  ['', /^the app speaks TLS to its sidecar; use plaintext/],
  [
    'CONNECT greeter.shop:443 HTTP/1.1\r\n\r\n',
    /TLS to "greeter.shop:443" through its sidecar; if that is outside of the mesh, list its host in .*no_grpc_proxy.*no-grpc-proxy/,
  ],
])('after "%s" TLS is told what helps', async (before, cure) => {
  const { socket, details } = open();
  socket.push(Buffer.from(`${before}\x16\x03\x01\x00\x01`, 'latin1'));
  await settled();
  expect(details).toEqual([expect.stringMatching(cure)]);
});

describe('the first octets of an app’s connection', () => {
  it.each([
    ['HTTP/1.1', 'GET / HTTP/1.1\r\n', /^HTTP\/1\.1 505 /],
    ['HTTP/1.0', 'HEAD /a?b HTTP/1.0\n', /^HTTP\/1\.1 505 /],
    ['what is like it', 'INVALID CONNECTION PREFACE\r\n\r\n', /^$/],
    ['zeros', '\0\0\0\0', /^$/],
  ])('are answered in HTTP/1.1 only to who speaks it: %s', async (_what, octets, written) => {
    const { socket, heard } = open();
    for (const octet of octets) socket.push(Buffer.from(octet, 'latin1'));
    await settled();
    expect(heard).toEqual(['not-http2']);
    expect(socket.written).toMatch(written);
  });

  it.each(CASES)(
    '%s is told the same in one piece and octet by octet',
    async (_what, octets, expected, allow) => {
      const whole = open(allow);
      whole.socket.push(Buffer.from(octets, 'latin1'));
      await settled();
      expect(whole.heard).toEqual(expected);
      const bit = open(allow);
      for (const octet of Buffer.from(octets, 'latin1')) bit.socket.emit('data', Buffer.from([octet]));
      await settled();
      expect(bit.heard).toEqual(expected);
      expect(bit.socket.written).toBe(whole.socket.written);
    },
  );

  it('are all handed on, however they were cut', () => {
    const rest = fc.uint8Array({ maxLength: 200 });
    fc.assert(
      fc.property(rest, fc.boolean(), fc.array(fc.nat(300), { maxLength: 6 }), (more, connected, cuts) => {
        const { socket, heard, first } = open();
        const http2 = Buffer.concat([Buffer.from(PREFACE), more]);
        const all = connected
          ? Buffer.concat([Buffer.from('CONNECT greeter.shop:1 HTTP/1.1\r\n\r\n'), http2])
          : http2;
        let at = 0;
        let handed = Buffer.alloc(0);
        for (const cut of [...cuts.sort((a, b) => a - b), all.length]) {
          const piece = all.subarray(at, Math.min(cut, all.length));
          at += piece.length;
          if (piece.length === 0) continue;
          if (heard.length > 0) handed = Buffer.concat([handed, piece]);
          else socket.emit('data', piece);
        }
        expect(heard).toEqual([connected ? 'http2 to greeter.shop' : 'http2']);
        expect(Buffer.concat([first(), handed]).equals(http2)).toBe(true);
      }),
    );
  });

  it('that are garbage are refused once and never throw', () => {
    const begun = fc.constantFrom('', 'PRI * HTT', 'CONNECT ', 'CONNECT greeter.shop HTTP/1.1\r\n', '\x16');
    fc.assert(
      fc.property(begun, fc.uint8Array({ minLength: 1, maxLength: 400 }), (start, octets) => {
        const { socket, heard } = open();
        socket.emit('data', Buffer.concat([Buffer.from(start, 'latin1'), octets]));
        socket.emit('data', Buffer.from('\r\n\r\n'));
        socket.emit('end');
        expect(heard).toHaveLength(1);
      }),
      { numRuns: 500 },
    );
  });

  it('that do not come in time are refused', () => {
    // Once HTTP/2 has begun, the connection itself watches its preface.
    for (const begun of ['', 'CONNECT greeter.shop']) {
      const { clock, socket, heard, opening } = open();
      if (begun !== '') socket.emit('data', Buffer.from(begun));
      clock.advance(4999);
      opening.sweep();
      expect(heard).toEqual([]);
      clock.advance(1);
      opening.sweep();
      expect(heard).toEqual(['slow-preface']);
      expect(socket.destroyed).toBe(true);
    }
  });

  it('that never come close quietly', () => {
    const { socket, heard } = open();
    socket.emit('end');
    expect(heard).toEqual(['closed']);
    expect(socket.destroyed).toBe(true);
  });
});
