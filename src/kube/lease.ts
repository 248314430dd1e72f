import { randomBytes } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { Clock, TimerHandle } from '../clock/clock.ts';
import { type Logger, silentLogger } from '../telemetry/log.ts';
import type { KubeClient } from './client/client.ts';
import { KubeError, quotable } from './client/errors.ts';
import { collectionPath, LEASES, objectPath } from './client/resource.ts';
import { microTime } from './microtime.ts';
import type { Lease, LeaseSpec } from './objects.ts';

/** How much longer than `retryMs` those who do not lead wait at most, so that they do not ask together. */
const JITTER = 1.2;
const RELEASE_MS = 2000;

export interface LeaderElectionOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly namespace: string;
  /** Of the Lease; it is made if there is none. */
  readonly name: string;
  /** Who this is, for people: the pod's name. Something random is added. */
  readonly identity: string;
  /** After so long without a renewal others take over; 15 s by default. */
  readonly durationMs?: number;
  /** A leader that could not renew for so long is none any more; 10 s by default, and less than `durationMs`. */
  readonly renewMs?: number;
  /** Between two attempts; 2 s by default. */
  readonly retryMs?: number;
  /** In [0, 1). */
  readonly random?: () => number;
  readonly log?: Logger;
}

/**
 * One leader among the replicas, by a Lease (coordination.k8s.io/v1), as client-go elects one. Clocks of different
 * machines are never compared: a candidate takes over once it has itself seen a Lease unchanged for its duration, and a
 * leader counts from before it asked for its last renewal, so that it has stopped `durationMs - renewMs` earlier. Who
 * writes first is decided by the resource version.
 *
 * What is done as the leader asks `isLeader` right before: a process that was stopped for a while learns it there.
 */
export class LeaderElection {
  /** The holder's identity in the Lease. */
  readonly identity: string;
  readonly #options: LeaderElectionOptions;
  readonly #log: Logger;
  readonly #durationMs: number;
  readonly #renewMs: number;
  readonly #retryMs: number;
  readonly #path: string;
  readonly #listeners = new Set<(leads: boolean) => void>();
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;
  /** As the server had it last. */
  #lease: Lease | undefined;
  /** When its spec was first seen. */
  #seenAt = 0;
  #leads = false;
  /** Leadership ends, by both clocks: the monotonic one may stand still while the machine is suspended. */
  #until = 0;
  #wallUntil = 0;
  #timer: TimerHandle | undefined;
  #complaint: string | undefined;

  /** Throws RangeError unless retryMs < renewMs < durationMs. */
  constructor(options: LeaderElectionOptions) {
    const { durationMs = 15_000, renewMs = 10_000, retryMs = 2000 } = options;
    if (!(durationMs >= 1000 && renewMs < durationMs && retryMs * (1 + JITTER) < renewMs && retryMs > 0)) {
      throw new RangeError(
        'of a leader election, the time between two attempts must be less than half of the time to renew, and that less than the duration',
      );
    }
    this.#options = options;
    this.#durationMs = durationMs;
    this.#renewMs = renewMs;
    this.#retryMs = retryMs;
    this.#path = objectPath(LEASES, options.name, options.namespace);
    this.identity = `${options.identity}_${randomBytes(8).toString('hex')}`;
    this.#log = (options.log ?? silentLogger).child({ lease: options.name });
  }

  /** This replica leads, at this moment. */
  get isLeader(): boolean {
    const { clock } = this.#options;
    return this.#leads && clock.monotonic() < this.#until && clock.now() < this.#wallUntil;
  }

  /** Who holds the Lease, as it was last seen; undefined if nobody. */
  get holder(): string | undefined {
    return this.#lease?.spec?.holderIdentity || undefined;
  }

  /** `metadata.uid` of the Lease, once it has been seen: what tools find the events of an object by. */
  get uid(): string | undefined {
    return this.#lease?.metadata?.uid;
  }

  /** Calls `listener` whenever this replica begins or ceases to lead. Returns the function that ends it. */
  onChange(listener: (leads: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** A second call does nothing. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Ceases to lead, then lets go of the Lease, so that others need not wait. Never rejects. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    this.#stopping.abort();
    const held = this.#leads;
    this.#cease('it is stopping');
    await this.#running;
    if (held) await this.#release();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      let askAgainMs = 0;
      try {
        await this.#attempt(signal);
        this.#complaint = undefined;
      } catch (error) {
        if (signal.aborted) return;
        this.#complain(error);
        askAgainMs = error instanceof KubeError ? (error.retryAfterMs ?? 0) : 0;
      }
      await this.#pause(askAgainMs, signal);
    }
  }

  /** Renews or takes over, if it may. */
  async #attempt(signal: AbortSignal): Promise<void> {
    const lease = this.#lease;
    if (this.isLeader && lease !== undefined) {
      try {
        await this.#write(lease, signal);
        return;
      } catch (error) {
        // Somebody has changed it: who holds it is to be seen.
        if (!(error instanceof KubeError) || !(error.conflict || error.notFound)) throw error;
      }
    }
    const current = await this.#read(signal);
    if (current === undefined) return this.#write(undefined, signal);
    this.#see(current);
    if (this.#mayTake(current.spec ?? {})) return this.#write(current, signal);
    this.#cease('another holds the Lease');
  }

  async #read(signal: AbortSignal): Promise<Lease | undefined> {
    try {
      return await this.#options.client.get<Lease>(this.#path, { signal, deadlineMs: this.#deadline() });
    } catch (error) {
      if (error instanceof KubeError && error.notFound) return undefined;
      throw error;
    }
  }

  #see(lease: Lease): void {
    if (!isDeepStrictEqual(lease.spec, this.#lease?.spec)) this.#seenAt = this.#options.clock.monotonic();
    this.#lease = lease;
  }

  #mayTake({ holderIdentity, leaseDurationSeconds }: LeaseSpec): boolean {
    if (holderIdentity === undefined || holderIdentity === '' || holderIdentity === this.identity)
      return true;
    const seconds = leaseDurationSeconds ?? 0;
    const ms = seconds > 0 ? seconds * 1000 : this.#durationMs;
    return this.#options.clock.monotonic() >= this.#seenAt + ms;
  }

  async #write(before: Lease | undefined, signal: AbortSignal): Promise<void> {
    const { client, clock, namespace, name } = this.#options;
    const [from, wallFrom] = [clock.monotonic(), clock.now()];
    const old = before?.spec ?? {};
    const mine = old.holderIdentity === this.identity;
    const now = microTime(wallFrom);
    const spec: LeaseSpec = {
      holderIdentity: this.identity,
      leaseDurationSeconds: Math.ceil(this.#durationMs / 1000),
      acquireTime: mine ? (old.acquireTime ?? now) : now,
      renewTime: now,
      leaseTransitions: before === undefined ? 0 : (old.leaseTransitions ?? 0) + (mine ? 0 : 1),
    };
    const options = { signal, deadlineMs: this.#deadline() };
    const lease: Lease = { ...LEASE, metadata: before?.metadata ?? { name, namespace }, spec };
    const written =
      before === undefined
        ? await client.create(collectionPath(LEASES, namespace), lease, options)
        : await client.replace(this.#path, lease, options);
    if (signal.aborted) return;
    this.#see(written);
    this.#renewed(from, wallFrom);
  }

  #renewed(from: number, wallFrom: number): void {
    const { clock } = this.#options;
    if (this.#leads && !this.isLeader) this.#cease('it was not renewed in time');
    this.#until = from + this.#renewMs;
    this.#wallUntil = wallFrom + this.#renewMs;
    const left = this.#until - clock.monotonic();
    if (left <= 0 || clock.now() >= this.#wallUntil) return;
    clock.clear(this.#timer);
    this.#timer = clock.after(left, () => this.#cease('it was not renewed in time'));
    if (this.#leads) return;
    this.#leads = true;
    this.#log.info({ identity: this.identity }, 'this replica leads');
    this.#tell(true);
  }

  #cease(why: string): void {
    this.#options.clock.clear(this.#timer);
    if (!this.#leads) return;
    this.#leads = false;
    this.#log.warn({ identity: this.identity, why }, 'this replica does not lead any more');
    this.#tell(false);
  }

  #tell(leads: boolean): void {
    for (const listener of this.#listeners) {
      try {
        listener(leads);
      } catch (error) {
        this.#log.error({ error: quotable(String(error)) }, 'a listener for the leadership failed');
      }
    }
  }

  async #release(): Promise<void> {
    const { client, clock } = this.#options;
    try {
      for (let attempt = 0; ; attempt++) {
        const lease =
          attempt === 0 ? this.#lease : await client.get<Lease>(this.#path, { deadlineMs: RELEASE_MS });
        if (lease?.spec?.holderIdentity !== this.identity) return;
        const now = microTime(clock.now());
        const spec = {
          ...lease.spec,
          holderIdentity: '',
          leaseDurationSeconds: 1,
          acquireTime: now,
          renewTime: now,
        };
        try {
          await client.replace<Lease>(this.#path, { ...lease, spec }, { deadlineMs: RELEASE_MS });
          return;
        } catch (error) {
          // A renewal that was under way may have come before.
          if (attempt > 0 || !(error instanceof KubeError) || !error.conflict) throw error;
        }
      }
    } catch (error) {
      this.#log.warn(
        { error: quotable(String(error)) },
        'the Lease could not be released; others wait for its end',
      );
    }
  }

  /** Of one request: two must fit into the time to renew. */
  #deadline(): number {
    const half = this.#renewMs / 2;
    return this.isLeader ? Math.max(1, Math.min(half, this.#until - this.#options.clock.monotonic())) : half;
  }

  #complain(error: unknown): void {
    const reason = error instanceof KubeError ? error.reason : String(error);
    if (reason === this.#complaint) return;
    this.#complaint = reason;
    const fields = { error: quotable(String(error)), leads: this.#leads };
    this.#log.warn(fields, 'the Lease cannot be read or renewed');
  }

  #pause(askAgainMs: number, signal: AbortSignal): Promise<void> {
    const { clock, random = Math.random } = this.#options;
    const ms = this.isLeader
      ? Math.max(this.#retryMs, Math.min(askAgainMs, (this.#until - clock.monotonic()) / 2))
      : Math.max(this.#retryMs, askAgainMs) + random() * JITTER * this.#retryMs;
    return new Promise((resolve) => {
      const end = (): void => {
        clock.clear(timer);
        signal.removeEventListener('abort', end);
        resolve();
      };
      const timer = clock.after(ms, end);
      signal.addEventListener('abort', end);
      if (signal.aborted) end();
    });
  }
}

const LEASE = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease' } as const;
