import { networkInterfaces } from 'node:os';
import type { DiscoveredEndpoint, DiscoveryAnswer, DiscoverySource } from '../relay/discovery.ts';

/** Where this sidecar takes sessions, and the addresses of this machine or pod: both as they are now. */
export interface OwnPlaces {
  readonly listening: () => readonly { readonly host: string; readonly port: number }[];
  readonly addresses: () => ReadonlySet<string>;
}

const ANY: readonly string[] = ['0.0.0.0', '::'];

/**
 * What `source` tells, without this sidecar's own place among the endpoints: it has no session with itself, for its own
 * key would come back.
 */
export function withoutOwn(source: DiscoverySource, own: OwnPlaces): DiscoverySource {
  return {
    get trouble() {
      return source.trouble;
    },
    get isAway() {
      return source.isAway;
    },
    watch: (query, onAnswer, lastUsed) =>
      source.watch(query, (answer) => onAnswer(others(answer, own)), lastUsed),
  };
}

/** Of this machine, or of the pod. They may change. */
export function machineAddresses(): ReadonlySet<string> {
  const found = Object.values(networkInterfaces()).flatMap((of = []) => of);
  return new Set(found.map(({ address }) => address));
}

function others(answer: DiscoveryAnswer, own: OwnPlaces): DiscoveryAnswer {
  const { endpoints, service } = answer;
  if (endpoints.length === 0) return answer;
  const [listening, addresses] = [own.listening(), own.addresses()];
  // Others may take sessions at the same port of other addresses of the machine.
  const isOwn = ({ address, meshPort }: DiscoveredEndpoint): boolean =>
    listening.some(
      ({ host, port }) =>
        port === meshPort && (ANY.includes(host) ? addresses.has(address) : host === address),
    );
  const found = endpoints.find(isOwn);
  if (found === undefined) return answer;
  const rest = endpoints.filter((endpoint) => !isOwn(endpoint));
  if (rest.length > 0) return { ...answer, endpoints: rest };
  const hint = `the only pod of ${service} is this one, and a sidecar has no session with itself: call the app at localhost:${found.targetPort}`;
  return { ...answer, endpoints: rest, hint };
}
