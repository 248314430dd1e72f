/** The file of what discovery told, as text: JSON of bounded length, with the names that were used last first. */
import type { DiscoveredEndpoint, DiscoveryAnswer, DiscoveryQuery } from '../relay/discovery.ts';
import { checkedAnswer } from './answer.ts';
import type { EndpointMessage } from './messages.ts';

/** An answer that had endpoints, and to what. */
export interface KeptName {
  readonly query: DiscoveryQuery;
  readonly answer: DiscoveryAnswer;
  /** When the controller has told it last, milliseconds since the epoch. */
  readonly toldAt: number;
}

const VERSION = 1;
export const KEPT_MAX_BYTES = 262_144;
/** Of one name, so that a large service does not leave the others out. */
const NAME_MAX_BYTES = 32_768;
/** Of more endpoints others are kept by each sidecar. */
const FEW_ENDPOINTS = 100;

const NAME = {
  authority: 'string',
  namespace: 'string',
  port: 'number',
  toldAt: 'number',
  service: 'string',
  zone: 'string',
};
const ENDPOINT = {
  address: 'string',
  meshPort: 'number',
  targetPort: 'number',
  spiffeId: 'string',
  zone: 'string',
  ready: 'boolean',
};

type StoredName = DiscoveryQuery & Pick<DiscoveryAnswer, 'service' | 'zone'> & Pick<KeptName, 'toldAt'>;

/** The text, and how many of `names` are in it: the first ones that have room. */
export function encodeKept(
  names: readonly KeptName[],
  controller: string,
  random: () => number,
): { readonly text: string; readonly count: number } {
  let text = `${JSON.stringify({ version: VERSION, controller }).slice(0, -1)},"names":[`;
  const end = '\n]}\n';
  let bytes = Buffer.byteLength(text) + end.length;
  let count = 0;
  for (const name of names) {
    const line = `${count === 0 ? '' : ','}\n${lineOf(name, random)}`;
    bytes += Buffer.byteLength(line);
    if (bytes > KEPT_MAX_BYTES) break;
    text += line;
    count++;
  }
  return { text: text + end, count };
}

function lineOf({ query, answer, toldAt }: KeptName, random: () => number): string {
  const { authority, namespace, port } = query;
  const { service, zone } = answer;
  const stored: StoredName = { authority, namespace, port, toldAt, service, zone };
  const head = `${JSON.stringify(stored).slice(0, -1)},"endpoints":[`;
  let bytes = Buffer.byteLength(head);
  const lines: string[] = [];
  for (const endpoint of inOrder(answer.endpoints, random)) {
    const { peer, ...rest } = endpoint;
    const message: EndpointMessage = { ...rest, spiffeId: peer };
    const line = JSON.stringify(message);
    bytes += Buffer.byteLength(line) + 1;
    if (bytes > NAME_MAX_BYTES) break;
    lines.push(line);
  }
  return `${head}${lines.join(',')}]}`;
}

function inOrder(
  endpoints: readonly DiscoveredEndpoint[],
  random: () => number,
): readonly DiscoveredEndpoint[] {
  if (endpoints.length <= FEW_ENDPOINTS) return endpoints;
  const from = Math.floor(random() * endpoints.length);
  return [...endpoints.slice(from), ...endpoints.slice(0, from)].sort(
    (a, b) => Number(b.ready) - Number(a.ready),
  );
}

/** What a text of `encodeKept` says, checked as an answer from the wire is; or why it is of no use. */
export function decodeKept(
  text: string,
  { controller, trustDomain }: { readonly controller: string; readonly trustDomain: string },
):
  | { readonly names: readonly KeptName[]; readonly refused: string | undefined }
  | { readonly fault: string } {
  const notWhole = { fault: 'it is not whole' };
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch {
    return notWhole;
  }
  if (!has<{ version: number }>(file, { version: 'number' })) return notWhole;
  if (file.version !== VERSION) return { fault: `its version is ${file.version}, and not ${VERSION}` };
  if (!has<{ controller: string; names: unknown }>(file, { controller: 'string' })) return notWhole;
  if (file.controller !== controller) return { fault: `${file.controller} has told it, another controller` };
  if (!Array.isArray(file.names)) return notWhole;
  const names: KeptName[] = [];
  let refused: string | undefined;
  for (const name of file.names as unknown[]) {
    if (!has<StoredName & { endpoints: unknown }>(name, NAME) || !areEndpoints(name.endpoints)) {
      return notWhole;
    }
    const { authority, namespace, port, toldAt, service, zone, endpoints } = name;
    const message = { found: true, service, port, endpoints, hint: '', zone };
    const checked = checkedAnswer(message, trustDomain);
    refused ??= checked.refused;
    if (checked.answer.endpoints.length === 0) continue;
    names.push({ query: { authority, namespace, port }, answer: checked.answer, toldAt });
  }
  return { names, refused };
}

const areEndpoints = (value: unknown): value is EndpointMessage[] =>
  Array.isArray(value) && value.every((endpoint) => has<EndpointMessage>(endpoint, ENDPOINT));

function has<T>(value: unknown, types: Readonly<Record<string, string>>): value is T {
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(types).every(
    ([key, type]) => typeof (value as Record<string, unknown>)[key] === type,
  );
}
