/** The writing side of a grpc-js call whose replies are a stream. */
export interface ReplySink {
  write(message: Buffer, written: () => void): boolean;
}

/** Octets and messages that may be under way before the handler has to wait for its caller. */
const WINDOW = 65_536;
const MESSAGES = 64;

/** Replies on their way out: `write` says when there is room for another. */
export class ReplyOutlet {
  readonly #sink: ReplySink;
  #octets = 0;
  #messages = 0;
  #proceed: (() => void) | undefined;

  constructor(sink: ReplySink) {
    this.#sink = sink;
  }

  /** Hands a message over; the promise, if there is one, resolves once another may follow, or `end` was called. */
  write(message: Buffer): Promise<void> | undefined {
    this.#octets += message.length;
    this.#messages++;
    const written = (): void => {
      this.#octets -= message.length;
      this.#messages--;
      if (this.#hasRoom) this.end();
    };
    this.#sink.write(message, written);
    if (this.#hasRoom) return undefined;
    return new Promise((resolve) => {
      this.#proceed = resolve;
    });
  }

  get #hasRoom(): boolean {
    return this.#octets < WINDOW && this.#messages < MESSAGES;
  }

  /** Nobody takes what was written: whoever waits goes on. */
  end(): void {
    const proceed = this.#proceed;
    this.#proceed = undefined;
    proceed?.();
  }
}
