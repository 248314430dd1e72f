import type { HeaderList } from '../hpack/headerlist.ts';
import type { Message } from '../http2/message.ts';
import type { Call, CallPlan, CallTarget } from './call.ts';
import type { RelayError } from './errors.ts';

/** Decides where the requests of one connection go. */
export interface Router {
  /** What to do with every request that has these headers. Never throws. */
  plan(list: HeaderList, message: Message): CallPlan;
  /** The same for a request that differs from that of `known` only in fields that routing does not read, and in its timeout. */
  planLike(known: CallPlan, list: HeaderList, message: Message): CallPlan;
  /**
   * Lets the call in, at once or later: undefined, or why not. Called for plans that are no refusal; a refusal
   * is reported here by the router itself.
   */
  admit(plan: CallPlan): Promise<RelayError | undefined> | RelayError | undefined;
  /** A call was refused by its plan: for events and counters. */
  refused(plan: CallPlan): void;
}

/** Where calls go that go nowhere. */
export const NOWHERE: CallTarget = {
  name: 'nowhere',
  lostCode: 'session-lost',
  assign(call: Call): void {
    if (call.plan.refusal !== undefined) call.fail(call.plan.refusal);
  },
  reassign(call: Call, error: RelayError): void {
    call.fail(error);
  },
  mayRetry: () => false,
};

/** Is this content-type gRPC's (and not gRPC-Web's)? */
export function isGrpc(contentType: string): boolean {
  if (!contentType.startsWith('application/grpc')) return false;
  const next = contentType.charAt(16);
  return next === '' || next === '+' || next === ';';
}

const MAX_METHOD = 200; // characters

/** A path as a method's name for metrics and audit: without its query, bounded. */
export function methodOf(path: string): string {
  const query = path.indexOf('?');
  return (query < 0 ? path : path.slice(0, query)).slice(0, MAX_METHOD);
}
