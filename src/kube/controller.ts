/**
 * The controller of a cluster: the one place that wires it. Reading order: `start` (first the probes, so that it can be seen
 * to wait; then the CA; then the parts; then what listens), `drain` and `stop` (the way down).
 */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import type { Writable } from 'node:stream';
import { Probes } from '../admin/probes.ts';
import { Readiness } from '../admin/readiness.ts';
import { openAdapters } from '../audit/adapters/adapters.ts';
import { Recorder } from '../audit/recorder.ts';
import type { Clock } from '../clock/clock.ts';
import type { ControllerConfig } from '../config/controllerconfig.ts';
import type { KubeAccess } from '../config/incluster.ts';
import { Listener } from '../relay/listener.ts';
import { EventLoopLag } from '../telemetry/eventlooplag.ts';
import type { Logger } from '../telemetry/log.ts';
import { Metrics } from '../telemetry/metrics.ts';
import type { KubeClient } from './client/client.ts';
import { openKubeClient } from './client/httpsclient.ts';
import { ControlServer } from './controlapi/controlserver.ts';
import { identityService } from './controlapi/identityservice.ts';
import { EventRecorder } from './eventrecorder.ts';
import { Issuance } from './issuer/issuance.ts';
import { LeaderElection } from './lease.ts';
import type { ControllerContext, ControllerPart, MakePart } from './part.ts';
import { TokenReviewer } from './tokenreview.ts';

export interface ControllerOptions {
  readonly config: ControllerConfig;
  /** The file that the configuration came from. */
  readonly configFile: string;
  readonly configSha256: string;
  readonly access: KubeAccess;
  readonly namespace: string;
  readonly version: string;
  /** Takes the lines of `stdout` adapters. */
  readonly stdout: Writable;
  readonly log: Logger;
  readonly clock: Clock;
  /** What there is besides the issuer. */
  readonly parts: readonly MakePart[];
}

/** What was bound, by the name of the listener, each as `host:port`. */
export type BoundListeners = Readonly<Record<string, readonly string[]>>;

const POLL_MS = 20;
const LEAST_AUDIT_MS = 1_000;

export class Controller {
  readonly readiness = new Readiness();
  readonly spiffeId: string;
  readonly #options: ControllerOptions;
  readonly #context: ControllerContext;
  readonly #issuance: Issuance;
  readonly #election: LeaderElection;
  readonly #events: EventRecorder;
  readonly #lag: EventLoopLag;
  readonly #probes: Probes;
  readonly #parts: ControllerPart[] = [];
  #bound: BoundListeners = {};
  #probeListeners: readonly Listener[] = [];
  #server: ControlServer | undefined;
  #draining: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;

  private constructor(options: ControllerOptions, recorder: Recorder, instance: string) {
    const { config, namespace, version, clock, log, access } = options;
    this.#options = options;
    this.spiffeId = spiffeIdOf(config, namespace);
    const { spiffeId, readiness } = this;
    const client = openKubeClient({ access, clock });
    const metrics = new Metrics({ version });
    const { audience, ...bounds } = config.issuer;
    const tokens = new TokenReviewer({ client, clock, audience, log, bounds });
    const shared = { config, namespace, spiffeId, clock, log, recorder, metrics, client, tokens };
    this.#issuance = new Issuance(shared);
    this.#events = new EventRecorder({ client, clock, log, instance: hostname() });
    this.#election = this.#makeElection(client, recorder);
    this.#context = {
      ...shared,
      version,
      instance,
      readiness,
      ca: () => this.#issuance.ca,
      isLeader: () => this.#election.isLeader,
      onCa: (listener) => this.#issuance.onCa(listener),
      skipped: (error) => log.warn({ error: error.message }, 'an address was left out'),
    };
    this.#lag = new EventLoopLag(clock);
    this.#probes = new Probes({ readiness, metrics, log });
    metrics.observe({
      audit: () => recorder.stats(),
      eventLoopLag: this.#lag,
      leader: () => (this.#election.isLeader ? 1 : 0),
      controlConnections: () => this.#server?.connections ?? 0,
    });
  }

  /** Nothing is opened before `start`, but audit adapters. Rejects with AuditError. */
  static async make(options: ControllerOptions): Promise<Controller> {
    const { config, configFile, namespace, clock, stdout } = options;
    const instance = randomBytes(8).toString('hex');
    const recorder = new Recorder({
      clock,
      source: { instance, spiffeId: spiffeIdOf(config, namespace) },
      adapters: await openAdapters(config.monitoring.adapters, {
        clock,
        stdout,
        folder: dirname(configFile),
      }),
      queueLimit: config.monitoring.queue,
    });
    return new Controller(options, recorder, instance);
  }

  /**
   * Resolves with true once everything listens: it waits for an API server that is away. With false if it was stopped
   * meanwhile. Rejects with the error of the part that failed (IdentityError, KubeError, ListenError), all that was begun
   * being undone.
   */
  async start(): Promise<boolean> {
    try {
      return await this.#start();
    } catch (error) {
      await this.stop('start-failed');
      throw error;
    }
  }

  async #start(): Promise<boolean> {
    const { config, namespace, version, configFile, configSha256: sha256, log, parts } = this.#options;
    const { recorder, client, skipped } = this.#context;
    const listening = this.readiness.task('listeners');
    const certifying = this.readiness.task('certificate authority');
    const runtime = `node ${process.versions.node}`;
    recorder.record({ type: 'controller.started', version, runtime, pid: process.pid, namespace });
    recorder.record({ type: 'config.loaded', file: configFile, sha256, policy: config.injector.policy });
    const probe = (socket: Parameters<Probes['accept']>[0]): void => this.#probes.accept(socket);
    this.#probeListeners = await Listener.openAll('probes.http', config.probes.http, 'own', probe, skipped);
    log.info({ server: client.server, namespace, spiffeId: this.spiffeId }, 'starting');
    this.#election.start();
    if (!(await this.#issuance.open())) return false;
    certifying.done();
    for (const make of parts) {
      const part = await make(this.#context);
      this.#parts.push(part);
      if (this.#stopped !== undefined) await part.close();
    }
    for (const part of this.#parts) {
      if (this.#isEnding) return false;
      if (part.open === undefined) continue;
      const bound = await part.open();
      if (bound === undefined) return false;
      this.#bound = { ...this.#bound, ...bound };
    }
    if (this.#isEnding) return false;
    await this.#openServer();
    if (this.#isEnding) return false;
    listening.done();
    const named = Object.entries(this.bound).flatMap(([name, all]) => all.map((one) => `${name}=${one}`));
    recorder.record({ type: 'controller.ready', listeners: named });
    return true;
  }

  async #openServer(): Promise<void> {
    const { config } = this.#options;
    const { clock, log, metrics, skipped: onSkipped } = this.#context;
    const services = [
      await identityService(this.#issuance.issuer, this.#context.ca),
      ...this.#parts.flatMap((part) => part.services ?? []),
    ];
    const first = this.#issuance.tls((tls) => this.#server?.setIdentity(tls));
    const server = await ControlServer.open(
      { ...config.control, services, clock, log, metrics, onSkipped },
      first,
    );
    if (this.#stopped !== undefined) {
      server.close();
      return;
    }
    this.#server = server;
    // It may have been renewed while the listeners were opened.
    server.setIdentity(this.#issuance.tls((tls) => server.setIdentity(tls)));
  }

  #makeElection(client: KubeClient, recorder: Recorder): LeaderElection {
    const { config, namespace, clock, log } = this.#options;
    const { lease: name, ...times } = config.leader;
    const election = new LeaderElection({
      client,
      clock,
      namespace,
      name,
      identity: hostname(),
      log,
      ...times,
    });
    election.onChange((leads) => {
      const state = leads ? 'leading' : 'following';
      recorder.record({ type: 'controller.leading', lease: `${namespace}/${name}`, state });
      log.info({ lease: name, state }, 'leadership has changed');
      this.#events.record({
        regarding: {
          apiVersion: 'coordination.k8s.io/v1',
          kind: 'Lease',
          namespace,
          name,
          ...(election.uid === undefined ? {} : { uid: election.uid }),
        },
        type: 'Normal',
        reason: leads ? 'Leading' : 'Following',
        action: 'Elect',
        note: `${hostname()} ${leads ? 'leads now' : 'does not lead any more'}`,
      });
    });
    return election;
  }

  get bound(): BoundListeners {
    return {
      control: this.#server?.bound ?? [],
      ...this.#bound,
      'probes.http': this.#probeListeners.map(({ name }) => name),
    };
  }

  get #isEnding(): boolean {
    return this.#draining !== undefined || this.#stopped !== undefined;
  }

  /** Looks now whether an operator has replaced the CA. Rejects with KubeError. */
  lookAtCa(): Promise<void> {
    return this.#issuance.look();
  }

  /** Opens audit files anew, after they were rotated. */
  reopenAudit(): void {
    void this.#context.recorder.reopen();
  }

  /**
   * The graceful way down: not ready, nothing new, requests under way finish. Resolves when the last has ended, or half of
   * `drain.deadline` is over.
   */
  drain(reason: string): Promise<void> {
    this.#draining ??= this.#drain(reason).finally(this.#options.clock.hold());
    return this.#draining;
  }

  async #drain(reason: string): Promise<void> {
    const { clock, config, log } = this.#options;
    const deadlineMs = config.drain.deadlineMs / 2;
    this.readiness.task('draining');
    this.#context.recorder.record({ type: 'controller.draining', reason, deadlineMs });
    log.info({ reason, deadlineMs }, 'draining');
    const endsAt = clock.monotonic() + deadlineMs;
    // Another replica need not wait for this one's end.
    void this.#election.stop();
    const parts = Promise.all(this.#parts.map((part) => part.drain?.(deadlineMs)));
    this.#server?.drain();
    const { issuer } = this.#issuance;
    while (clock.monotonic() < endsAt) {
      if (issuer.running + issuer.waiting === 0 && (this.#server?.connections ?? 0) === 0) break;
      await new Promise<void>((resolve) => clock.after(POLL_MS, resolve));
    }
    await parts;
  }

  /** Ends everything now; the audit is written out. Never rejects. */
  stop(reason: string): Promise<void> {
    this.#stopped ??= this.#stop(reason).finally(this.#options.clock.hold());
    return this.#stopped;
  }

  async #stop(reason: string): Promise<void> {
    const { config, log } = this.#options;
    const { recorder, client } = this.#context;
    this.#issuance.close();
    this.#server?.close();
    await Promise.all([this.#election.stop(), ...this.#parts.map((part) => part.close())]);
    await this.#events.stop();
    client.close();
    this.#lag.stop();
    recorder.record({ type: 'controller.stopped', reason });
    const auditMs = Math.max(config.drain.deadlineMs / 2, LEAST_AUDIT_MS);
    for (const { adapter, count, error } of await recorder.close(auditMs)) {
      log.error({ adapter, count, error }, 'an audit adapter never got these events');
    }
    this.#probes.close();
    for (const listener of this.#probeListeners) listener.destroy();
    log.info({ reason }, 'stopped');
    await log.flush();
  }
}

const spiffeIdOf = ({ trustDomain, serviceName }: ControllerConfig, namespace: string): string =>
  `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceName}`;
