/** Tells the controller at which ports the app of this pod answers in plaintext, past its sidecar. */
import type { Clock, TimerHandle } from '../clock/clock.ts';
import type { Logger } from '../telemetry/log.ts';
import type { ControlChannel, ControlMethod } from './channel.ts';
import { loadExposureDefinition } from './definition.ts';
import { ControlError, type ControlErrorCode } from './errors.ts';
import { MAX_REPORTED_PORTS } from './exposure.ts';
import type { ReportRequest } from './messages.ts';

export interface ExposureReportOptions {
  readonly channel: Pick<ControlChannel, 'call'>;
  readonly clock: Clock;
  readonly log: Logger;
  /** In [0, 1). */
  readonly random?: () => number;
  /** Report of the service Exposure; loaded from proto/ by default. */
  readonly method?: () => Promise<ControlMethod>;
}

const DEADLINE_MS = 15_000;
/** Pauses after a failure: exponential, between half of it and all. */
const FIRST_PAUSE_MS = 2_000;
const LONGEST_PAUSE_MS = 10 * 60_000;
/** Another replica may be newer, and another token better; the same one soon is neither. */
const HOPELESS: readonly ControlErrorCode[] = ['UNIMPLEMENTED', 'PERMISSION_DENIED', 'INVALID_ARGUMENT'];

/**
 * Sends what differs from what the controller has taken, as soon as it can, and nothing if nothing does: also not to a
 * controller that has been started anew.
 */
export class ExposureReport {
  readonly #options: ExposureReportOptions;
  readonly #ended = new AbortController();
  /** As the controller has been told. */
  readonly #told = new Set<number>();
  #now: ReadonlySet<number> = new Set();
  #sending = false;
  #failures = 0;
  #timer: TimerHandle | undefined;

  constructor(options: ExposureReportOptions) {
    this.#options = options;
  }

  /** All the ports at which the app is exposed now. Neither waits nor throws. */
  tell(ports: ReadonlySet<number>): void {
    this.#now = ports;
    if (!this.#sending && this.#timer === undefined) void this.#send();
  }

  close(): void {
    this.#ended.abort();
    this.#options.clock.clear(this.#timer);
  }

  /** Never rejects. */
  async #send(): Promise<void> {
    const { channel, method = reportMethod } = this.#options;
    const { signal } = this.#ended;
    this.#sending = true;
    try {
      for (let change = this.#change(); change !== undefined; change = this.#change()) {
        await channel.call(await method(), change, DEADLINE_MS, { authorize: true, signal });
        for (const port of change.exposed) this.#told.add(port);
        for (const port of change.closed) this.#told.delete(port);
        this.#failures = 0;
      }
    } catch (error) {
      if (!signal.aborted) this.#failed(error);
    } finally {
      this.#sending = false;
    }
  }

  #change(): ReportRequest | undefined {
    if (this.#ended.signal.aborted) return undefined;
    const isNew = (port: number): boolean => !this.#told.has(port);
    const isOver = (port: number): boolean => !this.#now.has(port);
    const exposed = [...this.#now].filter(isNew).slice(0, MAX_REPORTED_PORTS);
    const closed = [...this.#told].filter(isOver).slice(0, MAX_REPORTED_PORTS);
    return exposed.length + closed.length === 0 ? undefined : { exposed, closed };
  }

  #failed(error: unknown): void {
    const { clock, log, random = Math.random } = this.#options;
    const detail = error instanceof Error ? error.message : String(error);
    if (this.#failures === 0) {
      log.warn(
        { detail },
        'the controller could not be told where the app answers in plaintext; it is tried again',
      );
    }
    const known = error instanceof ControlError ? error : undefined;
    const isHopeless = known !== undefined && HOPELESS.includes(known.code);
    const grown = isHopeless ? LONGEST_PAUSE_MS : FIRST_PAUSE_MS * 2 ** Math.min(this.#failures, 30);
    const backoff = Math.min(grown, LONGEST_PAUSE_MS) * (0.5 + random() / 2);
    const asked = Math.min(known?.retryAfterMs ?? 0, LONGEST_PAUSE_MS);
    this.#failures++;
    this.#timer = clock.after(Math.max(backoff, asked), () => {
      this.#timer = undefined;
      void this.#send();
    });
  }
}

async function reportMethod(): Promise<ControlMethod> {
  return (await loadExposureDefinition()).Report as ControlMethod;
}
