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

interface Asked {
  readonly app: WatchedApp;
  answers: boolean | undefined;
  asking: boolean;
  /** Something happened while it was asked, so that the answer may be out of date. */
  again: boolean;
  timer: TimerHandle | undefined;
}

/** Asks each local app again and again whether it accepts connections. */
export class AppWatch {
  readonly #clock: Clock;
  readonly #asked = new Map<WatchedApp, Asked>();
  #closed = false;

  constructor(clock: Clock, apps: readonly WatchedApp[]) {
    this.#clock = clock;
    for (const app of apps) {
      this.#asked.set(app, { app, answers: undefined, asking: false, again: false, timer: undefined });
      this.askNow(app);
    }
  }

  /** There is reason to think that the answer has changed. */
  askNow(app: WatchedApp): void {
    const asked = this.#asked.get(app);
    if (asked === undefined || this.#closed) return;
    if (asked.asking) asked.again = true;
    else void this.#ask(asked);
  }

  async #ask(asked: Asked): Promise<void> {
    const { app } = asked;
    this.#clock.clear(asked.timer);
    asked.asking = true;
    let answers: boolean;
    do {
      asked.again = false;
      answers = await app.probe().then(
        () => true,
        () => false,
      );
      if (this.#closed) return;
    } while (asked.again);
    asked.asking = false;
    asked.timer = this.#clock.after(answers ? UP_MS : DOWN_MS, () => void this.#ask(asked));
    if (answers === asked.answers) return;
    asked.answers = answers;
    app.onChange(answers);
  }

  close(): void {
    this.#closed = true;
    for (const { timer } of this.#asked.values()) this.#clock.clear(timer);
  }
}
