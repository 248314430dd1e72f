import fc from 'fast-check';
import { expect, it } from 'vitest';
import { LineBuffer } from '../../src/audit/linebuffer.ts';

function written(write: (out: LineBuffer) => void): string {
  const out = new LineBuffer();
  write(out);
  return out.octets.toString();
}

it('writes numbers as JSON does', () => {
  fc.assert(
    fc.property(fc.oneof(fc.double(), fc.nat(), fc.maxSafeNat(), fc.integer()), (value) => {
      expect(written((out) => out.number(value))).toBe(JSON.stringify(value === 0 ? 0 : value));
    }),
  );
});

it('writes thousandths as JSON does, whatever number it is given', () => {
  const thousandths = fc.maxSafeNat().map((n) => n / 1000);
  fc.assert(
    fc.property(
      fc.oneof(
        thousandths,
        fc.nat().map((n) => n / 1000),
        fc.double(),
      ),
      (value) => {
        expect(written((out) => out.thousandths(value))).toBe(JSON.stringify(value === 0 ? 0 : value));
      },
    ),
  );
});

it('keeps what it holds while it grows, and forgets it when cleared', () => {
  const out = new LineBuffer();
  const text = 'ä€😀'.repeat(1000);
  for (let i = 0; i < 100; i++) out.text(text);
  out.raw(Buffer.from('end'));
  expect(out.octets.toString()).toBe(`${text.repeat(100)}end`);
  out.clear();
  expect(out.octets.length).toBe(0);
  out.text('anew');
  expect(out.octets.toString()).toBe('anew');
});
