// What HTTP/2 by itself costs, two connections joined in memory: npx tsx bench/http2.bench.ts
import { headerField } from '../src/hpack/field.ts';
import { HeaderList } from '../src/hpack/headerlist.ts';
import { Connection, type ConnectionHandler, type ConnectionLimits } from '../src/http2/connection.ts';
import type { ByteSink } from '../src/http2/sink.ts';
import type { Stream, StreamHandler } from '../src/http2/stream.ts';

const ROUNDS = 7;
const SECONDS = 0.5; // a round

const LIMITS: ConnectionLimits = {
  framesPerSecond: 2_000_000,
  floodFrames: 200,
  floodWindowMs: 10_000,
  resetBurst: 1000,
  resets: { maxRatio: 0.5 },
  controlQueue: 1000,
  continuationFrames: 8,
  headerBlockBytes: 65_536,
  headerFields: 128,
  interimResponses: 16,
  ownResets: { burst: 800, perSecond: 400, waiting: 2048 },
  settingsEntries: 32,
  queueBytes: 16_777_216,
  stallMs: 60_000,
  prefaceMs: 5000,
  settingsMs: 5000,
  headerBlockMs: 10_000,
  maxStreamWindow: 4_194_304,
};

const CAPACITY = 65_516;

/** One direction: what one connection writes, until the turn of the other. */
class Pipe implements ByteSink {
  readonly headroom = 5;
  readonly capacity = CAPACITY;
  readonly #free: Buffer[] = [];
  #written: Array<{ buffer: Buffer; start: number; end: number }> = [];

  acquire(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.headroom + CAPACITY);
  }

  write(buffer: Buffer, start: number, end: number): boolean {
    this.#written.push({ buffer, start, end });
    return true;
  }

  deliver(to: Connection): boolean {
    const written = this.#written;
    if (written.length === 0) return false;
    this.#written = [];
    for (const { buffer, start, end } of written) {
      to.receive(buffer.subarray(start, end));
      this.#free.push(buffer);
    }
    return true;
  }
}

const list = (...pairs: Array<[string, string]>): HeaderList =>
  HeaderList.of(pairs.map(([name, value]) => headerField(name, value)));

const FIXED: Array<[string, string]> = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/shop.Greeter/SayHello'],
  [':authority', 'greeter.shop'],
  ['content-type', 'application/grpc'],
  ['te', 'trailers'],
  ['user-agent', 'grpc-node-js/1.14.0'],
];
const REQUEST = list(...FIXED);
/** As many as no memo holds, so that each is new when it comes again. */
const UNIQUE = Array.from({ length: 4096 }, (_, n) =>
  list(
    ...FIXED,
    ['grpc-timeout', `${20_000_000 + n}u`],
    ['traceparent', `00-${String(n).padStart(32, '1')}-${String(n).padStart(16, '1')}-01`],
  ),
);
const RESPONSE = list([':status', '200'], ['content-type', 'application/grpc']);
const TRAILERS = list(['grpc-status', '0'], ['grpc-message', 'OK']);

/** Client and server, `inFlight` unary calls at a time. */
class Load {
  readonly #due: Connection[] = [];
  readonly #up = new Pipe();
  readonly #down = new Pipe();
  readonly #client: Connection;
  readonly #server: Connection;
  readonly #request: Buffer;
  readonly #response: Buffer;
  readonly #requests: readonly HeaderList[];
  #begun = 0;
  #calls = 0;

  constructor(requests: readonly HeaderList[], requestBytes: number, responseBytes: number) {
    this.#requests = requests;
    this.#request = Buffer.alloc(requestBytes, 1);
    this.#response = Buffer.alloc(responseBytes, 2);
    const schedule = (connection: Connection): void => {
      this.#due.push(connection);
    };
    const common = { schedule, monotonic: () => performance.now(), limits: LIMITS, window: 16_777_216 };
    const ignored: ConnectionHandler = {
      onRequest() {},
      onOversizeRequest() {},
      onReady() {},
      onRoom() {},
      onGoaway() {},
      onStreamError() {},
      onEnd(error) {
        throw error ?? new Error('the connection ended');
      },
    };
    const answer: StreamHandler = {
      onHeaders() {},
      onTrailers() {},
      onData: (stream, _buf, start, end, fin) => {
        stream.credit(end - start);
        if (fin) this.#answer(stream);
      },
      onTaken() {},
      onReset() {},
    };
    this.#client = new Connection({
      ...common,
      role: 'client',
      sink: this.#up,
      handler: ignored,
      settings: { enablePush: false, initialWindowSize: 65_536, headerTableSize: 65_536 },
    });
    this.#server = new Connection({
      ...common,
      role: 'server',
      sink: this.#down,
      handler: {
        ...ignored,
        onRequest: (stream) => {
          stream.handler = answer;
        },
      },
      settings: { maxConcurrentStreams: 4096, initialWindowSize: 65_536, headerTableSize: 65_536 },
    });
    this.#turn();
  }

  #answer(stream: Stream): void {
    stream.sendHeaders(RESPONSE, false);
    stream.send(this.#response, 0, this.#response.length, false);
    stream.sendTrailers(TRAILERS);
  }

  readonly #caller: StreamHandler = {
    onHeaders() {},
    onTrailers: () => {
      this.#calls++;
      this.#call();
    },
    onData(stream, _buf, start, end) {
      stream.credit(end - start);
    },
    onTaken() {},
    onReset() {
      throw new Error('reset');
    },
  };

  #call(): void {
    const request = this.#requests[this.#begun++ % this.#requests.length] as HeaderList;
    if (this.#requests.length > 1) request.encodings = 0; // it counts as one that never came before
    const stream = this.#client.open(request, false, this.#caller);
    stream.send(this.#request, 0, this.#request.length, true);
  }

  #turn(): void {
    const due = this.#due.splice(0);
    for (const connection of due) connection.flush();
    this.#up.deliver(this.#server);
    this.#down.deliver(this.#client);
  }

  start(inFlight: number): void {
    for (let i = 0; i < inFlight; i++) this.#call();
  }

  /** Microseconds of processor time a call: on a busy machine the clock says nothing. */
  run(seconds: number): number {
    const calls = this.#calls;
    const end = performance.now() + seconds * 1000;
    const before = process.cpuUsage();
    while (performance.now() < end) for (let i = 0; i < 16; i++) this.#turn();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / (this.#calls - calls);
  }
}

interface LoadSpec {
  name: string;
  requests: readonly HeaderList[];
  requestBytes: number;
  responseBytes: number;
  inFlight: number;
}

const SAME = [REQUEST];
const LOADS: readonly LoadSpec[] = [
  { name: '100 B, 32 in flight', requests: SAME, requestBytes: 100, responseBytes: 100, inFlight: 32 },
  {
    name: '100 B, 32 in flight, unique',
    requests: UNIQUE,
    requestBytes: 100,
    responseBytes: 100,
    inFlight: 32,
  },
  {
    name: '10 KiB answers, 16 in flight',
    requests: SAME,
    requestBytes: 100,
    responseBytes: 10_240,
    inFlight: 16,
  },
  {
    name: '1 MiB answers, one at a time',
    requests: SAME,
    requestBytes: 100,
    responseBytes: 1_048_576,
    inFlight: 1,
  },
  {
    name: '1 MiB requests, one at a time',
    requests: SAME,
    requestBytes: 1_048_576,
    responseBytes: 100,
    inFlight: 1,
  },
];

for (const { name, requests, requestBytes, responseBytes, inFlight } of LOADS) {
  const load = new Load(requests, requestBytes, responseBytes);
  load.start(inFlight);
  load.run(SECONDS * 2);
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) best = Math.min(best, load.run(SECONDS));
  process.stdout.write(`${name.padEnd(32)} ${best.toFixed(2).padStart(9)} us a call, both ends\n`);
}
