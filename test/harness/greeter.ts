/**
 * The called app of the tests: a real grpc-js server with the demo services, gRPC health, reflection, and hooks
 * by which a test makes it misbehave and hears what it saw.
 */
import { EventEmitter } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import type {
  Failure,
  Feature,
  HelloReply,
  HelloRequest,
  Order,
  Payload,
  Point,
  Received,
  Rectangle,
  ReflectionRequest,
  ReflectionResponse,
  RouteNote,
  RouteSummary,
  Total,
} from './greeter-methods.ts';
import { definitions, SERVICES, serviceDefinition } from './greeter-methods.ts';

export interface GreeterOptions {
  /** `host:port` or `unix:/path`; a free port of 127.0.0.1 by default. */
  listen?: string;
  /** Greets as this app; `greeter` by default. */
  name?: string;
  options?: grpc.ServerOptions;
}

/** What the app saw: a call that came, or one that its caller or the network took back. */
export interface Sighting {
  readonly method: string;
  readonly what: 'called' | 'cancelled' | 'half-closed';
  readonly metadata: grpc.Metadata;
}

const FEATURES: readonly Feature[] = [
  { name: 'Berkshire Valley', location: { latitude: 408122808, longitude: -743999179 } },
  { name: 'Pohatcong Mountain', location: { latitude: 407838351, longitude: -746143763 } },
  { name: 'Patriots Path', location: { latitude: 409146138, longitude: -746188906 } },
  { name: 'New York', location: { latitude: 407127530, longitude: -740059770 } },
];

export class Greeter {
  /** Where it listens, as a sidecar's configuration takes it: `127.0.0.1:port` or `unix:/path`. */
  readonly address: string;
  readonly name: string;
  readonly sightings: Sighting[] = [];
  /** Octets of messages that `Download` has handed to grpc-js; it waits while grpc-js wants no more. */
  downloaded = 0;
  /** Connections to it; a test may stop reading them, or cut them. */
  readonly sockets = new Set<Socket>();
  readonly #server: grpc.Server;
  readonly #listener: Server;
  readonly #seen = new EventEmitter().setMaxListeners(0);
  readonly #health = new HealthImplementation({ '': 'SERVING' });
  readonly #notes: RouteNote[] = [];

  private constructor(server: grpc.Server, listener: Server, address: string, name: string) {
    this.#server = server;
    this.#listener = listener;
    this.address = address;
    this.name = name;
  }

  static async start({ listen = '127.0.0.1:0', name = 'greeter', options = {} }: GreeterOptions = {}) {
    const server = new grpc.Server({
      'grpc.max_receive_message_length': -1,
      'grpc.max_send_message_length': -1,
      ...options,
    });
    let greeter: Greeter | undefined;
    const use = (): Greeter => greeter as Greeter;
    addServices(server, use);
    const listener = createServer();
    const injector = server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject);
      if (listen.startsWith('unix:')) listener.listen(listen.slice(5), resolve);
      else listener.listen(Number(listen.slice(listen.lastIndexOf(':') + 1)), hostOf(listen), resolve);
    });
    const bound = listener.address() as AddressInfo | string;
    const address = typeof bound === 'string' ? listen : `${hostOf(listen)}:${bound.port}`;
    greeter = new Greeter(server, listener, address, name);
    const { sockets } = greeter;
    listener.on('connection', (socket) => {
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
      injector.injectConnection(socket);
    });
    greeter.#health.addToServer(server);
    return greeter;
  }

  /** Calls that came to a method, or to any. */
  calls(method?: string): number {
    return this.sightings.filter((s) => s.what === 'called' && (method === undefined || s.method === method))
      .length;
  }

  /** The nth sighting of its kind, waiting for it if need be; the first by default. */
  async saw(method: string, what: Sighting['what'], nth = 1): Promise<Sighting> {
    for (;;) {
      const found = this.sightings.filter((s) => s.method === method && s.what === what);
      if (found.length >= nth) return found[nth - 1] as Sighting;
      await new Promise<void>((resolve) => this.#seen.once('sighting', resolve));
    }
  }

  /** For the services: notes a call and watches for its cancellation. */
  note(method: string, call: { metadata: grpc.Metadata } & EventEmitter): void {
    this.sight({ method, what: 'called', metadata: call.metadata });
    call.on('cancelled', () => this.sight({ method, what: 'cancelled', metadata: call.metadata }));
  }

  sight(sighting: Sighting): void {
    this.sightings.push(sighting);
    this.#seen.emit('sighting');
  }

  /** The answer to a note: those left at its place before. */
  exchange(note: RouteNote): RouteNote[] {
    const { latitude, longitude } = note.location;
    const before = this.#notes.filter(
      ({ location }) => location.latitude === latitude && location.longitude === longitude,
    );
    this.#notes.push(note);
    return before;
  }

  setHealth(service: string, status: 'SERVING' | 'NOT_SERVING'): void {
    this.#health.setStatus(service, status);
  }

  /** Ends it as a crash would: its connections are cut. */
  kill(): void {
    this.#listener.close();
    for (const socket of this.sockets) socket.destroy();
    this.#server.forceShutdown();
  }
}

const hostOf = (listen: string): string => listen.slice(0, listen.lastIndexOf(':'));

function addServices(server: grpc.Server, app: () => Greeter): void {
  server.addService(serviceDefinition(SERVICES.greeter), {
    SayHello(
      call: grpc.ServerUnaryCall<HelloRequest, HelloReply>,
      callback: grpc.sendUnaryData<HelloReply>,
    ): void {
      app().note('SayHello', call);
      callback(null, {
        message: `Hello ${call.request.name}, from ${app().name}`,
        peer: String(call.metadata.get('hauberk-peer').join()),
        session: String(call.metadata.get('hauberk-session').join()),
      });
    },
  });
  server.addService(serviceDefinition(SERVICES.routeGuide), routeGuide(app));
  server.addService(serviceDefinition(SERVICES.hooks), hooks(app));
  server.addService(serviceDefinition(SERVICES.reflection), reflection(app));
}

function routeGuide(app: () => Greeter): grpc.UntypedServiceImplementation {
  const featureAt = ({ latitude, longitude }: Point): Feature =>
    FEATURES.find(({ location }) => location.latitude === latitude && location.longitude === longitude) ?? {
      name: '',
      location: { latitude, longitude },
    };
  return {
    GetFeature(call: grpc.ServerUnaryCall<Point, Feature>, callback: grpc.sendUnaryData<Feature>): void {
      app().note('GetFeature', call);
      callback(null, featureAt(call.request));
    },
    ListFeatures(call: grpc.ServerWritableStream<Rectangle, Feature>): void {
      app().note('ListFeatures', call);
      const { lo, hi } = call.request;
      const inside = FEATURES.filter(
        ({ location: { latitude, longitude } }) =>
          latitude >= Math.min(lo.latitude, hi.latitude) &&
          latitude <= Math.max(lo.latitude, hi.latitude) &&
          longitude >= Math.min(lo.longitude, hi.longitude) &&
          longitude <= Math.max(lo.longitude, hi.longitude),
      );
      for (const feature of inside.sort((a, b) => a.location.latitude - b.location.latitude))
        call.write(feature);
      call.end();
    },
    RecordRoute(
      call: grpc.ServerReadableStream<Point, RouteSummary>,
      callback: grpc.sendUnaryData<RouteSummary>,
    ): void {
      app().note('RecordRoute', call);
      const summary: RouteSummary = { pointCount: 0, featureCount: 0, distance: 0 };
      let last: Point | undefined;
      call.on('data', (point: Point) => {
        summary.pointCount++;
        if (featureAt(point).name !== '') summary.featureCount++;
        if (last !== undefined) summary.distance += metresBetween(last, point);
        last = point;
      });
      call.on('end', () => callback(null, { ...summary, distance: Math.round(summary.distance) }));
    },
    RouteChat(call: grpc.ServerDuplexStream<RouteNote, RouteNote>): void {
      app().note('RouteChat', call);
      call.on('data', (note: RouteNote) => {
        for (const before of app().exchange(note)) call.write(before);
      });
      call.on('end', () => call.end());
    },
  };
}

/** By the haversine formula. */
function metresBetween(a: Point, b: Point): number {
  const radians = (e7: number): number => (e7 / 1e7) * (Math.PI / 180);
  const half = (x: number, y: number): number => Math.sin((radians(x) - radians(y)) / 2) ** 2;
  const chord =
    half(a.latitude, b.latitude) +
    Math.cos(radians(a.latitude)) * Math.cos(radians(b.latitude)) * half(a.longitude, b.longitude);
  return 2 * 6_371_000 * Math.asin(Math.sqrt(chord));
}

function hooks(app: () => Greeter): grpc.UntypedServiceImplementation {
  return {
    Echo(call: grpc.ServerUnaryCall<Payload, Received>, callback: grpc.sendUnaryData<Received>): void {
      app().note('Echo', call);
      const back = echoed(call.metadata);
      call.sendMetadata(back);
      const deadline = call.getDeadline();
      const received: Received = {
        data: call.request.data,
        metadata: entries(call.metadata),
        timeLeft: Number(deadline) === Number.POSITIVE_INFINITY ? -1 : Number(deadline) - Date.now(),
      };
      callback(null, received, back.clone());
    },
    Fail(call: grpc.ServerUnaryCall<Failure, Payload>, callback: grpc.sendUnaryData<Payload>): void {
      app().note('Fail', call);
      const { code, details } = call.request;
      callback({ code, details, metadata: echoed(call.metadata) });
    },
    Hang(call: grpc.ServerUnaryCall<Payload, Payload>): void {
      app().note('Hang', call);
    },
    Upload(call: grpc.ServerReadableStream<Payload, Total>, callback: grpc.sendUnaryData<Total>): void {
      app().note('Upload', call);
      const total: Total = { messages: 0, octets: 0 };
      call.on('data', ({ data }: Payload) => {
        total.messages++;
        total.octets += data.length;
      });
      call.on('end', () => {
        app().sight({ method: 'Upload', what: 'half-closed', metadata: call.metadata });
        callback(null, total);
      });
    },
    Hasty(call: grpc.ServerReadableStream<Payload, Total>, callback: grpc.sendUnaryData<Total>): void {
      app().note('Hasty', call);
      call.once('data', ({ data }: Payload) => callback(null, { messages: 1, octets: data.length }));
    },
    async Download(call: grpc.ServerWritableStream<Order, Payload>): Promise<void> {
      app().note('Download', call);
      const { count, size } = call.request;
      const data = Buffer.alloc(size, 0x5a);
      for (let i = 0; i < count && !call.cancelled; i++) {
        app().downloaded += size;
        if (!call.write({ data })) {
          await new Promise<void>((resolve) => {
            const go = (): void => {
              call.removeListener('drain', go).removeListener('cancelled', go);
              resolve();
            };
            call.on('drain', go).on('cancelled', go);
          });
        } else await turn();
      }
      call.end();
    },
    Trickle(call: grpc.ServerWritableStream<Payload, Payload>): void {
      app().note('Trickle', call);
      call.write(call.request);
    },
    Chat(call: grpc.ServerDuplexStream<Payload, Payload>): void {
      app().note('Chat', call);
      call.on('data', (payload: Payload) => call.write(payload));
      call.on('end', () => {
        app().sight({ method: 'Chat', what: 'half-closed', metadata: call.metadata });
        call.end();
      });
    },
  };
}

/** The `x-...` keys, all values of each in their order. */
function echoed(metadata: grpc.Metadata): grpc.Metadata {
  const back = new grpc.Metadata();
  for (const key of Object.keys(metadata.getMap())) {
    if (!key.startsWith('x-')) continue;
    for (const value of metadata.get(key)) back.add(key, value);
  }
  return back;
}

function entries(metadata: grpc.Metadata): Received['metadata'] {
  return Object.keys(metadata.getMap()).flatMap((key) =>
    metadata.get(key).map((value) => ({ key, value: Buffer.from(value) })),
  );
}

function reflection(app: () => Greeter): grpc.UntypedServiceImplementation {
  const names = Object.values(SERVICES);
  const answer = (request: ReflectionRequest): ReflectionResponse => {
    if (request.fileContainingSymbol !== undefined) {
      const service = definitions[request.fileContainingSymbol];
      const first = service === undefined ? undefined : Object.values(service)[0];
      if (first === undefined) return { errorResponse: { errorCode: 5, errorMessage: 'no such symbol' } };
      return { fileDescriptorResponse: { fileDescriptorProto: first.requestType.fileDescriptorProtos } };
    }
    return { listServicesResponse: { service: names.map((name) => ({ name })) } };
  };
  return {
    ServerReflectionInfo(call: grpc.ServerDuplexStream<ReflectionRequest, ReflectionResponse>): void {
      app().note('ServerReflectionInfo', call);
      call.on('data', (request: ReflectionRequest) => call.write(answer(request)));
      call.on('end', () => call.end());
    },
  };
}
