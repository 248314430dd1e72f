/** What a program gives to a SecureMeshServer to run. */
import type { CallContext } from './callcontext.ts';

/** Takes a request and returns a reply, or a promise of one. */
export type UnaryHandler<Request, Reply> = (request: Request, context: CallContext) => Reply | Promise<Reply>;

/** Takes a request and returns replies: an async generator, as a rule. */
export type ServerStreamHandler<Request, Reply> = (
  request: Request,
  context: CallContext,
) => Replies<Reply> | Promise<Replies<Reply>>;

/** Takes requests as they come and returns one reply. */
export type ClientStreamHandler<Request, Reply> = (
  requests: AsyncIterableIterator<Request>,
  context: CallContext,
) => Reply | Promise<Reply>;

/** Takes requests as they come and returns replies, each at any time. */
export type BidiStreamHandler<Request, Reply> = (
  requests: AsyncIterableIterator<Request>,
  context: CallContext,
) => Replies<Reply> | Promise<Replies<Reply>>;

/** Replies are asked for as the caller takes them; when it takes no more the iterator is told to return. */
export type Replies<Reply> = AsyncIterable<Reply> | Iterable<Reply>;

/** A handler of any kind, whose requests and replies are between the program and its callers. */
export type Handler =
  | { readonly kind: 'unary'; readonly run: UnaryHandler<unknown, unknown> }
  | { readonly kind: 'serverStream'; readonly run: ServerStreamHandler<unknown, unknown> }
  | { readonly kind: 'clientStream'; readonly run: ClientStreamHandler<unknown, unknown> }
  | { readonly kind: 'bidi'; readonly run: BidiStreamHandler<unknown, unknown> };
