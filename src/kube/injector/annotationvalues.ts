// What the text of an annotation may be. Each parser throws AnnotationError, whose message follows the annotation's name.
import { isIP } from 'node:net';
import { type KindName, tryKind } from '../../config/kinds.ts';
import { nearest } from '../../config/nearest.ts';
import { quote } from '../../config/pointer.ts';
import { AnnotationError } from './errors.ts';
import { PREFIX } from './names.ts';

const MAX_ITEMS = 64;
const MAX_UID = 4_294_967_294;

/** The items of a list that commas (or another separator) part; none is empty and none comes twice. */
function items(text: string, separator = ','): string[] {
  const found = text.split(separator).map((item) => item.trim());
  if (found.length > 1 && found.at(-1) === '') found.pop(); // a separator may end the list
  if (found.length > MAX_ITEMS)
    throw new AnnotationError(`has ${found.length} entries: at most ${MAX_ITEMS} are taken`);
  if (text === '') throw new AnnotationError('is empty: give it a value, or remove the annotation');
  for (const [index, item] of found.entries()) {
    if (item === '')
      throw new AnnotationError(`has an empty entry: remove the ${quote(separator)} before or after it`);
    if (found.indexOf(item) !== index) throw new AnnotationError(`has ${quote(item)} twice: keep one`);
  }
  return found;
}

export function parsePort(text: string): number {
  const port = /^[0-9]{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (port >= 1 && port <= 65_535) return port;
  throw new AnnotationError(`${quote(text)} is not a port: write a number from 1 to 65535`);
}

/** A port that the sidecar binds: it has no privilege for those below 1024. */
export function parseOwnPort(text: string): number {
  const port = parsePort(text);
  if (port >= 1024) return port;
  throw new AnnotationError(
    `${port} needs a privilege that the sidecar does not have: write a port from 1024 on`,
  );
}

export function parsePorts(text: string): number[] {
  const ports = items(text).map((item) => {
    if (/^[0-9]+$/.test(item)) return parsePort(item);
    const [number] = /[0-9]{2,}/.exec(item) ?? [];
    const cure = number === undefined ? 'write each as a number' : 'write numbers, with commas between them';
    throw new AnnotationError(`${quote(item)} is not a port: ${cure}, as in 50051,50052`);
  });
  const twice = ports.find((port, index) => ports.indexOf(port) !== index);
  if (twice !== undefined) throw new AnnotationError(`has ${twice} twice: keep one`);
  return ports;
}

/** `none` is an empty list. */
export const parsePortsOrNone = (text: string): number[] =>
  text.toLowerCase() === 'none' ? [] : parsePorts(text);

/** A local port and the service that it stands for. */
export interface Upstream {
  readonly listen: number;
  /** A name as an app would call it, in lower case. */
  readonly name: string;
  readonly port: number;
}

export function parseUpstreams(text: string): Upstream[] {
  const upstreams = items(text).map((item): Upstream => {
    const [listen, authority, more] = item.split('=').map((part) => part.trim());
    if (authority === undefined || more !== undefined) {
      throw new AnnotationError(
        `${quote(item)} is not an upstream: write PORT=NAME:PORT, as in 50061=greeter.shop:50051`,
      );
    }
    const local = /^(?:.*:)?([0-9]{1,5})$/.exec(listen as string)?.[1];
    if (local === undefined && /^[0-9]{1,5}$/.test(authority)) {
      throw new AnnotationError(
        `${quote(item)} is the wrong way round: the port comes first, as in ${authority}=${listen}:50051`,
      );
    }
    if (local !== undefined && local !== listen) {
      throw new AnnotationError(
        `${quote(item)} has an address: write the port alone, which is on 127.0.0.1, as in ${local}=${authority}`,
      );
    }
    const scheme = /^[a-z][a-z0-9+.-]*:\/\//i.exec(authority)?.[0];
    if (scheme !== undefined) {
      throw new AnnotationError(
        `${quote(item)} has a scheme: write ${quote(`${listen}=${authority.slice(scheme.length)}`)}`,
      );
    }
    const colon = authority.lastIndexOf(':');
    if (colon < 0) {
      throw new AnnotationError(
        `${quote(authority)} has no port: write ${quote(`${listen}=${authority}:50051`)}`,
      );
    }
    const name = authority.slice(0, colon);
    parseKind('service', name);
    return {
      listen: parseOwnPort(listen as string),
      name: name.toLowerCase(),
      port: parsePort(authority.slice(colon + 1)),
    };
  });
  const ports = upstreams.map(({ listen }) => listen);
  const twice = ports.find((port, index) => ports.indexOf(port) !== index);
  if (twice !== undefined)
    throw new AnnotationError(`gives the port ${twice} to two services: a port leads to one`);
  return upstreams;
}

export function parseSubnets(text: string): string[] {
  return items(text).map((item) => {
    const [address, bits, more] = item.split('/') as [string, string?, string?];
    const family = isIP(address);
    if (family === 0 || more !== undefined || address.includes('%')) {
      throw new AnnotationError(
        `${quote(item)} is not a subnet: write an address and its length, as in 10.0.0.0/8`,
      );
    }
    const most = family === 4 ? 32 : 128;
    if (bits === undefined)
      throw new AnnotationError(`${quote(item)} has no length: write ${item}/${most} for one address`);
    if (!/^[0-9]{1,3}$/.test(bits) || Number(bits) > most) {
      throw new AnnotationError(
        `${quote(item)} has the length ${quote(bits)}: write a number from 0 to ${most}`,
      );
    }
    return item;
  });
}

const HOST =
  /^\.?(?=[\w.-]{1,253}$)[a-z0-9_]([\w-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([\w-]{0,61}[a-z0-9_])?)*\.?$/i;

/** Without a zone, which is of one host alone. */
const isAddress = (text: string): boolean => isIP(text) !== 0 && !text.includes('%');

/** Entries of `no_grpc_proxy`, as gRPC's clients read them: ends of host names, addresses and subnets, none with a port. */
export function parseHosts(text: string): string[] {
  return items(text).map((item) => {
    if (isAddress(item)) return item;
    if (item.includes('://')) {
      throw new AnnotationError(`${quote(item)} has a scheme: write the host alone, as in otel.obs`);
    }
    if (item.includes('/')) return parseSubnets(item)[0] as string;
    const [, bracketed, plain] = /^(?:\[(.*)\]|([^:]*))(?::[0-9]*)?$/.exec(item) ?? [];
    const host = bracketed ?? plain ?? item;
    if (host === '*') {
      throw new AnnotationError(
        `"*" would have the app call nobody through its sidecar: set ${PREFIX}grpc-proxy: "false" if that is meant`,
      );
    }
    if (host.startsWith('*.')) {
      throw new AnnotationError(
        `${quote(item)} has a wildcard, which clients do not know: write ${quote(host.slice(1))} for all names that end so`,
      );
    }
    const isHost = HOST.test(host) || isAddress(host);
    if (isHost && host === item) return item;
    if (isHost) {
      throw new AnnotationError(
        `${quote(item)} has a port or brackets, and clients compare hosts without: write ${quote(host)}`,
      );
    }
    throw new AnnotationError(
      `${quote(item)} is not a host: write a name or the end of one, as in otel.obs or .googleapis.com, an address or a subnet, with commas between them`,
    );
  });
}

export function parseUsers(text: string): number[] {
  return items(text).map((item) => {
    if (/^[0-9]{1,10}$/.test(item) && Number(item) <= MAX_UID) return Number(item);
    throw new AnnotationError(
      `${quote(item)} is not a user id: write a number, as in 1337; images know names, the kernel does not`,
    );
  });
}

/** A quantity of Kubernetes as it was written, and what it is in cores or bytes. */
export interface Quantity {
  readonly text: string;
  readonly amount: number;
}

const SUFFIXES: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

const QUANTITY = /^([0-9]{1,15}(?:\.[0-9]{1,9})?)(n|u|m|k|M|G|T|Ki|Mi|Gi|Ti)?$/;

function parseQuantity(text: string, example: string): Quantity {
  const amount = amountOf(text);
  if (amount !== undefined) return { text, amount };
  throw new AnnotationError(`${quote(text)} is not a quantity of Kubernetes: write one as in ${example}`);
}

/** Cores or bytes of a quantity that somebody else has checked; undefined if it is written in another way. */
export function amountOf(text: string): number | undefined {
  const match = QUANTITY.exec(text);
  return match === null ? undefined : Number(match[1]) * (SUFFIXES[match[2] ?? ''] as number);
}

export function parseCpu(text: string): Quantity {
  const quantity = parseQuantity(text, '100m, which is a tenth of a core');
  if (quantity.amount >= 0.001 && quantity.amount <= 1024) return quantity;
  throw new AnnotationError(`${quote(text)} is not an amount of cores from 1m to 1024: write one as in 100m`);
}

/** In MiB: what the sidecar needs to start, and a little more. */
const LEAST_REQUEST = 64;
/** In MiB. Starting takes 51 of it, 64 calls of 1 MB at a time 66, before any page of a file: bench/README.md. */
const LEAST_LIMIT = 96;

function parseMemory(text: string, least: number): Quantity {
  const quantity = parseQuantity(text, '128Mi');
  if (quantity.amount >= least * 2 ** 20 && quantity.amount <= 2 ** 40) return quantity;
  const isMeantInMi = /^[0-9]+$/.test(text) && Number(text) >= least && Number(text) < 2 ** 20;
  const cure = isMeantInMi ? `that is bytes; write ${text}Mi` : 'write one as in 128Mi';
  throw new AnnotationError(`${quote(text)} is not an amount of memory from ${least}Mi to 1Ti: ${cure}`);
}

export const parseMemoryRequest = (text: string): Quantity => parseMemory(text, LEAST_REQUEST);
export const parseMemoryLimit = (text: string): Quantity => parseMemory(text, LEAST_LIMIT);

export interface Limit {
  readonly scope: 'session' | 'peer';
  readonly maxRequests: number;
  readonly window: string;
}

export function parseLimits(text: string): Limit[] {
  return items(text).map((item): Limit => {
    const match = /^([a-z]+)=([0-9]{1,10})\/([0-9.]+(?:ms|s|m|h|d)?)$/.exec(item.replaceAll(/\s/g, ''));
    if (match === null) {
      throw new AnnotationError(
        `${quote(item)} is not a limit: write SCOPE=CALLS/WINDOW, as in session=1000/60s`,
      );
    }
    const [, scope, calls, window] = match as unknown as [string, string, string, string];
    if (scope !== 'session' && scope !== 'peer') {
      throw new AnnotationError(`${quote(scope)} is not a scope: write session or peer`);
    }
    const maxRequests = Number(calls);
    if (maxRequests < 1 || maxRequests > 1_000_000_000) {
      throw new AnnotationError(`${quote(item)} allows ${calls} calls: write 1 to 1000000000`);
    }
    parseKind('duration', window);
    return { scope, maxRequests, window };
  });
}

export interface AllowedPeer {
  readonly peer: string;
  /** Not empty. */
  readonly methods: readonly string[];
}

export function parseAllow(text: string): AllowedPeer[] {
  return items(text, ';').map((item) => {
    const [peer, ...methods] = item.split(/\s+/) as [string, ...string[]];
    if (item.includes(',')) {
      throw new AnnotationError(
        `${quote(item)} has a comma: write ; between rules, and blanks between a peer and its methods`,
      );
    }
    if (peer.startsWith('/')) {
      throw new AnnotationError(
        `${quote(item)} does not say who: write a SPIFFE ID or a glob over them before the methods, as in spiffe://cluster.local/ns/shop/sa/web ${peer}`,
      );
    }
    parseKind('spiffe-glob', peer);
    for (const method of methods) parseKind('method-glob', method);
    return { peer, methods: methods.length === 0 ? ['/*/*'] : methods };
  });
}

/** Where the identity comes from: the controller, by the service account, or a Secret of this name. */
export type IdentitySource =
  | { readonly kind: 'serviceaccount' }
  | { readonly kind: 'secret'; readonly name: string };

export function parseIdentity(text: string): IdentitySource {
  if (text === 'serviceaccount') return { kind: 'serviceaccount' };
  const name = /^secret:(.*)$/.exec(text)?.[1];
  if (name === undefined) {
    throw new AnnotationError(
      `${quote(text)} is no source of an identity: write serviceaccount or secret:NAME`,
    );
  }
  if (name.length > 253 || !/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(name)) {
    throw new AnnotationError(
      `${quote(name)} is not the name of a Secret: lower-case letters, digits, dashes and dots`,
    );
  }
  return { kind: 'secret', name };
}

export function parseWord<const Words extends readonly string[]>(
  words: Words,
): (text: string) => Words[number] {
  return (text) => {
    if (words.includes(text)) return text;
    const near = nearest(text, words);
    const list = `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
    throw new AnnotationError(
      `${quote(text)} is not one of its values: write ${near === undefined ? list : `${near}; there are ${list}`}`,
    );
  };
}

const flagOf = parseWord(['true', 'false']);
export const parseFlag = (text: string): boolean => flagOf(text) === 'true';

function parseKind(kind: KindName, text: string): void {
  const result = tryKind(kind, text, (path) => path);
  if ('problem' in result) throw new AnnotationError(`${quote(text)} ${result.problem}`);
}
