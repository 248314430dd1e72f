/** From a mesh's options to the configuration of its sidecar. */
import type { MonitoringAdapter } from '../audit/adapter.ts';
import type { SidecarConfig } from '../config/config.ts';
import { dotted } from '../config/pointer.ts';
import { configOf } from '../config/value.ts';
import { IdentityError } from '../identity/errors.ts';
import { parseSpiffeId, type SpiffeId, spiffeIdForName } from '../identity/spiffeid.ts';
import { durationMs } from './duration.ts';
import { MeshError } from './errors.ts';
import { methodPath } from './methodname.ts';
import type {
  AllowOptions,
  Duration,
  KeyFiles,
  RateLimit,
  SecureMeshOptions,
  ServiceOptions,
} from './options.ts';
import { below, shapeProblems } from './optionshape.ts';

const OPTIONS = 'options';
/** Stands for the trust domain until the keys have told it. */
const ANY_DOMAIN = 'any.invalid';

export interface MeshConfig {
  readonly config: SidecarConfig;
  /** Adapters that are objects of the program. */
  readonly adapters: readonly MonitoringAdapter[];
}

/** Checks options as far as that is possible without the keys. Throws MeshError `bad-option` with all that is wrong. */
export function checkOptions(options: SecureMeshOptions): void {
  const problems = shapeProblems(options, OPTIONS);
  if (problems.length > 0) throw badOptions(problems);
  const nowhere = { svid: '/', key: '/', bundle: '/' };
  meshConfig(options, nowhere, parseSpiffeId(`spiffe://${ANY_DOMAIN}/ns/default/sa/any`));
}

/**
 * The configuration of a mesh whose identity is `own`. Throws MeshError `bad-option` with all that is wrong, in the names
 * of the options.
 */
export function meshConfig(options: SecureMeshOptions, keys: KeyFiles, own: SpiffeId): MeshConfig {
  const builder = new Builder(options, own);
  const root = builder.build(keys);
  const result = configOf(root, process.cwd());
  const problems = [...builder.problems];
  if ('findings' in result)
    problems.push(...result.findings.map(({ message }) => builder.inOptions(message)));
  if (problems.length > 0 || !('config' in result)) throw badOptions(problems);
  return { config: result.config, adapters: builder.adapters };
}

function badOptions(problems: readonly string[]): MeshError {
  return new MeshError('bad-option', problems.join('\n'));
}

class Builder {
  readonly problems: string[] = [];
  readonly adapters: MonitoringAdapter[] = [];
  readonly #options: SecureMeshOptions;
  readonly #own: SpiffeId;
  /** By what it is called in the configuration, what an option is called. */
  readonly #names = new Map<string, string>([
    ['session.idle', 'options.security.sessionTimeout'],
    ['session.absolute', 'options.security.absoluteLifetime'],
    ['session.maxPerPeer', 'options.security.maxSessions'],
    ['session.max', 'options.security.maxSessions'],
    ['identity.reload', 'options.rotation.checkInterval'],
    ['crypto.postQuantum', 'options.security.postQuantum'],
    ['ingress.listen', 'options.port'],
    ['ingress.apps[0].address', 'options.app'],
    ['ingress.apps[0].service', 'options.serviceId'],
    ['limitStore.url', 'options.redis'],
    ['monitoring.calls', 'options.monitoring.calls'],
    ['probes.http', 'options.probes.http'],
    ['probes.grpc', 'options.probes.grpc'],
    ['admin.listen', 'options.admin'],
    ['revocation.file', 'options.revocationFile'],
    ['drain.deadline', 'options.drainTimeout'],
    ['log.level', 'options.log'],
    [', or set ingress.allowRemoteApps: true', ''],
  ]);

  constructor(options: SecureMeshOptions, own: SpiffeId) {
    this.#options = options;
    this.#own = own;
  }

  /** A message in the names of the configuration, in those of the options. */
  inOptions(message: string): string {
    const names = [...this.#names.keys()].sort((a, b) => b.length - a.length);
    const pattern = names.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|');
    return message.replace(new RegExp(pattern, 'g'), (name) => this.#names.get(name) ?? name);
  }

  build(keys: KeyFiles): object {
    const { security = {}, monitoring = {}, probes = {}, redis, admin, revocationFile, log } = this.#options;
    const { drainTimeout, serviceId, app, allow } = this.#options;
    const { sessionTimeout, absoluteLifetime, postQuantum, maxSessions } = security;
    return defined({
      trustDomain: this.#own.trustDomain,
      identity: { ...keys, ...this.#rotation() },
      egress: { listen: 'off', routes: this.#routes() },
      ingress: {
        listen: this.#listen(),
        apps: app === undefined ? [] : [{ service: serviceId, address: app }],
        allow: (allow ?? []).map((rule, i) => this.#rule(rule, i)),
      },
      policy: allow === undefined ? 'open' : 'enforce',
      session: defined({
        idle: duration(sessionTimeout) ?? this.#atMost(absoluteLifetime),
        absolute: duration(absoluteLifetime) ?? this.#atLeast(sessionTimeout),
        max: maxSessions,
        maxPerPeer: maxSessions === undefined ? undefined : Math.min(maxSessions, 64),
        grace: this.#grace(),
      }),
      crypto: defined({ postQuantum }),
      handshake: { maxEventLoopLag: MAX_LAG },
      limits: this.#limits(),
      limitStore: redis === undefined ? undefined : { type: 'redis', url: redis },
      monitoring: defined({
        adapters: this.#adapters(),
        calls: monitoring.enabled === false ? 'none' : monitoring.calls,
      }),
      probes: { http: probes.http ?? 'off', grpc: probes.grpc ?? 'off' },
      admin: { listen: admin ?? 'off' },
      revocation: defined({ file: revocationFile }),
      drain: defined({ deadline: duration(drainTimeout) }),
      log: { level: typeof log === 'string' ? log : 'error' },
    });
  }

  #rotation(): object {
    const { rotation = true } = this.#options;
    if (rotation === false) return { reload: 'off', renew: false };
    const { checkInterval, renew = true } = rotation === true ? {} : rotation;
    return defined({ reload: duration(checkInterval), renew });
  }

  #listen(): string {
    const { port, host } = this.#options;
    if (port === undefined) return 'off';
    if (host === undefined) return `:${port}`;
    return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  }

  #routes(): object[] {
    return Object.entries(this.#options.services ?? {}).map(([service, given], i) => {
      const at = below('options.services', service);
      const listed = typeof given === 'string' || Array.isArray(given);
      const { endpoints, peer, timeout }: Omit<ServiceOptions, 'endpoints'> & { endpoints: unknown } = listed
        ? { endpoints: given }
        : (given as ServiceOptions);
      for (const [key, name] of [
        ['service', at],
        ['endpoints', listed ? at : `${at}.endpoints`],
        ['peer', listed ? at : `${at}.peer`],
        ['timeout', `${at}.timeout`],
      ]) {
        this.#names.set(dotted(`/egress/routes/${i}/${key}`), name as string);
      }
      this.#names.set(dotted(`/egress/routes/${i}`), at);
      const id = peer === undefined ? this.#idOf(service, at) : this.#givenId(peer);
      return defined({ service, endpoints, peer: id, timeout: duration(timeout) });
    });
  }

  #rule(given: string | AllowOptions, i: number): object {
    const { peer, methods, action }: AllowOptions = typeof given === 'string' ? { peer: given } : given;
    const at = `options.allow[${i}]`;
    this.#names.set(`ingress.allow[${i}]`, at);
    return defined({
      peer: peer.startsWith('spiffe://') ? this.#givenId(peer) : this.#idOf(peer, at),
      methods: methods?.map((method) =>
        method.startsWith('/') ? method : methodPath(this.#options.serviceId, method),
      ),
      action,
    });
  }

  /** The SPIFFE ID of a service's name: `name` in our own namespace, `name.namespace`, or `namespace/name`. */
  #idOf(name: string, at: string): string | undefined {
    const [first = '', namespace, ...rest] = name.split('.');
    const plain = namespace === undefined ? name : `${namespace}/${first}`;
    const full = plain.includes('/') || this.#namespace === undefined ? plain : `${this.#namespace}/${plain}`;
    try {
      if (rest.length > 0) throw new IdentityError('invalid-name', `${name} has more than one dot`);
      return spiffeIdForName(full, this.#own.trustDomain).id;
    } catch (error) {
      if (!(error instanceof IdentityError)) throw error;
      this.problems.push(
        `${at}: which SPIFFE ID ${JSON.stringify(name)} has cannot be told from the name; say it as peer: 'spiffe://${this.#own.trustDomain}/...'`,
      );
      return undefined;
    }
  }

  get #namespace(): string | undefined {
    return /^\/ns\/([^/]+)\/sa\/[^/]+$/.exec(this.#own.path)?.[1];
  }

  /** Before the keys are known, an ID of whatever trust domain will do. */
  #givenId(id: string): string {
    return this.#own.trustDomain === ANY_DOMAIN ? id.replace(/^(spiffe:\/\/)[^/]*/, `$1${ANY_DOMAIN}`) : id;
  }

  #limits(): object[] {
    const { rateLimit = [] } = this.#options;
    const single = !Array.isArray(rateLimit);
    const limits = (single ? [rateLimit] : rateLimit) as readonly RateLimit[];
    return limits.map(({ maxRequests, windowMs, scope = 'session' }, i) => {
      const at = single ? 'options.rateLimit' : `options.rateLimit[${i}]`;
      this.#names.set(`limits[${i}].window`, `${at}.windowMs`);
      this.#names.set(`limits[${i}]`, at);
      return { scope, maxRequests, window: `${windowMs}ms` };
    });
  }

  #adapters(): (string | object)[] {
    const { enabled = true, adapters = [] } = this.#options.monitoring ?? {};
    const configured: (string | object)[] = [];
    for (const [i, adapter] of (enabled ? adapters : []).entries()) {
      if (typeof adapter === 'object' && 'write' in adapter) this.adapters.push(adapter);
      else {
        this.#names.set(`monitoring.adapters[${configured.length}]`, `options.monitoring.adapters[${i}]`);
        configured.push(adapter);
      }
    }
    return configured;
  }

  /** A session that may idle for longer than the default lifetime may live for as long. */
  #atLeast(sessionTimeout: Duration | undefined): string | undefined {
    const ms = durationMs(sessionTimeout);
    return ms !== undefined && ms > DEFAULT_LIFETIME_MS ? `${ms}ms` : undefined;
  }

  /** A session that lives for less than the default timeout does not idle for longer than it lives. */
  #atMost(absoluteLifetime: Duration | undefined): string | undefined {
    const ms = durationMs(absoluteLifetime);
    return ms !== undefined && ms < DEFAULT_TIMEOUT_MS ? `${ms}ms` : undefined;
  }

  /** The default grace period is too long for a session that is shorter than it. */
  #grace(): string | undefined {
    const { sessionTimeout, absoluteLifetime } = this.#options.security ?? {};
    const shortest = Math.min(
      durationMs(sessionTimeout) ?? Number.POSITIVE_INFINITY,
      durationMs(absoluteLifetime) ?? Number.POSITIVE_INFINITY,
    );
    return shortest < 10 * DEFAULT_GRACE_MS ? `${Math.floor(shortest / 10)}ms` : undefined;
  }
}

/** The program shares the event loop, and its own work must not have peers turned away. */
const MAX_LAG = '500ms';
const DEFAULT_TIMEOUT_MS = 3_600_000;
const DEFAULT_LIFETIME_MS = 8 * 3_600_000;
const DEFAULT_GRACE_MS = 30_000;

function duration(given: Duration | undefined): string | undefined {
  return typeof given === 'number' ? `${given}ms` : given;
}

/** Without the keys that have no value. */
function defined(values: Readonly<Record<string, unknown>>): object {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}
