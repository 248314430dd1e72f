// What the schema cannot say: rules between keys. Each function looks at one matter and passes over what is
// undefined, because a value of its own was wrong and has been reported already.
import { formatAddress, isLoopback } from './address.ts';
import type { Finding, Parsed } from './check.ts';
import type { ListenAddress } from './config.ts';
import { below, dotted, quote } from './pointer.ts';
import { formatDuration, formatSize } from './quantity.ts';
import type { ParsedFile } from './schema.ts';
import { trustDomainOf } from './spiffe.ts';

type DeepPartial<T> = T extends readonly (infer Item)[]
  ? DeepPartial<Item>[]
  : T extends object
    ? { [K in keyof T]?: DeepPartial<T[K]> }
    : T;

interface Context {
  readonly file: DeepPartial<ParsedFile>;
  pointerOf(value: object): string;
  /** Whether the file or a variable gives this, rather than a default. */
  given(pointer: string): boolean;
  /** ` (line 8)`, or nothing when it is not in the file. */
  lineOf(pointer: string): string;
  conflict(pointer: string, message: string): void;
}

/** Kubernetes' longer forms of `name.namespace` are that name. */
function canonicalName(authority: string): string {
  const [name, port] = authority.startsWith('[') ? [authority] : authority.split(':');
  const short = name.replace(/^([^.*]+\.[^.]+)\.svc(\.cluster\.local)?$/, '$1');
  return port === undefined ? short : `${short}:${port}`;
}

function names({ file, pointerOf, lineOf, conflict }: Context): void {
  const taken = new Map<string, { service: string; pointer: string }>();
  for (const route of file.egress?.routes ?? []) {
    const pointer = pointerOf(route);
    const service = route.service ?? '';
    const own = [route.service, ...(route.authorities ?? [])].filter((name) => name !== undefined);
    for (const [index, name] of own.entries()) {
      const key = canonicalName(name);
      const other = taken.get(key);
      const at =
        index === 0 && name === route.service ? below(pointer, 'service') : below(pointer, 'authorities');
      if (other === undefined) taken.set(key, { service, pointer });
      else if (other.pointer !== pointer) {
        const line = lineOf(other.pointer);
        conflict(
          at,
          `${name} already belongs to the route of ${other.service || 'another service'}${line}: a name belongs to one route`,
        );
      }
    }
  }
}

function endpoints({ file, pointerOf, conflict }: Context): void {
  for (const route of file.egress?.routes ?? []) {
    const seen = new Set<string>();
    for (const endpoint of route.endpoints ?? []) {
      const key = `${endpoint.host} ${endpoint.port}`;
      if (seen.has(key))
        conflict(pointerOf(endpoint), `${endpoint.host}:${endpoint.port} is listed twice: keep one`);
      seen.add(key);
    }
  }
}

function apps({ file, pointerOf, lineOf, conflict }: Context): void {
  const taken = new Map<string, string>();
  for (const app of file.ingress?.apps ?? []) {
    const pointer = pointerOf(app);
    if (
      app.address?.kind === 'tcp' &&
      file.ingress?.allowRemoteApps !== true &&
      !isLoopback(app.address as ListenAddress)
    ) {
      conflict(
        below(pointer, 'address'),
        `${formatAddress(app.address as ListenAddress)} is not loopback, and calls would go there in plaintext: use 127.0.0.1 or a Unix socket, or set ingress.allowRemoteApps: true`,
      );
    }
    if (app.service === undefined) continue;
    const key = canonicalName(app.service);
    const other = taken.get(key);
    if (other === undefined) taken.set(key, pointer);
    else
      conflict(
        below(pointer, 'service'),
        `${app.service} has an app already${lineOf(other)}: a service has one app`,
      );
  }
}

function trustDomains({ file, pointerOf, conflict }: Context): void {
  const own = file.trustDomain;
  if (own === undefined) return;
  for (const route of file.egress?.routes ?? []) {
    const domain: string = route.peer === undefined ? own : trustDomainOf(route.peer);
    if (domain !== own) {
      conflict(
        below(pointerOf(route), 'peer'),
        `the peer is in the trust domain ${domain}, which identity.bundle cannot vouch for: peers are in ${own}`,
      );
    }
  }
  for (const rule of file.ingress?.allow ?? []) {
    const domain: string = rule.peer === undefined ? own : trustDomainOf(rule.peer);
    if (!domain.includes('*') && domain !== own) {
      conflict(
        below(pointerOf(rule), 'peer'),
        `the rule can never match: peers are in the trust domain ${own}, not in ${domain}`,
      );
    }
  }
}

/** Every address that the sidecar would bind, with where it is written and what it is called. */
function listeners({
  file,
  pointerOf,
}: Context): Array<{ address: ListenAddress; pointer: string; name: string }> {
  const found: Array<{ address: ListenAddress; pointer: string; name: string }> = [];
  const add = (address: DeepPartial<ListenAddress>, name: string) =>
    found.push({ address: address as ListenAddress, pointer: pointerOf(address), name });
  for (const address of file.egress?.listen ?? []) add(address, 'egress.listen');
  for (const route of file.egress?.routes ?? []) {
    if (route.listen !== undefined) add(route.listen, `${dotted(pointerOf(route))}.listen`);
  }
  for (const address of file.ingress?.listen ?? []) add(address, 'ingress.listen');
  for (const address of file.probes?.http ?? []) add(address, 'probes.http');
  for (const address of file.probes?.grpc ?? []) add(address, 'probes.grpc');
  for (const address of file.admin?.listen ?? []) add(address, 'admin.listen');
  return found;
}

const WILDCARDS: readonly string[] = ['0.0.0.0', '::'];

function overlap(a: ListenAddress, b: ListenAddress): boolean {
  if (a.kind === 'unix' || b.kind === 'unix')
    return a.kind === b.kind && formatAddress(a) === formatAddress(b);
  if (a.port !== b.port || a.port === 0) return false;
  const sameFamily = a.host.includes(':') === b.host.includes(':');
  return a.host === b.host || (sameFamily && (WILDCARDS.includes(a.host) || WILDCARDS.includes(b.host)));
}

function addresses(context: Context): void {
  const { file, conflict, pointerOf, given } = context;
  const bound = listeners(context);
  // Only listeners on one port can overlap, so that thousands of routes are not compared pairwise.
  const groups = new Map<string, typeof bound>();
  for (const listener of bound) {
    const { address } = listener;
    const group = address.kind === 'unix' ? address.path : String(address.port);
    const earlier = groups.get(group) ?? [];
    const other = earlier.find((candidate) => overlap(candidate.address, address));
    if (other !== undefined) {
      // Blame the one that was given, not a default.
      const [blamed, holder] = given(listener.pointer) ? [listener, other] : [other, listener];
      conflict(
        blamed.pointer,
        `${formatAddress(blamed.address)} is taken: ${holder.name} binds ${formatAddress(holder.address)}; choose another`,
      );
    }
    earlier.push(listener);
    groups.set(group, earlier);
  }
  for (const { address, pointer, name } of bound) {
    if (!name.startsWith('egress') || isLoopback(address) || file.egress?.allowNonLoopback === true) continue;
    conflict(
      pointer,
      `${formatAddress(address)} is not loopback, and calls would arrive there in plaintext, unauthenticated, to go out under this sidecar's identity: listen on 127.0.0.1, or set egress.allowNonLoopback: true`,
    );
  }
  for (const app of file.ingress?.apps ?? []) {
    const address = app.address as ListenAddress | undefined;
    const own = address && bound.find((listener) => overlap(listener.address, address));
    if (own !== undefined) {
      conflict(
        below(pointerOf(app), 'address'),
        `${formatAddress(own.address)} is this sidecar's own ${own.name}: give the address of the app`,
      );
    }
  }
}

function admin({ file, pointerOf, conflict }: Context): void {
  const listen = (file.admin?.listen ?? []) as readonly ListenAddress[];
  for (const address of listen) {
    if (isLoopback(address)) continue;
    conflict(
      pointerOf(address),
      `${formatAddress(address)} is not loopback, and whoever reaches the admin API can end every session: listen on unix:/run/hauberk/admin.sock, or on 127.0.0.1 with an admin.token`,
    );
  }
  const tcp = listen.find((address) => address.kind === 'tcp' && isLoopback(address));
  if (tcp !== undefined && file.admin?.token === undefined) {
    conflict(
      pointerOf(tcp),
      `every program of this machine or pod reaches ${formatAddress(tcp)}: listen on a Unix socket, or name a file with a secret in admin.token`,
    );
  }
}

function adapters({ file, pointerOf, conflict }: Context): void {
  const seen = new Set<string>();
  for (const adapter of file.monitoring?.adapters ?? []) {
    if (typeof adapter === 'string') continue;
    const pointer = pointerOf(adapter);
    const kinds = (['stdout', 'file', 'module'] as const).filter((key) => adapter[key] !== undefined);
    if (kinds.length > 1 || Object.keys(adapter).every((key) => key === 'options')) {
      const found = kinds.length === 0 ? 'none of' : 'several of';
      conflict(
        pointer,
        `${found} stdout, file and module: write just one of them, and a list entry for each adapter`,
      );
    }
    if (adapter.options !== undefined && adapter.module === undefined && kinds.length > 0) {
      conflict(below(pointer, 'options'), 'options are for a module only: remove them');
    }
    const path = adapter.file?.path;
    if (path !== undefined && seen.has(path))
      conflict(pointer, `a second adapter writes to ${quote(path)}: keep one`);
    if (path !== undefined) seen.add(path);
  }
}

function limits({ file, pointerOf, conflict }: Context): void {
  const seen = new Set<string>();
  for (const limit of file.limits ?? []) {
    if (limit.scope === undefined || limit.window === undefined) continue;
    const key = `the scope ${limit.scope} and the window ${formatDuration(limit.window)}`;
    if (seen.has(key)) conflict(pointerOf(limit), `a second limit has ${key}: keep one`);
    seen.add(key);
  }
  const store = file.limitStore;
  if (store?.type === 'redis' && store.url === undefined) {
    conflict('/limitStore/url', 'missing: a Redis store needs it, as in redis://127.0.0.1:6379');
  }
  if (store?.type === 'memory' && store.url !== undefined) {
    conflict('/limitStore/url', 'only a Redis store has one: set limitStore.type: redis, or remove it');
  }
}

/** Pairs of keys of which the first must not exceed the second. */
const ORDERED: ReadonlyArray<[low: string, high: string, write: (amount: number) => string]> = [
  ['session.idle', 'session.absolute', formatDuration],
  ['session.grace', 'session.absolute', formatDuration],
  ['session.maxPerPeer', 'session.max', String],
  ['handshake.firstFrameTimeout', 'handshake.timeout', formatDuration],
  ['handshake.maxHalfOpenPerAddress', 'handshake.maxHalfOpen', String],
  ['pool.backoff', 'pool.maxBackoff', formatDuration],
  ['http2.initialWindow', 'http2.maxWindow', formatSize],
];

function order({ file, conflict, given }: Context): void {
  const read = (path: string) => {
    const [section, key] = path.split('.');
    const value = (file as Record<string, Record<string, unknown> | undefined>)[section]?.[key];
    return typeof value === 'number' ? value : undefined;
  };
  for (const [low, high, write] of ORDERED) {
    const [least, most] = [read(low), read(high)];
    if (least === undefined || most === undefined || least <= most) continue;
    const message = `${low} (${write(least)}) is more than ${high} (${write(most)}): lower it, or raise the other`;
    const [lowAt, highAt] = [low, high].map((path) => `/${path.replace('.', '/')}`);
    // Blame the one that was given, not a default.
    conflict(given(lowAt) ? lowAt : highAt, message);
  }
}

const CHECKS = [names, endpoints, apps, trustDomains, addresses, admin, adapters, limits, order];

/** What is known of a pointer's origin. */
export interface Origin {
  given(pointer: string): boolean;
  line(pointer: string): number | undefined;
}

/** Runs every rule. */
export function crossCheck(parsed: Parsed, origin: Origin): Finding[] {
  const findings: Finding[] = [];
  const context: Context = {
    file: parsed.value as DeepPartial<ParsedFile>,
    pointerOf: (value) => parsed.pointerOf.get(value) ?? '',
    given: origin.given,
    lineOf: (pointer) => {
      const line = origin.line(pointer);
      return line === undefined ? '' : ` (line ${line})`;
    },
    conflict: (pointer, message) =>
      findings.push({ code: 'conflict', pointer, message: `${dotted(pointer)}: ${message}` }),
  };
  for (const check of CHECKS) check(context);
  return findings;
}
