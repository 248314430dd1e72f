/** A MeshChannel whose connections end in servers of the test, by this project's HTTP/2 or in grpc-js. */
import * as grpc from '@grpc/grpc-js';
import { headerField } from '../../src/hpack/field.ts';
import { HeaderList } from '../../src/hpack/headerlist.ts';
import { Connection } from '../../src/http2/connection.ts';
import type { ResetOrigin, Stream, StreamHandler } from '../../src/http2/stream.ts';
import { MeshChannel, type MeshChannelOptions } from '../../src/mesh/meshchannel.ts';
import { framed } from '../../src/mesh/messagereader.ts';
import { WireStream } from '../../src/mesh/wirestream.ts';
import { type MemoryWire, memoryWires } from '../../src/relay/memorywire.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { TestClient } from '../harness/greeter-client.ts';
import { contextOn } from '../relay/memorywire.ts';

export const clock = new FakeClock();
export const context = contextOn(clock);

/** One call as the far end has it. */
export class FarCall implements StreamHandler {
  readonly stream: Stream;
  readonly fields: HeaderList;
  body: Buffer = Buffer.alloc(0);
  fin: boolean;
  reset: [code: number, origin: ResetOrigin] | undefined;

  constructor(stream: Stream, fields: HeaderList, fin: boolean) {
    this.stream = stream;
    this.fields = fields;
    this.fin = fin;
  }

  onHeaders(): void {}
  onTrailers(): void {}
  onTaken(): void {}

  onData(stream: Stream, buf: Buffer, start: number, end: number, fin: boolean): void {
    this.body = Buffer.concat([this.body, buf.subarray(start, end)]);
    this.fin ||= fin;
    stream.credit(end - start);
  }

  onReset(_stream: Stream, code: number, origin: ResetOrigin): void {
    this.reset = [code, origin];
  }

  headers(fields: Record<string, string> = {}): this {
    const all = { ':status': '200', 'content-type': 'application/grpc', ...fields };
    this.stream.sendHeaders(listOf(all), false);
    return this;
  }

  /** A message with the length `claimed`, and `flag` as its first octet. */
  message(body: Buffer | string, { flag = 0, claimed }: { flag?: number; claimed?: number } = {}): this {
    const octets = framed(Buffer.from(body));
    octets[0] = flag;
    if (claimed !== undefined) octets.writeUInt32BE(claimed, 1);
    this.stream.send(octets, 0, octets.length, false);
    return this;
  }

  trailers(fields: Record<string, string>): void {
    this.stream.sendTrailers(listOf(fields));
  }

  /** An answer without a body. */
  only(fields: Record<string, string>): void {
    const all = { ':status': '200', 'content-type': 'application/grpc', ...fields };
    this.stream.sendHeaders(listOf(all), true);
  }
}

function listOf(fields: Record<string, string>): HeaderList {
  return HeaderList.of(Object.entries(fields).map(([name, value]) => headerField(name, value)));
}

/** What answers the channel's connections. */
export class Far {
  readonly calls: FarCall[] = [];
  readonly connections: Connection[] = [];
  /** Of each connection, why it ended. */
  readonly ended: boolean[] = [];
  onCall: (call: FarCall) => void = () => {};

  /** A wire to a new connection. */
  readonly connect = (): MemoryWire => {
    const [near, far] = memoryWires();
    const at = this.connections.length;
    this.ended.push(false);
    const connection = new Connection({
      role: 'server',
      sink: far,
      handler: {
        onRequest: (stream, list, _message, fin) => {
          const call = new FarCall(stream, list, fin);
          stream.handler = call;
          this.calls.push(call);
          this.onCall(call);
        },
        onOversizeRequest() {},
        onReady() {},
        onRoom() {},
        onGoaway() {},
        onStreamError() {},
        onEnd: () => far.close(),
      },
      monotonic: context.monotonic,
      schedule: context.turn.schedule,
      ...context.http2For('app', 'server'),
    });
    this.connections.push(connection);
    far.onDrain = () => connection.drained();
    far.onClose = () => {
      this.ended[at] = true;
      connection.transportClosed();
    };
    far.onData = (octets) => context.turn.receive(connection, octets);
    return near;
  };
}

export function channelTo(
  connect: () => MemoryWire | undefined,
  options: Partial<MeshChannelOptions> = {},
): MeshChannel {
  return new MeshChannel({ grpc, context, service: 'greeter', userAgent: 'test/1', connect, ...options });
}

export function clientOn(channel: MeshChannel, options: grpc.ClientOptions = {}): TestClient {
  return new TestClient('in-process', { options: { ...options, channelOverride: channel as never } });
}

/** A client to a Far. */
export function farSide(options: Partial<MeshChannelOptions> = {}) {
  const far = new Far();
  const channel = channelTo(far.connect, options);
  return { far, channel, client: clientOn(channel) };
}

/** A client to a grpc-js server. */
export function serverSide(server: grpc.Server, options: Partial<MeshChannelOptions> = {}) {
  const injector = server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
  const channel = channelTo(() => {
    const [near, far] = memoryWires();
    injector.injectConnection(new WireStream(far));
    return near;
  }, options);
  return { channel, client: clientOn(channel) };
}

const same = (octets: Buffer): Buffer => octets;

/** A method of octets. */
export const ECHO: grpc.MethodDefinition<Buffer, Buffer> = {
  path: '/test.Echo/Echo',
  requestStream: false,
  responseStream: false,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
};
