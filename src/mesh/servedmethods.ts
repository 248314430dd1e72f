/**
 * From the handlers of a program to what grpc-js runs: a handler of each kind over Envelopes, and the implementations of
 * services with definitions of their own. grpc-js carries octets here and nothing else, so that a message that cannot be
 * read, or a reply that cannot be written, ends its call as any other error of it does.
 */
import type {
  Metadata,
  ServerDuplexStream,
  ServerReadableStream,
  ServerUnaryCall,
  ServerWritableStream,
  sendUnaryData,
} from '@grpc/grpc-js';
import { GrpcStatus } from '../relay/errors.ts';
import { CallError } from './callerror.ts';
import { decodeEnvelope, EnvelopeError, encodeEnvelope } from './envelope.ts';
import type { Handler, Replies } from './handlers.ts';
import { ReplyOutlet } from './replyoutlet.ts';
import { RequestInbox, type RequestSource } from './requestinbox.ts';
import type { GrpcServerCall, ServedCall } from './servedcall.ts';

/** What serving needs of the server around it. */
export interface Serving {
  /** The call as one of a living session. Throws CallError if there is none. */
  begin(call: GrpcServerCall): ServedCall;
  /** Lets the context of a call be found by what grpc-js calls it. That has its price, so not every call's is. */
  keep(call: object, served: ServedCall): void;
  /** A handler has failed with something else than a CallError. Never throws. */
  failed(error: unknown, call: ServedCall): void;
}

/** A status as grpc-js takes it in place of an error. */
export interface Status {
  readonly code: number;
  readonly details: string;
  readonly metadata?: Metadata;
}

type Respond = sendUnaryData<Buffer>;
type Writable = ServerWritableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>;
type Readable = ServerReadableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>;

/** A handler as grpc-js calls it. */
export function grpcHandler(serving: Serving, { kind, run }: Handler) {
  if (kind === 'unary') {
    return (call: ServerUnaryCall<Buffer, Buffer>, respond: Respond) =>
      void answer(serving, call, respond, (served) => run(requestOf(call.request), served));
  }
  if (kind === 'clientStream') {
    return (call: ServerReadableStream<Buffer, Buffer>, respond: Respond) =>
      void answer(serving, call, respond, (served) => run(inboxOf(call, served), served));
  }
  if (kind === 'serverStream') {
    return (call: ServerWritableStream<Buffer, Buffer>) =>
      void stream(serving, call, (served) => run(requestOf(call.request), served));
  }
  return (call: ServerDuplexStream<Buffer, Buffer>) =>
    void stream(serving, call, (served) => run(inboxOf(call, served), served));
}

function requestOf(message: Buffer): unknown {
  try {
    return decodeEnvelope(message);
  } catch (cause) {
    if (!(cause instanceof EnvelopeError)) throw cause;
    throw new CallError('INVALID_ARGUMENT', `the request cannot be read: ${cause.message}`, { cause });
  }
}

function inboxOf(call: Readable, served: ServedCall): RequestInbox<Buffer, unknown> {
  const inbox = new RequestInbox(call as RequestSource<Buffer>, requestOf);
  served.onEnd((reason) => inbox.fail(reason));
  return inbox;
}

/** Runs a handler that gives one reply. Never rejects. */
async function answer(
  serving: Serving,
  call: GrpcServerCall,
  respond: Respond,
  run: (served: ServedCall) => unknown,
): Promise<void> {
  let served: ServedCall | undefined;
  try {
    served = serving.begin(call);
    const reply = encodeEnvelope(await run(served));
    served.answered();
    respond(null, reply, served.ownTrailers);
  } catch (error) {
    respond(statusOf(error, served, serving));
  }
}

/** Runs a handler that gives replies. Never rejects. */
async function stream(
  serving: Serving,
  call: Writable,
  run: (served: ServedCall) => Replies<unknown> | Promise<Replies<unknown>>,
): Promise<void> {
  let served: ServedCall | undefined;
  try {
    served = serving.begin(call);
    await pump(serving, call, served, iteratorOf(await run(served)));
    if (served.reason !== undefined) throw served.reason;
    served.answered();
    call.end(served.ownTrailers);
  } catch (error) {
    const status = statusOf(error, served, serving);
    if (!call.destroyed) call.emit('error', status);
  }
}

/** Hands over replies as the caller takes them. When nobody waits for them any more the handler is told to return. */
async function pump(
  serving: Serving,
  call: Writable,
  served: ServedCall,
  replies: Iterator<unknown> | AsyncIterator<unknown>,
): Promise<void> {
  const outlet = new ReplyOutlet(call);
  let returned = false;
  const leave = async (): Promise<void> => {
    if (returned) return;
    returned = true;
    await replies.return?.();
  };
  served.onEnd(() => {
    outlet.end();
    // If it is at work it returns when it comes to its next reply.
    leave().catch((error) => report(error, served, serving));
  });
  try {
    while (!served.over) {
      const { done, value } = await replies.next();
      if (done === true) {
        returned = true;
        return;
      }
      if (served.over) return;
      const room = outlet.write(encodeEnvelope(value));
      if (room !== undefined) await room;
    }
  } catch (error) {
    // Of the handler itself, which has ended with it; or its reply cannot be sent, of which it does not know.
    if (error instanceof EnvelopeError) await leave();
    throw error;
  }
}

function iteratorOf(values: Replies<unknown>): Iterator<unknown> | AsyncIterator<unknown> {
  const given: Partial<AsyncIterable<unknown> & Iterable<unknown>> | null | undefined = values;
  const iterator = given?.[Symbol.asyncIterator]?.() ?? given?.[Symbol.iterator]?.();
  if (iterator !== undefined) return iterator;
  throw new TypeError('the handler gave nothing to iterate over; write it as `async function*`');
}

const MAX_DETAILS = 4096; // characters

/** What the caller is told of an error; what it is not told of goes to the program. */
export function statusOf(error: unknown, served: ServedCall | undefined, serving: Serving): Status {
  const over = served?.over === true;
  if (served !== undefined && !over) served.answered();
  if (error instanceof CallError) {
    const metadata = trailersOf(error.metadata, served?.ownTrailers);
    const status = { code: error.code, details: detailsOf(error.details) };
    return metadata === undefined ? status : { ...status, metadata };
  }
  if (served !== undefined) report(error, served, serving);
  const details = `the handler of ${served?.method ?? 'the call'} failed; the log of the called program says how`;
  const metadata = served?.ownTrailers;
  return { code: GrpcStatus.INTERNAL, details, ...(metadata === undefined ? {} : { metadata }) };
}

/** Tells the program of an error, unless it is how a handler ends for which nobody waits any more. */
function report(error: unknown, served: ServedCall, serving: Serving): void {
  const aborted = served.reason !== undefined;
  if (aborted && (error instanceof CallError || (error as Error | undefined)?.name === 'AbortError')) return;
  serving.failed(error, served);
}

/** What a handler passes on of a call of its own is not what the sidecars between it and its caller say. */
function trailersOf(ofError: Metadata | undefined, own: Metadata | undefined): Metadata | undefined {
  if (ofError === undefined) return own;
  const all = ofError.clone();
  all.remove('hauberk-error');
  all.remove('grpc-retry-pushback-ms');
  if (own !== undefined) all.merge(own);
  return all;
}

/** grpc-js encodes details as a URI, which a lone surrogate is not; and they travel as a header. */
function detailsOf(details: string): string {
  return details.slice(0, MAX_DETAILS).replace(LONE_SURROGATE, '\ufffd');
}

const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
