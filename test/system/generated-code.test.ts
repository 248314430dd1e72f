import { create } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { beforeAll, describe, expect, it } from 'vitest';
import { serviceDefinition } from '../../src/mesh/bufbuild.ts';
import { SecureMesh } from '../../src/mesh/securemesh.ts';
import { SecureMeshServer } from '../../src/mesh/securemeshserver.ts';
import {
  HelloReplySchema,
  type HelloRequest,
  Greeter as SchemaGreeter,
} from '../fixtures/generated/es/hauberk/demo/v1/greeter_pb.ts';
import {
  PointSchema,
  RouteGuide,
  RouteNoteSchema,
} from '../fixtures/generated/es/hauberk/demo/v1/route_guide_pb.ts';
import { GreeterClient } from '../fixtures/generated/ts-proto/hauberk/demo/v1/greeter.ts';
import {
  type Feature,
  RouteGuideClient,
  type RouteGuideServer,
  RouteGuideService,
  type RouteNote,
  type RouteSummary,
} from '../fixtures/generated/ts-proto/hauberk/demo/v1/route_guide.ts';
import { atEnd, World } from '../harness/sidecars.ts';

/*
 * Code of each generator calls through a mesh in this process, and serves: none of it knows of Hauberk. The clients are typed
 * as their generator has it, without a cast.
 */

const PROTOS = new URL('../../proto/hauberk/demo/v1/', import.meta.url).pathname;

let mesh: SecureMesh;
beforeAll(async () => {
  const world = await World.make();
  await world.identityFiles('greeter');
  await world.identityFiles('web');
  const keys = world.trust.dir;
  const server = new SecureMeshServer({ serviceId: 'greeter', keys, host: '127.0.0.1', log: 'silent' });
  // Served by @bufbuild/protobuf's code, and by ts-proto's.
  server.addService(serviceDefinition(SchemaGreeter), {
    sayHello(call: grpc.ServerUnaryCall<HelloRequest, unknown>, reply: grpc.sendUnaryData<unknown>) {
      if (call.request.name === '') {
        reply({ code: grpc.status.INVALID_ARGUMENT, details: 'nobody' });
        return;
      }
      reply(null, create(HelloReplySchema, { message: `Hello ${call.request.name}` }));
    },
  });
  server.addService(RouteGuideService, ROUTES);
  const port = await server.start();
  atEnd(() => server.cleanup(0));
  mesh = new SecureMesh({
    serviceId: 'web',
    keys,
    log: 'silent',
    services: { greeter: `127.0.0.1:${port}` },
  });
  await mesh.start();
  atEnd(() => mesh.cleanup(0));
});

const FEATURES = Array.from(
  { length: 5 },
  (_, i): Feature => ({
    name: `peak ${i}`,
    location: { latitude: i, longitude: 1 - i },
  }),
);

const ROUTES: RouteGuideServer = {
  getFeature: (call, reply) => reply(null, { name: 'here', location: call.request }),
  listFeatures(call) {
    for (const feature of FEATURES) call.write(feature);
    call.end();
  },
  recordRoute(call, reply) {
    let pointCount = 0;
    call.on('data', () => pointCount++);
    call.on('end', () => reply(null, { pointCount, featureCount: 0, distance: 7 }));
  },
  routeChat(call) {
    call.on('data', (note) => call.write({ ...note, message: `${note.message}!` }));
    call.on('end', () => call.end());
  },
};

const all = async <T>(stream: AsyncIterable<T>): Promise<T[]> => {
  const messages: T[] = [];
  for await (const message of stream) messages.push(message);
  return messages;
};

describe('ts-proto (outputServices=grpc-js)', () => {
  it('calls methods of all four kinds', async () => {
    const greeter = mesh.client(GreeterClient, 'greeter');
    const reply = await new Promise<string>((resolve, reject) => {
      greeter.sayHello({ name: 'World' }, (error, { message }) => (error ? reject(error) : resolve(message)));
    });
    expect(reply).toBe('Hello World');
    const routes = mesh.client(RouteGuideClient, 'greeter');
    const point = { latitude: 1, longitude: 2 };
    const feature = await new Promise<Feature>((resolve, reject) => {
      routes.getFeature(point, (error, found) => (error ? reject(error) : resolve(found)));
    });
    expect(feature).toEqual({ name: 'here', location: point });
    const listed: Feature[] = await all(routes.listFeatures({ lo: undefined, hi: undefined }));
    expect(listed).toEqual(FEATURES);
    const summary = await new Promise<RouteSummary>((resolve, reject) => {
      const call = routes.recordRoute((error, value) => (error ? reject(error) : resolve(value)));
      for (let i = 0; i < 3; i++) call.write(point);
      call.end();
    });
    expect(summary).toMatchObject({ pointCount: 3, distance: 7 });
    const chat = routes.routeChat();
    for (const message of ['a', 'b']) chat.write({ location: undefined, message });
    chat.end();
    const notes: RouteNote[] = await all(chat);
    expect(notes.map(({ message }) => message)).toEqual(['a!', 'b!']);
  });
});

describe('options of a client', () => {
  it.each(['grpc.max_receive_message_length', 'grpc.max_send_message_length'])('count: %s', async (limit) => {
    const greeter = mesh.client(GreeterClient, 'greeter', { [limit]: 8 });
    const code = await new Promise((resolve) => {
      greeter.sayHello({ name: 'World and all' }, (error) => resolve(error?.code));
    });
    expect(code).toBe(grpc.status.RESOURCE_EXHAUSTED);
  });

  it('count: interceptors', async () => {
    const seen: string[] = [];
    const interceptor: grpc.Interceptor = (options, next) => {
      seen.push(options.method_definition.path);
      return new grpc.InterceptingCall(next(options));
    };
    const greeter = mesh.client(GreeterClient, 'greeter', { interceptors: [interceptor] });
    await new Promise<void>((resolve, reject) => {
      greeter.sayHello({ name: 'x' }, (error) => (error ? reject(error) : resolve()));
    });
    expect(seen).toEqual(['/hauberk.demo.v1.Greeter/SayHello']);
  });
});

describe('proto-loader', () => {
  it('makes a client whose calls go through', async () => {
    const loaded = grpc.loadPackageDefinition(loadSync(`${PROTOS}greeter.proto`));
    const { Greeter } = (loaded as { hauberk: { demo: { v1: { Greeter: grpc.ServiceClientConstructor } } } })
      .hauberk.demo.v1;
    const client = mesh.client(Greeter, 'greeter');
    const say = (name: string): Promise<{ message: string }> =>
      new Promise((resolve, reject) => {
        client.SayHello?.({ name }, (error: grpc.ServiceError | null, reply: { message: string }) =>
          error === null ? resolve(reply) : reject(error),
        );
      });
    expect((await say('World')).message).toBe('Hello World');
    await expect(say('')).rejects.toMatchObject({ code: grpc.status.INVALID_ARGUMENT, details: 'nobody' });
  });
});

describe('@bufbuild/protobuf (protoc-gen-es)', () => {
  it('has a service for grpc-js, of all four kinds', () => {
    const kinds = Object.entries(serviceDefinition(RouteGuide)).map(
      ([name, { path, originalName, requestStream, responseStream }]) =>
        [name, path, originalName, requestStream, responseStream] as const,
    );
    const path = (name: string): string => `/hauberk.demo.v1.RouteGuide/${name}`;
    expect(kinds).toEqual([
      ['getFeature', path('GetFeature'), 'GetFeature', false, false],
      ['listFeatures', path('ListFeatures'), 'ListFeatures', false, true],
      ['recordRoute', path('RecordRoute'), 'RecordRoute', true, false],
      ['routeChat', path('RouteChat'), 'RouteChat', true, true],
    ]);
  });

  it('writes what ts-proto reads, and the reverse', () => {
    const { routeChat } = serviceDefinition(RouteGuide);
    const note = { location: { latitude: -3, longitude: 4 }, message: 'höhe' };
    const octets = routeChat.requestSerialize(note);
    expect(RouteGuideService.routeChat.requestDeserialize(octets)).toEqual(note);
    const back = routeChat.responseDeserialize(RouteGuideService.routeChat.responseSerialize(note));
    expect(back).toEqual(create(RouteNoteSchema, note));
    expect(back.location?.latitude).toBe(-3);
  });

  it('calls through a client class that grpc-js makes of it, and through a channel', async () => {
    const Client = grpc.makeGenericClientConstructor(serviceDefinition(RouteGuide), 'RouteGuide');
    const client = mesh.client(Client, 'greeter');
    const { getFeature } = serviceDefinition(RouteGuide);
    const feature = await new Promise((resolve, reject) => {
      client.getFeature?.({ latitude: 5 }, (error: grpc.ServiceError | null, found: unknown) =>
        error === null ? resolve(found) : reject(error),
      );
    });
    expect(feature).toMatchObject({ name: 'here', location: { latitude: 5, longitude: 0 } });
    const plain = new grpc.Client('greeter', grpc.credentials.createInsecure(), {
      channelOverride: mesh.channel('greeter'),
    });
    const typed = await new Promise<string>((resolve, reject) => {
      plain.makeUnaryRequest(
        getFeature.path,
        getFeature.requestSerialize,
        getFeature.responseDeserialize,
        create(PointSchema, { latitude: 6 }),
        (error, found) => (error === null && found ? resolve(found.name) : reject(error)),
      );
    });
    expect(typed).toBe('here');
  });
});

describe('Connect over mesh.socket', () => {
  it('calls methods of all four kinds', async () => {
    const transport = createGrpcTransport({
      baseUrl: 'http://greeter',
      nodeOptions: { createConnection: () => mesh.socket('greeter') },
    });
    const greeter = createClient(SchemaGreeter, transport);
    expect((await greeter.sayHello({ name: 'Connect' })).message).toBe('Hello Connect');
    await expect(greeter.sayHello({ name: '' })).rejects.toMatchObject({ rawMessage: 'nobody', code: 3 });
    const routes = createClient(RouteGuide, transport);
    const names = (await all(routes.listFeatures({}))).map(({ name }) => name);
    expect(names).toEqual(FEATURES.map(({ name }) => name));
    const points = async function* () {
      for (let i = 0; i < 3; i++) yield { latitude: i };
    };
    expect((await routes.recordRoute(points())).pointCount).toBe(3);
    const notes = async function* () {
      for (const message of ['a', 'b']) yield { message };
    };
    expect((await all(routes.routeChat(notes()))).map(({ message }) => message)).toEqual(['a!', 'b!']);
  });
});
