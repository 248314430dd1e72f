import { ConnectionError, ErrorCode } from '../../../src/http2/errors.ts';
import { type FrameHandler, FrameReader } from '../../../src/http2/framereader.ts';
import { frame } from '../../harness/http2-peer.ts';
import { mutateFrames } from '../framemutator.ts';
import { claim, same, type Target } from '../target.ts';

/** An input is two octets, how it is cut and where the handler stops, then frames. */
const HEAD = 2;
const MAX_FRAME = 16_384;

/** What a reader makes of octets: frames, and how it ended. */
type Transcript = Array<[type: number, flags: number, id: number, payload: string] | number>;

export type ReaderOf = (handler: FrameHandler) => { feed(chunk: Buffer): void };

function transcript(make: ReaderOf, octets: Buffer, piece: (at: number) => number, stop: number): Transcript {
  const heard: Transcript = [];
  let stopped = false;
  const reader = make({
    onFrame(type, flags, id, buf, start, end) {
      claim(!stopped, 'a frame after the handler has asked to stop');
      heard.push([type, flags, id, buf.toString('latin1', start, end)]);
      stopped = heard.length === stop;
      return !stopped;
    },
    tooLarge: (type, length) => new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, `${length} of ${type}`),
  });
  try {
    for (let at = 0; at < octets.length && !stopped; ) {
      const end = at + piece(at);
      const chunk = Buffer.from(octets.subarray(at, end));
      reader.feed(chunk);
      chunk.fill(0xaa);
      at = end;
    }
  } catch (error) {
    if (!(error instanceof ConnectionError)) throw error;
    heard.push(error.code);
  }
  return heard;
}

/** RFC 9113 section 4.1, as plainly as can be. */
function plainly(octets: Buffer, stop: number): Transcript {
  const heard: Transcript = [];
  let at = 0;
  while (octets.length - at >= 9 && heard.length !== stop) {
    const length = octets.readUIntBE(at, 3);
    if (length > MAX_FRAME) {
      heard.push(6);
      break;
    }
    const end = at + 9 + length;
    if (end > octets.length) break;
    const id = octets.readUInt32BE(at + 5) % 2 ** 31;
    heard.push([
      octets.readUInt8(at + 3),
      octets.readUInt8(at + 4),
      id,
      octets.toString('latin1', at + 9, end),
    ]);
    at = end;
  }
  return heard;
}

export function checkReader(input: Buffer, make: ReaderOf): void {
  const cut = input[0] ?? 0;
  const stop = (input[1] ?? 0) > 128 ? ((input[1] as number) & 7) + 1 : -1;
  const octets = input.subarray(HEAD);
  const expected = plainly(octets, stop);
  same(
    transcript(make, octets, () => octets.length, stop),
    expected,
    'in one piece',
  );
  same(
    transcript(make, octets, () => 1, stop),
    expected,
    'octet by octet',
  );
  same(
    transcript(make, octets, (at) => 1 + ((at * 7 + cut) % (cut + 2)), stop),
    expected,
    'in pieces',
  );
}

export const target: Target = {
  name: 'frames',
  claim:
    'a frame reader makes the same of octets however they are cut, and what a plain reader makes of them',
  seeds: [
    Buffer.concat([Buffer.from([5, 0]), frame(0, 1, 1, 'hello'), frame(4, 0, 0), frame(6, 0, 0, 'opaque!!')]),
    Buffer.concat([Buffer.from([11, 0]), frame(0, 0, 3, Buffer.alloc(300)), frame(9, 4, 0x80000003, 'x')]),
    Buffer.concat([
      Buffer.from([0, 129]),
      frame(1, 4, 1, 'abc'),
      frame(8, 0, 1, 'abcd'),
      frame(2, 0, 1, 'abcde'),
    ]),
    Buffer.concat([Buffer.from([250, 0]), frame(0, 0, 3, Buffer.alloc(2500)), frame(0, 0, 3, '', 16_385)]),
  ],
  maxLength: 20_000,
  mutate: (random, input, other) => mutateFrames(random, input, other, HEAD),
  run: (input) => checkReader(input, (handler) => new FrameReader(handler, MAX_FRAME)),
};
