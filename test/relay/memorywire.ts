import { Recorder } from '../../src/audit/recorder.ts';
import type { Clock } from '../../src/clock/clock.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { headerField } from '../../src/hpack/field.ts';
import { HeaderList } from '../../src/hpack/headerlist.ts';
import { Connection } from '../../src/http2/connection.ts';
import type { Stream } from '../../src/http2/stream.ts';
import { RelayContext } from '../../src/relay/context.ts';
import type { Wire } from '../../src/relay/wire.ts';
import { silentLogger } from '../../src/telemetry/log.ts';
import { Metrics } from '../../src/telemetry/metrics.ts';
import { noTracing } from '../../src/telemetry/tracing.ts';
import { LEAST } from '../config/samples.ts';

/** A relay's context on a clock of the test's; `http2` overrides the defaults of the configuration. */
export function contextOn(clock: Clock, http2: Partial<RelayContext['http2']> = {}): RelayContext {
  const source = { instance: '00', spiffeId: 'spiffe://shop.example/ns/default/sa/web' };
  return new RelayContext({
    clock,
    recorder: new Recorder({ clock, source, adapters: [] }),
    metrics: new Metrics({ version: 'test' }),
    tracing: noTracing,
    log: silentLogger,
    http2: { ...parseConfig(LEAST, { file: 'sidecar.yaml' }).http2, ...http2 },
    auditCalls: 'none',
  });
}

/** Everything that was scheduled by now has happened. */
export const settled = async (): Promise<void> => {
  for (let i = 0; i < 6; i++) await new Promise<void>((resolve) => setImmediate(resolve));
};

/** A wire to an HTTP/2 server in the same process, which speaks once `answer` is called. */
export class MemoryWire implements Wire {
  silent = false;
  readonly headroom = 0;
  readonly capacity = 65_536;
  readonly backlog = 0;
  onData: (octets: Buffer) => void = () => {};
  onDrain: () => void = () => {};
  onClose: (reason: never, detail: string) => void = () => {};
  /** Streams that were opened to the server, in order. */
  readonly opened: Stream[] = [];
  closed = false;
  /** What the server does with a request; by default it is kept in `opened`. */
  onRequest: (stream: Stream) => void = (stream) => void this.opened.push(stream);
  /** The client has announced the end of the connection. */
  onGoaway: (why: string) => void = () => {};
  onCut: () => void = () => {};
  readonly #context: RelayContext;
  readonly #maxStreams: number;
  #server: Connection | undefined;
  #early: Buffer[] = [];

  constructor(context: RelayContext, maxStreams = 100) {
    this.#context = context;
    this.#maxStreams = maxStreams;
  }

  acquire(): Buffer {
    return Buffer.allocUnsafe(this.capacity);
  }

  write(buffer: Buffer, start: number, end: number): boolean {
    const octets = Buffer.from(buffer.subarray(start, end));
    if (this.#server === undefined) this.#early.push(octets);
    else this.#server.receive(octets);
    return true;
  }

  draining(): void {}

  close(): void {
    this.cut('local-closed');
  }

  destroy(reason: 'shutdown'): void {
    this.cut(reason);
  }

  /** The server's SETTINGS go out, and it takes what came. */
  answer(): Connection {
    const { settings, ...rest } = this.#context.http2For('session', 'server');
    const server = new Connection({
      role: 'server',
      sink: {
        headroom: 0,
        capacity: this.capacity,
        acquire: () => Buffer.allocUnsafe(this.capacity),
        write: (buffer, start, end) => {
          if (!this.closed) this.onData(Buffer.from(buffer.subarray(start, end)));
          return true;
        },
      },
      handler: {
        onRequest: (stream) => this.onRequest(stream),
        onOversizeRequest: () => {},
        onReady: () => {},
        onRoom: () => {},
        onGoaway: (_last, _code, debug) => this.onGoaway(debug),
        onStreamError: () => {},
        onEnd: () => {},
      },
      monotonic: this.#context.monotonic,
      schedule: (connection) => void setImmediate(() => connection.flush()),
      ...rest,
      settings: { ...settings, maxConcurrentStreams: this.#maxStreams },
    });
    this.#server = server;
    for (const octets of this.#early.splice(0)) server.receive(octets);
    return server;
  }

  /** Ends the nth stream's call well. */
  finish(nth: number): void {
    this.opened[nth]?.sendHeaders(
      HeaderList.of([headerField(':status', '200'), headerField('grpc-status', '0')]),
      true,
    );
  }

  /** The wire breaks. */
  cut(reason: string): void {
    if (this.closed) return;
    this.closed = true;
    this.onCut();
    this.onClose(reason as never, '');
  }
}
