import {
  type Attributes,
  type Context,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  type SpanOptions,
  SpanStatusCode,
  type Tracer,
  type TracerProvider,
  trace,
} from '@opentelemetry/api';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { parseTraceParent } from '../../src/telemetry/traceparent.ts';
import { loadTracing, noTracing } from '../../src/telemetry/tracing.ts';

interface RecordedSpan {
  name: string;
  kind: SpanKind | undefined;
  attributes: Attributes;
  parent: SpanContext | undefined;
  status: SpanStatusCode | undefined;
  ended: number;
}

/** A tracer provider that keeps its spans. */
class KeepingProvider implements TracerProvider {
  readonly spans: RecordedSpan[] = [];

  getTracer(): Tracer {
    const startSpan = (name: string, options: SpanOptions = {}, context: Context = ROOT_CONTEXT): Span => {
      const recorded: RecordedSpan = {
        name,
        kind: options.kind,
        attributes: { ...options.attributes },
        parent: trace.getSpanContext(context),
        status: undefined,
        ended: 0,
      };
      this.spans.push(recorded);
      const span = {
        setAttribute: (key: string, value: string) => {
          recorded.attributes[key] = value;
          return span;
        },
        setStatus: ({ code }: { code: SpanStatusCode }) => {
          recorded.status = code;
          return span;
        },
        end: () => void recorded.ended++,
      } as unknown as Span;
      return span;
    };
    return { startSpan } as unknown as Tracer;
  }
}

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN_ID = '00f067aa0ba902b7';
const HEADER = `00-${TRACE_ID}-${SPAN_ID}-01`;
const CALL = { direction: 'egress', path: '/shop.Greeter/SayHello', service: 'greeter.shop' } as const;

afterEach(() => trace.disable());

async function spanOf(
  call: Parameters<typeof noTracing.startCall>[0],
  status: number | undefined,
  error?: string,
): Promise<RecordedSpan> {
  const provider = new KeepingProvider();
  trace.setGlobalTracerProvider(provider);
  const tracing = await loadTracing('1.2.3');
  tracing.startCall(call).end(status, error);
  return provider.spans[0] as RecordedSpan;
}

describe('spans', () => {
  it('are off where no tracer provider is registered: one shared object takes the place of all', async () => {
    const tracing = await loadTracing('1.2.3');
    expect(tracing).toBe(noTracing);
    expect(tracing.enabled).toBe(false);
    expect(tracing.startCall(CALL)).toBe(tracing.startCall(CALL));
    tracing.startCall(CALL).end(0);
  });

  it('of egress are client spans with the attributes of the RPC conventions', async () => {
    const span = await spanOf({ ...CALL, peer: 'spiffe://shop.example/a', sessionId: 's1' }, 0);
    expect(span).toEqual({
      name: 'shop.Greeter/SayHello',
      kind: SpanKind.CLIENT,
      attributes: {
        'rpc.system.name': 'grpc',
        'rpc.method': 'shop.Greeter/SayHello',
        'rpc.response.status_code': 'OK',
        'server.address': 'greeter.shop',
        'hauberk.direction': 'egress',
        'hauberk.peer': 'spiffe://shop.example/a',
        'hauberk.session.id': 's1',
      },
      parent: undefined,
      status: undefined,
      ended: 1,
    });
  });

  it("continue the caller's trace", async () => {
    const span = await spanOf(
      { ...CALL, direction: 'ingress', traceparent: HEADER, tracestate: 'a=1,b=2' },
      0,
    );
    expect(span.kind).toBe(SpanKind.SERVER);
    expect(span.parent).toMatchObject({ traceId: TRACE_ID, spanId: SPAN_ID, traceFlags: 1, isRemote: true });
    expect(span.parent?.traceState?.serialize()).toBe('a=1,b=2');
  });

  it('start a trace of their own when the header is malformed', async () => {
    expect(
      (await spanOf({ ...CALL, traceparent: 'rubbish', tracestate: '\u0000=' }, 0)).parent,
    ).toBeUndefined();
  });

  it.each([
    ['egress', 0, undefined, undefined],
    ['egress', 5, 'NOT_FOUND', SpanStatusCode.ERROR],
    ['ingress', 5, undefined, undefined],
    ['ingress', 13, 'INTERNAL', SpanStatusCode.ERROR],
    ['ingress', 77, undefined, undefined],
    ['egress', 77, '77', SpanStatusCode.ERROR],
    ['egress', undefined, '_OTHER', SpanStatusCode.ERROR],
  ] as const)('of %s with status %s have the error %s', async (direction, status, errorType, code) => {
    const span = await spanOf({ ...CALL, direction }, status);
    expect(span.attributes['error.type']).toBe(errorType);
    expect(span.status).toBe(code);
  });

  it('carry the error that a sidecar made', async () => {
    const span = await spanOf(CALL, 14, 'peer-unreachable');
    expect(span.attributes).toMatchObject({
      'hauberk.error': 'peer-unreachable',
      'error.type': 'UNAVAILABLE',
    });
  });
});

describe('traceparent', () => {
  it('gives trace, span and the sampled flag', () => {
    expect(parseTraceParent(HEADER)).toEqual({ traceId: TRACE_ID, spanId: SPAN_ID, traceFlags: 1 });
    expect(parseTraceParent(`00-${TRACE_ID}-${SPAN_ID}-fe`)?.traceFlags).toBe(0);
  });

  it('of a later version may go on after a dash (section 3.2.4)', () => {
    expect(parseTraceParent(`01-${TRACE_ID}-${SPAN_ID}-01-what-else`)).toMatchObject({ traceId: TRACE_ID });
  });

  it.each([
    ['', 'nothing'],
    [`ff-${TRACE_ID}-${SPAN_ID}-01`, 'version ff'],
    [`00-${TRACE_ID}-${SPAN_ID}-01-more`, 'more than version 00 has'],
    [`01-${TRACE_ID}-${SPAN_ID}-01more`, 'more without a dash'],
    [`00-${'0'.repeat(32)}-${SPAN_ID}-01`, 'a trace id of zeros'],
    [`00-${TRACE_ID}-${'0'.repeat(16)}-01`, 'a span id of zeros'],
    [HEADER.toUpperCase(), 'upper case'],
    [` ${HEADER}`, 'a space'],
    [`01-${TRACE_ID}-${SPAN_ID}-01-${'x'.repeat(500)}`, 'more than 512 characters'],
  ])('%s is refused: %s', (header) => {
    expect(parseTraceParent(header)).toBeUndefined();
  });

  it('whatever is read is what the header says', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(...'0123456789abcdef-fF '), maxLength: 60 }),
        (header) => {
          const parsed = parseTraceParent(header);
          if (parsed !== undefined) expect(header.slice(3, 52)).toBe(`${parsed.traceId}-${parsed.spanId}`);
        },
      ),
    );
  });
});
