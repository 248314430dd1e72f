import { isIP } from 'node:net';
import type { Endpoint, ListenAddress } from './config.ts';
import { ValueError } from './errors.ts';

const MAX_UNIX_PATH = 103; // bytes of sun_path that every platform has, less the closing NUL
const LABEL = '[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?';
const DNS_NAME = new RegExp(`^${LABEL}(\\.${LABEL})*\\.?$`, 'i');
const AUTHORITY = new RegExp(`^(\\*|(\\*\\.)?${LABEL}(\\.${LABEL})*)(:[0-9]{1,5})?$`, 'i');

function isDnsName(host: string): boolean {
  // A last label of digits only is a mistyped IPv4 address (WHATWG URL, "ends in a number").
  return host.length <= 253 && DNS_NAME.test(host) && !/(^|\.)[0-9]+\.?$/.test(host);
}

function parsePort(text: string, least: 0 | 1): number {
  const port = /^[0-9]{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (port >= least && port <= 65_535) return port;
  throw new ValueError(`has the port ${JSON.stringify(text)}: ports are ${least} to 65535`);
}

/** One spelling for each IPv6 address, so that equal ones compare equal. */
function canonicalHost(host: string): string {
  return isIP(host) === 6 && !host.includes('%') ? new URL(`http://[${host}]`).hostname.slice(1, -1) : host;
}

/** An IP address, IPv6 without brackets, in its one spelling. */
export function parseIp(text: string): string {
  if (isIP(text) === 0)
    throw new ValueError('is not an IP address: write 10.1.2.3 or fd00::3, without a port');
  return canonicalHost(text);
}

/** Host and port of `host:port`, `[v6]:port` or `:port`; IPv6 loses its brackets. */
function split(text: string, least: 0 | 1): { host: string; port: number } {
  const bracketed = /^\[([^\]]*)\](?::(.*))?$/.exec(text);
  if (bracketed !== null) {
    if (isIP(bracketed[1]) !== 6)
      throw new ValueError('has brackets around something that is not an IPv6 address');
    if (bracketed[2] === undefined) throw new ValueError(`has no port: write ${text}:15008`);
    return { host: canonicalHost(bracketed[1]), port: parsePort(bracketed[2], least) };
  }
  if (isIP(text) === 6) throw new ValueError(`is an IPv6 address without a port: write [${text}]:15008`);
  const colon = text.lastIndexOf(':');
  if (colon < 0) {
    throw new ValueError(
      /^[0-9]+$/.test(text) ? `has no host: write 127.0.0.1:${text}` : `has no port: write ${text}:15008`,
    );
  }
  const host = text.slice(0, colon);
  if (host.includes(':')) {
    throw new ValueError(
      isIP(host) === 6 ? `needs brackets: write [${host}]${text.slice(colon)}` : 'has too many colons',
    );
  }
  return { host, port: parsePort(text.slice(colon + 1), least) };
}

function unixPath(text: string, resolve: (path: string) => string): ListenAddress {
  const path = text.slice('unix:'.length).replace(/^\/\/(?=\/)/, '');
  if (path === '') throw new ValueError('has no path: write unix:/run/hauberk/egress.sock');
  if (path.includes('\0')) throw new ValueError('has a NUL in its path');
  const full = resolve(path);
  if (Buffer.byteLength(full) > MAX_UNIX_PATH) {
    throw new ValueError(
      `is a socket path of more than ${MAX_UNIX_PATH} bytes (${full}): choose a shorter folder`,
    );
  }
  return { kind: 'unix', path: full };
}

/**
 * What to bind: an IP address and port, `localhost:port` (both loopbacks), `:port` (all addresses, IPv4 and
 * IPv6), `unix:/path`, or `off` (nothing).
 */
export function parseListen(text: string, resolve: (path: string) => string): ListenAddress[] {
  if (text === 'off') return [];
  if (text.startsWith('unix:')) return [unixPath(text, resolve)];
  const { host, port } = split(text, 0);
  const tcp = (address: string): ListenAddress => ({ kind: 'tcp', host: address, port });
  if (host === '' || host === '*') return [tcp('0.0.0.0'), tcp('::')];
  if (host.toLowerCase() === 'localhost') return [tcp('127.0.0.1'), tcp('::1')];
  if (isIP(host) === 0) {
    throw new ValueError(
      `cannot be bound: ${host} is not an IP address. Write 127.0.0.1:${port}, [::1]:${port} or :${port}`,
    );
  }
  return [tcp(host)];
}

/** One listener of its own: an IP address and port, `localhost:port` (127.0.0.1) or `unix:/path`. */
export function parseListener(text: string, resolve: (path: string) => string): ListenAddress {
  const [first] = parseListen(text, resolve);
  if (first === undefined) throw new ValueError('cannot be off: remove the key instead');
  if (text.startsWith(':') || text.startsWith('*'))
    throw new ValueError(`names no address: write 127.0.0.1${text.replace(/^\*/, '')}`);
  return first;
}

/** Where an app listens: `ip:port`, `name:port` or `unix:/path`. */
export function parseAppAddress(text: string, resolve: (path: string) => string): ListenAddress {
  return text.startsWith('unix:') ? unixPath(text, resolve) : { kind: 'tcp', ...parseEndpoint(text) };
}

/** `ip:port`, `[v6]:port` or `dns-name:port`. */
export function parseEndpoint(text: string): Endpoint {
  if (text.includes('://')) throw new ValueError('is a URL: write host:port only');
  const { host, port } = split(text, 1);
  if (host === '') throw new ValueError(`has no host: write 127.0.0.1${text}`);
  if (isIP(host) === 0 && !isDnsName(host))
    throw new ValueError(`has the host ${JSON.stringify(host)}, neither an IP address nor a DNS name`);
  return { host: host.toLowerCase(), port };
}

/** `name`, `name:port`, `*.suffix`, `*.suffix:port`, `*`, an IP address with or without a port; lower case. */
export function parseAuthority(text: string): string {
  const literal = /^(?:\[([^\]]*)\]|([0-9.]+))(?::([0-9]{1,5}))?$/.exec(
    isIP(text) === 6 ? `[${text}]` : text,
  );
  const named = literal === null ? AUTHORITY.exec(text) : null;
  const port = literal?.[3] ?? named?.[0].split(':')[1];
  if (port !== undefined) parsePort(port, 1);
  if (named !== null) return text.toLowerCase();
  const host = literal?.[1] ?? literal?.[2];
  if (host === undefined || isIP(host) === 0) {
    throw new ValueError(
      'is not an authority: write a name or address, with or without a port, *.shop.svc.cluster.local or *',
    );
  }
  const shown = isIP(host) === 6 ? `[${canonicalHost(host)}]` : host;
  return port === undefined ? shown : `${shown}:${port}`;
}

/** A canonical service name, in lower case and without a port. */
export function parseService(text: string): string {
  if (text.includes(':'))
    throw new ValueError(`has a port: write ${text.split(':')[0]} and put the port into authorities`);
  if (!isDnsName(text) || text.endsWith('.')) {
    throw new ValueError('is not a service name: letters, digits, dashes and dots, as in greeter.shop');
  }
  return text.toLowerCase();
}

/** A service as discovery is asked for it: `name.namespace` or another of its names, with a port or without; lower case. */
export function parseDiscoverable(text: string): string {
  const colon = text.lastIndexOf(':');
  if (colon < 0) return parseService(text);
  return `${parseService(text.slice(0, colon))}:${parsePort(text.slice(colon + 1), 1)}`;
}

/** The service of an app: its canonical name, or `*` for whatever name peers ask for. */
export function parseAppService(text: string): string {
  return text === '*' ? text : parseService(text);
}

/** True when only programs on the same machine can reach it. */
export function isLoopback(address: ListenAddress): boolean {
  if (address.kind === 'unix') return true;
  const host = address.host.toLowerCase();
  // Not by prefix alone: 127.0.0.1.example.com is a name like any other.
  if (isIP(host) === 4) return host.startsWith('127.');
  if (isIP(host) === 6) return host === '::1' || /^::ffff:(127\.|7f[0-9a-f]{2}:)/.test(host);
  return host === 'localhost';
}

/** As it is written in the file. */
export function formatAddress(address: ListenAddress): string {
  if (address.kind === 'unix') return `unix:${address.path}`;
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}
