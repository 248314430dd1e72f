/**
 * The one place that wires everything. Reading order: assemble.ts (what is made, from the bottom up), `start`, `drain` and
 * `stop` (the way down), then the small parts.
 */
import type { Socket } from 'node:net';
import type { AdminApi } from '../admin/adminapi.ts';
import { AppProbes } from '../admin/appprobes.ts';
import { AppWatch } from '../admin/appwatch.ts';
import { Health } from '../admin/health.ts';
import { Probes } from '../admin/probes.ts';
import { Readiness } from '../admin/readiness.ts';
import type { Clock } from '../clock/clock.ts';
import type { SidecarConfig } from '../config/config.ts';
import type { RelayContext } from '../relay/context.ts';
import { Listener } from '../relay/listener.ts';
import type { MemoryWire } from '../relay/memorywire.ts';
import type { Revocation } from '../relay/revocation.ts';
import type { SessionManager } from '../session/manager.ts';
import type { Session } from '../session/session.ts';
import type { Logger } from '../telemetry/log.ts';
import { assemble, type Parts } from './assemble.ts';
import { type EndShares, endShares } from './endshares.ts';
import { ExposureWatch } from './exposurewatch.ts';
import { type IdentityEvent, type IdentityStatus, IdentityWatch } from './identitywatch.ts';
import type { SidecarOptions } from './options.ts';
import { type SidecarStats, sidecarStats } from './stats.ts';

/** What was bound, as `host:port` or `unix:path`: the real port where the configuration says 0. */
export interface BoundAddresses {
  readonly egress: readonly string[];
  /** By service, the listeners of single routes. */
  readonly routes: Readonly<Record<string, string>>;
  /** By the port that apps connect to, the listeners that connections to it are redirected to. */
  readonly redirects: Readonly<Record<number, readonly string[]>>;
  readonly ingress: readonly string[];
  readonly probesHttp: readonly string[];
  readonly probesGrpc: readonly string[];
  readonly admin: readonly string[];
}

const POLL_MS = 20;

/** A sidecar in this process, as `hauberk run` has one. */
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
  #exposure: ExposureWatch | undefined;
  readonly #identity: IdentityWatch;
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
    const { identity, rotation, context } = parts;
    this.spiffeId = identity.keeper.identity.spiffeId;
    this.#identity = new IdentityWatch({ ...identity, rotation, context, readiness: this.readiness });
    const { metrics } = parts.context;
    const { apps } = options.config.probes;
    this.#probes = new Probes({
      readiness: this.readiness,
      metrics,
      log: this.#log,
      apps: apps.length === 0 ? undefined : new AppProbes(apps, this.#clock),
    });
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
    await this.#identity.start();
    this.#identity.listen((event) => {
      if (event.type === 'rotated' && event.bundle) this.#parts.discovery?.channel.refresh();
    });
    if (config.policy === 'open') {
      this.#log.warn(
        {},
        'policy is open: every peer of the trust domain may call every method that no rule denies',
      );
    }
    const { identity, discovery } = this.#parts;
    const channel = identity.channel ?? discovery?.channel;
    this.#exposure = await ExposureWatch.open(this.#parts.context, config.ingress, channel);
    this.#watchApps();
    await this.#parts.ingress.listen(config.ingress.listen);
    await this.#parts.egress.listen(config.egress.listen, config.egress.redirects);
    const { skipped } = this.#parts.context;
    const { http, grpc } = config.probes;
    const probe = (socket: Socket): void => this.#probes.accept(socket);
    const health = (socket: Socket): void => this.#health.accept(socket);
    this.#probeListeners.http.push(...(await Listener.openAll('probes.http', http, 'own', probe, skipped)));
    this.#probeListeners.grpc.push(...(await Listener.openAll('probes.grpc', grpc, 'own', health, skipped)));
    await this.#openAdmin();
    listening.done();
    const { egress, ingress, routes, redirects } = this.bound;
    const listeners = [...egress, ...Object.values(routes), ...Object.values(redirects).flat(), ...ingress];
    recorder.record({ type: 'sidecar.ready', listeners });
  }

  /** Apps that do not answer keep the sidecar from being ready, and not from starting. */
  #watchApps(): void {
    const watched = this.#parts.apps.map((app) => {
      const { service } = app;
      const task = this.readiness.task(`app ${service}`, 'app');
      this.#health.setStatus(service, false);
      const onChange = (answers: boolean): void => {
        if (answers) {
          task.done();
          void this.#exposure?.look();
        } else task.pending();
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
    const { context, instance, sessions, lag } = this.#parts;
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
      identity: () => this.identity,
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
      redirects: Object.fromEntries([...egress.redirected].map(([port, found]) => [port, names(found)])),
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

  /**
   * What the relay shares, and a wire to the route of a service: for clients in this process.
   * @internal
   */
  get relay(): {
    readonly context: RelayContext;
    readonly join: (service: string) => MemoryWire | undefined;
  } {
    const { context, egress } = this.#parts;
    return { context, join: (service) => egress.join(service) };
  }

  /** The services of the routes, and whether each could be reached when that was tried last; true if it was not. */
  get services(): ReadonlyMap<string, boolean> {
    const { targets, discovery } = this.#parts;
    const all = [...targets, ...(discovery?.routes.lasting ?? [])];
    return new Map(all.map(({ name, reachable }) => [name, reachable]));
  }

  /** What it has done since its start, and what it holds. */
  getStats(): SidecarStats {
    const { context, sessions, limits } = this.#parts;
    return sidecarStats(context, sessions.manager, limits, this.identity);
  }

  /** Who this sidecar is now, and until when. */
  get identity(): IdentityStatus {
    return this.#identity.status;
  }

  /** Calls `listener` with each change of the identity, and each that failed. Returns a function that removes it. */
  onIdentity(listener: (event: IdentityEvent) => void): () => void {
    return this.#identity.listen(listener);
  }

  /**
   * Reads the files of the identity now. Resolves with whether anything was replaced. Rejects with IdentityError, which
   * names the file and the cure; what was good stays in use, but for a good trust bundle, which is taken by itself.
   */
  reloadIdentity(): Promise<boolean> {
    return this.#parts.identity.keeper.reload();
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
    this.#draining ??= this.#alive(this.#drain(reason, callsMs));
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

  /** No timer keeps a process alive: without this, one that has no socket left ends while it waits for its mesh to end. */
  #alive<T>(ending: Promise<T>): Promise<T> {
    return ending.finally(this.#clock.hold());
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
    this.#stopped ??= this.#alive(this.#stop(reason));
    return this.#stopped;
  }

  async #stop(reason: string): Promise<number> {
    const { context, egress, ingress, targets, discovery, sessions, limits, lag } = this.#parts;
    const { closing, last } = this.#shares;
    const callsCut = context.calls;
    const closedBy = this.#clock.monotonic() + closing;
    this.#watch?.close();
    this.#exposure?.close();
    this.#identity.close();
    sessions.manager.drain(closing / 2);
    egress.close();
    ingress.close();
    const keeping = discovery?.kept?.close();
    discovery?.client.close();
    discovery?.channel.close();
    discovery?.routes.close();
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
    if (keeping !== undefined) await this.#inTime(keeping, lastBy);
    this.#health.close();
    this.#probes.close();
    for (const listener of [...this.#probeListeners.http, ...this.#probeListeners.grpc]) listener.destroy();
    this.#log.info({ reason, callsCut }, 'stopped');
    await this.#inTime(this.#log.flush(), lastBy);
    return callsCut;
  }

  /** Ends the connections that were closed and are still there: first what was opened to us, in the end all. */
  async #closeSockets(by: number): Promise<void> {
    const { egress, ingress, targets, discovery, apps } = this.#parts;
    const upstreams = [
      ...targets.flatMap((target) => target.upstreams),
      ...(discovery?.routes.upstreams ?? []),
      ...apps.map((app) => app.upstream),
    ];
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
