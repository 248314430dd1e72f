import hpack from 'hpack.js';
import type { HeaderList } from '../../src/hpack/headerlist.ts';
import type { Message } from '../../src/http2/message.ts';
import { appAt } from '../../src/relay/appplace.ts';
import { AppTarget } from '../../src/relay/apptarget.ts';
import type { CallPlan } from '../../src/relay/call.ts';
import type { RelayContext } from '../../src/relay/context.ts';
import { DownstreamConnection } from '../../src/relay/downstream.ts';
import { RelayError } from '../../src/relay/errors.ts';
import { PeerTarget } from '../../src/relay/peertarget.ts';
import { isGrpc, type Router } from '../../src/relay/router.ts';
import { parseTimeout } from '../../src/relay/timeout.ts';
import { Upstream, type UpstreamOptions } from '../../src/relay/upstream.ts';
import type { Dialled } from '../../src/relay/upstreamconnection.ts';
import type { Wire } from '../../src/relay/wire.ts';
import type { Session } from '../../src/session/session.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import {
  block,
  data,
  END_HEADERS,
  END_STREAM,
  type Fields,
  headers,
  type PeerFrame,
  PREFACE,
  REQUEST,
  settings,
  settingsAck,
  T,
} from '../harness/http2-peer.ts';
import { contextOn, settled } from './memorywire.ts';

/** A wire whose other end is the test: raw frames in and out, by a codec that shares nothing with src/http2. */
export class RawWire implements Wire {
  readonly silent = false;
  readonly headroom = 0;
  readonly capacity = 65_536;
  backlog = 0;
  /** What `write` says to the next writes. */
  writable = true;
  closed = false;
  onData: (octets: Buffer) => void = () => {};
  onDrain: () => void = () => {};
  onClose: (reason: never, detail: string) => void = () => {};
  #unread: Buffer = Buffer.alloc(0);
  readonly #decompressor = hpack.decompressor.create({ table: { maxSize: 65_536 } });
  readonly #lists = new WeakMap<Buffer, Fields>();
  #block: PeerFrame[] = [];

  constructor() {
    this.#decompressor.on('error', (error) => {
      throw error;
    });
  }

  acquire(): Buffer {
    return Buffer.alloc(this.capacity);
  }

  write(buffer: Buffer, start: number, end: number): boolean {
    this.#unread = Buffer.concat([this.#unread, buffer.subarray(start, end)]);
    return this.writable;
  }

  draining(): void {}

  close(): void {
    this.cut('local-closed');
  }

  destroy(reason: 'shutdown'): void {
    this.cut(reason);
  }

  /** The wire is gone. */
  cut(reason: string): void {
    if (this.closed) return;
    this.closed = true;
    this.onClose(reason as never, '');
  }

  /** Octets for the sidecar, in one piece, which is overwritten afterwards as a read buffer is. */
  send(...frames: Buffer[]): void {
    const octets = Buffer.concat(frames);
    this.onData(octets);
    octets.fill(0xee);
  }

  /** What the sidecar has written since the last call, as octets: for the other end of another rig. */
  take(): Buffer {
    const octets = this.#unread;
    this.#unread = Buffer.alloc(0);
    return octets;
  }

  /** What the sidecar has written since the last call. */
  frames(): PeerFrame[] {
    const frames: PeerFrame[] = [];
    if (this.#unread.subarray(0, PREFACE.length).equals(PREFACE)) this.#unread = this.#unread.subarray(24);
    while (this.#unread.length >= 9 && this.#unread.length >= 9 + this.#unread.readUIntBE(0, 3)) {
      const end = 9 + this.#unread.readUIntBE(0, 3);
      const [type, flags] = [this.#unread.readUInt8(3), this.#unread.readUInt8(4)];
      const id = this.#unread.readUInt32BE(5);
      const found = { type, flags, id, payload: this.#unread.subarray(9, end) };
      frames.push(found);
      this.#unread = this.#unread.subarray(end);
      if (type === T.HEADERS || type === T.CONTINUATION) this.#readBlock(found);
    }
    return frames;
  }

  /** Decodes every block in its turn, whether it is asked for or not: the table must follow. */
  #readBlock(found: PeerFrame): void {
    this.#block.push(found);
    if ((found.flags & END_HEADERS) === 0) return;
    const [first] = this.#block as [PeerFrame];
    this.#lists.set(first.payload, this.#decode(Buffer.concat(this.#block.map(({ payload }) => payload))));
    this.#block = [];
  }

  #decode(octets: Buffer): Fields {
    this.#decompressor.write(octets);
    this.#decompressor.execute((error) => {
      if (error !== null) throw error;
    });
    const found: Array<[string, string]> = [];
    for (let field = this.#decompressor.read(); field !== null; field = this.#decompressor.read()) {
      found.push([field.name, field.value]);
    }
    return found;
  }

  /** The list whose block begins with this HEADERS frame's payload. */
  fields(payload: Buffer | undefined): Fields {
    return this.#lists.get(payload as Buffer) as Fields;
  }

  /**
   * What was written since the last call, stream by stream, as a reader wants it: `1 HEADERS`, `1 DATA "x" END`,
   * `1 RST CANCEL`. Settings, acknowledgements and window updates are left out.
   */
  told(): string[] {
    const told: string[] = [];
    for (const { type, flags, id, payload } of this.frames()) {
      const end = (flags & END_STREAM) !== 0 ? ' END' : '';
      if (type === T.HEADERS) {
        const found = this.fields(payload);
        const shown = found
          .filter(([name]) => [':status', 'grpc-status', 'hauberk-error', 'grpc-timeout'].includes(name))
          .map(([name, value]) => ` ${name}=${value}`);
        told.push(`${id} HEADERS${shown.join('')}${end}`);
      } else if (type === T.DATA) {
        const text =
          payload.length > 40 ? `${payload.length} octets` : JSON.stringify(payload.toString('latin1'));
        told.push(`${id} DATA ${text}${end}`);
      } else if (type === T.RST_STREAM) {
        told.push(`${id} RST ${CODES[payload.readUInt32BE(0)] ?? payload.readUInt32BE(0)}`);
      } else if (type === T.GOAWAY) {
        const last = payload.readUInt32BE(0);
        const code = CODES[payload.readUInt32BE(4)];
        told.push(
          `GOAWAY ${last === 2 ** 31 - 1 ? 'all' : last} ${code} ${payload.toString('latin1', 8)}`.trim(),
        );
      } else if (type === T.PING) {
        told.push(`PING ${payload.toString('latin1')}${(flags & 1) !== 0 ? ' ACK' : ''}`);
      }
    }
    return told;
  }
}

const CODES = [
  'NO_ERROR',
  'PROTOCOL_ERROR',
  'INTERNAL_ERROR',
  'FLOW_CONTROL_ERROR',
  'SETTINGS_TIMEOUT',
  'STREAM_CLOSED',
  'FRAME_SIZE_ERROR',
  'REFUSED_STREAM',
  'CANCEL',
  'COMPRESSION_ERROR',
  'CONNECT_ERROR',
  'ENHANCE_YOUR_CALM',
  'INADEQUATE_SECURITY',
  'HTTP_1_1_REQUIRED',
];

export interface RigOptions {
  direction?: 'egress' | 'ingress';
  /** Endpoints of a peer's service; without, the other side is an app. */
  endpoints?: number;
  http2?: Partial<RelayContext['http2']>;
  upstream?: Partial<UpstreamOptions>;
  /** What the clock is, if others live by it too. */
  clock?: FakeClock;
  /** That the caller's connection belongs to. */
  session?: Session;
}

/** A caller, a sidecar's relay between, and the other side that it dials: both ends are the test's. */
export class Rig {
  readonly clock: FakeClock;
  readonly context: RelayContext;
  readonly caller = new RawWire();
  readonly target: AppTarget | PeerTarget;
  readonly down: DownstreamConnection;
  /** Dials under way, oldest first, by endpoint. */
  readonly dials: Array<{
    host: string;
    resolve: (dialled: Dialled) => void;
    reject: (error: Error) => void;
  }> = [];
  /** Why connections to the other side ended. */
  readonly ends: Array<[reason: string, detail: string]> = [];
  /** What admission says of the next calls. */
  verdict: Promise<RelayError | undefined> | undefined;
  /** That the next connections to the other side belong to. */
  outbound: Session | undefined;

  constructor(options: RigOptions = {}) {
    const { direction = 'egress', endpoints, http2 = {}, upstream = {}, session } = options;
    this.clock = options.clock ?? new FakeClock();
    const context = contextOn(this.clock, http2);
    this.context = context;
    const over = (host: string): Partial<UpstreamOptions> => ({
      dial: () => new Promise((resolve, reject) => this.dials.push({ host, resolve, reject })),
      onClosed: (_connection, reason, detail) => this.ends.push([reason, detail]),
      ...upstream,
    });
    this.target =
      endpoints === undefined ? appTarget(context, over('app')) : peerTarget(context, endpoints, over);
    const router: Router = {
      plan: (list, message) => this.#plan(direction, list, message),
      planLike: (_known, list, message) => this.#plan(direction, list, message),
      admit: () => this.verdict,
      refused: () => {},
    };
    this.down = new DownstreamConnection(context, {
      wire: this.caller,
      remote: '127.0.0.1:1',
      router,
      ...(session === undefined ? {} : { session }),
      onClosed: () => {},
    });
    this.caller.send(PREFACE, settings(), settingsAck());
  }

  #plan(direction: 'egress' | 'ingress', list: HeaderList, message: Message): CallPlan {
    return {
      source: list,
      direction,
      service: 'greeter.shop',
      method: message.path,
      list,
      grpc: isGrpc(message.contentType),
      timeoutMs: parseTimeout(message.grpcTimeout),
      series: this.context.metrics.calls(direction, 'greeter.shop', message.path),
      target: this.target,
      refusal: undefined,
    };
  }

  /** Takes the oldest dial; its SETTINGS are announced. */
  async accept(...announce: Array<[id: number, value: number]>): Promise<RawWire> {
    const wire = new RawWire();
    const dial = this.dials.shift();
    if (dial === undefined) throw new Error('nothing is being dialled');
    dial.resolve({ wire, session: this.outbound, remote: dial.host });
    await settled();
    wire.send(settings(...announce), settingsAck());
    await settled();
    return wire;
  }

  /** Fails the oldest dial. */
  async refuse(): Promise<void> {
    this.dials.shift()?.reject(new RelayError('peer-unreachable', 'nobody there'));
    await settled();
  }

  /** The caller sends a request; without a body its headers end it. */
  async request(id: number, body?: string | Buffer, more: Fields = []): Promise<void> {
    const start = headers(
      id,
      block([...REQUEST, ...more]),
      END_HEADERS | (body === undefined ? END_STREAM : 0),
    );
    this.caller.send(start, ...(body === undefined ? [] : [data(id, body, END_STREAM)]));
    await settled();
  }

  /** Calls that are open at the other side, or wait. */
  get load(): number {
    const { target } = this;
    return target instanceof AppTarget ? target.upstream.load : (target.upstreams[0]?.load ?? 0);
  }

  /** How calls ended, as they were counted. */
  counted(path = '/shop.Greeter/SayHello', direction: 'egress' | 'ingress' = 'egress'): string[] {
    const { metrics } = this.context;
    return metrics
      .calls(direction, 'greeter.shop', path)
      .statuses()
      .flatMap(({ grpcStatus, count }) => Array<string>(count).fill(grpcStatus));
  }

  close(): void {
    this.down.end();
    if (this.target instanceof AppTarget) this.target.upstream.close();
    else this.target.close();
  }
}

function appTarget(context: RelayContext, upstream: Partial<UpstreamOptions>): AppTarget {
  const address = { kind: 'tcp', host: '127.0.0.1', port: 1 } as const;
  return new AppTarget(context, appAt({ service: 'greeter.shop', address }), upstream);
}

function peerTarget(
  context: RelayContext,
  endpoints: number,
  over: (host: string) => Partial<UpstreamOptions>,
): PeerTarget {
  return new PeerTarget(context, {
    service: 'greeter.shop',
    endpoints: Array.from({ length: endpoints }, (_, i) => ({ host: `10.0.0.${i + 1}`, port: 15008 })),
    random: () => 0,
    makeUpstream: (host) => {
      const dial = (): Promise<Dialled> => Promise.reject(new Error('never dialled'));
      return new Upstream(context, { name: host, kind: 'app', maxConnections: 8, dial, ...over(host) });
    },
  });
}

/** A response that ends with trailers. */
export const OK: Fields = [
  [':status', '200'],
  ['content-type', 'application/grpc'],
  ['grpc-status', '0'],
];

/** A trailers-only answer. */
export const answer = (id: number, fields: Fields = OK): Buffer =>
  headers(id, block(fields), END_HEADERS | END_STREAM);
