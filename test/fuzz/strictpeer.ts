import hpack from 'hpack.js';
import { cutFrames, type RawFrame } from './framemutator.ts';
import { claim } from './target.ts';

/*
 * The other end of a connection under test, which takes nothing but what RFC 9113 allows: it is told what was sent to the
 * connection, reads what the connection writes, and throws Broken at the first frame that may not be. It shares no code
 * with src/; header blocks are read by hpack.js.
 */

export type Fields = Array<[name: string, value: string]>;

interface StreamState {
  /** The connection has sent its (final) headers. */
  headers: boolean;
  trailers: boolean;
  /** END_STREAM or RST_STREAM, from the connection and to it. */
  ended: boolean;
  reset: boolean;
  endedHere: boolean;
  resetHere: boolean;
  /** What it may still send, and what we may. */
  window: number;
  receive: number;
  bodyLeft: number | undefined;
  fields: Fields;
  body: Buffer[];
}

/** A message as it came out of the connection. */
export interface Emitted {
  readonly id: number;
  readonly fields: Fields;
  readonly body: Buffer;
  /** By END_STREAM. */
  readonly ended: boolean;
}

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const MAX = 2 ** 31 - 1;

export class StrictPeer {
  /** The role of the connection under test. */
  readonly #role: 'client' | 'server';
  readonly #inTurn: boolean;
  #octets = Buffer.alloc(0);
  #prefaceDue: boolean;
  #settingsDue = true;
  #fatal = false;
  #goawayLast = MAX;
  readonly #streams = new Map<number, StreamState>();
  #lastId = 0; // highest stream opened, by whoever opens them
  #block: { id: number; flags: number; octets: Buffer[] } | undefined;
  readonly #decompressor = hpack.decompressor.create({ table: { maxSize: 65_536 } });

  // what the connection may do, by what it has acknowledged of our settings
  #window = 65_535;
  #initialWindow = 65_535;
  #maxFrame = 16_384;
  #maxStreams = Number.POSITIVE_INFINITY;
  readonly #settings: Array<Array<[id: number, value: number]>> = [];
  readonly #pings: string[] = [];
  /** What we may send, by what it announced. */
  #receive = 65_535;
  #receiveInitial = 65_535;

  /** `inTurn`: it writes what it has to say before anything more is sent to it, so that no frames cross. */
  constructor(role: 'client' | 'server', inTurn: boolean) {
    this.#role = role;
    this.#inTurn = inTurn;
    this.#prefaceDue = role === 'client';
    this.#decompressor.on('error', () => {});
  }

  /** Octets that we may still send on the connection. */
  get receiveWindow(): number {
    return this.#receive;
  }

  /** A GOAWAY with an error code has come. */
  get fatal(): boolean {
    return this.#fatal;
  }

  /** SETTINGS and PINGs that have no answer yet. */
  get unanswered(): number {
    return this.#settings.length + this.#pings.length;
  }

  /** Streams that the connection has reset. */
  get resets(): number[] {
    return [...this.#streams].filter(([, { reset }]) => reset).map(([id]) => id);
  }

  /** Messages whose headers have come. */
  get emitted(): Emitted[] {
    return [...this.#streams]
      .filter(([, { headers }]) => headers)
      .map(([id, { fields, body, ended }]) => ({ id, fields, body: Buffer.concat(body), ended }));
  }

  // ---- what was sent to the connection -------------------------------------------------------------

  /** A whole frame was sent. It need not be a right one: then the connection fails, and may say little after. */
  sent({ type, flags, id: idField, payload }: RawFrame): void {
    const id = idField & MAX; // without the reserved bit
    const stream = this.#streams.get(id);
    const fin = (flags & 1) !== 0;
    switch (type) {
      case 0:
        this.#receive -= payload.length;
        if (stream === undefined) break;
        stream.receive -= payload.length;
        if (fin) stream.endedHere = true;
        break;
      case 1:
        if (this.#role === 'server' && (id & 1) === 1 && id > this.#lastId) this.#opened(id);
        if (fin)
          this.#streamOf(id, (found) => {
            found.endedHere = true;
          });
        break;
      case 3:
        if (stream !== undefined) stream.resetHere = true;
        break;
      case 4:
        if (!fin) this.#settings.push(pairsOf(payload));
        break;
      case 6:
        if (!fin) this.#pings.push(payload.toString('latin1'));
        break;
      case 8:
        if (payload.length === 4) this.#grant(id, payload.readUInt32BE(0) & MAX);
        break;
      default:
    }
  }

  #streamOf(id: number, found: (stream: StreamState) => void): void {
    const stream = this.#streams.get(id);
    if (stream !== undefined) found(stream);
  }

  #grant(id: number, increment: number): void {
    if (id === 0) this.#window += increment;
    else
      this.#streamOf(id, (stream) => {
        stream.window += increment;
      });
  }

  #opened(id: number): StreamState {
    this.#lastId = id;
    const stream: StreamState = {
      headers: false,
      trailers: false,
      ended: false,
      reset: false,
      endedHere: false,
      resetHere: false,
      window: this.#initialWindow,
      receive: this.#receiveInitial,
      bodyLeft: undefined,
      fields: [],
      body: [],
    };
    this.#streams.set(id, stream);
    return stream;
  }

  // ---- what the connection writes ------------------------------------------------------------------

  received(octets: Buffer): void {
    this.#octets = Buffer.concat([this.#octets, octets]);
    if (this.#prefaceDue) {
      if (this.#octets.length < PREFACE.length) return;
      claim(
        this.#octets.toString('latin1', 0, PREFACE.length) === PREFACE,
        'it does not begin with the preface',
      );
      this.#octets = this.#octets.subarray(PREFACE.length);
      this.#prefaceDue = false;
    }
    const { frames, rest } = cutFrames(this.#octets);
    this.#octets = Buffer.from(rest);
    for (const one of frames) this.#frame(one);
  }

  /** Everything has been written: no frame may be left half-way. */
  complete(): void {
    claim(this.#octets.length === 0, `it wrote ${this.#octets.length} octets of a frame, and not the rest`);
    claim(this.#block === undefined, 'it began a header block and did not end it');
  }

  #frame(one: RawFrame): void {
    const { type, flags, id, payload } = one;
    claim(!this.#fatal, () => `a frame of type ${type} after its fatal GOAWAY`);
    claim(payload.length <= this.#maxFrame, () => `${payload.length} octets in a frame, above our limit`);
    claim(!this.#settingsDue || (type === 4 && (flags & 1) === 0), 'its first frame is not SETTINGS');
    claim(this.#block === undefined || (type === 9 && id === this.#block.id), 'a header block interrupted');
    claim(id <= MAX, 'the reserved bit of a stream identifier is set');
    switch (type) {
      case 0:
        this.#data(flags, id, payload);
        break;
      case 1:
        claim((flags & ~0x5) === 0, 'HEADERS with padding or priority, which we do not send');
        this.#headers(flags, id, payload);
        break;
      case 3:
        claim(payload.length === 4, 'RST_STREAM is not 4 octets');
        this.#rst(id);
        break;
      case 4:
        this.#onSettings(flags, id, payload);
        break;
      case 6:
        claim(id === 0 && payload.length === 8, 'a malformed PING');
        if ((flags & 1) !== 0) {
          claim(this.#pings.shift() === payload.toString('latin1'), 'a PING ACK that answers no PING');
        }
        break;
      case 7:
        this.#goaway(id, payload);
        break;
      case 8:
        claim(payload.length === 4, 'WINDOW_UPDATE is not 4 octets');
        this.#windowUpdate(id, payload.readUInt32BE(0));
        break;
      case 9:
        claim(this.#block !== undefined, 'CONTINUATION without HEADERS');
        this.#block.octets.push(payload);
        if ((flags & 4) !== 0) this.#endBlock();
        break;
      default:
        claim(false, `it wrote a frame of type ${type}`);
    }
  }

  #stream(id: number, what: string): StreamState {
    const stream = this.#streams.get(id);
    claim(stream !== undefined, () => `${what} on stream ${id}, which is idle`);
    return stream;
  }

  #data(flags: number, id: number, payload: Buffer): void {
    const stream = this.#stream(id, 'DATA');
    claim(stream.headers && !stream.trailers, `DATA on stream ${id} before headers or after trailers`);
    claim(!stream.ended && !stream.reset, `DATA on stream ${id} after its end`);
    claim(!(this.#inTurn && stream.resetHere), `DATA on stream ${id}, which was reset`);
    claim((flags & ~1) === 0, 'DATA with unknown flags or padding');
    this.#window -= payload.length;
    stream.window -= payload.length;
    claim(payload.length === 0 || this.#window >= 0, 'DATA beyond the connection window');
    claim(payload.length === 0 || stream.window >= 0, `DATA beyond the window of stream ${id}`);
    if (stream.bodyLeft !== undefined) stream.bodyLeft -= payload.length;
    claim((stream.bodyLeft ?? 0) >= 0, `more body on stream ${id} than its content-length`);
    stream.body.push(payload);
    if ((flags & 1) !== 0) this.#end(id, stream);
  }

  #headers(flags: number, id: number, payload: Buffer): void {
    this.#block = { id, flags, octets: [payload] };
    if ((flags & 4) !== 0) this.#endBlock();
  }

  #endBlock(): void {
    const { id, flags, octets } = this.#block as { id: number; flags: number; octets: Buffer[] };
    this.#block = undefined;
    const fields = this.#fields(Buffer.concat(octets));
    const fin = (flags & 1) !== 0;
    let stream = this.#streams.get(id);
    if (stream === undefined) {
      claim(this.#role === 'client' && (id & 1) === 1, () => `HEADERS on stream ${id}, which is idle`);
      claim(id > this.#lastId, () => `stream ${id} opened after ${this.#lastId}`);
      const open = [...this.#streams.values()].filter(
        (one) => !(one.reset || one.resetHere || (one.ended && one.endedHere)),
      );
      claim(open.length < this.#maxStreams, () => `stream ${id} is one more than we allow`);
      stream = this.#opened(id);
    }
    claim(!stream.ended && !stream.reset, () => `HEADERS on stream ${id} after its end`);
    claim(!(this.#inTurn && stream.resetHere), () => `HEADERS on stream ${id}, which was reset`);
    claim(!stream.trailers, () => `HEADERS on stream ${id} after trailers`);
    if (stream.headers) {
      claim(fin, () => `trailers on stream ${id} without END_STREAM`);
      checkFields(fields, 'trailers');
      stream.trailers = true;
    } else if (this.#role === 'client') {
      checkFields(fields, 'request');
      stream.headers = true;
      stream.fields = fields;
      stream.bodyLeft = lengthOf(fields);
    } else {
      checkFields(fields, 'response');
      const status = Number(textOf(fields, ':status'));
      if (status < 200) claim(!fin, 'an interim response with END_STREAM');
      else {
        stream.headers = true;
        stream.fields = fields;
      }
    }
    if (fin) this.#end(id, stream);
  }

  #fields(octets: Buffer): Fields {
    const decompressor = this.#decompressor;
    decompressor.write(octets);
    decompressor.execute((error) =>
      claim(error === null, () => `hpack.js cannot read a header block: ${error}`),
    );
    const fields: Fields = [];
    for (let field = decompressor.read(); field !== null; field = decompressor.read()) {
      fields.push([field.name, field.value]);
    }
    return fields;
  }

  #end(id: number, stream: StreamState): void {
    claim(
      (stream.bodyLeft ?? 0) === 0,
      () => `stream ${id} ends ${stream.bodyLeft} octets short of its content-length`,
    );
    stream.ended = true;
  }

  #rst(id: number): void {
    // A block that could not be processed may have opened it.
    const stream = this.#streams.get(id);
    if (stream === undefined) {
      claim(
        this.#role === 'server' && id <= this.#lastId && id > 0,
        `RST_STREAM on stream ${id}, which is idle`,
      );
      return;
    }
    claim(!stream.reset, `RST_STREAM twice on stream ${id}`);
    claim(!(this.#inTurn && stream.resetHere), `RST_STREAM on stream ${id}, in answer to RST_STREAM`);
    stream.reset = true;
  }

  #onSettings(flags: number, id: number, payload: Buffer): void {
    claim(id === 0 && payload.length % 6 === 0, 'malformed SETTINGS');
    if ((flags & 1) === 0) {
      this.#settingsDue = false;
      for (const [setting, value] of pairsOf(payload)) {
        claim(setting !== 4 || value <= MAX, 'SETTINGS_INITIAL_WINDOW_SIZE out of range');
        claim(setting !== 2 || value <= 1, 'SETTINGS_ENABLE_PUSH out of range');
        if (setting !== 4) continue;
        for (const stream of this.#streams.values()) stream.receive += value - this.#receiveInitial;
        this.#receiveInitial = value;
      }
      return;
    }
    const acknowledged = this.#settings.shift();
    claim(acknowledged !== undefined && payload.length === 0, 'an ACK of SETTINGS that were not sent');
    for (const [setting, value] of acknowledged) {
      if (setting === 3) this.#maxStreams = value;
      if (setting === 5) this.#maxFrame = value;
      if (setting !== 4) continue;
      for (const stream of this.#streams.values()) stream.window += value - this.#initialWindow;
      this.#initialWindow = value;
    }
  }

  #goaway(id: number, payload: Buffer): void {
    claim(id === 0 && payload.length >= 8, 'a malformed GOAWAY');
    const last = payload.readUInt32BE(0);
    claim(
      last <= this.#goawayLast,
      () => `GOAWAY raises its last stream from ${this.#goawayLast} to ${last}`,
    );
    this.#goawayLast = last;
    this.#fatal = payload.readUInt32BE(4) !== 0;
  }

  #windowUpdate(id: number, increment: number): void {
    claim(increment >= 1 && increment <= MAX, `a WINDOW_UPDATE of ${increment}`);
    if (id === 0) {
      this.#receive += increment;
      claim(this.#receive <= MAX, 'it gives a connection window above 2^31-1');
      return;
    }
    const stream = this.#stream(id, 'WINDOW_UPDATE');
    claim(
      !stream.reset && !(this.#inTurn && stream.resetHere),
      () => `WINDOW_UPDATE on stream ${id}, which was reset`,
    );
    claim(!(stream.ended && stream.endedHere), () => `WINDOW_UPDATE on stream ${id}, which is closed`);
    stream.receive += increment;
    claim(stream.receive <= MAX, 'it gives a stream window above 2^31-1');
  }
}

function pairsOf(payload: Buffer): Array<[id: number, value: number]> {
  const pairs: Array<[number, number]> = [];
  for (let at = 0; at + 6 <= payload.length; at += 6) {
    pairs.push([payload.readUInt16BE(at), payload.readUInt32BE(at + 2)]);
  }
  return pairs;
}

const textOf = (fields: Fields, name: string): string | undefined =>
  fields.find(([own]) => own === name)?.[1];

function lengthOf(fields: Fields): number | undefined {
  const text = textOf(fields, 'content-length');
  return text === undefined ? undefined : Number(text);
}

const PSEUDO = {
  request: [':method', ':scheme', ':path', ':authority'],
  response: [':status'],
  trailers: [] as string[],
};

/** RFC 9113 sections 8.2 and 8.3, and what HTTP/1.1 servers behind would read otherwise. */
export function checkFields(fields: Fields, kind: 'request' | 'response' | 'trailers'): void {
  const seen = new Set<string>();
  let regular = false;
  for (const [name, value] of fields) {
    const shown = JSON.stringify(`${name}: ${value}`.slice(0, 80));
    claim(!/[\0\r\n]/.test(value), () => `NUL, CR or LF in ${shown}`);
    claim(value === value.trim() || !/^[ \t]|[ \t]$/.test(value), () => `white space around ${shown}`);
    if (name.startsWith(':')) {
      claim(!regular, () => `${shown} after a regular field`);
      claim(PSEUDO[kind].includes(name), () => `${shown} in a ${kind}`);
      claim(!seen.has(name), () => `${shown} twice`);
      seen.add(name);
      continue;
    }
    regular = true;
    claim(/^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name), () => `the name of ${shown}`);
    const forbidden = ['connection', 'proxy-connection', 'keep-alive', 'transfer-encoding', 'upgrade'];
    claim(!forbidden.includes(name), () => `connection-specific ${shown}`);
    claim(name !== 'te' || value === 'trailers', () => shown);
    claim(name !== 'content-length' || /^[0-9]+$/.test(value), () => shown);
  }
  const lengths = new Set(
    fields.filter(([name]) => name === 'content-length').map(([, value]) => Number(value)),
  );
  claim(lengths.size <= 1, 'two content-lengths');
  if (kind === 'response') claim(/^[1-9][0-9]{2}$/.test(textOf(fields, ':status') ?? ''), 'no :status');
  if (kind === 'request') checkRequest(fields);
}

function checkRequest(fields: Fields): void {
  const [method, scheme, path, authority] = PSEUDO.request.map((name) => textOf(fields, name));
  claim(
    method !== undefined && /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(method),
    'no :method, or none that is a token',
  );
  const host = textOf(fields, 'host');
  claim(fields.filter(([name]) => name === 'host').length <= 1, 'host twice');
  claim(authority !== undefined || host !== undefined, 'neither :authority nor host');
  if (authority !== undefined && host !== undefined) {
    claim(host.toLowerCase() === authority.toLowerCase(), 'host unlike :authority');
  }
  claim(!/[\s@/?#\\]/.test(authority ?? host ?? ''), 'white space, userinfo or a path in the authority');
  if (method === 'CONNECT') {
    claim(scheme === undefined && path === undefined, 'CONNECT with :scheme or :path');
    return;
  }
  claim(scheme !== undefined && scheme !== '', 'no :scheme');
  claim(path !== undefined, 'no :path');
  claim(path.startsWith('/') || (path === '*' && method === 'OPTIONS'), 'a :path that does not begin with /');
  claim(!/[\x00-\x20\x7f]/.test(path), 'white space or controls in :path');
}
