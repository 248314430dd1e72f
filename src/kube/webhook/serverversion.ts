import type { Clock } from '../../clock/clock.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { KubeClient } from '../client/client.ts';

/** Clusters are upgraded while controllers run. */
const AGAIN_MS = 600_000;
const RETRY_MS = 5000;
const DEADLINE_MS = 3000;
/** The first minor version whose API server and kubelets have native sidecars turned on. */
const NATIVE = 29;

/** The API server's version, asked for when it is needed. */
export class ServerVersion {
  readonly #client: KubeClient;
  readonly #clock: Clock;
  readonly #log: Logger;
  #minor: number | undefined;
  #askAt = Number.NEGATIVE_INFINITY;
  #asking: Promise<void> | undefined;

  constructor(client: KubeClient, clock: Clock, log: Logger) {
    this.#client = client;
    this.#clock = clock;
    this.#log = log;
  }

  /** Rejects with KubeError where it was never known: a guess would be wrong for every pod of an old cluster. */
  async knowsNativeSidecars(): Promise<boolean> {
    if (this.#clock.monotonic() >= this.#askAt) {
      this.#asking ??= this.#ask().finally(() => {
        this.#asking = undefined;
      });
      await this.#asking;
    }
    return (this.#minor as number) >= NATIVE;
  }

  async #ask(): Promise<void> {
    try {
      const { major, minor } = await this.#client.version({ deadlineMs: DEADLINE_MS });
      // Some providers write `31+`.
      this.#minor = Number(major) > 1 ? Number.POSITIVE_INFINITY : Number.parseInt(minor, 10) || 0;
      this.#askAt = this.#clock.monotonic() + AGAIN_MS;
    } catch (error) {
      if (this.#minor === undefined) throw error;
      this.#askAt = this.#clock.monotonic() + RETRY_MS;
      this.#log.warn(
        { error: String(error) },
        "the API server's version could not be asked for; the last one holds",
      );
    }
  }
}
