import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { AdminApi } from '../admin/adminapi.ts';
import type { AdminControl } from '../admin/admincontrol.ts';
import { AdminToken, readAdminToken } from '../admin/admintoken.ts';
import { AdminError } from '../admin/errors.ts';
import { Health } from '../admin/health.ts';
import { type StatusMessage, timestamp } from '../admin/messages.ts';
import { Probes } from '../admin/probes.ts';
import { Readiness } from '../admin/readiness.ts';
import { Recorder } from '../audit/recorder.ts';
import type { Clock } from '../clock/clock.ts';
import type { IdentityError } from '../identity/errors.ts';
import { type ListenError, Listener } from '../relay/listener.ts';
import type { Logger } from '../telemetry/log.ts';
import { Metrics } from '../telemetry/metrics.ts';
import type { SidecarOptions } from './options.ts';

/**
 * What a sidecar shows while it has no identity: probes that say what it waits for, and the status. Closed before the sidecar
 * itself binds the same addresses.
 */
export class WaitingRoom {
  readonly #options: SidecarOptions;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #startedAt: number;
  readonly #readiness = new Readiness();
  readonly #instance = randomBytes(8).toString('hex');
  readonly #recorder: Recorder;
  readonly #probes: Probes;
  readonly #health: Health;
  #listeners: Listener[] = [];
  #admin: AdminApi | undefined;
  #reason = '';
  #task: ReturnType<Readiness['task']> | undefined;

  private constructor(options: SidecarOptions, clock: Clock, log: Logger) {
    this.#options = options;
    this.#clock = clock;
    this.#log = log;
    this.#startedAt = clock.now();
    this.#recorder = new Recorder({
      clock,
      source: { instance: this.#instance, spiffeId: '' },
      adapters: [],
    });
    this.#probes = new Probes({
      readiness: this.#readiness,
      metrics: new Metrics({ version: options.version }),
      log,
    });
    this.#health = new Health(this.#readiness, log);
  }

  /** Rejects with ListenError. */
  static async open(options: SidecarOptions, clock: Clock, log: Logger): Promise<WaitingRoom> {
    const room = new WaitingRoom(options, clock, log);
    room.#task = room.#readiness.task('identity');
    try {
      await room.#open();
      return room;
    } catch (error) {
      await room.close();
      throw error;
    }
  }

  async #open(): Promise<void> {
    const { probes, admin } = this.#options.config;
    const skipped = (_error: ListenError): void => undefined; // told once the sidecar binds it
    const probe = (socket: Socket): void => this.#probes.accept(socket);
    const health = (socket: Socket): void => this.#health.accept(socket);
    this.#listeners.push(...(await Listener.openAll('probes.http', probes.http, 'own', probe, skipped)));
    this.#listeners.push(...(await Listener.openAll('probes.grpc', probes.grpc, 'own', health, skipped)));
    if (admin.listen.length === 0) return;
    const { listen, groupAccess, token } = admin;
    this.#admin = await AdminApi.open({
      listen,
      groupAccess,
      token: token === undefined ? undefined : new AdminToken(await readAdminToken(token)),
      control: this.#control(),
      clock: this.#clock,
      log: this.#log,
      onSkipped: skipped,
    });
  }

  /** Says why there is no identity, from now on. */
  tell({ message }: IdentityError): void {
    this.#reason = message;
    const before = this.#task;
    this.#task = this.#readiness.task(`identity: ${message}`);
    before?.done();
  }

  async close(): Promise<void> {
    await this.#admin?.close();
    this.#health.close();
    this.#probes.close();
    for (const listener of this.#listeners) listener.destroy();
    await this.#recorder.close(0);
  }

  /** Nothing but the status. */
  #control(): AdminControl {
    const notYet = (): never => {
      throw new AdminError('FAILED_PRECONDITION', `this sidecar has no identity yet: ${this.#reason}`);
    };
    return {
      recorder: this.#recorder,
      get sessions() {
        return notYet();
      },
      get revocation() {
        return notYet();
      },
      get frameLogging() {
        return notYet();
      },
      frameLogHidden: undefined,
      callsOpen: 0,
      connectionsOf: notYet,
      now: () => this.#clock.now(),
      drain: notYet,
      status: () => this.#status(),
    };
  }

  #status(): StatusMessage {
    const named = (name: string, addresses: readonly string[]) =>
      addresses.map((address) => ({ name, address }));
    const probes = this.#listeners.map((listener) => listener.name);
    return {
      version: this.#options.version,
      pid: process.pid,
      spiffeId: '',
      instance: this.#instance,
      startedAt: timestamp(this.#startedAt),
      identityExpiresAt: timestamp(0),
      ready: false,
      pending: this.#readiness.pending,
      draining: false,
      listeners: [...named('probes', probes), ...named('admin', this.#admin?.bound ?? [])],
      sessions: {
        active: 0,
        inbound: 0,
        outbound: 0,
        max: this.#options.config.session.max,
        peers: 0,
        created: 0,
        refused: 0,
        closed: {},
      },
      callsOpen: { egress: 0, ingress: 0 },
      auditAdapters: [],
      memoryBytes: process.memoryUsage.rss(),
      eventLoopLagMs: 0,
      peersBlocked: 0,
      identityRotations: 0,
      identityRotatedAt: null,
      identityRefusal: '',
      identityRenewsAt: null,
      identityRenewalFailure: this.#reason,
    };
  }
}
