import { fileURLToPath } from 'node:url';
import {
  parseAppAddress,
  parseAppService,
  parseAuthority,
  parseDiscoverable,
  parseEndpoint,
  parseIp,
  parseListen,
  parseListener,
  parseService,
} from './address.ts';
import { ValueError } from './errors.ts';
import {
  PATTERNS,
  parseAudience,
  parseCpu,
  parseHttpsUrl,
  parseImage,
  parseKubeName,
  parseMemory,
  parseNamespace,
} from './kubekinds.ts';
import {
  parseHeaderName,
  parseHeaderValue,
  parseHealthService,
  parseHttpPath,
  parseProbeName,
} from './probekinds.ts';
import {
  DURATION_PATTERN,
  INTERVAL_PATTERN,
  parseDuration,
  parseInterval,
  parseSize,
  SIZE_PATTERN,
} from './quantity.ts';
import { parseMethodGlob, parseSpiffeGlob, parseSpiffeId, parseTrustDomain } from './spiffe.ts';

/** Makes a path absolute: relative ones count from the configuration file's folder. */
export type Resolve = (path: string) => string;

/** What a string in the file means. `parse` throws `ValueError`, whose message follows the quoted value. */
export interface Kind<T> {
  /** In messages and in the reference: `expected <noun>`. */
  readonly noun: string;
  readonly example: string;
  /** For editors, where one regular expression says enough. */
  readonly pattern?: string;
  parse(text: string, resolve: Resolve): T;
}

function parsePath(text: string, resolve: Resolve): string {
  if (text === '') throw new ValueError('is empty: write a path');
  if (text.includes('\0')) throw new ValueError('has a NUL in it');
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(text)) throw new ValueError('is a URL: write a path');
  return resolve(text);
}

function parseModule(text: string, resolve: Resolve): string {
  if (text.startsWith('file://')) {
    try {
      return fileURLToPath(text);
    } catch (cause) {
      throw new ValueError('is not a file URL of this machine: write a path', { cause });
    }
  }
  if (/^(\.{1,2}\/|\/|[A-Za-z]:[\\/])/.test(text)) return parsePath(text, resolve);
  if (/^(@[a-z0-9._~-]+\/)?[a-z0-9._~-]+(\/[A-Za-z0-9._~/-]+)?$/.test(text)) return text;
  throw new ValueError('is neither a path that begins with ./ or / nor the name of a package');
}

function parseRedisUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['redis:', 'rediss:'].includes(url.protocol) || url.hostname === '') {
    throw new ValueError(
      'is not a Redis URL: write redis://host:6379 or, with TLS, rediss://:password@host:6379',
    );
  }
  return text;
}

const CERTIFICATE = '-----BEGIN CERTIFICATE-----';

/** Looked into no further here: whoever uses it parses it. */
function parseCaPem(text: string): string {
  if (text.includes('PRIVATE KEY-----'))
    throw new ValueError('holds a private key: leave only CA certificates');
  if (!text.includes(CERTIFICATE)) {
    throw new ValueError(`holds no certificate: write PEM text that begins with ${CERTIFICATE}`);
  }
  return text;
}

/** Every kind of string that the schema knows, by the value of its `x-kind`. */
export const KINDS = {
  duration: { noun: 'a duration', example: '60s', pattern: DURATION_PATTERN, parse: parseDuration },
  interval: {
    noun: 'an interval, or off',
    example: '30s',
    pattern: INTERVAL_PATTERN,
    parse: parseInterval,
  },
  size: { noun: 'a size', example: '64KiB', pattern: SIZE_PATTERN, parse: parseSize },
  path: { noun: 'a path', example: 'keys/web.pem', parse: parsePath },
  module: { noun: 'a module', example: './my-adapter.mjs', parse: parseModule },
  'trust-domain': {
    noun: 'a trust domain',
    example: 'shop.example',
    pattern: '^[a-z0-9._-]{1,255}$',
    parse: parseTrustDomain,
  },
  'spiffe-id': { noun: 'a SPIFFE ID', example: 'spiffe://shop.example/ns/shop/sa/web', parse: parseSpiffeId },
  'spiffe-glob': {
    noun: 'a glob over SPIFFE IDs',
    example: 'spiffe://shop.example/ns/shop/sa/*',
    parse: parseSpiffeGlob,
  },
  'method-glob': { noun: 'a glob over methods', example: '/shop.Greeter/*', parse: parseMethodGlob },
  service: { noun: 'a service name', example: 'greeter.shop', parse: parseService },
  discoverable: { noun: 'a service name', example: 'greeter.shop', parse: parseDiscoverable },
  'app-service': { noun: 'a service name, or *', example: 'web.shop', parse: parseAppService },
  authority: { noun: 'an authority', example: 'greeter.shop:50051', parse: parseAuthority },
  endpoint: { noun: 'an address to dial', example: '10.1.2.3:15008', parse: parseEndpoint },
  listen: { noun: 'an address to listen on', example: '127.0.0.1:15001', parse: parseListen },
  listener: { noun: 'an address to listen on', example: '127.0.0.1:50061', parse: parseListener },
  'app-address': { noun: "an app's address", example: '127.0.0.1:50051', parse: parseAppAddress },
  ip: { noun: 'an IP address', example: '10.1.2.3', parse: parseIp },
  'ca-pem': {
    noun: 'CA certificates (PEM text)',
    example: `${CERTIFICATE} ...`,
    parse: parseCaPem,
  },
  'kube-name': {
    noun: 'the name of a Kubernetes object',
    example: 'hauberk-ca',
    pattern: PATTERNS.name,
    parse: parseKubeName,
  },
  namespace: { noun: 'a namespace', example: 'shop', pattern: PATTERNS.namespace, parse: parseNamespace },
  audience: { noun: 'an audience', example: 'hauberk', pattern: PATTERNS.audience, parse: parseAudience },
  image: {
    noun: 'a container image',
    example: 'ghcr.io/hauberk-mesh/hauberk:0.2.0',
    parse: parseImage,
  },
  cpu: { noun: 'an amount of CPU (text)', example: '100m', pattern: PATTERNS.cpu, parse: parseCpu },
  memory: {
    noun: 'an amount of memory (text)',
    example: '128Mi',
    pattern: PATTERNS.memory,
    parse: parseMemory,
  },
  'https-url': { noun: 'an HTTPS URL', example: 'https://10.96.0.1:443', parse: parseHttpsUrl },
  'probe-name': { noun: 'the name of a probe', example: 'app/readyz', parse: parseProbeName },
  'http-path': { noun: 'a path of HTTP', example: '/healthz?full=1', parse: parseHttpPath },
  'header-name': { noun: 'the name of a header field', example: 'x-probe', parse: parseHeaderName },
  'header-value': { noun: 'the value of a header field', example: 'kubelet', parse: parseHeaderValue },
  'grpc-service': { noun: 'a service of grpc.health.v1', example: 'shop.Greeter', parse: parseHealthService },
  'redis-url': { noun: 'a Redis URL', example: 'redis://127.0.0.1:6379', parse: parseRedisUrl },
} satisfies Record<string, Kind<unknown>>;

export type KindName = keyof typeof KINDS;
export type ParsedKind<Name extends KindName> = ReturnType<(typeof KINDS)[Name]['parse']>;

/** The kind by its name, with its result unspecified. */
export const kindOf = (name: KindName): Kind<unknown> => KINDS[name];

/** Parses, or tells why not. */
export function tryKind(
  name: KindName,
  text: string,
  resolve: Resolve,
): { value: unknown } | { problem: string } {
  try {
    return { value: KINDS[name].parse(text, resolve) };
  } catch (error) {
    if (error instanceof ValueError) return { problem: error.message };
    throw error;
  }
}
