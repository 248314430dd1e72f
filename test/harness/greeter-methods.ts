import { fileURLToPath } from 'node:url';
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import { loadSync, type PackageDefinition } from '@grpc/proto-loader';
import { service as healthService } from 'grpc-health-check';

/** The methods of the test app, typed. Messages are plain objects in camelCase with every field present. */

const path = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

const PROTOS = [
  path('../../proto/hauberk/demo/v1/greeter.proto'),
  path('../../proto/hauberk/demo/v1/route_guide.proto'),
  path('hooks.proto'),
  path('reflection.proto'),
];

export const definitions: PackageDefinition = loadSync(PROTOS, {
  longs: Number,
  defaults: true,
  oneofs: true,
});

export interface HelloRequest {
  name: string;
}
export interface HelloReply {
  message: string;
  peer: string;
  session: string;
}
export interface Point {
  latitude: number;
  longitude: number;
}
export interface Rectangle {
  lo: Point;
  hi: Point;
}
export interface Feature {
  name: string;
  location: Point;
}
export interface RouteNote {
  location: Point;
  message: string;
}
export interface RouteSummary {
  pointCount: number;
  featureCount: number;
  distance: number;
}
export interface Payload {
  data: Buffer;
}
/** One value of one metadata key, as the app saw it. */
export interface Entry {
  key: string;
  value: Buffer;
}
export interface Received {
  data: Buffer;
  metadata: Entry[];
  timeLeft: number;
}
export interface Failure {
  code: number;
  details: string;
}
export interface Total {
  messages: number;
  octets: number;
}
export interface Order {
  count: number;
  size: number;
}
export interface HealthReply {
  status: 'UNKNOWN' | 'SERVING' | 'NOT_SERVING' | 'SERVICE_UNKNOWN';
}
export interface ReflectionRequest {
  host?: string;
  fileContainingSymbol?: string;
  listServices?: string;
}
export interface ReflectionResponse {
  fileDescriptorResponse?: { fileDescriptorProto: Buffer[] };
  listServicesResponse?: { service: { name: string }[] };
  errorResponse?: { errorCode: number; errorMessage: string };
}

export const SERVICES = {
  greeter: 'hauberk.demo.v1.Greeter',
  routeGuide: 'hauberk.demo.v1.RouteGuide',
  hooks: 'hauberk.test.v1.Hooks',
  reflection: 'grpc.reflection.v1.ServerReflection',
} as const;

export function serviceDefinition(name: string): ServiceDefinition {
  return definitions[name] as unknown as ServiceDefinition;
}

function method<Req, Res>(service: string, name: string): MethodDefinition<Req, Res> {
  const found = serviceDefinition(service)[name];
  if (found === undefined) throw new Error(`the protos have no ${service}/${name}`);
  return found as MethodDefinition<Req, Res>;
}

const health = <Req, Res>(name: string): MethodDefinition<Req, Res> =>
  (healthService as unknown as ServiceDefinition)[name] as MethodDefinition<Req, Res>;

export const SayHello = method<HelloRequest, HelloReply>(SERVICES.greeter, 'SayHello');
export const GetFeature = method<Point, Feature>(SERVICES.routeGuide, 'GetFeature');
export const ListFeatures = method<Rectangle, Feature>(SERVICES.routeGuide, 'ListFeatures');
export const RecordRoute = method<Point, RouteSummary>(SERVICES.routeGuide, 'RecordRoute');
export const RouteChat = method<RouteNote, RouteNote>(SERVICES.routeGuide, 'RouteChat');
export const Echo = method<Payload, Received>(SERVICES.hooks, 'Echo');
export const Fail = method<Failure, Payload>(SERVICES.hooks, 'Fail');
export const Hang = method<Payload, Payload>(SERVICES.hooks, 'Hang');
export const Upload = method<Payload, Total>(SERVICES.hooks, 'Upload');
export const Hasty = method<Payload, Total>(SERVICES.hooks, 'Hasty');
export const Download = method<Order, Payload>(SERVICES.hooks, 'Download');
export const Trickle = method<Payload, Payload>(SERVICES.hooks, 'Trickle');
export const Chat = method<Payload, Payload>(SERVICES.hooks, 'Chat');
export const HealthCheck = health<{ service: string }, HealthReply>('Check');
export const HealthWatch = health<{ service: string }, HealthReply>('Watch');
export const ServerReflection = method<ReflectionRequest, ReflectionResponse>(
  SERVICES.reflection,
  'ServerReflectionInfo',
);
