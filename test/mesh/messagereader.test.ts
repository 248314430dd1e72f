import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, it } from 'vitest';
import { framed, MessageReader } from '../../src/mesh/messagereader.ts';

setFlagsFromString('--expose_gc');
const collect = runInNewContext('gc') as () => void;

const MIB = 1024 * 1024;

/** What is reachable, on the heap and beside it. */
function memory(): number {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** A reader, and what it has credited. */
function reader(): { reader: MessageReader; credited: () => number } {
  let credited = 0;
  const credit = (octets: number): void => {
    credited += octets;
  };
  return { reader: new MessageReader(-1, { credit }), credited: () => credited };
}

it.each([1, 2, 3, 7, 511, 512, 513, 1023, 1024, 1025, 5000])(
  'gives back the messages that were sent, cut into pieces of %i octets',
  (size) => {
    const sent = [0, 1, 1019, 1024, 10_000, 3].map((length) => Buffer.alloc(length, length & 0xff));
    const wire = Buffer.concat(sent.map(framed));
    const { reader: late, credited } = reader();
    const { reader: early } = reader();
    const atOnce: Buffer[] = [];
    for (let at = 0; at < wire.length; at += size) {
      // The wire's buffer is used again once it was read.
      const piece = Buffer.from(wire.subarray(at, at + size));
      late.push(piece);
      early.push(piece);
      piece.fill(0xee);
      for (let message = early.next(); message !== undefined; message = early.next()) atOnce.push(message);
    }
    expect(credited()).toBe(0);
    expect(sent.map(() => late.next())).toEqual(sent);
    expect(atOnce).toEqual(sent);
    expect([late.next(), late.empty, credited()]).toEqual([undefined, true, wire.length]);
  },
);

it.each([
  ['that nobody reads', false],
  ['of a message that is waited for', true],
])('a peer that sends octet by octet has us keep little more than the octets %s', (_what, waited) => {
  const { reader: held } = reader();
  held.push(framed(Buffer.alloc(4 * MIB)).subarray(0, 5));
  const octet = Buffer.alloc(1);
  const before = memory();
  for (let i = 0; i < MIB; i++) {
    held.push(octet);
    if (waited) held.next();
  }
  expect(memory() - before).toBeLessThan(8 * MIB);
  expect(held.empty).toBe(false);
});
