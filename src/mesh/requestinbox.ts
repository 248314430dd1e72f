import type { CallError } from './callerror.ts';

/** The reading side of a grpc-js call whose requests are a stream. */
export interface RequestSource<Message> {
  /** grpc-js calls it with each message that was asked for, and with null at the end. */
  push(message: Message | null): boolean;
  /** Asks for one message. */
  _read(size: number): void;
}

interface Waiter<Request> {
  readonly resolve: (result: IteratorResult<Request, undefined>) => void;
  readonly reject: (error: unknown) => void;
}

const DONE = { done: true, value: undefined } as const;

/**
 * The requests of a call, one by one as they are asked for. grpc-js's own stream would read sixteen ahead, of whatever
 * size; here nothing is read that nobody waits for, so that a slow handler holds no more than a window.
 */
export class RequestInbox<Message, Request> implements AsyncIterableIterator<Request, undefined> {
  readonly #source: RequestSource<Message>;
  readonly #decode: (message: Message) => Request;
  readonly #waiters: Waiter<Request>[] = [];
  #ended = false;
  #failure: unknown;
  #failed = false;

  /** `decode` may throw: the requests end with that error. */
  constructor(source: RequestSource<Message>, decode: (message: Message) => Request) {
    this.#source = source;
    this.#decode = decode;
    const arrived = (message: Message | null): boolean => {
      this.#arrived(message);
      return false;
    };
    source.push = arrived;
  }

  /** No more requests will come, because nobody waits for the answer. */
  fail(error: CallError): void {
    this.#fail(error);
  }

  #fail(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    const [first, ...rest] = this.#waiters.splice(0);
    if (first === undefined) {
      this.#failed = true;
      this.#failure = error;
    } else first.reject(error);
    for (const { resolve } of rest) resolve(DONE);
  }

  #arrived(message: Message | null): void {
    if (this.#ended) return;
    if (message === null) {
      // To grpc-js a stream that was reset looks as if it had ended, until it is asked for more: then it tells, in the next
      // tick, that the call was cancelled, and half of an upload is not taken for the whole.
      this.#source._read(1);
      process.nextTick(() => this.#end());
      return;
    }
    let value: Request;
    try {
      value = this.#decode(message);
    } catch (error) {
      this.#fail(error);
      return;
    }
    // grpc-js gives one message for each time that it was asked.
    this.#waiters.shift()?.resolve({ done: false, value });
    if (this.#waiters.length > 0) this.#source._read(1);
  }

  #end(): void {
    this.#ended = true;
    for (const { resolve } of this.#waiters.splice(0)) resolve(DONE);
  }

  next(): Promise<IteratorResult<Request, undefined>> {
    if (this.#failed) {
      this.#failed = false;
      return Promise.reject(this.#failure);
    }
    if (this.#ended) return Promise.resolve(DONE);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      if (this.#waiters.length === 1) this.#source._read(1);
    });
  }

  /** The handler wants no more of them. */
  return(): Promise<IteratorResult<Request, undefined>> {
    this.#end();
    this.#failed = false;
    return Promise.resolve(DONE);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
