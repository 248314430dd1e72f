import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { loadDiscoveryDefinition } from '../../control/definition.ts';
import type { ControllerContext, ControllerPart } from '../part.ts';
import { ClusterView } from './clusterview.ts';
import { DiscoveryServer } from './discoveryserver.ts';

/** Discovery, as a part of the controller; every replica serves it. It is not ready before it knows the cluster. */
export async function discoveryPart(context: ControllerContext): Promise<ControllerPart> {
  const { client, clock, log, config, tokens, recorder, metrics, readiness } = context;
  const { trustDomain, clusterDomain } = config;
  const [grpc, definition] = await Promise.all([import('@grpc/grpc-js'), loadDiscoveryDefinition()]);
  const cluster = new ClusterView({ client, clock, log });
  const shared = { cluster, tokens, trustDomain, clusterDomain, clock, recorder, log, grpc };
  const server = new DiscoveryServer(shared);
  metrics.observe({ discoveryServer: () => server.stats });
  const reading = readiness.task('services of the cluster');
  return {
    services: [
      {
        definition: definition as ServiceDefinition,
        handlers: server.handlers as UntypedServiceImplementation,
      },
    ],
    open: async () => {
      cluster.start();
      void cluster.whenSynced().then(() => reading.done());
      return {};
    },
    drain: () => server.drain(),
    close: async () => {
      server.close();
      cluster.stop();
    },
  };
}
