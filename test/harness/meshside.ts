/** A calling sidecar inside the test's own process, and channels from it without a port. */
import * as grpc from '@grpc/grpc-js';
import { MeshChannel, type MeshChannelOptions } from '../../src/mesh/meshchannel.ts';
import { type Embedded, embed } from './embedded.ts';
import { TestClient } from './greeter-client.ts';
import { type ConfigFile, ingressTo, merge, SERVICE, type World } from './sidecars.ts';

export interface MeshSide {
  readonly caller: Embedded;
  /** The called side, in this process too. */
  readonly called: Embedded;
  channel(options?: Partial<MeshChannelOptions>): MeshChannel;
  client(options?: Partial<MeshChannelOptions>): TestClient;
}

/** A client of the tests on a channel of grpc-js's kind. */
export function clientOn(channel: grpc.ChannelInterface): TestClient {
  return new TestClient('in-process', { options: { channelOverride: channel as grpc.Channel } });
}

/** An app behind a called sidecar, and a calling one; both are in this process. */
export async function meshSide(
  world: World,
  app: string,
  config: { caller?: ConfigFile; called?: ConfigFile; route?: ConfigFile } = {},
): Promise<MeshSide> {
  const called = await embed(world, 'called', merge(ingressTo(world, app), config.called ?? {}));
  const route = { service: SERVICE, endpoints: [called.ingress], peer: world.spiffeId('called') };
  const caller = await embed(
    world,
    'caller',
    merge({ egress: { routes: [merge(route, config.route ?? {})] } }, config.caller ?? {}),
  );
  const { context, join } = caller.sidecar.relay;
  const channel = (options: Partial<MeshChannelOptions> = {}): MeshChannel =>
    new MeshChannel({
      grpc,
      context,
      service: SERVICE,
      userAgent: 'test',
      connect: () => join(SERVICE),
      maxReceive: -1,
      ...options,
    });
  return { caller, called, channel, client: (options) => clientOn(channel(options)) };
}
