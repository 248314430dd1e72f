import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { AuditEventInput, AuditEventOf } from '../../src/audit/event.ts';
import { bounded, EventFormat } from '../../src/audit/line.ts';
import { LineBuffer } from '../../src/audit/linebuffer.ts';
import { call, ready, SOURCE } from './collector.ts';

const format = new EventFormat(SOURCE);

function lineOf(...event: [AuditEventInput, timeMs: number, seq: number]): string {
  const out = new LineBuffer();
  format.write(out, ...event);
  return out.octets.toString();
}
const AT = Date.UTC(2026, 0, 2, 3, 4, 5, 678);

/** Any text at all, with what is hostile to logs well represented. */
const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc
    .array(
      fc.constantFrom(
        '"',
        '\\',
        '\n',
        '\r',
        '\u0000',
        '\u007f',
        '\u009b',
        '\u2028',
        '\u202e',
        '\ud800',
        'é',
        '😀',
      ),
    )
    .map((parts) => parts.join('')),
);
const optional = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(value, { nil: undefined });
const callEvent = fc
  .record({
    direction: fc.constantFrom('egress', 'ingress'),
    sessionId: optional(text),
    peer: optional(text),
    service: text,
    method: text,
    grpcStatus: optional(fc.nat(16)),
    httpStatus: optional(fc.nat(599)),
    durationMs: fc.double(),
    requestBytes: fc.nat(),
    responseBytes: fc.nat(),
    error: optional(text),
  })
  .map((fields) => ({ type: 'call.completed', ...fields }) as AuditEventInput);

describe('a line', () => {
  it('is one line of JSON that says what the object says', () => {
    fc.assert(
      fc.property(callEvent, fc.nat(), (event, seq) => {
        const line = lineOf(event, AT, seq);
        expect(line.endsWith('\n')).toBe(true);
        // Through JSON, which has no NaN and no lone surrogates.
        expect(JSON.parse(line)).toEqual(JSON.parse(JSON.stringify(format.event(event, AT, seq))));
      }),
    );
  });

  it('of a call is the same by the fast path and by the plain one', () => {
    fc.assert(
      fc.property(callEvent, (event) => {
        expect(lineOf(event, AT, 1)).toBe(format.plainLine(event, AT, 1));
      }),
    );
  });

  it('holds nothing that a terminal or a line reader acts upon', () => {
    fc.assert(
      fc.property(text, (hostile) => {
        const events: AuditEventInput[] = [
          call({ method: hostile }),
          { type: 'sidecar.ready', listeners: [hostile] },
          { type: 'tls.detected', listener: hostile, remote: hostile, cure: hostile },
        ];
        for (const event of events) {
          const line = lineOf(event, AT, 1);
          expect(line.slice(0, -1)).not.toMatch(
            /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufeff]/,
          );
        }
      }),
    );
  });

  it('begins with time, seq, type, sidecar and instance', () => {
    expect(lineOf(ready(), AT, 7)).toBe(
      '{"time":"2026-01-02T03:04:05.678Z","seq":7,"type":"sidecar.ready",' +
        '"sidecar":"spiffe://shop.example/ns/shop/sa/web","instance":"run-1","listeners":["n=0"]}\n',
    );
  });

  it('leaves out what is undefined', () => {
    expect(lineOf(call({ error: undefined }), AT, 1)).not.toContain('error');
    expect(format.plainLine(call({ error: undefined }), AT, 1)).not.toContain('error');
    expect(format.event(call({ error: undefined }), AT, 1)).not.toHaveProperty('error');
  });

  it('stays right when sessions take turns at a method, and for more methods than are remembered', () => {
    for (let i = 0; i < 5000; i++) {
      const event = call({
        sessionId: `session ${i % 7}`,
        method: `/m/${i % 1000}`,
        peer: i % 3 ? 'p' : undefined,
      });
      expect(lineOf(event, AT, i)).toBe(format.plainLine(event, AT, i));
    }
  });
});

describe('bounds', () => {
  it('leave an event whose texts are within them alone', () => {
    const event = call({ method: 'm'.repeat(256) });
    expect(bounded(event)).toBe(event);
  });

  it('cut longer texts in a copy and mark the cut', () => {
    const event = call({ method: 'm'.repeat(257) });
    expect(bounded(event)).toMatchObject({ method: `${'m'.repeat(255)}…` });
    expect(event).toMatchObject({ method: 'm'.repeat(257) });
  });

  it('keep SPIFFE IDs whole up to the length that their standard allows', () => {
    expect(bounded(call({ peer: 'p'.repeat(2048) }))).toMatchObject({ peer: 'p'.repeat(2048) });
    expect(bounded(call({ peer: 'p'.repeat(2049) }))).toMatchObject({ peer: `${'p'.repeat(2047)}…` });
  });

  it('never cut a surrogate pair', () => {
    const event = bounded(call({ method: '😀'.repeat(300) })) as { method: string };
    expect(JSON.stringify(event.method)).not.toContain('\\ud');
    expect(event.method.length).toBeLessThanOrEqual(256);
  });

  it('hold for lists in length and in each text', () => {
    const event = bounded({
      type: 'sidecar.ready',
      listeners: Array(1000).fill('x'.repeat(1000)) as string[],
    });
    const { listeners } = event as AuditEventOf<'sidecar.ready'>;
    expect(listeners).toHaveLength(64);
    expect(listeners[0]).toHaveLength(256);
  });
});

it('events are frozen, with their lists', () => {
  const event = format.event(ready(), AT, 1) as AuditEventOf<'sidecar.ready'>;
  expect(Object.isFrozen(event)).toBe(true);
  expect(Object.isFrozen(event.listeners)).toBe(true);
});
