import { LRUCache } from 'lru-cache';
import type { Clock } from '../../clock/clock.ts';
import type { KubeClient } from '../client/client.ts';
import { NAMESPACES, objectPath } from '../client/resource.ts';
import type { NamespaceView } from '../injector/settings.ts';
import type { Namespace } from '../objects.ts';
import { Turns } from '../turns.ts';
import { ReviewError } from './review.ts';

/** Pods of a namespace come in bursts. */
const FRESH_MS = 1000;
/** While the API server cannot be asked, what was known so lately holds. */
const STALE_MS = 300_000;
const DEADLINE_MS = 3000;
const WAIT_MS = 5000;
const KEPT = 2000;
/** Whoever reaches the port can have any name asked for; leases and token reviews go the same way. */
const TURNS = { maxConcurrent: 16, maxPerSecond: 100, maxWaiting: 512 };

interface Known {
  readonly view: NamespaceView;
  readonly at: number;
}

/** Labels of namespaces, which requests for admission do not bring. */
export class Namespaces {
  readonly #client: KubeClient;
  readonly #clock: Clock;
  readonly #known = new LRUCache<string, Known>({ max: KEPT });
  readonly #asking = new Map<string, Promise<NamespaceView>>();
  readonly #turns: Turns;

  constructor(client: KubeClient, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
    this.#turns = new Turns({ clock, ...TURNS });
  }

  /**
   * As it is, or was known to be lately: a label that has just been set may be missing. `caller` is who wants to know, and
   * takes turns with others. Rejects with KubeError where it cannot be known, or with ReviewError where too many ask.
   */
  async of(name: string, caller: string): Promise<NamespaceView> {
    return (
      this.#fresh(name) ??
      this.#inTurn(caller, () => {
        const fresh = this.#fresh(name);
        if (fresh !== undefined) return fresh;
        const asking = this.#asking.get(name) ?? this.#askOnce(name);
        return asking.catch((error) => this.#stale(name, error));
      })
    );
  }

  /** As it is after this was called. Rejects as `of` does. */
  latest(name: string, caller: string): Promise<NamespaceView> {
    return this.#inTurn(caller, () => this.#ask(name));
  }

  close(): void {
    this.#turns.close();
  }

  async #inTurn(caller: string, work: () => NamespaceView | Promise<NamespaceView>): Promise<NamespaceView> {
    const patience = new AbortController();
    const timer = this.#clock.after(WAIT_MS, () => patience.abort());
    const turn = await this.#turns.take(caller, patience.signal);
    this.#clock.clear(timer);
    if (turn === undefined) {
      throw new ReviewError(503, 'too many requests wait for the labels of their namespaces');
    }
    try {
      return await work();
    } finally {
      turn.done();
    }
  }

  #fresh(name: string): NamespaceView | undefined {
    const known = this.#known.get(name);
    return known !== undefined && this.#clock.monotonic() - known.at < FRESH_MS ? known.view : undefined;
  }

  #stale(name: string, error: unknown): NamespaceView {
    const known = this.#known.get(name);
    if (known !== undefined && this.#clock.monotonic() - known.at < STALE_MS) return known.view;
    throw error;
  }

  #askOnce(name: string): Promise<NamespaceView> {
    const asking = this.#ask(name).finally(() => this.#asking.delete(name));
    this.#asking.set(name, asking);
    return asking;
  }

  async #ask(name: string): Promise<NamespaceView> {
    const at = this.#clock.monotonic();
    const { metadata } = await this.#client.get<Namespace>(objectPath(NAMESPACES, name), {
      deadlineMs: DEADLINE_MS,
    });
    const view = { name, labels: metadata.labels ?? {} };
    if ((this.#known.get(name)?.at ?? at) <= at) this.#known.set(name, { view, at });
    return view;
  }
}
