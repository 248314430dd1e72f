/** The demo's services, loaded from proto/hauberk/demo/v1. */
import { fileURLToPath } from 'node:url';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const PROTO = fileURLToPath(new URL('../../../proto', import.meta.url));

export interface Point {
  latitude: number;
  longitude: number;
}

export interface Feature {
  name: string;
  location: Point;
}

export interface HelloReply {
  message: string;
  peer: string;
  session: string;
}

export interface RouteSummary {
  point_count: number;
  feature_count: number;
  distance: number;
}

export interface RouteNote {
  location: Point;
  message: string;
}

const packages = grpc.loadPackageDefinition(
  loadSync(['hauberk/demo/v1/greeter.proto', 'hauberk/demo/v1/route_guide.proto'], {
    includeDirs: [PROTO],
    keepCase: true,
    defaults: true,
  }),
) as unknown as {
  hauberk: {
    demo: { v1: { Greeter: grpc.ServiceClientConstructor; RouteGuide: grpc.ServiceClientConstructor } };
  };
};

export const { Greeter, RouteGuide } = packages.hauberk.demo.v1;
