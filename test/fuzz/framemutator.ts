import type { Random } from '../harness/fuzz-input.ts';
import {
  block,
  E,
  frame,
  goaway,
  headers,
  ping,
  REQUEST,
  rst,
  settings,
  settingsAck,
  TRAILERS,
  windowUpdate,
} from '../harness/http2-peer.ts';
import { EDGES_32, mutateBytes } from './mutator.ts';

/** A frame as it lies in an input; `length` is what its header says if that is a lie. */
export interface RawFrame {
  type: number;
  flags: number;
  id: number;
  payload: Buffer;
  length?: number;
}

/** Cuts octets into frames; what is left over is `rest`. */
export function cutFrames(octets: Buffer): { frames: RawFrame[]; rest: Buffer } {
  const frames: RawFrame[] = [];
  let at = 0;
  while (octets.length - at >= 9) {
    const end = at + 9 + octets.readUIntBE(at, 3);
    if (end > octets.length) break;
    frames.push({
      type: octets.readUInt8(at + 3),
      flags: octets.readUInt8(at + 4),
      id: octets.readUInt32BE(at + 5),
      payload: Buffer.from(octets.subarray(at + 9, end)),
    });
    at = end;
  }
  return { frames, rest: octets.subarray(at) };
}

export function joinFrames(frames: readonly RawFrame[]): Buffer {
  return Buffer.concat(
    frames.map(({ type, flags, id, payload, length }) => frame(type, flags, id, payload, length)),
  );
}

const IDS = [0, 1, 1, 1, 3, 3, 5, 7, 9, 2, 4, 0x7fffffff, 0x80000001, 0xffffffff];
const FLAGS = [0, 1, 4, 5, 8, 9, 0xd, 0x20, 0x24, 0x25, 0x2d, 0xff];
const SETTINGS_IDS = [1, 2, 3, 4, 4, 4, 5, 6, 8, 0, 0xff];
const CODES = [...Object.values(E), 0xd, 0xff];

const FIELDS: ReadonlyArray<readonly [string, string]> = [
  ...REQUEST,
  ...TRAILERS,
  [':status', '200'],
  [':status', '100'],
  [':status', '204'],
  [':method', 'CONNECT'],
  [':method', 'HEAD'],
  [':path', '*'],
  [':path', ''],
  [':protocol', 'websocket'],
  ['host', 'greeter'],
  ['host', 'other'],
  ['content-length', '5'],
  ['content-length', '0'],
  ['content-length', '5, 5'],
  ['content-length', '+5'],
  ['transfer-encoding', 'chunked'],
  ['connection', 'x'],
  ['te', 'gzip'],
  ['X-Upper', '1'],
  ['x space', '1'],
  ['x-lf', 'a\nb'],
  ['x-cr', 'a\r\nhost: b'],
  ['x-nul', 'a\0b'],
  ['x-edge', ' a'],
  ['', 'a'],
  ['hauberk-peer', 'spiffe://evil'],
  ['hauberk_session', 'x'],
  ['grpc-timeout', '1S'],
  ['grpc-timeout', '99999999H'],
  ['x-bin', '\u00ff\u0000'],
  ['cookie', 'a=b'],
  ['x-long', 'x'.repeat(200)],
];

/** A header block that is well-formed HPACK, of fields that fit or do not. */
export function someBlock(random: Random): Buffer {
  const base = random.pick([REQUEST, REQUEST, REQUEST, TRAILERS, [[':status', '200'] as const], []]);
  const fields = [...base];
  for (let n = random.below(3); n > 0; n--) {
    const at = random.chance(2) ? fields.length : random.below(fields.length + 1);
    fields.splice(at, random.chance(3) ? 1 : 0, random.pick(FIELDS));
  }
  return block(fields);
}

/** A frame of some kind, mostly well-formed by itself. */
function someFrame(random: Random): Buffer {
  const id = random.pick(IDS);
  const number = random.pick(EDGES_32);
  switch (random.below(12)) {
    case 0:
    case 1:
      return headers(id, someBlock(random), random.chance(2) ? 4 : 5);
    case 2:
      return frame(0, random.pick([0, 0, 1, 8, 9]), id, random.bytes(random.pick([0, 1, 5, 20, 60])));
    case 3:
      return windowUpdate(id, number);
    case 4:
      return settings(
        ...Array.from({ length: random.below(4) }, (): [number, number] => [
          random.pick(SETTINGS_IDS),
          random.pick(EDGES_32),
        ]),
      );
    case 5:
      return random.chance(2) ? settingsAck() : ping('opaque!!', random.below(2));
    case 6:
      return rst(id, random.pick(CODES));
    case 7:
      return goaway(number, random.pick(CODES), 'why');
    case 8: {
      const whole = someBlock(random);
      const at = random.below(whole.length + 1);
      return Buffer.concat([
        headers(id, whole.subarray(0, at), random.below(2)),
        frame(9, random.chance(4) ? 0 : 4, id, whole.subarray(at)),
      ]);
    }
    case 9:
      return frame(2, 0, id, random.bytes(5));
    case 10: {
      // Padding and priority, in front of a block that is right.
      const padding = random.below(4);
      const octets = Buffer.concat([
        Buffer.from([padding, 0, 0, 0, random.below(4), 16]),
        someBlock(random),
        Buffer.alloc(padding),
      ]);
      return headers(id, octets, 0x2c + random.below(2));
    }
    default:
      return frame(random.below(12), random.pick(FLAGS), id, random.bytes(random.below(12)));
  }
}

/** A few frames, for whoever sends them. */
export function someFrames(random: Random): Buffer {
  return Buffer.concat(Array.from({ length: 1 + random.below(3) }, () => someFrame(random)));
}

function mutateFrame(random: Random, one: RawFrame, other: Buffer): void {
  switch (random.below(9)) {
    case 0:
      one.type = random.chance(8) ? random.below(256) : random.below(10);
      break;
    case 1:
      one.flags = random.chance(2) ? one.flags ^ (1 << random.below(8)) : random.pick(FLAGS);
      break;
    case 2:
      one.id = random.pick(IDS);
      break;
    case 3:
      one.id = (one.id + random.pick([2, 1, -2, 2])) >>> 0;
      break;
    case 4:
      if (random.chance(3))
        one.length = random.pick([0, 1, one.payload.length + 1, 16_384, 16_385, 0xffffff]);
      break;
    case 5:
      if (one.type === 1 || one.type === 9) one.payload = someBlock(random);
      // A target's own frame, which may hold others.
      else if (one.type > 0xf0 && one.payload.length > 9) {
        one.payload = mutateFrames(random, one.payload, other, 0);
      }
      break;
    default:
      if (one.payload.length >= 4 && random.chance(3)) {
        one.payload.writeUInt32BE(random.pick(EDGES_32), one.payload.length - 4);
      } else one.payload = mutateBytes(random, one.payload, other);
  }
}

/** A changed copy of an input that is `head` octets of its own and then frames; `extra` makes frames of its target's. */
export function mutateFrames(
  random: Random,
  input: Buffer,
  other: Buffer,
  head: number,
  extra?: (random: Random) => Buffer,
): Buffer {
  if (random.chance(8)) return mutateBytes(random, input, other);
  const own = Buffer.from(input.subarray(0, head));
  if (random.chance(4) && own.length > 0) own[random.below(own.length)] = random.below(256);
  const { frames, rest } = cutFrames(input.subarray(head));
  const others = cutFrames(other.subarray(head)).frames;
  for (let n = random.below(4); n >= 0; n--) {
    const at = random.below(frames.length + 1);
    const one = frames[at];
    switch (random.below(9)) {
      case 0:
        frames.splice(at, 1);
        break;
      case 1:
        if (one !== undefined) frames.splice(at, 0, { ...one, payload: Buffer.from(one.payload) });
        break;
      case 2:
        if (others.length > 0) {
          const from = random.below(others.length);
          const piece = others.slice(from, from + 1 + random.below(4));
          frames.splice(
            at,
            0,
            ...piece.map((copied) => ({ ...copied, payload: Buffer.from(copied.payload) })),
          );
        }
        break;
      case 3:
        if (frames.length > 1) frames.splice(random.below(frames.length), 0, ...frames.splice(at, 1));
        break;
      case 4:
      case 5: {
        const made = extra !== undefined && random.chance(3) ? extra(random) : someFrame(random);
        frames.splice(at, 0, ...cutFrames(made).frames);
        break;
      }
      default:
        if (one !== undefined) mutateFrame(random, one, other);
    }
  }
  return Buffer.concat([own, joinFrames(frames), random.chance(6) ? mutateBytes(random, rest, other) : rest]);
}
