import type {
  ClientDuplexStream,
  ClientReadableStream,
  ClientUnaryCall,
  ClientWritableStream,
  ServiceError,
} from '@grpc/grpc-js';
import { CallError } from './callerror.ts';
import { decodeEnvelope, encodeEnvelope } from './envelope.ts';

/** Requests of a stream, one after the other; an array will do. */
export type Requests<Request> = AsyncIterable<Request> | Iterable<Request>;

/** Within grpc-js a message that is null, or false for JavaScript, counts as none: it is kept in something. */
export interface Boxed {
  readonly value: unknown;
}
export const box = (octets: Buffer): Boxed => ({ value: decodeEnvelope(octets) });
export const unbox = ({ value }: Boxed): Buffer => encodeEnvelope(value);

/**
 * Reads the reply of a call that has one. grpc-js reads no further by itself: a second reply, of a method that streams, would
 * lie there and keep the end of the call from being read, for ever if it has no deadline.
 */
export function onlyReply(
  call: () => ClientUnaryCall | ClientWritableStream<Boxed>,
): (octets: Buffer) => Boxed {
  let replies = 0;
  return (octets) => {
    if (++replies > 1) throw new Error(STREAMS);
    (call() as { call?: { startRead(): void } }).call?.startRead();
    return box(octets);
  };
}

type AnyCall = { cancel(): void };

const ABORTED = 'the caller aborted the call';

/** grpc-js's callback of a call with one reply. */
export function settle(
  resolve: (reply: unknown) => void,
  reject: (error: unknown) => void,
  signal: AbortSignal | undefined,
): (error: ServiceError | null, reply?: Boxed) => void {
  return (error, reply) => {
    if (error === null) resolve(reply?.value);
    else reject(callError(error, signal));
  };
}

/** The replies of a stream as they come; `ended` is called once, when nothing more is wanted or will come. */
export async function* replies(
  begin: () => ClientReadableStream<Boxed> | ClientDuplexStream<Boxed, Boxed>,
  signal: AbortSignal | undefined,
  ended: () => void,
  failure: () => { readonly error: unknown } | undefined = () => undefined,
): AsyncGenerator<unknown, void, void> {
  if (signal?.aborted) throw abortError(signal);
  const call = begin();
  abortable(call, signal);
  try {
    for await (const { value } of call as AsyncIterable<Boxed>) yield value;
  } catch (error) {
    const own = failure();
    throw own === undefined ? callError(error as ServiceError, signal) : own.error;
  } finally {
    ended();
    call.cancel();
  }
}

/**
 * Writes requests as fast as they are taken. What the requests throw cancels the call, and is told to `failed`. Returns a
 * function that stops it: the call is over.
 */
export function write<Request>(
  call: ClientWritableStream<Boxed> | ClientDuplexStream<Boxed, Boxed>,
  requests: Requests<Request>,
  failed: (error: unknown) => void,
): () => void {
  let over = false;
  let wake = (): void => {};
  const onDrain = (): void => wake();
  call.on('drain', onDrain);
  const iterator =
    Symbol.asyncIterator in requests ? requests[Symbol.asyncIterator]() : requests[Symbol.iterator]();
  const run = async (): Promise<void> => {
    for (;;) {
      const { done, value } = await iterator.next();
      if (over) return;
      if (done === true) break;
      const drained = new Promise<void>((resolve) => {
        wake = resolve;
      });
      if (!call.write({ value })) await drained;
      if (over) return;
    }
    call.end();
  };
  run().catch((error) => {
    if (over) return;
    failed(error);
    call.cancel();
  });
  return () => {
    if (over) return;
    over = true;
    wake();
    // It may wait for something of its own for ever: its end is not waited for, nor what it throws then.
    const leave = async (): Promise<unknown> => iterator.return?.();
    leave().catch(() => {});
  };
}

export function abortable(
  call: AnyCall & { once(event: 'status', listener: () => void): unknown },
  signal?: AbortSignal,
): void {
  if (signal === undefined) return;
  const abort = (): void => call.cancel();
  if (signal.aborted) {
    abort();
    return;
  }
  signal.addEventListener('abort', abort, { once: true });
  call.once('status', () => signal.removeEventListener('abort', abort));
}

function abortError(signal: AbortSignal): CallError {
  return new CallError('CANCELLED', ABORTED, { cause: signal.reason });
}

function callError(error: ServiceError, signal: AbortSignal | undefined): unknown {
  if (typeof error?.code !== 'number') return error;
  if (signal?.aborted && error.code === CANCELLED) return abortError(signal);
  if (error.code === INTERNAL && error.details.endsWith(STREAMS)) {
    return new CallError('UNIMPLEMENTED', STREAMS, { cause: error });
  }
  const [reason] = error.metadata?.get('hauberk-error') ?? [];
  return new CallError(error.code, error.details, {
    metadata: error.metadata,
    reason: reason === undefined ? undefined : String(reason),
    cause: error,
  });
}

const CANCELLED = 1;
const INTERNAL = 13;
const STREAMS = 'the method answers with a stream of replies: call it by serverStream() or bidiStream()';
