import type { Clock } from '../clock/clock.ts';
import type { LimitConfig } from '../config/config.ts';
import type { WindowCounter } from './counter.ts';
import { Lease } from './lease.ts';

const NONE: readonly Lease[] = [];

/** The leases of one scope by key, one for each of the scope's limits. Bounded; ended windows are swept out. */
export class LeaseTable {
  readonly #limits: readonly LimitConfig[];
  readonly #counters: readonly WindowCounter[];
  readonly #clock: Clock;
  readonly #maxKeys: number;
  readonly #byKey = new Map<string, readonly Lease[]>();

  constructor(
    limits: readonly LimitConfig[],
    counters: readonly WindowCounter[],
    clock: Clock,
    maxKeys: number,
  ) {
    this.#limits = limits;
    this.#counters = counters;
    this.#clock = clock;
    this.#maxKeys = maxKeys;
  }

  get size(): number {
    return this.#byKey.size;
  }

  get limits(): readonly LimitConfig[] {
    return this.#limits;
  }

  /** A key's leases; undefined if there is no room for another key before a window ends. */
  of(key: string, now: number): readonly Lease[] | undefined {
    if (this.#limits.length === 0) return NONE;
    return this.#byKey.get(key) ?? this.#add(key, now);
  }

  /** A key's leases, if it is followed. */
  peek(key: string): readonly Lease[] | undefined {
    return this.#byKey.get(key);
  }

  forget(key: string): void {
    if (!this.#byKey.delete(key)) return;
    for (const counter of this.#counters) counter.forget(key);
  }

  sweep(now: number): void {
    for (const [key, leases] of this.#byKey) {
      if (leases.every((lease) => lease.isOver(now))) this.#byKey.delete(key);
    }
  }

  #add(key: string, now: number): readonly Lease[] | undefined {
    if (this.#byKey.size >= this.#maxKeys) this.sweep(now);
    if (this.#byKey.size >= this.#maxKeys) return undefined;
    const leases = this.#limits.map(
      (limit, index) => new Lease(key, limit, this.#counters[index] as WindowCounter, this.#clock),
    );
    this.#byKey.set(key, leases);
    return leases;
  }
}
