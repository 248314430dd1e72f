import { setTimeout as pause } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import { beforeAll, describe, expect, it } from 'vitest';
import { CallError } from '../../src/mesh/callerror.ts';
import { decodeEnvelope, encodeEnvelope } from '../../src/mesh/envelope.ts';
import { MeshError } from '../../src/mesh/errors.ts';
import type { MeshClient } from '../../src/mesh/meshclient.ts';
import { SecureMesh } from '../../src/mesh/securemesh.ts';
import { TestClient } from '../harness/greeter-client.ts';
import { type HelloReply, type HelloRequest, SayHello } from '../harness/greeter-methods.ts';
import { atEnd, type SidecarProcess, World } from '../harness/sidecars.ts';

/*
 * A program with a SecureMesh calls through a real sidecar process: generated clients, and clients by name. What serves
 * the latter here is a plain grpc-js server that speaks the envelope, behind the same sidecar.
 */

let world: World;
let greeter: SidecarProcess;
let mesh: SecureMesh;
let client: MeshClient;

/** What the methods by name have seen and left. */
const seen = { hanging: 0, cancelled: 0, metadata: new grpc.Metadata(), deadline: 0, written: 0 };

/** grpc-js takes null for no message. */
const boxed = (octets: Buffer): { value: unknown } => ({ value: decodeEnvelope(octets) });
const unboxed = ({ value }: { value: unknown }): Buffer => encodeEnvelope(value);

const definition = (path: string, requestStream: boolean, responseStream: boolean) => ({
  path,
  requestStream,
  responseStream,
  requestSerialize: unboxed,
  requestDeserialize: boxed,
  responseSerialize: unboxed,
  responseDeserialize: boxed,
});

const BY_NAME = {
  echo: definition('/named/echo', false, false),
  fail: definition('/named/fail', false, false),
  hang: definition('/named/hang', false, false),
  count: definition('/named/count', false, true),
  sum: definition('/named/sum', true, false),
  first: definition('/named/first', true, false),
  chat: definition('/named/chat', true, true),
};

type Box<T> = { readonly value: T };
type Unary = grpc.ServerUnaryCall<unknown, unknown>;
type Reply = grpc.sendUnaryData<unknown>;

async function startApp(): Promise<string> {
  const server = new grpc.Server();
  server.addService(BY_NAME, {
    echo: (call: Unary, reply: Reply) => {
      seen.metadata = call.metadata;
      seen.deadline = Number(call.getDeadline());
      reply(null, call.request);
    },
    fail: (_call: Unary, reply: Reply) => reply({ code: grpc.status.NOT_FOUND, details: 'nothing there' }),
    hang: (call: Unary) => {
      seen.hanging++;
      call.on('cancelled', () => seen.cancelled++);
    },
    count: (call: grpc.ServerWritableStream<Box<{ to: number; pad: number }>, unknown>) => {
      call.on('cancelled', () => seen.cancelled++);
      const { to, pad } = call.request.value;
      let next = 1;
      const go = (): void => {
        while (next <= to) {
          seen.written = next;
          if (!call.write({ value: { n: next++, pad: 'x'.repeat(pad) } })) {
            call.once('drain', go);
            return;
          }
        }
        call.end();
      };
      go();
    },
    sum: (call: grpc.ServerReadableStream<number, unknown>, reply: Reply) => {
      let sum = 0;
      call.on('data', ({ value }: Box<number>) => {
        sum += value;
      });
      call.on('end', () => reply(null, { value: sum }));
    },
    first: (call: grpc.ServerReadableStream<number, unknown>, reply: Reply) => {
      call.once('data', (n: Box<number>) => reply(null, n));
    },
    chat: (call: grpc.ServerDuplexStream<unknown, unknown>) => {
      call.on('data', ({ value: said }: Box<unknown>) => call.write({ value: { said } }));
      call.on('end', () => call.end());
      call.on('cancelled', () => seen.cancelled++);
    },
  });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(port),
    ),
  );
  atEnd(() => server.forceShutdown());
  return `127.0.0.1:${port}`;
}

beforeAll(async () => {
  world = await World.make();
  const app = await world.app();
  greeter = await world.sidecar('greeter', {
    ingress: {
      listen: '127.0.0.1:0',
      apps: [
        { service: 'greeter', address: app.address },
        { service: 'named', address: await startApp() },
      ],
      allow: [{ peer: 'spiffe://shop.example/ns/*/sa/*' }],
    },
  });
  await world.trust.issue('program');
  const peer = world.spiffeId('greeter');
  mesh = new SecureMesh({
    serviceId: 'program',
    keys: `${world.dir}/keys`,
    services: {
      greeter: greeter.ingress,
      named: { endpoints: [greeter.ingress], peer },
      nowhere: '127.0.0.1:9',
      impostor: greeter.ingress,
    },
  });
  await mesh.start();
  atEnd(() => mesh.cleanup());
  client = mesh.connect('named');
});

/** The CallError that a call rejects with. */
async function failure(call: Promise<unknown>): Promise<CallError> {
  const error = await call.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(error).toBeInstanceOf(CallError);
  return error as CallError;
}

async function collect<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const one of stream) all.push(one);
  return all;
}

/** Waits until something is so. */
async function until(holds: () => boolean): Promise<void> {
  for (let left = 1000; !holds(); left--) {
    if (left === 0) throw new Error('it never was so');
    await pause(10);
  }
}

describe('a generated client', () => {
  it('calls over the mesh, and shares its session with others', async () => {
    const Greeter = grpc.makeGenericClientConstructor({ SayHello }, 'Greeter');
    const one = mesh.client(Greeter, 'greeter');
    const other = new TestClient('greeter', {
      options: { channelOverride: mesh.channel('greeter') as never },
    });
    const reply = await new Promise<HelloReply>((resolve, reject) => {
      one.SayHello?.({ name: 'Ada' } satisfies HelloRequest, (error: unknown, reply: HelloReply) =>
        error ? reject(error) : resolve(reply),
      );
    });
    expect([reply.message, reply.peer]).toEqual(['Hello Ada, from greeter', world.spiffeId('program')]);
    const { message } = await other.unary(SayHello, { name: 'Grace' });
    expect(message).toMatchObject({ message: 'Hello Grace, from greeter', session: reply.session });
    expect(mesh.sessions.peek(reply.session)?.peer).toBe(world.spiffeId('greeter'));
    one.close();
    expect((await other.unary(SayHello, { name: 'Barbara' })).code).toBe(grpc.status.OK);
    other.close();
  });
});

describe('a client by name', () => {
  it.each<[string, unknown]>([
    ['an object', { name: 'Ada', list: [1, null, true], ü: '✓' }],
    ['null', null],
    ['a string', 'x'.repeat(100_000)],
    ['octets', Buffer.from([0, 1, 255])],
  ])('gets back what it sent: %s', async (_what, value) => {
    expect(await client.call('echo', value)).toEqual(value);
  });

  it('sends undefined as null', async () => {
    expect(await client.call('echo', undefined)).toBeNull();
  });

  it('sends metadata and a deadline', async () => {
    const before = Date.now();
    await client.call('echo', 1, {
      timeout: '20s',
      metadata: { who: ['a', 'b'], 'key-bin': Buffer.from([1]) },
    });
    expect(seen.metadata.get('who')).toEqual(['a, b']);
    expect(seen.metadata.get('key-bin')).toEqual([Buffer.from([1])]);
    expect(seen.metadata.get('hauberk-peer')).toEqual([world.spiffeId('program')]);
    expect(seen.deadline - before).toBeGreaterThan(10_000);
  });

  it('is told by a typed error what the program answered, and what a sidecar did', async () => {
    const own = await failure(client.call('fail', null));
    expect([own.status, own.details, own.reason]).toEqual(['NOT_FOUND', 'nothing there', undefined]);
    const none = await failure(client.call('nosuch', null));
    expect(none.status).toBe('UNIMPLEMENTED');
    const unreachable = await failure(mesh.connect('nowhere').call('echo', null));
    expect([unreachable.status, unreachable.reason]).toEqual(['UNAVAILABLE', 'peer-unreachable']);
    expect(unreachable.details).toContain('127.0.0.1:9');
    const impostor = await failure(mesh.connect('impostor').call('echo', null));
    expect([impostor.status, impostor.reason]).toEqual(['UNAVAILABLE', 'handshake-refused']);
  });

  it('gives up at its deadline, and when it is aborted, before or during', async () => {
    expect((await failure(client.call('hang', null, { timeout: 50 }))).status).toBe('DEADLINE_EXCEEDED');
    const abort = new AbortController();
    const before = { ...seen };
    const hanging = failure(client.call('hang', null, { signal: abort.signal }));
    await until(() => seen.hanging > before.hanging);
    abort.abort('enough');
    const { status, cause } = await hanging;
    expect([status, cause]).toEqual(['CANCELLED', 'enough']);
    await until(() => seen.cancelled > before.cancelled);
    const aborted = failure(client.call('hang', null, { signal: AbortSignal.abort('no') }));
    expect((await aborted).status).toBe('CANCELLED');
  });

  it('reads a stream, and holds it up by not reading', async () => {
    const all = await collect(client.serverStream<object, { n: number }>('count', { to: 100, pad: 0 }));
    expect(all.map(({ n }) => n)).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
    const slow = client.serverStream('count', { to: 10_000, pad: 10_000 });
    await slow.next();
    let before = -1;
    let stood = 0;
    await until(() => {
      stood = seen.written === before ? stood + 1 : 0;
      before = seen.written;
      return stood === 30 && before > 1;
    });
    expect(before).toBeLessThan(5000);
    const { cancelled } = seen;
    await slow.return();
    await until(() => seen.cancelled > cancelled);
  });

  it('writes a stream, and stops when the answer is there', async () => {
    expect(await client.clientStream('sum', [1, 2, 3])).toBe(6);
    let asked = 0;
    let closed = false;
    async function* endless(): AsyncGenerator<number> {
      try {
        for (;;) {
          yield asked++;
          await pause(1);
        }
      } finally {
        closed = true;
      }
    }
    expect(await client.clientStream('first', endless())).toBe(0);
    await until(() => closed);
    // What they throw when they are not needed any more harms nobody: the answer is there.
    function* sore(): Generator<number> {
      try {
        for (;;) yield 7;
      } finally {
        // biome-ignore lint/correctness/noUnsafeFinally: that is what is tried
        throw new RangeError('of its own');
      }
    }
    expect(await client.clientStream('first', sore())).toBe(7);
  });

  it('does both at once', async () => {
    const answers = client.bidiStream<string, { said: string }>('chat', ['a', 'b']);
    expect(await collect(answers)).toEqual([{ said: 'a' }, { said: 'b' }]);
    async function* broken(): AsyncGenerator<string> {
      yield 'a';
      throw new RangeError('of its own');
    }
    await expect(collect(client.bidiStream('chat', broken()))).rejects.toThrow(RangeError);
    await expect(client.clientStream('sum', broken())).rejects.toThrow(RangeError);
  });

  it('refuses what is no method, no timeout, no value, before anything is sent', async () => {
    await expect(client.call('a/b', 1)).rejects.toThrow(MeshError);
    await expect(client.call('echo', 1, { timeout: '5' })).rejects.toThrow(
      'timeout: expected milliseconds above 0',
    );
    await expect(client.clientStream('a/b', [])).rejects.toThrow(MeshError);
    await expect(client.call('echo', 1, { metadata: { 'no name': 'x' } })).rejects.toMatchObject({
      code: 'bad-option',
      message: 'metadata: Metadata key "no name" contains illegal characters',
    });
    const other = mesh.connect('named');
    other.close();
    await expect(other.call('echo', 1)).rejects.toMatchObject({ name: 'MeshError', code: 'ended' });
    expect((await failure(client.call('echo', 1n))).status).toBe('INTERNAL');
  });

  it('of a service that there is not says which there are', () => {
    expect(() => mesh.connect('nammed')).toThrow(
      'options.services has no "nammed" (there are greeter, named',
    );
    expect(() => mesh.connect('nammed')).toThrow('did you mean named?');
  });
});

it('a mesh that has ended makes no client, and says so to those it made', async () => {
  const other = await new SecureMesh({
    serviceId: 'program',
    keys: `${world.dir}/keys`,
    services: { named: { endpoints: [greeter.ingress], peer: world.spiffeId('greeter') } },
  }).start();
  const late = other.connect('named');
  expect(await late.call('echo', 1)).toBe(1);
  await other.cleanup();
  expect(() => other.connect('named')).toThrow('the mesh of program has ended');
  expect((await failure(late.call('echo', 1))).details).toContain('ended');
});
