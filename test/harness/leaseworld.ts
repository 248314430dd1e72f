/**
 * Electors in one fake time, on a Lease in memory: each has a clock of its own that runs at its own rate, from its own
 * date, and may be frozen as a stopped process is; each reaches the server with delays, or not, or loses the answer.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { Clock, TimerHandle } from '../../src/clock/clock.ts';
import type { KubeClient, RequestOptions } from '../../src/kube/client/client.ts';
import { KubeError, refusal } from '../../src/kube/client/errors.ts';
import { actionOf } from '../../src/kube/client/resource.ts';
import { LeaderElection, type LeaderElectionOptions } from '../../src/kube/lease.ts';
import type { KubeObject, Lease } from '../../src/kube/objects.ts';
import { FakeClock } from './fake-clock.ts';
import { type AnyObject, KubeStore, Refusal } from './kubestore.ts';

const COLLECTION = '/apis/coordination.k8s.io/v1/leases';

/** What happens to a request on its way. Times in milliseconds. */
export interface Fate {
  readonly thereMs: number;
  readonly backMs: number;
  /** Where it is lost. */
  readonly lost?: 'there' | 'back';
  readonly refused?: { readonly status: number; readonly retryAfterMs?: number };
}

const GOOD: Fate = { thereMs: 0, backMs: 0 };

/** A machine's clock: its rate, its date, and whether its processes are stopped. */
class MachineClock implements Clock {
  readonly #world: FakeClock;
  readonly #rate: number;
  readonly #date: number;
  /** What runs once the process goes on. */
  #late: Array<() => void> = [];
  #frozen = false;
  /** By which the wall clock was set. */
  wallStep = 0;

  constructor(world: FakeClock, rate: number, date: number) {
    this.#world = world;
    this.#rate = rate;
    this.#date = date;
  }

  get frozen(): boolean {
    return this.#frozen;
  }

  set frozen(frozen: boolean) {
    this.#frozen = frozen;
    if (!frozen) for (const run of this.#late.splice(0)) run();
  }

  monotonic(): number {
    return this.#world.monotonic() * this.#rate;
  }

  now(): number {
    return this.#date + this.monotonic() + this.wallStep;
  }

  after(ms: number, run: () => void): TimerHandle {
    return this.#world.after(ms / this.#rate, () => this.whenRunning(run));
  }

  every(): TimerHandle {
    throw new Error('not used by electors');
  }

  clear(handle: TimerHandle | undefined): void {
    this.#world.clear(handle);
  }

  hold(): () => void {
    return () => undefined;
  }

  /** A process that is stopped sees what came when it goes on. */
  whenRunning(run: () => void): void {
    if (this.#frozen) this.#late.push(run);
    else run();
  }
}

export interface Elector {
  readonly election: LeaderElection;
  readonly clock: MachineClock;
  /** Of the next requests; `GOOD` by default. */
  fate: () => Fate;
  /** What its listeners heard. */
  readonly heard: boolean[];
}

export class LeaseWorld {
  readonly time = new FakeClock();
  readonly store = new KubeStore();
  readonly electors: Elector[] = [];
  /** What was asked, as `get` and `replace`. */
  readonly asked: string[] = [];

  add(name: string, more: Partial<LeaderElectionOptions & { rate: number; date: number }> = {}): Elector {
    const { rate = 1, date = Date.UTC(2026, 0, 1), ...options } = more;
    const clock = new MachineClock(this.time, rate, date);
    const elector = { clock, fate: () => GOOD, heard: [] as boolean[] } as unknown as Elector;
    const election = new LeaderElection({
      client: this.#client(elector),
      clock,
      namespace: 'ns',
      name: 'lease',
      identity: name,
      random: () => 0.5,
      ...options,
    });
    election.onChange((leads) => elector.heard.push(leads));
    Object.assign(elector, { election });
    this.electors.push(elector);
    election.start();
    return elector;
  }

  /** Who would act as the leader at this moment. */
  get leaders(): Elector[] {
    return this.electors.filter(({ election, clock }) => !clock.frozen && election.isLeader);
  }

  get lease(): Lease | undefined {
    return this.store.get(COLLECTION, 'ns/lease') as Lease | undefined;
  }

  set lease(lease: Lease) {
    this.store.replace(COLLECTION, 'ns/lease', lease as AnyObject);
  }

  /** Time passes in steps; `look` is called after each. */
  async pass(ms: number, look: () => void = () => undefined, stepMs = 50): Promise<void> {
    await settle();
    for (let passed = 0; passed < ms; passed += stepMs) {
      this.time.advance(Math.min(stepMs, ms - passed));
      await settle();
      look();
    }
  }

  #client(elector: Elector): KubeClient {
    const send = <T>(
      method: string,
      path: string,
      options: RequestOptions | undefined,
      act: () => AnyObject,
    ) => this.#travel(elector, method, path, options ?? {}, act) as Promise<T>;
    return {
      server: 'memory',
      get: <T extends KubeObject>(path: string, options?: RequestOptions) =>
        send<T>('GET', path, options, () => {
          const found = this.store.get(COLLECTION, 'ns/lease');
          if (found === undefined) throw new Refusal(404, 'NotFound', 'no such lease');
          return found;
        }),
      create: <T extends KubeObject>(path: string, body: T, options?: RequestOptions) =>
        send<T>('POST', path, options, () =>
          this.store.create(COLLECTION, body as unknown as AnyObject, 'ns'),
        ),
      replace: <T extends KubeObject>(path: string, body: T, options?: RequestOptions) =>
        send<T>('PUT', path, options, () =>
          this.store.replace(COLLECTION, 'ns/lease', body as unknown as AnyObject),
        ),
    } as Partial<KubeClient> as KubeClient;
  }

  #in(ms: number, run: () => void): void {
    if (ms === 0) run();
    else this.time.after(ms, run);
  }

  #travel(
    { clock, fate }: Elector,
    method: string,
    path: string,
    { signal, deadlineMs = 10_000 }: RequestOptions,
    act: () => AnyObject,
  ): Promise<AnyObject> {
    const { thereMs, backMs, lost, refused } = fate();
    this.asked.push(method);
    return new Promise((resolve, reject) => {
      const fail = (reason: string) => reject(new KubeError(`stub: ${reason}`, { reason }));
      const timer = clock.after(deadlineMs, () => fail('DeadlineExceeded'));
      const answer = (run: () => void) => {
        if (lost === 'back') return;
        this.#in(backMs, () =>
          clock.whenRunning(() => {
            clock.clear(timer);
            run();
          }),
        );
      };
      signal?.addEventListener('abort', () => fail('Aborted'));
      if (signal?.aborted) fail('Aborted');
      if (lost === 'there') return;
      // On the wire already: what happens to whoever sent it does not stop it.
      this.#in(thereMs, () => {
        try {
          if (refused !== undefined) throw new Refusal(refused.status, 'Refused', 'by the test');
          const object = structuredClone(act());
          answer(() => resolve(object));
        } catch (error) {
          const { status, message, reason } = error as Refusal;
          const body = JSON.stringify({ message, reason });
          const retryAfterMs = refused?.retryAfterMs;
          answer(() => reject(refusal(actionOf(method, path), 'memory', { status, body, retryAfterMs })));
        }
      });
    });
  }
}

/** What has come is dealt with, and what that asks for without a delay. */
async function settle(): Promise<void> {
  for (let i = 0; i < 4; i++) await turn();
}
