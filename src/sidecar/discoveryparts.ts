import type { SidecarConfig } from '../config/config.ts';
import type { ControlChannel } from '../control/channel.ts';
import type { DiscoveryClient } from '../control/discovery.ts';
import type { KeptAnswers } from '../control/keptanswers.ts';
import type { TrustBundle } from '../identity/trustbundle.ts';
import type { RelayContext } from '../relay/context.ts';
import { DiscoveredRoutes } from '../relay/discoveredroutes.ts';
import type { Route } from '../relay/egress.ts';
import { Forwarding } from '../relay/forwarding.ts';
import type { SessionPlaces } from '../relay/sessionplaces.ts';
import type { PeerSessions } from '../relay/sessions.ts';
import { machineAddresses, type OwnPlaces, withoutOwn } from './otherendpoints.ts';
import { peerUpstream } from './peerupstream.ts';

/** What finds services that the configuration does not tell. */
export interface DiscoveryParts {
  readonly channel: ControlChannel;
  readonly client: DiscoveryClient;
  /** If there is a folder to keep them in, that of an identity that the controller issues. */
  readonly kept: KeptAnswers | undefined;
  readonly routes: DiscoveredRoutes;
}

/**
 * Undefined if the configuration asks for none: nothing of it is loaded then. `shared`: the way to the controller, if
 * there is one. `listening`: where this sidecar takes sessions.
 */
export async function openDiscovery(
  context: RelayContext,
  config: SidecarConfig,
  bundle: () => TrustBundle,
  peers: {
    readonly sessions: PeerSessions;
    readonly places: SessionPlaces;
    readonly pool: SidecarConfig['pool'];
  },
  shared: ControlChannel | undefined,
  listening: OwnPlaces['listening'],
): Promise<DiscoveryParts | undefined> {
  const { controller, egress, trustDomain } = config;
  const isAsked = egress.discovery || egress.discovered.length > 0;
  if (controller === undefined || !isAsked) return undefined;
  const [{ ControlChannel }, { DiscoveryClient }] = await Promise.all([
    import('../control/channel.ts'),
    import('../control/discovery.ts'),
  ]);
  const { clock, recorder, metrics, log } = context;
  const { address, peer, token } = controller;
  const channel = shared ?? new ControlChannel({ address, peer, token, bundle, clock });
  const client = new DiscoveryClient({ channel, trustDomain, clock, recorder, metrics, log });
  let kept: KeptAnswers | undefined;
  if (config.identity.issuer === 'controller') {
    const { KeptAnswers, keptFileOf } = await import('../control/keptanswers.ts');
    const file = keptFileOf(config.identity.svid);
    kept = await KeptAnswers.open({
      source: client,
      file,
      controller: peer,
      trustDomain,
      clock,
      metrics,
      log,
    });
  }
  const routes = new DiscoveredRoutes(context, {
    source: withoutOwn(kept ?? client, { addresses: machineAddresses, listening }),
    namespace: egress.namespace ?? '',
    waitMs: config.pool.waitTimeoutMs,
    makeUpstream: (service, { address: host, meshPort, targetPort, peer: expected }) => {
      const forwarding = new Forwarding(context, service, targetPort);
      return peerUpstream(context, { ...peers, forwarding }, { service, peer: expected }, host, meshPort);
    },
  });
  return { channel, client, kept, routes };
}

/** The routes of the configuration whose endpoints are told. */
export function discoveredRoutes(config: SidecarConfig, parts: DiscoveryParts | undefined): Route[] {
  if (parts === undefined) return [];
  const { routes } = parts;
  return config.egress.discovered.map((route) => {
    const target = routes.configured(route.service);
    const found = { config: route, target, peer: undefined };
    if (route.service.includes(':')) return found;
    return { ...found, onPort: (port: number) => routes.named({ name: route.service, port }) };
  });
}
