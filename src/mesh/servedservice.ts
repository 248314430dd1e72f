/** Handlers of services with a definition of their own, as grpc-js has them: what is done around them. */
import type {
  Metadata,
  MethodDefinition,
  ServerWritableStream,
  ServiceDefinition,
  sendUnaryData,
  UntypedHandleCall,
  UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { GrpcServerCall, ServedCall } from './servedcall.ts';
import { type Serving, statusOf } from './servedmethods.ts';

type Method = Pick<MethodDefinition<unknown, unknown>, 'responseStream'>;
type Respond = sendUnaryData<unknown>;
type Run = (call: GrpcServerCall, respond?: Respond) => unknown;
type Writable = ServerWritableStream<unknown, unknown>;

/**
 * A handler that also has a context (`contextOf`), whose trailers go out unless it gives others, and that may be an async
 * function: one that throws or rejects answers its call, and does not end the process.
 */
export function serviceHandler(
  serving: Serving,
  { responseStream }: Method,
  handler: UntypedHandleCall,
): UntypedHandleCall {
  const run = handler as unknown as Run;
  const wrapped: Run = responseStream
    ? (call) => runStream(serving, call as unknown as Writable & GrpcServerCall, run)
    : (call, respond) => runUnary(serving, call, respond as Respond, run);
  return wrapped as unknown as UntypedHandleCall;
}

function runUnary(serving: Serving, call: GrpcServerCall, respond: Respond, run: Run): void {
  const state: { served?: ServedCall } = {};
  const answer: Respond = (error, value, trailer, flags) => {
    state.served?.answered();
    respond(error, value, trailer ?? (error === null ? state.served?.ownTrailers : undefined), flags);
  };
  guard(serving, call, state, () => run(call, answer), answer);
}

function runStream(serving: Serving, call: Writable & GrpcServerCall, run: Run): void {
  const state: { served?: ServedCall } = {};
  const end = call.end.bind(call) as (trailers?: Metadata) => Writable;
  const endWithTrailers = (trailers?: Metadata): Writable => {
    state.served?.answered();
    return end(trailers ?? state.served?.ownTrailers);
  };
  call.end = endWithTrailers as Writable['end'];
  guard(
    serving,
    call,
    state,
    () => run(call),
    (error) => void (call.destroyed || call.emit('error', error)),
  );
}

/** Begins the call, runs its handler, and answers with the error that this throws, now or later. */
function guard(
  serving: Serving,
  call: GrpcServerCall,
  state: { served?: ServedCall },
  run: () => unknown,
  fail: (error: ReturnType<typeof statusOf>) => void,
): void {
  const failed = (error: unknown): void => {
    const { served } = state;
    const wasAnswered = served?.over === true && served.reason === undefined;
    const status = statusOf(error, served, serving);
    if (!wasAnswered) fail(status);
  };
  try {
    state.served = serving.begin(call);
    serving.keep(call, state.served);
    const result = run();
    if (result instanceof Promise) result.catch(failed);
  } catch (error) {
    failed(error);
  }
}

/** What is wrong with a service that a program gave, if anything. */
export function serviceProblem(definition: unknown, implementation: unknown): string | undefined {
  const wants =
    'addService() wants a service definition, as proto-loader, ts-proto or hauberk/bufbuild make it';
  if (typeof definition !== 'object' || definition === null) return wants;
  const methods = Object.entries(definition as ServiceDefinition);
  const wrong = methods.find(
    ([, method]) => typeof method?.path !== 'string' || !method.path.startsWith('/'),
  );
  if (methods.length === 0 || wrong !== undefined) return wants;
  if (typeof implementation !== 'object' || implementation === null) {
    return 'addService() wants an object with the functions that implement the service';
  }
  const given = implementation as UntypedServiceImplementation;
  const names = methods.map(([name, { originalName }]) => originalName ?? name);
  if (methods.some(([name], i) => typeof (given[name] ?? given[names[i] as string]) === 'function'))
    return undefined;
  return `the implementation has none of the functions of the service: ${names.slice(0, NAMES_SHOWN).join(', ')}`;
}

const NAMES_SHOWN = 8;
