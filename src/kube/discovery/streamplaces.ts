import type { Clock } from '../../clock/clock.ts';
import { AskPace } from '../../control/askpace.ts';

export interface StreamBounds {
  readonly streams: number;
  readonly streamsPerPod: number;
  /** Streams that a pod opens at once, and a second from then on. */
  readonly burst: number;
  readonly perSecond: number;
}

export const STREAM_BOUNDS: StreamBounds = {
  streams: 50_000,
  streamsPerPod: 1024,
  burst: 300,
  perSecond: 100,
};

interface Allowance {
  streams: number;
  readonly pace: AskPace;
}

/** How many streams a pod may have and open, and all together. */
export class StreamPlaces {
  readonly #clock: Clock;
  readonly #bounds: StreamBounds;
  readonly #byPod = new Map<string, Allowance>();
  #taken = 0;

  constructor(clock: Clock, bounds: StreamBounds) {
    this.#clock = clock;
    this.#bounds = bounds;
  }

  get taken(): number {
    return this.#taken;
  }

  /** Why there is none for the pod, and when there may be; undefined: it has got one, to be given back once. */
  take(
    pod: string,
  ): { readonly reason: string; readonly detail: string; readonly retryMs: number } | undefined {
    const { streams, streamsPerPod, burst, perSecond } = this.#bounds;
    let own = this.#byPod.get(pod);
    if (own === undefined) {
      own = { streams: 0, pace: new AskPace(this.#clock, burst, perSecond) };
      this.#byPod.set(pod, own);
    }
    if (this.#taken >= streams) {
      return {
        reason: 'busy',
        detail: `${streams} streams are open: let there be more replicas`,
        retryMs: 5000,
      };
    }
    if (own.streams >= streamsPerPod) {
      const detail = `the pod has ${streamsPerPod} streams open: end some`;
      return { reason: 'pod-limit', detail, retryMs: 5000 };
    }
    const { pauseMs } = own.pace;
    if (pauseMs > 0) {
      const detail = `the pod opens more than ${perSecond} streams a second`;
      return { reason: 'pod-pace', detail, retryMs: pauseMs };
    }
    own.pace.take();
    own.streams++;
    this.#taken++;
    return undefined;
  }

  giveBack(pod: string): void {
    const own = this.#byPod.get(pod);
    if (own === undefined) return;
    own.streams--;
    this.#taken--;
  }

  /** To be called now and then: forgets pods that have no streams, and have not hurried. */
  sweep(): void {
    for (const [pod, { streams, pace }] of this.#byPod) {
      if (streams === 0 && pace.isFull) this.#byPod.delete(pod);
    }
  }
}
