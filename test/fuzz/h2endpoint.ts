import type { ConnectionLimits } from '../../src/http2/connection.ts';
import type { Stream } from '../../src/http2/stream.ts';
import type { Random } from '../harness/fuzz-input.ts';
import {
  frame,
  Http2Peer,
  LIMITS,
  list,
  PREFACE,
  REQUEST,
  RESPONSE,
  TRAILERS,
} from '../harness/http2-peer.ts';
import { cutFrames, joinFrames, type RawFrame } from './framemutator.ts';
import { StrictPeer } from './strictpeer.ts';
import { claim, same } from './target.ts';

/*
 * An input for a connection: two octets, what kind of connection and how its octets are cut, then frames. A frame of type
 * 0xf0 is none for the connection: it tells its owner, or what lies below, to do something.
 */
export const HEAD = 2;
const COMMAND = 0xf0;
const BULK = 0xf1;

const Option = {
  SMALL_WRITES: 1, // the sink takes little at once
  HOLD: 2, // the owner gives no credit until it is told
  LARGE: 4, // answers are large
  SMALL_WINDOW: 8,
  FEW_STREAMS: 16,
  RAW: 32, // no preface unless the input has one
  RESETS: 64, // the owner resets what has DATA
  TIGHT: 128, // low limits
} as const;

export type Do =
  | 'credit'
  | 'stop'
  | 'room'
  | 'time'
  | 'drain'
  | 'finish'
  | 'shut'
  | 'gone'
  | 'reset'
  | 'send'
  | 'end'
  | 'open';
const COMMANDS: readonly Do[] = [
  'credit',
  'stop',
  'room',
  'time',
  'drain',
  'finish',
  'shut',
  'gone',
  'reset',
  'send',
  'end',
  'open',
];

/** What a command's frame says. */
export function commandOf({ type, payload }: RawFrame): { what: Do; argument: number } | undefined {
  if (type !== COMMAND) return undefined;
  return { what: COMMANDS[(payload[0] ?? 0) % COMMANDS.length] as Do, argument: payload[1] ?? 0 };
}

export function command(what: Do, argument = 0): Buffer {
  return frame(COMMAND, 0, 0, Buffer.from([COMMANDS.indexOf(what), argument]));
}

export function bulk(id: number, octets: number, flags = 0): Buffer {
  return frame(BULK, flags, id, Buffer.from([octets >> 8, octets & 255]));
}

export function someCommand(random: Random): Buffer {
  if (random.chance(4)) {
    return bulk(random.pick([1, 1, 3, 5]), random.pick([1, 300, 16_384, 16_384, 9000]), random.below(2));
  }
  return command(random.pick(COMMANDS), random.below(8));
}

const TIGHT: Partial<ConnectionLimits> = {
  framesPerSecond: 2_000_000,
  floodFrames: 3,
  resetBurst: 3,
  controlQueue: 4,
  continuationFrames: 3,
  headerBlockBytes: 400,
  headerFields: 8,
  settingsEntries: 3,
  queueBytes: 300,
  maxStreamWindow: 300,
};
/** The receive window of a connection under test: more than the least. */
const WINDOW = 70_000;

export interface Part {
  readonly octets: Buffer;
  /** The one frame that the octets are, or a command. */
  readonly frame: RawFrame | undefined;
}

/** The steps of an input: commands, and between them octets, frame by frame or `joined`. */
export function parts(input: Buffer, joined: boolean): Part[] {
  const { frames, rest } = cutFrames(input.subarray(HEAD));
  const found: Part[] = [];
  let gathered: Buffer[] = [];
  const close = (): void => {
    if (gathered.length > 0) found.push({ octets: Buffer.concat(gathered), frame: undefined });
    gathered = [];
  };
  for (const given of frames) {
    if (given.type === COMMAND || given.type > BULK) {
      close();
      found.push({ octets: Buffer.alloc(0), frame: given });
      continue;
    }
    const one = given.type === BULK ? inflated(given) : given;
    const octets = joinFrames([one]);
    if (joined) gathered.push(octets);
    else found.push({ octets, frame: one });
  }
  gathered.push(rest);
  close();
  return found;
}

/** BULK is DATA of more octets than an input has. */
function inflated({ flags, id, payload }: RawFrame): RawFrame {
  const octets = Math.min(payload.length < 2 ? 9000 : payload.readUInt16BE(0), 16_384);
  return { type: 0, flags: flags & 1, id, payload: Buffer.alloc(octets, 'b') };
}

interface Outcome {
  readonly written: Buffer;
  readonly heard: unknown;
}

/** A connection under test with an owner that answers, driven by an input. */
class Endpoint {
  readonly peer: Http2Peer;
  readonly #role: 'client' | 'server';
  readonly #options: number;
  readonly #held = new Map<number, number>();

  constructor(role: 'client' | 'server', options: number) {
    const on = (option: number): boolean => (options & option) !== 0;
    this.#role = role;
    this.#options = options;
    this.peer = new Http2Peer({
      role,
      raw: true,
      capacity: on(Option.SMALL_WRITES) ? 200 : 65_536,
      window: WINDOW,
      limits: { ...LIMITS, ...(on(Option.TIGHT) ? TIGHT : {}) },
      settings: {
        ...(on(Option.SMALL_WINDOW) ? { initialWindowSize: 20, headerTableSize: 0 } : {}),
        ...(on(Option.FEW_STREAMS) ? { maxConcurrentStreams: 2, headerTableSize: 8192 } : {}),
        ...(on(Option.TIGHT) ? { maxHeaderListSize: 300 } : {}),
        ...(role === 'client' ? { enablePush: false } : {}),
      },
    });
    this.peer.owner.credits = false;
    this.peer.owner.react = (event, stream) => this.#react(event, stream);
    this.peer.turn();
    if (role === 'server' && !on(Option.RAW)) this.peer.write(PREFACE);
    this.peer.turn();
  }

  #on(option: number): boolean {
    return (this.#options & option) !== 0;
  }

  #react(event: Http2Peer['owner']['heard'][number], stream: Stream | undefined): void {
    if (event.what === 'ready' && this.#role === 'client') this.#open();
    if (stream === undefined) return;
    switch (event.what) {
      case 'request':
      case 'oversize':
        stream.sendHeaders(list(RESPONSE), false);
        if (event.fin) this.#answer(stream);
        break;
      case 'data': {
        const octets = Buffer.from(event.octets, 'latin1');
        if (this.#on(Option.HOLD))
          this.#held.set(stream.id, (this.#held.get(stream.id) ?? 0) + octets.length);
        else stream.credit(octets.length);
        if (this.#on(Option.RESETS)) {
          this.#held.delete(stream.id);
          stream.reset(8);
        } else if (this.#role === 'server') {
          stream.send(octets, 0, octets.length, false);
          if (event.fin) this.#answer(stream);
        }
        break;
      }
      case 'trailers':
        if (this.#role === 'server') this.#answer(stream);
        break;
      case 'reset':
        this.#held.delete(stream.id);
        break;
      default:
    }
  }

  #answer(stream: Stream): void {
    if (this.#on(Option.LARGE)) {
      const octets = Buffer.alloc(70_000, stream.id);
      stream.send(octets, 0, octets.length, false);
    }
    stream.sendTrailers(list(TRAILERS));
  }

  #open(): void {
    for (let i = 0; i < 3 && this.peer.connection.canOpen; i++) {
      const stream = this.peer.open(i === 2 ? REQUEST.with(0, [':method', 'HEAD']) : REQUEST, i === 2);
      this.peer.owner.streams.set(stream.id, stream);
      if (this.#on(Option.LARGE)) stream.send(Buffer.alloc(70_000, 1), 0, 70_000, i === 1);
    }
  }

  obey({ what, argument }: { what: Do; argument: number }): void {
    const { connection, owner, sink } = this.peer;
    const streams = [...owner.streams.values()];
    const stream = streams[argument % Math.max(1, streams.length)];
    switch (what) {
      case 'credit':
        for (const [id, octets] of [...this.#held]) {
          this.#held.delete(id);
          owner.streams.get(id)?.credit(octets);
        }
        break;
      case 'stop':
        sink.writable = false;
        break;
      case 'room':
        this.peer.drain();
        break;
      case 'time':
        this.peer.now += argument * 1500;
        connection.sweep();
        break;
      case 'drain':
        connection.drain('why');
        break;
      case 'finish':
        connection.finishDrain();
        break;
      case 'shut':
        connection.shutDown();
        break;
      case 'gone':
        connection.transportClosed();
        break;
      case 'reset':
        if (stream !== undefined) this.#held.delete(stream.id);
        stream?.reset(argument);
        break;
      case 'send':
        stream?.send(Buffer.alloc(argument * 100, 2), 0, argument * 100, false);
        break;
      case 'end':
        stream?.sendTrailers(list(TRAILERS));
        break;
      case 'open':
        if (this.#role === 'client') this.#open();
        break;
      default:
    }
    this.peer.turn();
  }

  /** A stream was reset: nothing of it is held. */
  forget(ids: Iterable<number>): void {
    for (const id of ids) this.#held.delete(id);
  }

  /** What the owner has been given and not passed on. */
  get held(): number {
    let octets = 0;
    for (const n of this.#held.values()) octets += n;
    return octets;
  }

  /** Everything that can be seen from outside. */
  outcome(): Outcome {
    const { connection, owner, sink } = this.peer;
    const { ended, held, queued, streams } = connection;
    return { written: Buffer.concat(sink.written), heard: [owner.heard, ended, held, queued, streams] };
  }

  /** Ends it if it has not ended, and claims that everything has. */
  end(): void {
    const { connection, owner } = this.peer;
    claim(owner.error?.side !== 'local', () => `a bug of ours: ${String(owner.error?.cause)}`);
    claim(owner.ends === (connection.ended ? 1 : 0), `onEnd came ${owner.ends} times`);
    connection.shutDown();
    claim(owner.ends === 1, 'onEnd did not come, or came twice');
    claim(owner.heard.at(-1)?.what === 'end', 'something was heard after the end');
    claim(connection.streams === 0 && connection.queued === 0, 'streams or octets are left after the end');
  }
}

/** Runs an input as it stands, its octets between commands in one piece or in many. */
function run(role: 'client' | 'server', input: Buffer, piece: number): Outcome {
  const endpoint = new Endpoint(role, input[0] ?? 0);
  for (const { octets, frame: one } of parts(input, true)) {
    const order = one === undefined ? undefined : commandOf(one);
    if (order !== undefined) endpoint.obey(order);
    for (let at = 0; at < octets.length; at += piece) {
      const chunk = Buffer.from(octets.subarray(at, at + piece));
      endpoint.peer.write(chunk);
      chunk.fill(0xaa);
    }
    endpoint.peer.turn();
  }
  const outcome = endpoint.outcome();
  endpoint.end();
  return outcome;
}

/** Runs an input frame by frame, with a turn after each, and holds every step against a strict peer. */
function runStrictly(role: 'client' | 'server', input: Buffer): void {
  const options = input[0] ?? 0;
  const endpoint = new Endpoint(role, options);
  const { peer } = endpoint;
  const { connection, owner, sink } = peer;
  const strict = new StrictPeer(role, true);
  // Without a preface the octets mean nothing, or not what they seem.
  const raw = role === 'server' && (options & Option.RAW) !== 0;
  for (const { octets, frame: one } of parts(input, false)) {
    const wasEnded = connection.ended;
    const order = one === undefined ? undefined : commandOf(one);
    if (order !== undefined) endpoint.obey(order);
    else {
      if (one !== undefined && !wasEnded && !raw) strict.sent(one);
      peer.write(Buffer.from(octets));
      peer.turn();
    }
    const written = Buffer.concat(sink.written.splice(0));
    claim(!wasEnded || written.length === 0, 'it wrote after its end');
    strict.received(written);
    endpoint.forget(strict.resets);
    claim(connection.held >= 0 && connection.queued >= 0, 'octets counted twice');
    if ((options & Option.FEW_STREAMS) !== 0 && role === 'server') {
      claim(connection.streams <= 2, 'more streams than it allows');
    }
    if (connection.ended) continue;
    claim(
      connection.held === endpoint.held,
      () => `it holds ${connection.held} octets, its owner ${endpoint.held}`,
    );
    claim(strict.receiveWindow <= WINDOW, 'a connection window above its size');
    if (connection.held === 0) {
      claim(
        strict.receiveWindow * 2 > WINDOW,
        'credit for octets passed on, or discarded, has not come back',
      );
    }
    if (!raw) claim(strict.unanswered === 0, 'SETTINGS or a PING has no answer');
  }
  if (!connection.ended || strict.fatal) strict.complete();
  const { error } = owner;
  if (error !== undefined) claim(strict.fatal, () => `it failed by ${error.message} and did not say so`);
  endpoint.end();
}

export function checkConnection(role: 'client' | 'server', input: Buffer): void {
  const whole = run(role, input, Number.MAX_SAFE_INTEGER);
  const pieces = run(role, input, 1 + ((input[1] ?? 0) & 0x3f));
  claim(pieces.written.equals(whole.written), 'cut into pieces, other octets are written');
  same(pieces.heard, whole.heard, 'cut into pieces it is not the same');
  runStrictly(role, input);
}
