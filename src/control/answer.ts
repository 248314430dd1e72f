import { isIP } from 'node:net';
import { parseSpiffeId } from '../identity/spiffeid.ts';
import type { DiscoveredEndpoint, DiscoveryAnswer } from '../relay/discovery.ts';
import type { EndpointMessage, EndpointsMessage } from './messages.ts';

const MAX_HINT = 500; // characters
/** Endpoints that are looked at; what is used is bounded far below that. */
const MAX_ENDPOINTS = 10_000;
const SERVICE = /^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$/;
const MAX_SERVICE = 253; // characters of a DNS name

/** What a message says, without the endpoints that cannot be meant; `refused` says what is wrong with the first of them. */
export function checkedAnswer(
  message: EndpointsMessage,
  trustDomain: string,
): { readonly answer: DiscoveryAnswer; readonly refused: string | undefined } {
  const { found, service, zone } = message;
  // It goes to callers as a part of a header field.
  const hint = message.hint.slice(0, MAX_HINT).replace(/[^\x20-\x7e]/g, '?');
  if (found && !(SERVICE.test(service) && service.length <= MAX_SERVICE)) {
    const refused = `${JSON.stringify(service.slice(0, 64))} is no name of a service`;
    const nothing = { found: false, service: '', endpoints: [], zone: '' };
    return { answer: { ...nothing, hint: `the controller's answer is not usable: ${refused}` }, refused };
  }
  let refused: string | undefined;
  const endpoints: DiscoveredEndpoint[] = [];
  for (const given of message.endpoints.slice(0, MAX_ENDPOINTS)) {
    const fault = faultOf(given, trustDomain);
    if (fault !== undefined) refused ??= fault;
    else {
      const { address, meshPort, targetPort, spiffeId, ready } = given;
      endpoints.push({ address, meshPort, targetPort, peer: spiffeId, zone: given.zone, ready });
    }
  }
  return { answer: { found, service, endpoints, hint, zone }, refused };
}

const isPort = (port: number): boolean => Number.isInteger(port) && port > 0 && port < 65_536;

function faultOf(
  { address, meshPort, targetPort, spiffeId }: EndpointMessage,
  trustDomain: string,
): string | undefined {
  const shown = JSON.stringify(address.slice(0, 64));
  if (isIP(address) === 0 || address.includes('%')) return `${shown} is no IP address`;
  if (!isPort(meshPort) || !isPort(targetPort)) return `${shown} has the ports ${meshPort} and ${targetPort}`;
  try {
    if (parseSpiffeId(spiffeId).trustDomain === trustDomain) return undefined;
  } catch {
    return `${shown} has no SPIFFE ID, but ${JSON.stringify(spiffeId.slice(0, 64))}`;
  }
  return `${shown} would be ${spiffeId}, which is not of the trust domain ${trustDomain}`;
}
