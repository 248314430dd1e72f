import type { Attributes, Context, Span } from '@opentelemetry/api';
import { GRPC_STATUS_NAMES } from './grpcstatus.ts';
import { parseTraceParent } from './traceparent.ts';

export interface CallStart {
  /** `egress`: the sidecar is the client of the call; `ingress`: it is the server. */
  readonly direction: 'egress' | 'ingress';
  /** `:path`, `/package.Service/Method`. */
  readonly path: string;
  /** Canonical service name of the route or app. */
  readonly service: string;
  readonly peer?: string | undefined;
  readonly sessionId?: string | undefined;
  /** Request headers as they came; a malformed `traceparent` starts a trace of its own. */
  readonly traceparent?: string | undefined;
  readonly tracestate?: string | undefined;
}

export interface CallSpan {
  /** Ends the span; once. `grpcStatus` is undefined when the call ended without one. */
  end(grpcStatus: number | undefined, error?: string): void;
}

/** Spans of calls. Where `enabled` is false nothing need be called: the one test is all that a call pays. */
export interface Tracing {
  readonly enabled: boolean;
  startCall(call: CallStart): CallSpan;
}

const NO_SPAN: CallSpan = { end: () => {} };
export const noTracing: Tracing = { enabled: false, startCall: () => NO_SPAN };

/** Where @opentelemetry/api 1.x keeps what was registered, so that every copy of it in a process finds the same. */
const API_GLOBAL = Symbol.for('opentelemetry.js.api.1');

/**
 * Tracing by the tracer provider that the embedding program, or what it preloads, has registered with
 * @opentelemetry/api by now; `noTracing`, without loading anything, where there is none.
 */
export async function loadTracing(version: string): Promise<Tracing> {
  const registered = (globalThis as Record<symbol, { trace?: unknown } | undefined>)[API_GLOBAL];
  if (registered?.trace === undefined) return noTracing;
  const api = await import('@opentelemetry/api');
  const tracer = api.trace.getTracer('hauberk', version);

  const parentOf = (call: CallStart): Context => {
    const parent = call.traceparent === undefined ? undefined : parseTraceParent(call.traceparent);
    if (parent === undefined) return api.ROOT_CONTEXT;
    const state = call.tracestate === undefined ? {} : { traceState: api.createTraceState(call.tracestate) };
    return api.trace.setSpanContext(api.ROOT_CONTEXT, { ...parent, ...state, isRemote: true });
  };

  return {
    enabled: true,
    startCall: (call) => {
      const server = call.direction === 'ingress';
      const method = call.path.replace(/^\//, '');
      const attributes: Attributes = {
        'rpc.system.name': 'grpc',
        'rpc.method': method,
        'server.address': call.service,
        'hauberk.direction': call.direction,
      };
      if (call.peer !== undefined) attributes['hauberk.peer'] = call.peer;
      if (call.sessionId !== undefined) attributes['hauberk.session.id'] = call.sessionId;
      const kind = server ? api.SpanKind.SERVER : api.SpanKind.CLIENT;
      const span = tracer.startSpan(method, { kind, attributes }, parentOf(call));
      return { end: (status, error) => endSpan(span, server, api.SpanStatusCode.ERROR, status, error) };
    },
  };
}

/** Status codes that are the server's fault; a client's span fails with any but OK (semantic conventions for gRPC). */
const SERVER_FAULTS: ReadonlySet<string> = new Set([
  'UNKNOWN',
  'DEADLINE_EXCEEDED',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
]);

function endSpan(
  span: Span,
  server: boolean,
  failed: number,
  grpcStatus: number | undefined,
  error: string | undefined,
): void {
  const name = grpcStatus === undefined ? undefined : (GRPC_STATUS_NAMES[grpcStatus] ?? String(grpcStatus));
  if (name !== undefined) span.setAttribute('rpc.response.status_code', name);
  if (error !== undefined) span.setAttribute('hauberk.error', error);
  const ok = name !== undefined && (server ? !SERVER_FAULTS.has(name) : name === 'OK');
  if (!ok) {
    span.setAttribute('error.type', name ?? error ?? '_OTHER');
    span.setStatus({ code: failed });
  }
  span.end();
}
