import type { Clock, TimerHandle } from '../clock/clock.ts';

export interface WatchedApp {
  readonly service: string;
  /** Resolves if the app accepts connections. */
  readonly probe: () => Promise<void>;
  /** Told the first answer and every change. */
  readonly onChange: (answers: boolean) => void;
}

/** While an app does not answer it is asked often, so that the sidecar is ready soon after it. */
const DOWN_MS = 250;
const UP_MS = 5000;

/** Asks each local app again and again whether it accepts connections. */
export class AppWatch {
  readonly #clock: Clock;
  readonly #timers = new Map<WatchedApp, TimerHandle>();
  #closed = false;

  constructor(clock: Clock, apps: readonly WatchedApp[]) {
    this.#clock = clock;
    for (const app of apps) void this.#ask(app, undefined);
  }

  async #ask(app: WatchedApp, before: boolean | undefined): Promise<void> {
    const answers = await app.probe().then(
      () => true,
      () => false,
    );
    if (this.#closed) return;
    if (answers !== before) app.onChange(answers);
    this.#timers.set(
      app,
      this.#clock.after(answers ? UP_MS : DOWN_MS, () => void this.#ask(app, answers)),
    );
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#timers.values()) this.#clock.clear(timer);
  }
}
