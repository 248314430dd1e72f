/**
 * A called app that keeps a book of every call that comes to it. Each call has a method of its own, so that whoever sees
 * the call, app or sidecar, can be asked about just that one.
 */
import type { EventEmitter } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import * as grpc from '@grpc/grpc-js';
import { atEnd } from './sidecars.ts';

export type CallKind = 'unary' | 'client-stream' | 'server-stream' | 'bidi';

/** What the app saw of one call. */
export class Entry {
  times = 0;
  readonly received: Buffer[] = [];
  halfClosed = false;
  /** Messages that it handed to its library. */
  sent = 0;
}

const same = (octets: Buffer): Buffer => octets;

/** The definition of a call that nobody else makes. */
export function methodOf(id: string, kind: CallKind): grpc.MethodDefinition<Buffer, Buffer> {
  return {
    path: pathOf(id),
    requestStream: kind === 'client-stream' || kind === 'bidi',
    responseStream: kind === 'server-stream' || kind === 'bidi',
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  };
}

const PREFIX = '/hauberk.test.v1.Ledger/';
const pathOf = (id: string): string => `${PREFIX}${id}`;

/** The call that a sidecar's `method` names. */
export function idOf(method: string): string {
  return method.slice(PREFIX.length);
}

/** A message of a stream: which one it is, and of how many octets. */
export function numbered(index: number, size: number): Buffer {
  const message = Buffer.alloc(Math.max(4, size), index & 0xff);
  message.writeUInt32BE(index);
  return message;
}

/** What a server stream is asked for. */
export interface StreamOrder {
  readonly count: number;
  /** Octets of a message. */
  readonly size: number;
  readonly pauseMs: number;
}

export function order({ count, size, pauseMs }: StreamOrder): Buffer {
  const request = Buffer.alloc(12);
  request.writeUInt32BE(count);
  request.writeUInt32BE(size, 4);
  request.writeUInt32BE(pauseMs, 8);
  return request;
}

export function readOrder(request: Buffer): StreamOrder {
  return {
    count: request.readUInt32BE(),
    size: request.readUInt32BE(4),
    pauseMs: request.readUInt32BE(8),
  };
}

export class Ledger {
  readonly address: string;
  readonly entries = new Map<string, Entry>();
  readonly #server: grpc.Server;

  private constructor(server: grpc.Server, address: string) {
    this.#server = server;
    this.address = address;
  }

  static async start(): Promise<Ledger> {
    const server = new grpc.Server({ 'grpc.max_receive_message_length': -1 });
    const listener: Server = createServer();
    const injector = server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    const ledger = new Ledger(server, `127.0.0.1:${(listener.address() as AddressInfo).port}`);
    const sockets = new Set<Socket>();
    listener.on('connection', (socket) => {
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
      injector.injectConnection(socket);
    });
    atEnd(() => {
      listener.close();
      for (const socket of sockets) socket.destroy();
      server.forceShutdown();
    });
    return ledger;
  }

  of(id: string): Entry | undefined {
    return this.entries.get(id);
  }

  /**
   * Expects a call. A unary one gets its request back; a client stream, at its end, the number of its messages; a server
   * stream the messages that the request orders; in a bidi stream each message comes back.
   */
  expect(id: string, kind: CallKind): void {
    const book = (): Entry => {
      const entry = this.entries.get(id) ?? new Entry();
      entry.times++;
      this.entries.set(id, entry);
      return entry;
    };
    this.#server.register(pathOf(id), HANDLERS[kind](book), same, same, TYPES[kind]);
  }
}

const TYPES = {
  unary: 'unary',
  'client-stream': 'clientStream',
  'server-stream': 'serverStream',
  bidi: 'bidi',
} as const;

type AnyHandler =
  | grpc.handleUnaryCall<Buffer, Buffer>
  | grpc.handleClientStreamingCall<Buffer, Buffer>
  | grpc.handleServerStreamingCall<Buffer, Buffer>
  | grpc.handleBidiStreamingCall<Buffer, Buffer>;

const HANDLERS: Record<CallKind, (book: () => Entry) => AnyHandler> = {
  unary: (book) => (call: grpc.ServerUnaryCall<Buffer, Buffer>, callback: grpc.sendUnaryData<Buffer>) => {
    const entry = book();
    entry.received.push(call.request);
    entry.halfClosed = true;
    entry.sent++;
    callback(null, call.request);
  },
  'client-stream':
    (book) => (call: grpc.ServerReadableStream<Buffer, Buffer>, callback: grpc.sendUnaryData<Buffer>) => {
      const entry = book();
      call.on('data', (message: Buffer) => entry.received.push(message));
      onHalfClose(call, () => {
        entry.halfClosed = true;
        entry.sent++;
        callback(null, numbered(entry.received.length, 4));
      });
    },
  'server-stream': (book) => (call: grpc.ServerWritableStream<Buffer, Buffer>) => {
    const entry = book();
    entry.received.push(call.request);
    entry.halfClosed = true;
    const { count, size, pauseMs } = readOrder(call.request);
    const step = (): void => {
      if (call.cancelled) return;
      if (entry.sent === count) call.end();
      else {
        call.write(numbered(entry.sent++, size));
        setTimeout(step, pauseMs);
      }
    };
    step();
  },
  bidi: (book) => (call: grpc.ServerDuplexStream<Buffer, Buffer>) => {
    const entry = book();
    call.on('data', (message: Buffer) => {
      entry.received.push(message);
      if (call.cancelled) return;
      entry.sent++;
      call.write(message);
    });
    onHalfClose(call, () => {
      entry.halfClosed = true;
      call.end();
    });
  },
};

/** Node ends what is read of a stream that was reset, too, and only then does grpc-js say that it was. */
function onHalfClose(call: EventEmitter & { readonly cancelled: boolean }, then: () => void): void {
  call.on('end', () =>
    setImmediate(() => {
      if (!call.cancelled) then();
    }),
  );
}
