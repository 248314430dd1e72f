import { createServer, type Http2Server } from 'node:http2';
import { Duplex } from 'node:stream';
import {
  block,
  frame,
  Http2Peer,
  headers,
  LIMITS,
  list,
  PREFACE,
  ping,
  REQUEST,
  RESPONSE,
  settings,
  settingsAck,
  TRAILERS,
} from '../../harness/http2-peer.ts';
import { cutFrames, joinFrames, mutateFrames, type RawFrame } from '../framemutator.ts';
import { claim, type Target } from '../target.ts';

/*
 * The same octets to a server of ours and to one of node:http2, which is nghttp2. An input is frames; the preface goes in
 * front, and a PING behind, whose ACK shows that a connection is alive.
 */
const MARKER = 'are you?';
/** Turns of the event loop after which a server that has not answered will not. */
const TURNS = 400;

/** What a server makes of it. */
export interface Verdict {
  /** The connection ended by an error. */
  fatal: boolean;
  /** Streams that were answered, ascending. */
  answered: number[];
  /** Streams that were reset by an error, ascending. */
  reset: number[];
  why: string;
}

function verdictOf(written: readonly RawFrame[], why: string): Verdict {
  const ids = (type: number): number[] =>
    [
      ...new Set(
        written
          .filter((one) => one.type === type && (type !== 3 || one.payload.readUInt32BE(0) !== 0))
          .map(({ id }) => id),
      ),
    ].sort((a, b) => a - b);
  const end = written.find((one) => one.type === 7 && one.payload.readUInt32BE(4) !== 0);
  const code = end === undefined ? '' : ` (code ${end.payload.readUInt32BE(4)})`;
  return { fatal: end !== undefined, answered: ids(1), reset: ids(3), why: why + code };
}

/** Ours. */
export function ourVerdict(octets: Buffer): Verdict {
  const peer = new Http2Peer({
    raw: true,
    limits: { ...LIMITS, floodFrames: 100_000 },
    settings: { maxConcurrentStreams: 100 },
  });
  peer.owner.react = (event, stream) => {
    if (stream === undefined) return;
    if (event.what === 'request') stream.sendHeaders(list(RESPONSE), event.fin);
    else if ((event.what === 'data' && event.fin) || event.what === 'trailers') {
      stream.send(Buffer.alloc(0), 0, 0, true);
    }
  };
  peer.write(octets);
  return verdictOf(peer.frames(), peer.owner.error?.message ?? 'alive');
}

/** A socket between a test and a server of node:http2. */
class Wire extends Duplex {
  written = Buffer.alloc(0);

  override _read(): void {}

  override _write(octets: Buffer, _encoding: string, done: () => void): void {
    this.written = Buffer.concat([this.written, octets]);
    done();
  }
}

let server: Http2Server | undefined;

function theirServer(): Http2Server {
  if (server !== undefined) return server;
  server = createServer({ settings: { maxConcurrentStreams: 100 } });
  server.on('sessionError', () => {});
  server.on('stream', (stream, _headers, flags) => {
    stream.on('error', () => {});
    const fin = (flags & 1) !== 0;
    if (stream.destroyed || stream.closed) return;
    stream.respond({ ':status': 200 }, { endStream: fin });
    stream.on('data', () => {});
    stream.on('end', () => {
      if (!stream.destroyed && !stream.closed) stream.end();
    });
  });
  return server;
}

async function theirVerdict(octets: Buffer): Promise<Verdict | undefined> {
  const wire = new Wire();
  wire.on('error', () => {});
  theirServer().emit('connection', wire);
  wire.push(octets);
  let frames: RawFrame[] = [];
  for (let turn = 0; turn < TURNS; turn++) {
    await new Promise<void>((resolve) => setImmediate(resolve));
    frames = cutFrames(wire.written).frames;
    const last = frames.at(-1);
    if (wire.destroyed || (last?.type === 7 && last.payload.readUInt32BE(4) !== 0)) break;
    if (
      frames.some(
        ({ type, flags, payload }) => type === 6 && (flags & 1) === 1 && payload.equals(Buffer.from(MARKER)),
      )
    ) {
      break;
    }
  }
  // What it answers to the last frames may come a little later than the ACK.
  for (let turn = 0; turn < 4; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
  frames = cutFrames(wire.written).frames;
  const verdict = verdictOf(frames, wire.destroyed ? 'closed' : 'alive');
  // Without a word, or with INTERNAL_ERROR, it was node:http2 that hung up, and not nghttp2.
  const judged = verdict.fatal ? !verdict.why.endsWith('(code 2)') : !wire.destroyed;
  wire.destroy();
  return judged ? verdict : undefined;
}

/**
 * Frames of an input that may be compared. node:http2 hangs up by itself, without nghttp2's doing, on GOAWAY and on ACKs
 * that answer nothing, which RFC 9113 does not forbid and we count as a flood. Of several values of a setting in one frame
 * nghttp2 looks at the last only (6.5.3), and it knows settings that we do not. 0xf0 and above are not for the wire.
 */
function comparable(input: Buffer): RawFrame[] {
  return cutFrames(input).frames.filter(({ type, flags, payload }) => {
    if (type === 6) return (flags & 1) === 0;
    return type === 4 ? (flags & 1) === 0 && plainSettings(payload) : type !== 7 && type < 0xf0;
  });
}

function plainSettings(payload: Buffer): boolean {
  const ids = Array.from({ length: Math.floor(payload.length / 6) }, (_, i) => payload.readUInt16BE(i * 6));
  return new Set(ids).size === ids.length && ids.every((id) => id < 8 || id > 9);
}

/** What ends our connection, and not nghttp2's, with the section of RFC 9113 that has it so. */
const STRICTER = [
  /PRIORITY on stream 0/, // 6.3: newer ones (Node 24 has one) ignore PRIORITY altogether
  / on stream \d+, out of order/, // 5.1.1: nghttp2 ignores frames on streams that were left out
  / on closed stream \d+/, // 5.1: so it does on closed ones
  / depends on itself/, // RFC 7540 section 5.3.1: it has no priorities any more
  /DATA without its pad length|padding longer than the DATA/, // 6.1: it does not look at DATA that it ignores
  /SETTINGS move a stream window above/, // 6.9.2: it resets the stream
];

/**
 * What ends theirs must end ours, unless we have reset a stream before that they go on with: they leave out fields with
 * forbidden characters where we reset the stream. And every stream that we answer is one that nghttp2 answers.
 */
export async function compare(input: Buffer, verdict: (octets: Buffer) => Verdict): Promise<void> {
  const frames = comparable(input);
  const octets = Buffer.concat([PREFACE, joinFrames(frames), ping(MARKER)]);
  const ours = verdict(octets);
  const theirs = await theirVerdict(octets);
  if (theirs === undefined) return;
  if (ours.fatal && !theirs.fatal && STRICTER.some((reason) => reason.test(ours.why))) return;
  if (theirs.fatal && !ours.fatal && ours.reset.some((id) => !theirs.reset.includes(id))) return;
  claim(ours.fatal === theirs.fatal, () => `ours: ${ours.why}, nghttp2: ${theirs.why}`);
  if (ours.fatal) return;
  // Theirs answers later: of what was reset in the meantime it says nothing.
  const over = [
    ...ours.reset,
    ...theirs.reset,
    ...frames.filter(({ type }) => type === 3).map(({ id }) => id & 0x7fffffff),
  ];
  const more = ours.answered.filter((id) => !theirs.answered.includes(id) && !over.includes(id));
  claim(more.length === 0, () => `streams ${more} are answered, and not by nghttp2`);
  const refused = theirs.reset.filter((id) => ours.answered.includes(id) && !ours.reset.includes(id));
  claim(refused.length === 0, () => `streams ${refused} are reset by nghttp2, and not by us`);
}

const request = block(REQUEST);

export const target: Target = {
  name: 'nghttp2',
  claim: 'a server of ours takes and refuses what nghttp2 does, but for what is listed',
  seeds: [
    Buffer.concat([settings(), settingsAck(), headers(1, request, 5)]),
    Buffer.concat([
      settings([1, 100], [4, 100]),
      headers(1, request),
      frame(0, 1, 1, 'hello'),
      headers(3, request, 5),
    ]),
    Buffer.concat([settings(), headers(1, request.subarray(0, 9), 1), frame(9, 4, 1, request.subarray(9))]),
    Buffer.concat([settings(), headers(1, request), headers(1, block(TRAILERS), 5)]),
    Buffer.concat([
      settings(),
      headers(1, block([...REQUEST, ['content-length', '0'], ['content-length', '0']]), 5),
    ]),
  ],
  maxLength: 1500,
  mutate: (random, input, other) => mutateFrames(random, input, other, 0),
  run: (input) => compare(input, ourVerdict),
};
