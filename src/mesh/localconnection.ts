import type { HeaderList } from '../hpack/headerlist.ts';
import { Connection, type ConnectionHandler } from '../http2/connection.ts';
import type { RelayContext } from '../relay/context.ts';
import type { MemoryWire } from '../relay/memorywire.ts';
import type { MeshCall } from './meshcall.ts';

interface Waiting {
  readonly call: MeshCall;
  readonly list: HeaderList;
}

const SWEEP_MS = 1000;

/** The client's end of an HTTP/2 connection to the egress in the same process. */
export class LocalConnection implements ConnectionHandler {
  readonly #context: RelayContext;
  readonly #connection: Connection;
  readonly #wire: MemoryWire;
  readonly #sweeper: unknown;
  #waiting: Waiting[] = [];

  constructor(context: RelayContext, wire: MemoryWire, firstStreamId = 1) {
    this.#context = context;
    this.#wire = wire;
    const connection = new Connection({
      role: 'client',
      sink: wire,
      handler: this,
      monotonic: context.monotonic,
      schedule: context.turn.schedule,
      firstStreamId,
      ...context.http2For('app', 'client'),
    });
    this.#connection = connection;
    this.#sweeper = context.clock.every(SWEEP_MS, () => connection.sweep());
    const onDrain = (): void => connection.drained();
    const onClose = (): void => connection.transportClosed();
    const onData = (octets: Buffer): void => context.turn.receive(connection, octets);
    wire.onDrain = onDrain;
    wire.onClose = onClose;
    wire.onData = onData;
  }

  /** No call can be opened here any more. */
  get over(): boolean {
    return this.#connection.exhausted;
  }

  open(call: MeshCall, list: HeaderList): void {
    this.#waiting.push({ call, list });
    this.#next();
  }

  /** A call that waits for a stream does so no more. */
  leave(call: MeshCall): void {
    const at = this.#waiting.findIndex((waiting) => waiting.call === call);
    if (at >= 0) this.#waiting.splice(at, 1);
  }

  /** Takes no more calls, and ends with the last. */
  drain(): void {
    this.#connection.drain('the channel was closed');
    this.#giveUp();
  }

  #next(): void {
    while (this.#waiting.length > 0 && this.#connection.canOpen) {
      const { call, list } = this.#waiting.shift() as Waiting;
      call.opened(this.#connection.open(list, false, call));
    }
    if (this.over) this.#giveUp();
  }

  onReady(): void {
    this.#next();
  }

  onRoom(): void {
    this.#next();
  }

  onGoaway(): void {
    this.#giveUp();
  }

  onEnd(): void {
    this.#context.clock.clear(this.#sweeper);
    this.#wire.close();
    this.#giveUp();
  }

  onStreamError(): void {}

  onRequest(): void {
    throw new Error('a client-role connection has no requests');
  }

  onOversizeRequest(): void {
    this.onRequest();
  }

  /** Calls that wait find another connection. */
  #giveUp(): void {
    for (const { call } of this.#waiting.splice(0)) call.again();
  }
}
