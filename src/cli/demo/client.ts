/** The app in front of the first sidecar: a plain grpc-js client. */
import * as grpc from '@grpc/grpc-js';
import {
  type Feature,
  Greeter,
  type HelloReply,
  type Point,
  RouteGuide,
  type RouteNote,
  type RouteSummary,
} from './api.ts';

const point = (latitude: number, longitude: number): Point => ({ latitude, longitude });
const MENDHAM = point(407838351, -746143763);
const WHIPPANY = point(408122808, -743999179);

export class DemoClient {
  readonly #greeter: grpc.Client;
  readonly #guide: grpc.Client;

  /** `target` is where to connect; `service` what to call there, where that is a sidecar's egress listener. */
  constructor(target: string, service?: string) {
    const options: grpc.ClientOptions = service === undefined ? {} : { 'grpc.default_authority': service };
    this.#greeter = new Greeter(target, grpc.credentials.createInsecure(), options);
    this.#guide = new RouteGuide(target, grpc.credentials.createInsecure(), options);
  }

  hello(name: string): Promise<HelloReply> {
    return unary(this.#greeter, 'sayHello', { name });
  }

  feature(): Promise<Feature> {
    return unary(this.#guide, 'getFeature', MENDHAM);
  }

  /** Server-streaming. */
  async features(): Promise<Feature[]> {
    const call = method<(request: unknown) => AsyncIterable<Feature>>(
      this.#guide,
      'listFeatures',
    )({
      lo: point(400000000, -750000000),
      hi: point(415000000, -730000000),
    });
    const features: Feature[] = [];
    for await (const feature of call) features.push(feature);
    return features;
  }

  /** Client-streaming. */
  recordRoute(): Promise<RouteSummary> {
    return new Promise((resolve, reject) => {
      const open = method<(done: grpc.requestCallback<RouteSummary>) => grpc.ClientWritableStream<Point>>(
        this.#guide,
        'recordRoute',
      );
      const call = open((error, summary) =>
        error === null ? resolve(summary as RouteSummary) : reject(error),
      );
      for (const stop of [MENDHAM, point(408000000, -745000000), WHIPPANY]) call.write(stop);
      call.end();
    });
  }

  /** Bidirectional. */
  async chat(): Promise<RouteNote[]> {
    const call = method<() => grpc.ClientDuplexStream<RouteNote, RouteNote>>(this.#guide, 'routeChat')();
    for (const message of ['first', 'second', 'third']) call.write({ location: MENDHAM, message });
    call.end();
    const notes: RouteNote[] = [];
    for await (const note of call as AsyncIterable<RouteNote>) notes.push(note);
    return notes;
  }

  close(): void {
    this.#greeter.close();
    this.#guide.close();
  }
}

/** A generated method of a dynamic client, with its type. */
function method<F extends (...args: never[]) => unknown>(client: grpc.Client, name: string): F {
  const found = (client as unknown as Record<string, F>)[name] as F;
  return found.bind(client) as F;
}

function unary<T>(client: grpc.Client, name: string, request: unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    const call = method<
      (request: unknown, options: grpc.CallOptions, done: grpc.requestCallback<T>) => grpc.ClientUnaryCall
    >(client, name);
    const deadline = Date.now() + 10_000;
    call(request, { deadline }, (error, reply) => (error === null ? resolve(reply as T) : reject(error)));
  });
}
