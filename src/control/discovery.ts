/** Where services are, as the controller tells it: a stream for each service that is wanted. */
import type { Recorder } from '../audit/recorder.ts';
import type { Clock, TimerHandle } from '../clock/clock.ts';
import type { DiscoveryAnswer, DiscoveryQuery, DiscoverySource } from '../relay/discovery.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { checkedAnswer } from './answer.ts';
import { AskPace } from './askpace.ts';
import type { ControlChannel, ControlMethod } from './channel.ts';
import { loadDiscoveryDefinition } from './definition.ts';
import { ControlError } from './errors.ts';
import type { EndpointsMessage, WatchRequest } from './messages.ts';

export interface DiscoveryClientOptions {
  readonly channel: Pick<ControlChannel, 'stream'>;
  readonly trustDomain: string;
  readonly clock: Clock;
  readonly recorder: Recorder;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly random?: () => number;
  /** Watch of the service Discovery; loaded from proto/ by default. */
  readonly method?: () => Promise<ControlMethod>;
}

/** Streams that are opened at once, and a second from then on: below what a controller takes from one sidecar. */
const OPENS_BURST = 100;
const OPENS_PER_SECOND = 50;
/** Messages of one stream are taken at this distance at least; meanwhile flow control holds the controller. */
const MESSAGE_PAUSE_MS = 100;
/** Pauses after a failure: exponential, with full jitter. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
/** A controller that is away for less, as in a rolling update, is no news. */
const AWAY_MS = 10_000;

/** Of one stream: the controller is there. */
const REFUSALS: readonly string[] = ['RESOURCE_EXHAUSTED', 'PERMISSION_DENIED'];

interface Watch {
  readonly query: DiscoveryQuery;
  readonly onAnswer: (answer: DiscoveryAnswer) => void;
  readonly ended: AbortController;
  isOpen: boolean;
  /** It alone was refused so often since it was open, and is not asked again before; monotonic. */
  refusals: number;
  notBefore: number;
}

/**
 * Keeps a stream open for each query. One that ends is opened again; while the controller is away one of them tries, and
 * when it has got through the others follow, at a bounded pace. What was told before holds meanwhile. One that is refused
 * while others are open waits by itself, and holds up no other.
 */
export class DiscoveryClient implements DiscoverySource {
  readonly #options: DiscoveryClientOptions;
  readonly #random: () => number;
  readonly #pace: AskPace;
  readonly #method: () => Promise<ControlMethod>;
  readonly #watches = new Set<Watch>();
  /** To be opened, in this order. */
  readonly #waiting = new Set<Watch>();
  #opening = 0;
  #open = 0;
  #failures = 0;
  #notBefore = 0;
  #trouble: string | undefined;
  /** No stream is open, and one has failed; monotonic. */
  #awaySince: number | undefined;
  #isLost = false;
  #timer: TimerHandle | undefined;
  #lostTimer: TimerHandle | undefined;
  #closed = false;

  constructor(options: DiscoveryClientOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#pace = new AskPace(options.clock, OPENS_BURST, OPENS_PER_SECOND);
    this.#method = options.method ?? watchMethod;
    options.metrics.observe({
      discovery: () => ({ names: this.#watches.size, staleSeconds: this.#awayMs / 1000 }),
    });
  }

  get trouble(): string | undefined {
    return this.#trouble;
  }

  get isAway(): boolean {
    return this.#awaySince !== undefined;
  }

  get #awayMs(): number {
    return this.#awaySince === undefined ? 0 : this.#options.clock.monotonic() - this.#awaySince;
  }

  watch(query: DiscoveryQuery, onAnswer: (answer: DiscoveryAnswer) => void): () => void {
    const watch: Watch = {
      query,
      onAnswer,
      ended: new AbortController(),
      isOpen: false,
      refusals: 0,
      notBefore: 0,
    };
    this.#watches.add(watch);
    this.#waiting.add(watch);
    this.#pump();
    return () => {
      this.#watches.delete(watch);
      this.#waiting.delete(watch);
      watch.ended.abort();
    };
  }

  /** Opens what waits, as many as may be opened now. */
  #pump(): void {
    const { clock } = this.#options;
    clock.clear(this.#timer);
    this.#timer = undefined;
    let soonest = Number.POSITIVE_INFINITY;
    for (const watch of this.#waiting) {
      if (this.#closed) return;
      // While nobody has got through, one tries for all.
      if (this.#failures > 0 && this.#opening > 0) return;
      const own = watch.notBefore - clock.monotonic();
      if (own > 0) {
        soonest = Math.min(soonest, own);
        continue;
      }
      const pause = Math.max(this.#notBefore - clock.monotonic(), this.#pace.pauseMs);
      if (pause > 0) {
        this.#timer = clock.after(pause, () => this.#pump());
        return;
      }
      this.#pace.take();
      this.#waiting.delete(watch);
      void this.#follow(watch);
    }
    if (soonest < Number.POSITIVE_INFINITY) this.#timer = clock.after(soonest, () => this.#pump());
  }

  /** Follows one stream to its end. Never rejects. */
  async #follow(watch: Watch): Promise<void> {
    this.#opening++;
    const { channel, log } = this.#options;
    const { signal } = watch.ended;
    const { authority, namespace, port } = watch.query;
    const request: WatchRequest = { authority, namespace, port };
    let failure: unknown;
    try {
      const method = await this.#method();
      for await (const message of channel.stream<EndpointsMessage>(method, request, {
        authorize: true,
        signal,
      })) {
        if (signal.aborted) break;
        if (!watch.isOpen) this.#opened(watch);
        this.#answered(watch, message);
        await this.#pause(MESSAGE_PAUSE_MS);
      }
    } catch (error) {
      failure = error;
    }
    const wasOpen = watch.isOpen;
    if (wasOpen) this.#open--;
    else this.#opening--;
    watch.isOpen = false;
    if (signal.aborted || this.#closed) {
      this.#pump();
      return;
    }
    this.#waiting.add(watch);
    if (failure instanceof ControlError && failure.code === 'INVALID_ARGUMENT') {
      this.#waiting.delete(watch); // it would be refused again
      watch.onAnswer({ found: false, service: '', endpoints: [], hint: failure.message, zone: '' });
    } else if (failure !== undefined || !wasOpen) {
      if (!(failure instanceof ControlError) && failure !== undefined) {
        log.error({ error: String(failure), service: authority }, 'discovery failed');
      }
      this.#failed(watch, failure);
    }
    this.#pump();
  }

  #opened(watch: Watch): void {
    watch.isOpen = true;
    watch.refusals = 0;
    this.#open++;
    this.#opening--;
    this.#failures = 0;
    this.#notBefore = 0;
    if (this.#trouble !== undefined) this.#back();
    this.#pump();
  }

  #answered(watch: Watch, message: EndpointsMessage): void {
    const { trustDomain, metrics, log } = this.#options;
    const { answer, refused } = checkedAnswer(message, trustDomain);
    const service = watch.query.authority;
    if (refused !== undefined) log.warn({ service, refused }, "the controller's answer is left out in part");
    const result = !answer.found ? 'unknown' : answer.endpoints.length === 0 ? 'none' : 'endpoints';
    metrics.discoveryAnswers.of(result).inc();
    log.debug({ service, result, endpoints: answer.endpoints.length }, 'discovery');
    watch.onAnswer(answer);
  }

  #failed(watch: Watch, error: unknown): void {
    const { clock, log } = this.#options;
    const detail =
      error instanceof Error ? error.message : 'the controller ended the stream without an answer';
    const now = clock.monotonic();
    const pause = (failures: number): number => {
      const span = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures, 30));
      const asked = error instanceof ControlError ? (error.retryAfterMs ?? 0) : 0;
      return now + Math.max(asked, this.#random() * span);
    };
    if (this.#open > 0 && error instanceof ControlError && REFUSALS.includes(error.code)) {
      watch.notBefore = pause(watch.refusals++);
    } else if (this.#notBefore <= now) {
      // Of the streams that broke together the first counts.
      this.#notBefore = pause(this.#failures++);
    }
    if (this.#trouble === undefined) {
      log.info({ detail }, 'the stream of discovery has ended; what was told last holds');
    }
    if (this.#open === 0 && this.#awaySince === undefined) {
      this.#awaySince = now;
      this.#lostTimer = clock.after(AWAY_MS, () => this.#lost());
    }
    this.#trouble = detail;
  }

  #lost(): void {
    const { recorder, log } = this.#options;
    const detail = this.#trouble;
    if (detail === undefined || this.#open > 0 || this.#closed) return;
    this.#isLost = true;
    recorder.record({ type: 'discovery.lost', detail, services: this.#watches.size });
    log.warn({ detail, services: this.#watches.size }, 'the controller is away; what it told last holds');
  }

  #back(): void {
    const { clock, recorder, log } = this.#options;
    const downMs = Math.round(this.#awayMs);
    clock.clear(this.#lostTimer);
    this.#trouble = undefined;
    this.#awaySince = undefined;
    if (!this.#isLost) return;
    this.#isLost = false;
    recorder.record({ type: 'discovery.restored', downMs, services: this.#watches.size });
    log.info({ downMs }, 'the controller is back');
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.#options.clock.after(ms, resolve));
  }

  close(): void {
    this.#closed = true;
    this.#options.clock.clear(this.#timer);
    this.#options.clock.clear(this.#lostTimer);
    for (const { ended } of this.#watches) ended.abort();
    this.#watches.clear();
    this.#waiting.clear();
  }
}

async function watchMethod(): Promise<ControlMethod> {
  return (await loadDiscoveryDefinition()).Watch as ControlMethod;
}
