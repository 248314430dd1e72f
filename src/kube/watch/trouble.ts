import type { Clock } from '../../clock/clock.ts';
import type { Logger } from '../../telemetry/log.ts';
import { KubeError, quotable } from '../client/errors.ts';
import { Backoff } from './backoff.ts';

/** After so many answers in a row that refuse a watch for other reasons than load, the collection is listed again. */
const REFUSALS_UNTIL_LIST = 5;
/** A server that goes on failing in the same way is mentioned again after so long. */
const REPEAT_LOG_MS = 5 * 60_000;

/** What goes wrong between a cache and its server: how long to wait, what to do then, what to say of it. */
export class Trouble {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #backoff: Backoff;
  #failure: KubeError | undefined;
  #loggedAt = 0;

  constructor({ clock, log, random }: { clock: Clock; log: Logger; random: () => number }) {
    this.#clock = clock;
    this.#log = log;
    this.#backoff = new Backoff(random);
  }

  /** Undefined while all goes well. */
  get failure(): KubeError | undefined {
    return this.#failure;
  }

  /** The server has begun to answer; it may yet break off at once. */
  connected(): void {
    if (this.#failure !== undefined) this.#log.info({}, 'the API server is heard again');
    this.#failure = undefined;
  }

  /** It has been of use. */
  recovered(): void {
    this.#backoff.succeeded();
    this.connected();
  }

  /** Resolves when it may be asked again, or the signal aborts: true if the collection is to be listed then. */
  async failed(error: unknown, signal: AbortSignal): Promise<boolean> {
    const failure =
      error instanceof KubeError
        ? error
        : new KubeError(`the watch failed: ${quotable(String(error))}`, { reason: 'Internal', cause: error });
    const pause = this.#backoff.failed(failure.retryAfterMs);
    const { failures } = this.#backoff;
    const anew = isToBeListed(failure, failures);
    // What has expired is listed again at once, but not over and over.
    if (failure.expired && failures === 1) return anew;
    this.#mention(failure, pause);
    this.#failure = failure;
    await this.#pause(pause, signal);
    return anew;
  }

  #mention(failure: KubeError, pause: number): void {
    const now = this.#clock.monotonic();
    if (this.#failure?.reason === failure.reason && now - this.#loggedAt < REPEAT_LOG_MS) return;
    this.#loggedAt = now;
    const fields = { reason: failure.reason, error: failure.message, retryMs: Math.round(pause) };
    this.#log.warn(fields, 'the API server cannot be heard; what is known stays, and it is asked again');
  }

  #pause(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        this.#clock.clear(timer);
        signal.removeEventListener('abort', end);
        resolve();
      };
      const timer = this.#clock.after(ms, end);
      signal.addEventListener('abort', end);
    });
  }
}

/** Whether to go on from the last version, as after a lost connection, would fail again or miss something. */
function isToBeListed({ status, reason }: KubeError, failures: number): boolean {
  if (status === 0) return reason === 'Malformed' || reason === 'TooLarge' || reason === 'Internal';
  if (status === 401 || status === 403 || status === 429 || status === 503) return false;
  return status < 500 || status === 504 || failures >= REFUSALS_UNTIL_LIST;
}
