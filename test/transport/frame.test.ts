import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HandshakeError } from '../../src/transport/errors.ts';
import {
  ALERT,
  alertFrame,
  decodeFrame,
  encodeFrame,
  MESSAGE,
  RETRY,
  retryFrame,
} from '../../src/transport/frame.ts';
import { Inbox } from '../../src/transport/inbox.ts';
import { codeOf } from './world.ts';

const ALL = [MESSAGE, RETRY, ALERT];

describe('frames before there are keys', () => {
  it('come back as they were sent, from any offset', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), fc.nat({ max: 20 }), (body, at) => {
        const bytes = Buffer.concat([Buffer.alloc(at), encodeFrame(MESSAGE, body), Buffer.from('more')]);
        const frame = decodeFrame(bytes, at, ALL, 2000);
        expect(frame?.type).toBe(MESSAGE);
        expect(frame?.body.equals(body)).toBe(true);
        expect(frame?.length).toBe(3 + body.length);
      }),
    );
  });

  it('need every byte', () => {
    const frame = encodeFrame(MESSAGE, Buffer.alloc(10));
    for (let length = 0; length < frame.length; length++) {
      expect(decodeFrame(frame.subarray(0, length), 0, ALL, 100)).toBeUndefined();
    }
  });

  it('are refused by their type with the first byte, by their size with the third', () => {
    expect(codeOf(() => decodeFrame(Buffer.of(9), 0, ALL, 100))).toBe('unexpected-frame');
    expect(codeOf(() => decodeFrame(Buffer.of(RETRY), 0, [MESSAGE], 100))).toBe('unexpected-frame');
    expect(codeOf(() => decodeFrame(Buffer.of(MESSAGE, 0, 101), 0, ALL, 100))).toBe('message-too-large');
    expect(decodeFrame(Buffer.of(MESSAGE, 0, 100), 0, ALL, 100)).toBeUndefined();
    expect(codeOf(() => decodeFrame(Buffer.of(RETRY, 0, 2), 0, ALL, 100))).toBe('bad-frame');
    expect(codeOf(() => decodeFrame(Buffer.of(RETRY, 0, 0), 0, ALL, 100))).toBe('bad-frame');
    expect(codeOf(() => decodeFrame(Buffer.of(ALERT, 0, 3), 0, ALL, 100))).toBe('bad-frame');
    expect(codeOf(() => decodeFrame(Buffer.of(ALERT, 0, 0), 0, ALL, 100))).toBe('bad-frame');
  });

  it('have fixed bytes', () => {
    expect(retryFrame(0).toString('hex')).toBe('02000100');
    expect(alertFrame(1, 1).toString('hex')).toBe('0300020101');
  });

  it('end on any bytes with a frame, a wish for more or a HandshakeError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        try {
          decodeFrame(Buffer.from(bytes), 0, ALL, 32);
        } catch (error) {
          expect(error).toBeInstanceOf(HandshakeError);
        }
      }),
    );
  });
});

describe('the inbox', () => {
  it('gives back what it was given, however it is cut', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 })), fc.nat({ max: 500 }), (chunks, first) => {
        const inbox = new Inbox();
        for (const chunk of chunks) inbox.push(chunk);
        const all = Buffer.concat(chunks);
        const cut = Math.min(first, all.length);
        expect(inbox.bytes.equals(all)).toBe(true);
        expect(inbox.take(cut).equals(all.subarray(0, cut))).toBe(true);
        expect(inbox.bytes.equals(all.subarray(cut))).toBe(true);
      }),
    );
  });
});
