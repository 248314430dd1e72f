/**
 * The one place that wires everything. Reading order: `start` (what is made, from the bottom up), `drain` and
 * `stop` (the way down), then the small parts.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { dirname } from 'node:path';
import type { Writable } from 'node:stream';
import type { AdminApi } from '../admin/adminapi.ts';
import { AppWatch } from '../admin/appwatch.ts';
import { Health } from '../admin/health.ts';
import { Probes } from '../admin/probes.ts';
import { Readiness } from '../admin/readiness.ts';
import { openAdapters } from '../audit/adapters/adapters.ts';
import { Recorder } from '../audit/recorder.ts';
import { type Clock, systemClock } from '../clock/clock.ts';
import type { SidecarConfig } from '../config/config.ts';
import { loadCryptoProvider } from '../crypto/provider.ts';
import { type LoadedIdentity, loadIdentity } from '../identity/load.ts';
import { openRateLimits, type RateLimits } from '../limit/ratelimits.ts';
import { AccessPolicy } from '../policy/accesspolicy.ts';
import { AppTarget } from '../relay/apptarget.ts';
import { RelayContext } from '../relay/context.ts';
import { Egress, type Route } from '../relay/egress.ts';
import { Ingress } from '../relay/ingress.ts';
import { Listener } from '../relay/listener.ts';
import { PeerTarget, type PeerTargetOptions } from '../relay/peertarget.ts';
import { Revocation } from '../relay/revocation.ts';
import { SessionPlaces } from '../relay/sessionplaces.ts';
import { PeerSessions } from '../relay/sessions.ts';
import { Blocks } from '../session/blocks.ts';
import type { SessionManager } from '../session/manager.ts';
import type { Session } from '../session/session.ts';
import { EventLoopLag } from '../telemetry/eventlooplag.ts';
import { type Logger, silentLogger } from '../telemetry/log.ts';
import { Metrics } from '../telemetry/metrics.ts';
import { loadTracing } from '../telemetry/tracing.ts';
import { type EndShares, endShares } from './endshares.ts';
import { peerUpstream } from './peerupstream.ts';

export interface SidecarOptions {
  readonly config: SidecarConfig;
  /** The file that the configuration came from, for the audit and for paths of adapter modules. */
  readonly configFile: string;
  /** SHA-256 of that file, in hex. */
  readonly configSha256: string;
  readonly version: string;
  /** Takes the lines of `stdout` adapters. */
  readonly stdout: Writable;
  readonly log?: Logger;
  readonly clock?: Clock;
}

/** What was bound, as `host:port` or `unix:path`: the real port where the configuration says 0. */
export interface BoundAddresses {
  readonly egress: readonly string[];
  /** By service, the listeners of single routes. */
  readonly routes: Readonly<Record<string, string>>;
  readonly ingress: readonly string[];
  readonly probesHttp: readonly string[];
  readonly probesGrpc: readonly string[];
  readonly admin: readonly string[];
}

const POLL_MS = 20;

interface Parts {
  readonly context: RelayContext;
  readonly loaded: LoadedIdentity;
  /** Names this run. */
  readonly instance: string;
  readonly limits: RateLimits;
  readonly sessions: PeerSessions;
  readonly revocation: Revocation;
  readonly egress: Egress;
  readonly ingress: Ingress;
  readonly targets: readonly PeerTarget[];
  readonly apps: readonly AppTarget[];
  readonly lag: EventLoopLag;
}

export class Sidecar {
  readonly readiness = new Readiness();
  readonly spiffeId: string;
  readonly #options: SidecarOptions;
  readonly #config: SidecarConfig;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #parts: Parts;
  readonly #probes: Probes;
  readonly #health: Health;
  readonly #startedAt: number;
  readonly #probeListeners: { http: Listener[]; grpc: Listener[] } = { http: [], grpc: [] };
  #watch: AppWatch | undefined;
  #admin: AdminApi | undefined;
  readonly #shares: EndShares;
  #draining: Promise<void> | undefined;
  /** When calls under way are not waited for any more; monotonic. */
  #callsEndAt = Number.POSITIVE_INFINITY;
  #stopped: Promise<number> | undefined;

  private constructor(options: SidecarOptions, parts: Parts) {
    this.#options = options;
    this.#config = options.config;
    this.#clock = parts.context.clock;
    this.#log = parts.context.log;
    this.#parts = parts;
    this.#startedAt = this.#clock.now();
    this.#shares = endShares(options.config.drain.deadlineMs);
    this.spiffeId = parts.loaded.identity.spiffeId;
    const { metrics } = parts.context;
    this.#probes = new Probes({ readiness: this.readiness, metrics, log: this.#log });
    this.#health = new Health(this.readiness, this.#log);
    metrics.observe({
      callsOpen: () => ({
        egress: parts.context.callsOpen('egress'),
        ingress: parts.context.callsOpen('ingress'),
      }),
      sessionsOpen: () => this.#countSessions(() => true),
      sessionsDisconnected: () => this.#countSessions(({ connections }) => connections === 0),
      handshakesHalfOpen: () => parts.ingress.halfOpen,
      peersBlocked: () => parts.revocation.blocked().length,
      audit: () => parts.context.recorder.stats(),
      eventLoopLag: parts.lag,
    });
  }

  /**
   * Starts a sidecar: resolves once every listener is bound. Rejects with the error of the part that failed
   * (IdentityError, AuditError, LimitError, ListenError), everything that was begun being undone.
   */
  static async start(options: SidecarOptions): Promise<Sidecar> {
    const sidecar = new Sidecar(options, await assemble(options));
    try {
      await sidecar.#open();
      return sidecar;
    } catch (error) {
      await sidecar.stop('start-failed');
      throw error;
    }
  }

  async #open(): Promise<void> {
    const config = this.#config;
    const { recorder } = this.#parts.context;
    const { identity, bundle } = this.#parts.loaded;
    const listening = this.readiness.task('listeners');
    recorder.record({
      type: 'sidecar.started',
      version: this.#options.version,
      runtime: `node ${process.versions.node}`,
      pid: process.pid,
    });
    recorder.record({
      type: 'config.loaded',
      file: this.#options.configFile,
      sha256: this.#options.configSha256,
      policy: config.policy,
    });
    recorder.record({
      type: 'identity.loaded',
      spiffeId: identity.spiffeId,
      notAfter: new Date(identity.notAfter).toISOString(),
      leafSha256: sha256Hex(identity.chain[0] as Buffer),
      bundleGeneration: bundle.generation,
    });
    if (config.policy === 'open') {
      this.#log.warn(
        {},
        'policy is open: every peer of the trust domain may call every method that no rule denies',
      );
    }
    this.#watchApps();
    await this.#parts.ingress.listen(config.ingress.listen);
    await this.#parts.egress.listen(config.egress.listen);
    const { skipped } = this.#parts.context;
    const { http, grpc } = config.probes;
    const probe = (socket: Socket): void => this.#probes.accept(socket);
    const health = (socket: Socket): void => this.#health.accept(socket);
    this.#probeListeners.http.push(...(await Listener.openAll('probes.http', http, 'own', probe, skipped)));
    this.#probeListeners.grpc.push(...(await Listener.openAll('probes.grpc', grpc, 'own', health, skipped)));
    await this.#openAdmin();
    listening.done();
    const { egress, ingress, routes } = this.bound;
    recorder.record({ type: 'sidecar.ready', listeners: [...egress, ...Object.values(routes), ...ingress] });
  }

  /** Apps that do not answer keep the sidecar from being ready, and not from starting. */
  #watchApps(): void {
    const watched = this.#parts.apps.map((app) => {
      const { service } = app.config;
      const task = this.readiness.task(`app ${service}`);
      this.#health.setStatus(service, false);
      const onChange = (answers: boolean): void => {
        if (answers) task.done();
        else task.pending();
        this.#health.setStatus(service, answers);
      };
      return { service, probe: () => app.probe(), onChange };
    });
    const watch = new AppWatch(this.#clock, watched);
    this.#watch = watch;
    for (const [i, app] of this.#parts.apps.entries()) {
      app.onClosed = () => watch.askNow(watched[i] as (typeof watched)[number]);
    }
  }

  /** Most sidecars have no admin API, and none of its code then. */
  async #openAdmin(): Promise<void> {
    const { listen, token, groupAccess } = this.#config.admin;
    if (listen.length === 0) return;
    const { context, loaded, instance, sessions, lag } = this.#parts;
    const [{ AdminApi }, { AdminToken, readAdminToken }, { SidecarControl }] = await Promise.all([
      import('../admin/adminapi.ts'),
      import('../admin/admintoken.ts'),
      import('./control.ts'),
    ]);
    const control = new SidecarControl({
      version: this.#options.version,
      instance,
      startedAt: this.#startedAt,
      config: this.#config,
      identity: () => loaded.identity,
      context,
      sessions,
      revocation: this.revocation,
      readiness: this.readiness,
      lag,
      bound: () => this.bound,
      draining: () => this.#draining !== undefined,
      drain: (reason, deadlineMs) => void this.drain(reason, deadlineMs),
    });
    this.#admin = await AdminApi.open({
      listen,
      groupAccess,
      token: token === undefined ? undefined : new AdminToken(await readAdminToken(token)),
      control,
      clock: this.#clock,
      log: this.#log,
      onSkipped: context.skipped,
    });
  }

  get bound(): BoundAddresses {
    const names = (listeners: readonly Listener[]): string[] => listeners.map(({ name }) => name);
    const { egress, ingress } = this.#parts;
    return {
      egress: names(egress.shared),
      routes: Object.fromEntries([...egress.own].map(([service, { name }]) => [service, name])),
      ingress: names(ingress.listeners),
      probesHttp: names(this.#probeListeners.http),
      probesGrpc: names(this.#probeListeners.grpc),
      admin: this.#admin?.bound ?? [],
    };
  }

  #countSessions(where: (session: Session) => boolean): { inbound: number; outbound: number } {
    let inbound = 0;
    const sessions = this.#parts.sessions.manager.getSessionsByLastUsed(where);
    for (const { direction } of sessions) if (direction === 'inbound') inbound++;
    return { inbound, outbound: sessions.length - inbound };
  }

  /** Every session of this sidecar: to look at, and to hear of. */
  get sessions(): SessionManager {
    return this.#parts.sessions.manager;
  }

  /** Cuts sessions; blocks peers and allows them again. */
  get revocation(): Revocation {
    return this.#parts.revocation;
  }

  /** Opens audit files anew, after they were rotated. */
  reopenAudit(): void {
    this.#parts.context.recorder.reopen();
  }

  /**
   * The graceful way down: not ready, no new connections, GOAWAY to all, calls under way finish. Resolves when the last
   * has ended or their time is over, by default what `drain.deadline` leaves them; `stop` comes after, and is within
   * that deadline then. Called again, it can only bring the end forward.
   */
  drain(reason: string, callsMs = this.#shares.calls): Promise<void> {
    this.#callsEndAt = Math.min(this.#callsEndAt, this.#clock.monotonic() + callsMs);
    this.#draining ??= this.#drain(reason, callsMs);
    return this.#draining;
  }

  async #drain(reason: string, deadlineMs: number): Promise<void> {
    const { context, egress, ingress } = this.#parts;
    this.readiness.task('draining');
    this.#health.drain();
    context.recorder.record({ type: 'sidecar.draining', reason, calls: context.calls, deadlineMs });
    this.#log.info({ reason, calls: context.calls, deadlineMs }, 'draining');
    egress.drain();
    ingress.drain(deadlineMs);
    // A connection that is open could still bring a call.
    const idle = (): boolean => context.calls === 0 && egress.connections === 0 && ingress.connections === 0;
    await this.#until(() => idle() || this.#clock.monotonic() >= this.#callsEndAt);
  }

  /** Resolves once `done` says so. */
  #until(done: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (done()) resolve();
        else this.#clock.after(POLL_MS, look);
      };
      look();
    });
  }

  /**
   * Ends everything now: calls still under way end UNAVAILABLE, the audit is written out, then the keys are wiped.
   * Each step has its share of `drain.deadline` and no more. Resolves with the number of calls that were cut.
   */
  stop(reason: string): Promise<number> {
    this.#stopped ??= this.#stop(reason);
    return this.#stopped;
  }

  async #stop(reason: string): Promise<number> {
    const { context, egress, ingress, targets, sessions, limits, lag } = this.#parts;
    const { closing, last } = this.#shares;
    const callsCut = context.calls;
    const closedBy = this.#clock.monotonic() + closing;
    this.#watch?.close();
    sessions.manager.drain(closing / 2);
    egress.close();
    ingress.close();
    for (const target of targets) target.close();
    await sessions.close(closing / 2, async () => {
      await this.#closeSockets(closedBy);
      limits.close();
      lag.stop();
      context.recorder.record({ type: 'sidecar.stopped', reason, callsCut });
      await this.#writeAudit();
    });
    this.#log.info({}, 'keys wiped');
    const lastBy = this.#clock.monotonic() + last;
    if (this.#admin !== undefined) await this.#inTime(this.#admin.close(), lastBy);
    this.#health.close();
    this.#probes.close();
    for (const listener of [...this.#probeListeners.http, ...this.#probeListeners.grpc]) listener.destroy();
    this.#log.info({ reason, callsCut }, 'stopped');
    await this.#inTime(this.#log.flush(), lastBy);
    return callsCut;
  }

  /** Ends the connections that were closed and are still there: first what was opened to us, in the end all. */
  async #closeSockets(by: number): Promise<void> {
    const { egress, ingress, targets, apps } = this.#parts;
    const upstreams = [...targets.flatMap((target) => target.upstreams), ...apps.map((app) => app.upstream)];
    const closed = (): boolean =>
      egress.connections === 0 && ingress.connections === 0 && upstreams.every(({ open }) => open === 0);
    ingress.destroy();
    egress.destroy();
    await this.#until(() => closed() || this.#clock.monotonic() >= by);
    for (const upstream of upstreams) upstream.destroy();
  }

  /** Waits for a promise no longer than until a time of the monotonic clock. */
  async #inTime(promise: Promise<void>, by: number): Promise<void> {
    let timer: unknown;
    const late = new Promise<void>((resolve) => {
      timer = this.#clock.after(by - this.#clock.monotonic(), resolve);
    });
    await Promise.race([promise, late]).finally(() => this.#clock.clear(timer));
  }

  async #writeAudit(): Promise<void> {
    for (const { adapter, count, error } of await this.#parts.context.recorder.close(this.#shares.audit)) {
      this.#log.error({ adapter, count, error }, 'an audit adapter never got these events');
    }
    this.#log.info({}, 'audit written');
  }
}

/** Makes the parts, from the bottom up; nothing listens yet. */
async function assemble(options: SidecarOptions): Promise<Parts> {
  const { config, configFile, version, stdout } = options;
  const clock = options.clock ?? systemClock;
  const log = options.log ?? silentLogger;
  const loaded = await loadIdentity({ ...config.identity, trustDomain: config.trustDomain }, clock);
  const blocks = await Blocks.open(clock, config.revocation.file);
  const { provider, postQuantum } = config.crypto;
  const crypto = await loadCryptoProvider(provider, { postQuantum: postQuantum !== 'off' });
  const instance = randomBytes(8);
  const recorder = new Recorder({
    clock,
    source: { instance: instance.toString('hex'), spiffeId: loaded.identity.spiffeId },
    adapters: await openAdapters(config.monitoring.adapters, { clock, stdout, folder: dirname(configFile) }),
    queueLimit: config.monitoring.queue,
  });
  const metrics = new Metrics({ version });
  const lag = new EventLoopLag(clock);
  let limitStoreUp = true;
  if (config.limitStore.type !== 'memory') {
    metrics.observe({ limitStore: () => ({ store: config.limitStore.type, up: limitStoreUp }) });
  }
  const limits = await openRateLimits({
    limits: config.limits,
    clock,
    store: config.limitStore,
    namespace: loaded.identity.spiffeId,
    onStoreChange: ({ store, state, detail }) => {
      limitStoreUp = state === 'restored';
      metrics.limitStoreSwitches.of(state).inc();
      recorder.record({ type: 'limit.store', store, state, detail });
      log.warn({ store, state, detail }, 'the store of the limits has changed');
    },
  });
  const context = new RelayContext({
    clock,
    recorder,
    metrics,
    log,
    http2: config.http2,
    tracing: await loadTracing(version),
    auditCalls: config.monitoring.calls,
  });
  const sessions = new PeerSessions(context, {
    crypto,
    identity: () => loaded.identity,
    bundle: () => loaded.bundle,
    handshake: config.handshake,
    records: config.records,
    postQuantum,
    session: config.session,
    instance,
    lagMs: () => lag.currentMs,
    blocks,
    onSessionEnded: (id) => limits.release(id),
  });
  const places = new SessionPlaces(config.pool.maxConcurrentSessions);
  const routes = config.egress.routes.map((route): Route => {
    const makeUpstream: PeerTargetOptions['makeUpstream'] = (host, port, onGone) =>
      peerUpstream(context, { sessions, places, pool: config.pool, onGone }, route, host, port);
    return {
      config: route,
      target: new PeerTarget(context, {
        service: route.service,
        endpoints: route.endpoints,
        waitMs: config.pool.waitTimeoutMs,
        makeUpstream,
      }),
    };
  });
  const apps = config.ingress.apps.map((app) => new AppTarget(context, app));
  return {
    context,
    loaded,
    instance: instance.toString('hex'),
    limits,
    sessions,
    revocation: new Revocation(context, sessions, blocks, (peer) => {
      for (const { config: route, target } of routes) if (route.peer === peer) target.retryNow();
    }),
    egress: new Egress(context, routes, config.egress.maxConnections, (peer) => blocks.has(peer)),
    ingress: new Ingress(context, {
      sessions,
      apps,
      policy: new AccessPolicy(config.ingress.allow, config.policy),
      limits,
    }),
    targets: routes.map(({ target }) => target),
    apps,
    lag,
  };
}

function sha256Hex(octets: Uint8Array): string {
  return createHash('sha256').update(octets).digest('hex');
}
