/** The app behind the second sidecar: a plain grpc-js server that knows nothing of Hauberk. */
import * as grpc from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import { ListenError } from '../../relay/listener.ts';
import {
  type Feature,
  Greeter,
  type HelloReply,
  type Point,
  RouteGuide,
  type RouteNote,
  type RouteSummary,
} from './api.ts';

const FEATURES: readonly Feature[] = [
  { name: 'Patriots Path, Mendham', location: { latitude: 407838351, longitude: -746143763 } },
  { name: '101 New Jersey 10, Whippany', location: { latitude: 408122808, longitude: -743999179 } },
  { name: 'U.S. 6, Shohola', location: { latitude: 413628156, longitude: -749015468 } },
  { name: '5 Conners Road, Kingston', location: { latitude: 419999544, longitude: -740371136 } },
];

const same = (a: Point, b: Point): boolean => a.latitude === b.latitude && a.longitude === b.longitude;

const greeter = {
  sayHello(
    call: grpc.ServerUnaryCall<{ name: string }, HelloReply>,
    done: grpc.sendUnaryData<HelloReply>,
  ): void {
    const told = (name: string): string => String(call.metadata.get(name)[0] ?? '');
    done(null, {
      message: `Hello, ${call.request.name}!`,
      peer: told('hauberk-peer'),
      session: told('hauberk-session'),
    });
  },
};

const routeGuide = {
  getFeature(call: grpc.ServerUnaryCall<Point, Feature>, done: grpc.sendUnaryData<Feature>): void {
    const found = FEATURES.find(({ location }) => same(location, call.request));
    done(null, found ?? { name: '', location: call.request });
  },

  listFeatures(call: grpc.ServerWritableStream<{ lo: Point; hi: Point }, Feature>): void {
    const { lo, hi } = call.request;
    for (const feature of FEATURES) {
      const { latitude } = feature.location;
      if (latitude >= lo.latitude && latitude <= hi.latitude) call.write(feature);
    }
    call.end();
  },

  recordRoute(
    call: grpc.ServerReadableStream<Point, RouteSummary>,
    done: grpc.sendUnaryData<RouteSummary>,
  ): void {
    const points: Point[] = [];
    call.on('data', (point: Point) => points.push(point));
    call.on('end', () => {
      const seen = FEATURES.filter(({ location }) => points.some((point) => same(point, location)));
      const legs = points.slice(1).map((point, i) => metres(points[i] as Point, point));
      const distance = Math.round(legs.reduce((sum, leg) => sum + leg, 0));
      done(null, { point_count: points.length, feature_count: seen.length, distance });
    });
  },

  routeChat(call: grpc.ServerDuplexStream<RouteNote, RouteNote>): void {
    const notes: RouteNote[] = [];
    call.on('data', (note: RouteNote) => {
      for (const earlier of notes) if (same(earlier.location, note.location)) call.write(earlier);
      notes.push(note);
    });
    call.on('end', () => call.end());
  },
};

const EARTH_RADIUS = 6_371_000; // metres

/** Great-circle distance (haversine). */
function metres(a: Point, b: Point): number {
  const radians = (e7: number): number => (e7 / 1e7) * (Math.PI / 180);
  const dLat = radians(b.latitude - a.latitude);
  const dLon = radians(b.longitude - a.longitude);
  const h =
    Math.sin(dLat / 2) ** 2 +
    Math.cos(radians(a.latitude)) * Math.cos(radians(b.latitude)) * Math.sin(dLon / 2) ** 2;
  return 2 * EARTH_RADIUS * Math.asin(Math.sqrt(h));
}

export interface DemoServer {
  readonly port: number;
  close(): void;
}

/** Starts the app, in plaintext; on a free port of loopback unless it is told where. */
export async function startServer(listen = '127.0.0.1:0'): Promise<DemoServer> {
  const server = new grpc.Server();
  server.addService(Greeter.service, greeter);
  server.addService(RouteGuide.service, routeGuide);
  new HealthImplementation({ '': 'SERVING' }).addToServer(server);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(listen, grpc.ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) resolve(bound);
      else reject(new ListenError(`cannot listen on ${listen}: ${error.message}`, { cause: error }));
    });
  });
  return { port, close: () => server.forceShutdown() };
}
