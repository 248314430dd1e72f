import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeClientHello, encodeClientHello } from '../../src/transport/clienthello.ts';
import { HandshakeError } from '../../src/transport/errors.ts';
import { codeOf } from './world.ts';

const hello = encodeClientHello(0, 0x0001);

const changed = (at: number, value: number): Buffer => {
  const bytes = Buffer.from(hello);
  bytes[at] = value;
  return bytes;
};

describe('CLIENT_HELLO', () => {
  it('is twelve bytes: magic, version, mode, offered modes, reserved', () => {
    expect(hello.toString('hex')).toBe('48424b31010000010' + '0000000');
    expect(decodeClientHello(hello)).toEqual({ mode: 0, offered: 1, length: 12 });
  });

  it('needs every byte', () => {
    for (let length = 0; length < hello.length; length++) {
      expect(decodeClientHello(hello.subarray(0, length))).toBeUndefined();
    }
  });

  it('takes a ticket id in mode 2 only', () => {
    const resume = encodeClientHello(2, 0b101);
    expect(decodeClientHello(resume)).toBeUndefined();
    const ticket = Buffer.alloc(16, 7);
    const whole = encodeClientHello(2, 0b101, ticket);
    expect(whole).toEqual(Buffer.concat([resume, ticket]));
    for (let length = 12; length < 28; length++) {
      expect(decodeClientHello(whole.subarray(0, length))).toBeUndefined();
    }
    expect(decodeClientHello(whole)).toEqual({ mode: 2, offered: 5, length: 28, ticket });
  });

  it('refuses a stranger with its first wrong byte, and says what it seems to speak', () => {
    for (let at = 0; at < 4; at++)
      expect(codeOf(() => decodeClientHello(changed(at, 0x58)))).toBe('not-hauberk');
    expect(() => decodeClientHello(Buffer.from([0x16, 3, 1]))).toThrow(/TLS/);
    expect(() => decodeClientHello(Buffer.from('PRI * HTTP/2.0\r\n'))).toThrow(/HTTP/);
  });

  it('answers an unknown version with the highest spoken', () => {
    for (const version of [0, 2, 255]) {
      try {
        decodeClientHello(changed(4, version).subarray(0, 5));
        expect.unreachable();
      } catch (error) {
        expect((error as HandshakeError).code).toBe('unknown-version');
        expect((error as HandshakeError).alert?.toString('hex')).toBe('0300020101');
      }
    }
  });

  it('refuses reserved bits and a mode that is not offered', () => {
    for (let at = 8; at < 12; at++) expect(codeOf(() => decodeClientHello(changed(at, 1)))).toBe('bad-hello');
    expect(codeOf(() => decodeClientHello(changed(5, 1)))).toBe('bad-hello');
    expect(codeOf(() => decodeClientHello(changed(5, 16)))).toBe('bad-hello');
    expect(codeOf(() => decodeClientHello(changed(7, 0)))).toBe('bad-hello');
    // A shift by 32 is one by 0: mode 32 is not mode 0, which is offered.
    for (let mode = 16; mode < 256; mode++) {
      expect(codeOf(() => decodeClientHello(changed(5, mode)))).toBe('bad-hello');
    }
  });

  it('ends on any bytes with a hello, a wish for more or a HandshakeError', () => {
    const nearly = fc
      .tuple(fc.uint8Array({ maxLength: 40 }), fc.nat({ max: 12 }))
      .map(([tail, keep]) => Buffer.concat([hello.subarray(0, keep), tail]));
    fc.assert(
      fc.property(nearly, (bytes) => {
        try {
          const found = decodeClientHello(bytes);
          if (found !== undefined) expect(found.length).toBeLessThanOrEqual(bytes.length);
        } catch (error) {
          expect(error).toBeInstanceOf(HandshakeError);
        }
      }),
    );
  });
});
