import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ACK,
  block,
  END_HEADERS,
  END_STREAM,
  frame,
  goaway,
  Http2Peer,
  headers,
  list,
  PREFACE,
  ping,
  REQUEST,
  RESPONSE,
  rst,
  settings,
  settingsAck,
  T,
  TRAILERS,
  windowUpdate,
} from '../harness/http2-peer.ts';

const id = fc.constantFrom(0, 1, 1, 3, 3, 5, 7, 2, 99);
const flags = fc.oneof(fc.constantFrom(0, 1, 4, 5, 8, 9, 0x24, 0x2d), fc.integer({ min: 0, max: 255 }));
const small = fc.uint8Array({ maxLength: 40 });

/** Frames that are right, frames that are nearly right, and frames of anything. */
const anyFrame: fc.Arbitrary<Buffer> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .tuple(id, fc.boolean())
      .map(([n, fin]) => headers(n, block(REQUEST), END_HEADERS | (fin ? END_STREAM : 0))),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(id, small, flags).map(([n, octets, f]) => frame(T.DATA, f & 9, n, octets)),
  },
  { weight: 1, arbitrary: id.map((n) => headers(n, block(TRAILERS), END_HEADERS | END_STREAM)) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(id, fc.nat(60))
      .map(([n, at]) =>
        Buffer.concat([
          headers(n, block(REQUEST).subarray(0, at), 0),
          frame(T.CONTINUATION, END_HEADERS, n, block(REQUEST).subarray(at)),
        ]),
      ),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(id, fc.oneof(fc.nat(100), fc.nat(2 ** 31 - 1)))
      .map(([n, increment]) => windowUpdate(n, increment)),
  },
  { weight: 1, arbitrary: fc.tuple(id, fc.nat(14)).map(([n, code]) => rst(n, code)) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.nat(8), fc.oneof(fc.nat(70_000), fc.nat(2 ** 32 - 1)))
      .map((pair) => settings(pair)),
  },
  { weight: 1, arbitrary: fc.constantFrom(ping(), ping('12345678', ACK), settingsAck(), goaway(0, 0)) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.nat(12), flags, id, small)
      .map(([type, f, n, octets]) => frame(type, f, n, octets)),
  },
);

const anyOctets = fc.array(anyFrame, { maxLength: 25 }).map((frames) => Buffer.concat(frames));

/** Answers what it hears, as an owner would. */
function answering(role: 'client' | 'server'): Http2Peer {
  const peer = new Http2Peer({ role, announce: [[4, 30]] });
  peer.owner.react = (event, stream) => {
    if (stream === undefined) return;
    if (event.what === 'request' || event.what === 'oversize') stream.sendHeaders(list(RESPONSE), false);
    else if (event.what === 'data') {
      const octets = Buffer.from(event.octets, 'latin1');
      stream.send(octets, 0, octets.length, false);
      if (event.fin) stream.sendTrailers(list(TRAILERS));
    } else if (event.what === 'trailers' && role === 'server') stream.sendTrailers(list(TRAILERS));
  };
  if (role === 'client') {
    for (let i = 0; i < 3; i++) peer.open(REQUEST, i === 1);
    peer.turn();
  }
  return peer;
}

interface Outcome {
  heard: unknown;
  written: string;
  ended: boolean;
  held: number;
  queued: number;
}

function outcome(peer: Http2Peer): Outcome {
  peer.turn();
  const { ended, held, queued } = peer.connection;
  return {
    heard: peer.owner.heard,
    written: Buffer.concat(peer.sink.written).toString('hex'),
    ended,
    held,
    queued,
  };
}

describe.each(['server', 'client'] as const)('octets to a %s', (role) => {
  it('mean the same however they are cut', () => {
    fc.assert(
      fc.property(anyOctets, fc.array(fc.nat(60), { minLength: 1, maxLength: 30 }), (octets, cuts) => {
        const whole = answering(role);
        whole.write(octets);
        const pieces = answering(role);
        for (let at = 0, i = 0; at < octets.length; i++) {
          const end = at + (cuts[i % cuts.length] as number) + 1;
          // A copy that is overwritten: nothing of a read may be kept.
          const piece = Buffer.from(octets.subarray(at, end));
          pieces.write(piece);
          piece.fill(0xaa);
          at = end;
        }
        expect(outcome(pieces)).toEqual(outcome(whole));
      }),
      { numRuns: 300 },
    );
  });

  it('of any kind never throw, and leave a connection that lives or has ended, once and wholly', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          { weight: 3, arbitrary: anyOctets },
          { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }).map((octets) => Buffer.from(octets)) },
        ),
        (octets) => {
          const peer = answering(role);
          peer.write(octets);
          peer.turn();
          peer.connection.sweep();
          expect(peer.owner.error?.cause).not.toBeInstanceOf(TypeError);
          expect(peer.owner.error?.side).not.toBe('local');
          // A client whose streams were all refused by GOAWAY has ended orderly, without one of its own.
          const orderly = peer.connection.ended && peer.owner.error === undefined;
          expect(peer.owner.ends).toBe(peer.connection.ended ? 1 : 0);
          peer.connection.shutDown();
          expect(peer.owner.ends).toBe(1);
          expect(peer.connection.streams).toBe(0);
          expect(peer.connection.queued).toBe(0);
          expect(peer.connection.held).toBe(0);
          expect(peer.owner.heard.at(-1)?.what).toBe('end');
          if (!orderly) expect(peer.frames().at(-1)?.type).toBe(T.GOAWAY);
        },
      ),
      { numRuns: 400 },
    );
  });
});

it('octets in place of a preface never throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 60 }), fc.nat(24), (octets, right) => {
      const peer = new Http2Peer({ raw: true });
      peer.write(PREFACE.subarray(0, right), Buffer.from(octets));
      peer.connection.shutDown();
      expect(peer.owner.ends).toBe(1);
    }),
  );
});
