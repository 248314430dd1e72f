import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import hpack from 'hpack.js';
import { Recorder } from '../../src/audit/recorder.ts';
import type { RouteConfig } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/parse.ts';
import type { HeaderList } from '../../src/hpack/headerlist.ts';
import type { Message } from '../../src/http2/message.ts';
import type { CallPlan } from '../../src/relay/call.ts';
import { callerFields, withCaller } from '../../src/relay/callerfields.ts';
import { RelayContext } from '../../src/relay/context.ts';
import { DownstreamConnection } from '../../src/relay/downstream.ts';
import { Egress } from '../../src/relay/egress.ts';
import { RelayError } from '../../src/relay/errors.ts';
import { Listener } from '../../src/relay/listener.ts';
import { PeerTarget } from '../../src/relay/peertarget.ts';
import { isGrpc, methodOf, type Router } from '../../src/relay/router.ts';
import { Upstream } from '../../src/relay/upstream.ts';
import type { Dialled } from '../../src/relay/upstreamconnection.ts';
import { SocketWire, type Wire } from '../../src/relay/wire.ts';
import { type Logger, silentLogger } from '../../src/telemetry/log.ts';
import { Metrics } from '../../src/telemetry/metrics.ts';
import { noTracing } from '../../src/telemetry/tracing.ts';
import { LEAST } from '../config/samples.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import {
  block,
  data,
  headers,
  PREFACE,
  rst,
  settings,
  settingsAck,
  TRAILERS,
  windowUpdate,
} from '../harness/http2-peer.ts';
import { cutFrames } from './framemutator.ts';
import { commandOf, type Do, parts } from './h2endpoint.ts';
import { checkFields, type Fields, StrictPeer } from './strictpeer.ts';
import { claim } from './target.ts';

/*
 * A sidecar's relay between an app that sends what an input says, and a server that takes nothing but right HTTP/2. An input
 * is as for a connection (h2endpoint.ts); a frame of type 0xf2 holds octets that the server sends.
 */
export const FROM_SERVER = 0xf2;

const Option = {
  INGRESS: 1, // else egress
  NARROW: 2, // the server's windows are small
  ONE_STREAM: 4, // the server takes one stream at a time
  LARGE: 8, // answers are large
  SILENT: 16, // the server answers nothing by itself
  RAW: 32, // no preface unless the input has one
  TRAILERS_ONLY: 64,
  LATE: 128, // the server is connected when an input says so
} as const;

const { http2 } = parseConfig(LEAST, { file: 'sidecar.yaml' });
const metrics = new Metrics({ version: 'fuzz' });
const SERVICE = 'greeter.shop';
const ROUTE: RouteConfig = {
  service: SERVICE,
  authorities: ['greeter'],
  endpoints: [{ host: '10.0.0.1', port: 15008 }],
  peer: 'spiffe://shop.example/ns/default/sa/greeter',
};
const CALLER = callerFields('spiffe://shop.example/ns/default/sa/web', 'session');

/** The app's end of a socket. */
class AppSocket extends Duplex {
  readonly written: Buffer[] = [];

  override _read(): void {}

  override _write(octets: Buffer, _encoding: string, done: () => void): void {
    this.written.push(Buffer.from(octets));
    done();
  }

  setNoDelay(): this {
    return this;
  }

  destroySoon(): void {
    this.destroy();
  }
}

/** A wire to the server, and the server. */
class ServerWire implements Wire {
  readonly silent = false;
  readonly headroom = 0;
  readonly capacity = 65_536;
  readonly backlog = 0;
  onData: (octets: Buffer) => void = () => {};
  onDrain: () => void = () => {};
  onClose: (reason: never, detail: string) => void = () => {};
  readonly strict = new StrictPeer('client', false);
  readonly #options: number;
  readonly #taken = new Map<number, number>();
  readonly #answered = new Set<number>();
  #begun = false;
  readonly #written: Buffer[] = [];
  #closed = false;

  constructor(options: number) {
    this.#options = options;
  }

  acquire(): Buffer {
    return Buffer.alloc(this.capacity);
  }

  write(buffer: Buffer, start: number, end: number): boolean {
    // Looked at later: whoever writes must not be hit by what is wrong with it.
    this.#written.push(Buffer.from(buffer.subarray(start, end)));
    return true;
  }

  draining(): void {}

  close(): void {
    this.cut();
  }

  destroy(): void {
    this.cut();
  }

  cut(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.onClose('peer-closed' as never, '');
  }

  #on(option: number): boolean {
    return (this.#options & option) !== 0;
  }

  send(...octets: Buffer[]): void {
    if (this.#closed) return;
    const all = Buffer.concat(octets);
    for (const one of cutFrames(all).frames) this.strict.sent(one);
    this.onData(all);
  }

  #begin(): void {
    this.#begun = true;
    const pairs: Array<[number, number]> = [];
    if (this.#on(Option.NARROW)) pairs.push([4, 10]);
    if (this.#on(Option.ONE_STREAM)) pairs.push([3, 1]);
    this.send(settings(...pairs), settingsAck());
  }

  /** Holds what has come against the rules, gives credit for it, and answers what is complete. */
  answer(): void {
    this.strict.received(Buffer.concat(this.#written.splice(0)));
    if (!this.#begun) this.#begin();
    for (const { id, body, ended } of this.strict.emitted) {
      const fresh = body.length - (this.#taken.get(id) ?? 0);
      this.#taken.set(id, body.length);
      if (fresh > 0) this.send(windowUpdate(0, fresh), ...(ended ? [] : [windowUpdate(id, fresh)]));
      if (!ended || this.#answered.has(id) || this.#on(Option.SILENT)) continue;
      this.#answered.add(id);
      if (this.#on(Option.TRAILERS_ONLY)) {
        this.send(
          headers(
            id,
            block([
              [':status', '200'],
              ['grpc-status', '0'],
            ]),
            5,
          ),
        );
        continue;
      }
      this.send(
        headers(
          id,
          block([
            [':status', '200'],
            ['content-type', 'application/grpc'],
          ]),
        ),
      );
      this.send(data(id, this.#on(Option.LARGE) ? Buffer.alloc(16_000, 'x') : body.subarray(0, 100)));
      this.send(headers(id, block(TRAILERS), 5));
    }
  }
}

/** What the input's own frames say, read by hpack.js: the requests that the app made. */
class Requests {
  readonly #decompressor = hpack.decompressor.create({ table: { maxSize: 65_536 } });
  readonly #byId = new Map<number, { fields: Fields; body: Buffer[] }>();
  #block: { id: number; octets: Buffer[] } | undefined;
  #lost = false;

  constructor() {
    this.#decompressor.on('error', () => {
      this.#lost = true;
    });
  }

  add(octets: Buffer): void {
    for (const { type, flags, id: idField, payload } of cutFrames(octets).frames) {
      const id = idField & 0x7fffffff;
      if (type === 0) this.#byId.get(id)?.body.push(unpadded(flags, payload, 0));
      else if (type === 1) this.#begin(id, flags, unpadded(flags, payload, (flags & 0x20) !== 0 ? 5 : 0));
      else if (type === 9 && this.#block !== undefined) {
        this.#block.octets.push(payload);
        if ((flags & 4) !== 0) this.#end();
      }
    }
  }

  #begin(id: number, flags: number, fragment: Buffer): void {
    this.#block = { id, octets: [fragment] };
    if ((flags & 4) !== 0) this.#end();
  }

  #end(): void {
    const { id, octets } = this.#block as { id: number; octets: Buffer[] };
    this.#block = undefined;
    if (this.#lost) return;
    this.#decompressor.write(Buffer.concat(octets));
    this.#decompressor.execute(() => {});
    const fields: Fields = [];
    for (let field = this.#decompressor.read(); field !== null; field = this.#decompressor.read()) {
      fields.push([field.name, field.value]);
    }
    if (!this.#byId.has(id)) this.#byId.set(id, { fields, body: [] });
  }

  /** Has the app made a request with these fields, and a body that begins so? */
  made(fields: Fields, body: Buffer): boolean {
    const wanted = JSON.stringify(essence(fields));
    for (const request of this.#byId.values()) {
      if (JSON.stringify(essence(request.fields)) !== wanted) continue;
      if (Buffer.concat(request.body).subarray(0, body.length).equals(body)) return true;
    }
    return false;
  }
}

function unpadded(flags: number, payload: Buffer, skip: number): Buffer {
  if ((flags & 8) === 0) return payload.subarray(skip);
  return payload.subarray(1 + skip, Math.max(1 + skip, payload.length - (payload[0] ?? 0)));
}

/** A request's fields without those that a sidecar may write: who is meant, who calls, and for how long. */
function essence(fields: Fields): Fields {
  return fields.filter(
    ([name]) =>
      name !== ':authority' &&
      name !== 'host' &&
      name !== 'grpc-timeout' &&
      !/^hauberk[-_](peer|session)$/.test(name),
  );
}

/** One relay, from the app's octets to the server's. */
export class RelayWorld {
  readonly #options: number;
  readonly #clock = new FakeClock();
  readonly #errors: string[] = [];
  readonly #context: RelayContext;
  readonly #socket = new AppSocket();
  readonly #app = new StrictPeer('server', false);
  readonly #servers: ServerWire[] = [];
  readonly #dials: Array<() => void> = [];
  readonly #requests = new Requests();
  #egress: Egress | undefined;
  #downstream: DownstreamConnection | undefined;
  readonly #upstreams: Upstream[] = [];

  constructor(options: number) {
    this.#options = options;
    const log: Logger = {
      ...silentLogger,
      error: (fields) => {
        this.#errors.push(JSON.stringify(fields));
      },
    };
    this.#context = new RelayContext({
      clock: this.#clock,
      recorder: new Recorder({
        clock: this.#clock,
        source: { instance: '00', spiffeId: 'spiffe://shop.example/ns/default/sa/web' },
        adapters: [],
      }),
      metrics,
      tracing: noTracing,
      log,
      http2,
      auditCalls: 'none',
    });
  }

  #on(option: number): boolean {
    return (this.#options & option) !== 0;
  }

  async open(): Promise<void> {
    if (this.#on(Option.INGRESS)) this.#openIngress();
    else await this.#openEgress();
    if (!this.#on(Option.RAW)) this.#socket.emit('data', PREFACE);
  }

  #upstream(kind: 'app' | 'session'): Upstream {
    const upstream = new Upstream(this.#context, {
      name: 'greeter',
      kind,
      maxConnections: 2,
      dial: () => this.#dial(),
    });
    this.#upstreams.push(upstream);
    return upstream;
  }

  #dial(): Promise<Dialled> {
    return new Promise((resolve) => {
      const wire = new ServerWire(this.#options);
      const connect = (): void => {
        this.#servers.push(wire);
        resolve({ wire, session: undefined, remote: '10.0.0.1:15008' });
      };
      if (this.#on(Option.LATE)) this.#dials.push(connect);
      else connect();
    });
  }

  /** The real egress, but for its listener's socket. */
  async #openEgress(): Promise<void> {
    const target = new PeerTarget(this.#context, {
      service: SERVICE,
      endpoints: ROUTE.endpoints,
      makeUpstream: () => this.#upstream('session'),
    });
    const egress = new Egress(this.#context, {
      routes: [{ config: ROUTE, target, peer: ROUTE.peer }],
      maxConnections: 1000,
      isBlocked: () => false,
    });
    const { openAll } = Listener;
    let accept: (socket: Socket, listener: Listener) => void = () => {};
    Listener.openAll = async (_what, _addresses, _reads, onSocket) => {
      accept = onSocket;
      return [];
    };
    try {
      await egress.listen([]);
    } finally {
      Listener.openAll = openAll;
    }
    this.#egress = egress;
    accept(this.#socket as unknown as Socket, { name: 'fuzz' } as Listener);
  }

  #openIngress(): void {
    const upstream = this.#upstream('app');
    const context = this.#context;
    const planOf = (list: HeaderList, { contentType, path }: Message): CallPlan => ({
      source: list,
      direction: 'ingress',
      service: SERVICE,
      method: methodOf(path),
      list: withCaller(list, CALLER),
      grpc: isGrpc(contentType),
      timeoutMs: undefined,
      series: metrics.calls('ingress', SERVICE, 'all'),
      target: {
        lostCode: 'app-lost',
        name: SERVICE,
        assign: (call) => upstream.assign(call),
        reassign: (call, error) => call.fail(error),
        mayRetry: (_call, from) => from.mayRetry(),
      },
      refusal: path.startsWith('/denied') ? new RelayError('denied', 'this may not be called') : undefined,
    });
    const router: Router = {
      plan: planOf,
      planLike: (_known, list, message) => planOf(list, message),
      admit: () => undefined,
      refused: () => {},
    };
    const wire = new SocketWire(this.#socket as unknown as Socket);
    this.#downstream = new DownstreamConnection(context, { wire, remote: 'app', router, onClosed: () => {} });
  }

  // ---- a run ---------------------------------------------------------------------------------------

  /** The app sends octets. */
  async send(octets: Buffer): Promise<void> {
    this.#requests.add(octets);
    // Frame by frame, so that what comes back answers what the strict peer knows was sent.
    const { frames, rest } = cutFrames(octets);
    let at = 0;
    for (const one of frames) {
      const end = at + 9 + one.payload.length;
      if (!this.#on(Option.RAW)) this.#app.sent(one);
      this.#give(octets.subarray(at, end));
      at = end;
    }
    if (rest.length > 0) this.#give(rest);
    await this.#settle();
  }

  #give(octets: Buffer): void {
    if (!this.#socket.destroyed) this.#socket.emit('data', Buffer.from(octets));
  }

  /** The server sends octets, right or wrong, on its newest connection. */
  async sendFromServer(octets: Buffer): Promise<void> {
    this.#servers.at(-1)?.send(octets);
    await this.#settle();
  }

  async obey(what: Do, argument: number): Promise<void> {
    switch (what) {
      case 'time':
        this.#clock.advance(argument * 1500);
        break;
      case 'drain':
        this.#egress?.drain();
        this.#downstream?.drain('why');
        break;
      case 'finish':
        for (const upstream of this.#upstreams) upstream.drain();
        break;
      case 'gone':
        this.#servers.at(-1)?.cut();
        break;
      case 'shut':
        this.#socket.emit('end');
        break;
      case 'end':
        this.#downstream?.end();
        break;
      case 'reset':
        this.#servers.at(-1)?.send(rst(1 + 2 * argument, 8));
        break;
      default:
        for (const connect of this.#dials.splice(0)) connect();
    }
    await this.#settle();
  }

  /** Lets everything that is due happen, and holds what has been written against the rules. */
  async #settle(): Promise<void> {
    for (let i = 0; i < 6; i++) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      const written = Buffer.concat(this.#socket.written.splice(0));
      if (!this.#on(Option.RAW)) this.#app.received(written);
      for (const server of this.#servers) server.answer();
    }
    this.#check();
  }

  #check(): void {
    claim(this.#errors.length === 0, () => `a bug of ours: ${this.#errors[0]}`);
    if (this.#on(Option.RAW)) return;
    for (const { strict } of this.#servers) {
      for (const { fields, body } of strict.emitted) {
        claim(
          this.#requests.made(fields, body),
          () => `a request that no app made: ${JSON.stringify(fields)}`,
        );
        checkFields(fields, 'request');
        if (this.#on(Option.INGRESS)) checkCaller(fields);
        else {
          const authority = fields.find(([name]) => name === ':authority')?.[1];
          claim(
            new RegExp(`^${SERVICE}(:[0-9]+)?$`).test(authority ?? ''),
            `${authority} is not the route's service`,
          );
        }
      }
    }
  }

  async end(): Promise<void> {
    for (const { strict } of this.#servers) if (strict.fatal) strict.complete();
    this.#socket.destroy();
    this.#egress?.close();
    this.#downstream?.end();
    for (const upstream of this.#upstreams) upstream.close();
    for (const connect of this.#dials.splice(0)) connect();
    this.#clock.advance(100_000);
    await this.#settle();
    claim(this.#context.calls === 0, `${this.#context.calls} calls are left after the end`);
  }
}

/** Who calls is told by the sidecar, once, and by nobody else. */
function checkCaller(fields: Fields): void {
  const told = fields.filter(([name]) => /^hauberk[-_](peer|session)$/.test(name));
  claim(
    JSON.stringify(told) === JSON.stringify(CALLER.map(({ name, value }) => [name, value])),
    () => `the app is told another caller: ${JSON.stringify(told)}`,
  );
}

export async function checkRelay(input: Buffer): Promise<void> {
  const world = new RelayWorld(input[0] ?? 0);
  await world.open();
  for (const { octets, frame } of parts(input, true)) {
    const order = frame === undefined ? undefined : commandOf(frame);
    if (order !== undefined) await world.obey(order.what, order.argument);
    else if (frame?.type === FROM_SERVER) await world.sendFromServer(frame.payload);
    else await world.send(octets);
  }
  await world.end();
}
