import { describe, expect, it } from 'vitest';
import { encodeClientHello } from '../../src/transport/clienthello.ts';
import type { HandshakeMachine } from '../../src/transport/handshake.ts';
import { codeOf, makePair } from './world.ts';

/*
 * Before a session exists nothing but the handshake's own frames is accepted, in the one order that there is: whatever
 * else comes ends it with its first octet.
 */

const pair = await makePair();
const TYPES = Array.from({ length: 256 }, (_, type) => type);

/** The machines at every place where one waits for a frame, and the types that may come there. */
const PLACES: Array<[where: string, due: number[], made: () => HandshakeMachine]> = [
  [
    'a responder, after CLIENT_HELLO',
    [1],
    () => {
      const responder = pair.responder();
      responder.receive(encodeClientHello(0, 0b11));
      return responder;
    },
  ],
  [
    'a responder, after message 2',
    [1],
    () => {
      const responder = pair.responder();
      responder.receive(pair.initiator().start() as Buffer);
      return responder;
    },
  ],
  [
    'an initiator, after message 1',
    [1, 2, 3],
    () => {
      const initiator = pair.initiator();
      initiator.start();
      return initiator;
    },
  ],
];

describe.each(PLACES)('%s', (_where, due, made) => {
  it(`takes frames of the types ${due} and no others`, () => {
    const taken = TYPES.filter((type) => {
      const code = codeOf(() => made().receive(Buffer.of(type)));
      expect(['nothing was thrown', 'unexpected-frame']).toContain(code);
      return code === 'nothing was thrown';
    });
    expect(taken).toEqual(due);
  });

  it.each([
    ['HTTP/2', Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')],
    ['TLS', Buffer.from('160301020001', 'hex')],
    ['a sealed record', Buffer.from([0, 24, ...Array.from({ length: 24 }, (_, i) => i)])],
    [
      'a PING record in plaintext',
      Buffer.from('0017040008000000000000000000000000000000000000000000', 'hex'),
    ],
    ['another CLIENT_HELLO', encodeClientHello(0, 0b11)],
  ])('refuses %s and is dead then', (_what, octets) => {
    const machine = made();
    expect(codeOf(() => machine.receive(octets))).toBe('unexpected-frame');
    expect(codeOf(() => machine.receive(Buffer.of(1)))).not.toBe('nothing was thrown');
  });
});

it('a responder takes nothing but CLIENT_HELLO first', () => {
  const taken = TYPES.filter(
    (octet) => codeOf(() => pair.responder().receive(Buffer.of(octet))) === 'nothing was thrown',
  );
  expect(taken).toEqual(['H'.charCodeAt(0)]);
});
