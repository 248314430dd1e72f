// What the schema cannot say: rules between keys. Each function looks at one matter and passes over what is
// undefined, because a value of its own was wrong and has been reported already.
import { formatAddress, isLoopback } from './address.ts';
import type { ListenAddress } from './config.ts';
import { below, dotted, quote } from './pointer.ts';
import { formatDuration, formatSize } from './quantity.ts';
import {
  adapters,
  boundOnce,
  type DeepPartial,
  type NamedListener,
  overlap,
  type Rule,
  type RuleContext,
} from './rules.ts';
import type { ParsedFile } from './schema.ts';
import { trustDomainOf } from './spiffe.ts';

type Context = RuleContext<ParsedFile>;

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

/** Either the file tells where a service is, or the controller does. */
function discovery({ file, pointerOf, given, conflict, missing }: Context): void {
  const askers = file.egress?.discovery === true ? ['/egress/discovery'] : [];
  for (const route of file.egress?.routes ?? []) {
    const pointer = pointerOf(route);
    if (route.discovery === true) askers.push(below(pointer, 'discovery'));
    for (const key of ['endpoints', 'peer'] as const) {
      const at = below(pointer, key);
      if (route.discovery === true && given(at)) {
        conflict(at, 'the controller tells it, for discovery is true: remove one of the two');
      } else if (route.discovery === false && !given(at)) {
        missing(at, ', or discovery: true, by which the controller tells it');
      }
    }
    if (route.discovery === false && route.service?.includes(':') === true) {
      const [name] = route.service.split(':');
      conflict(
        below(pointer, 'service'),
        `${quote(route.service)} has a port: write ${name} and put the port into authorities`,
      );
    }
  }
  const [asker] = askers;
  if (asker !== undefined && !given('/controller')) {
    conflict(asker, 'there is no controller to ask: add the section controller, or set it to false');
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

/** An app of whatever name is known by its port. */
function anyName(
  { lineOf, conflict }: Context,
  address: ListenAddress | undefined,
  pointer: string,
  taken: Map<string, string>,
): void {
  if (address === undefined) return;
  if (address.kind === 'unix') {
    const message = `an app for "*" is told by its port, and ${formatAddress(address)} has none: give host:port, or the name of the service`;
    conflict(below(pointer, 'address'), message);
    return;
  }
  const key = `*:${address.port}`;
  const other = taken.get(key);
  if (other === undefined) taken.set(key, pointer);
  else
    conflict(
      below(pointer, 'address'),
      `"*" has an app on port ${address.port} already${lineOf(other)}: keep one`,
    );
}

function redirects({ file, pointerOf, lineOf, conflict }: Context): void {
  const taken = new Map<number, string>();
  for (const redirect of file.egress?.redirects ?? []) {
    if (redirect.port === undefined) continue;
    const pointer = pointerOf(redirect);
    const other = taken.get(redirect.port);
    if (other === undefined) taken.set(redirect.port, pointer);
    else {
      const message = `port ${redirect.port} has a listener already${lineOf(other)}: keep one`;
      conflict(below(pointer, 'port'), message);
    }
    if (redirect.listen !== undefined && redirect.listen.length === 0)
      conflict(below(pointer, 'listen'), 'cannot be off: remove the entry instead');
  }
}

function apps(context: Context): void {
  const { file, pointerOf, lineOf, conflict } = context;
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
    if (app.service === '*') {
      anyName(context, app.address as ListenAddress | undefined, pointer, taken);
      continue;
    }
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

function controller({ file, given, conflict }: Context): void {
  const { controller, identity, trustDomain } = file;
  if (identity?.issuer === 'controller') {
    if (controller === undefined) {
      conflict(
        '/identity/issuer',
        'there is no controller: add the section controller, or use issuer: files',
      );
    }
    if (identity.renew === true) {
      conflict('/identity/renew', 'the controller renews this identity: remove renew, or use issuer: files');
    }
  }
  if (controller === undefined) return;
  const [bundle, pem] = [given('/controller/bundle'), given('/controller/bundlePem')];
  if (!bundle && !pem) {
    conflict(
      '/controller/bundle',
      'missing: name the file of the CA certificates, or write them in bundlePem',
    );
  }
  if (bundle && pem) {
    conflict('/controller/bundlePem', 'there is a controller.bundle already: keep one of the two');
  }
  const { peer } = controller;
  const domain: string | undefined = peer === undefined ? trustDomain : trustDomainOf(peer);
  if (trustDomain !== undefined && domain !== trustDomain) {
    conflict(
      '/controller/peer',
      `the controller is in the trust domain ${domain}, and this is ${trustDomain}`,
    );
  }
}

/** Every address that the sidecar would bind, with where it is written and what it is called. */
function listeners({ file, pointerOf }: Context): NamedListener[] {
  const found: NamedListener[] = [];
  const add = (address: DeepPartial<ListenAddress>, name: string) =>
    found.push({ address: address as ListenAddress, pointer: pointerOf(address), name });
  for (const address of file.egress?.listen ?? []) add(address, 'egress.listen');
  for (const route of file.egress?.routes ?? []) {
    if (route.listen !== undefined) add(route.listen, `${dotted(pointerOf(route))}.listen`);
  }
  for (const redirect of file.egress?.redirects ?? []) {
    for (const address of redirect.listen ?? []) add(address, `${dotted(pointerOf(redirect))}.listen`);
  }
  for (const address of file.ingress?.listen ?? []) add(address, 'ingress.listen');
  for (const address of file.probes?.http ?? []) add(address, 'probes.http');
  for (const address of file.probes?.grpc ?? []) add(address, 'probes.grpc');
  for (const address of file.admin?.listen ?? []) add(address, 'admin.listen');
  return found;
}

function addresses(context: Context): void {
  const { file, conflict, pointerOf } = context;
  const bound = listeners(context);
  boundOnce(context, bound);
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

/** Keys that have a meaning for one kind of probe only. */
const OF_KIND = { path: 'http', headers: 'http', service: 'grpc' } as const;

function appProbes({ file, pointerOf, lineOf, conflict }: Context): void {
  const taken = new Map<string, string>();
  for (const probe of file.probes?.apps ?? []) {
    const pointer = pointerOf(probe);
    for (const [key, kind] of Object.entries(OF_KIND)) {
      const value = probe[key as keyof typeof OF_KIND];
      if (value === undefined || value.length === 0 || probe.kind === undefined || probe.kind === kind)
        continue;
      conflict(below(pointer, key), `only a probe of the kind ${kind} has it: remove it`);
    }
    if (probe.name === undefined) continue;
    const other = taken.get(probe.name);
    if (other === undefined) taken.set(probe.name, pointer);
    else conflict(below(pointer, 'name'), `there is a probe ${probe.name} already${lineOf(other)}: keep one`);
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

/** The rules of a sidecar's file. */
export const SIDECAR_RULES: readonly Rule<ParsedFile>[] = [
  names,
  discovery,
  endpoints,
  redirects,
  apps,
  trustDomains,
  controller,
  addresses,
  admin,
  appProbes,
  adapters,
  limits,
  order,
];
