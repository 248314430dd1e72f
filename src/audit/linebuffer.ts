import { CopyTarget } from '../octets/copytarget.ts';
import type { Viewed } from '../octets/view.ts';

const FIRST = 16_384;
/** A larger buffer is let go once it has been written out. */
const KEPT = 262_144;
const ZERO = 0x30;
const MOST_DIGITS = 10; // of what DIGITS_BELOW bounds
const DIGITS_BELOW = 2 ** 31;

/** Gathers lines of text as octets, so that nothing of them but the octets is ever allocated. */
export class LineBuffer {
  #buf: Buffer = Buffer.allocUnsafeSlow(FIRST);
  readonly #target = new CopyTarget(this.#buf);
  #end = 0;

  /** What was gathered; valid until the next change. */
  get octets(): Buffer {
    return this.#buf.subarray(0, this.#end);
  }

  clear(): void {
    this.#end = 0;
    if (this.#buf.length > KEPT) this.#use(Buffer.allocUnsafeSlow(FIRST));
  }

  raw(octets: Uint8Array): void {
    this.#reserve(octets.length);
    this.#buf.set(octets, this.#end);
    this.#end += octets.length;
  }

  /** The same of a text that comes again and again. */
  fixed({ octets, view }: Viewed): void {
    const { length } = octets;
    this.#reserve(length);
    this.#target.copy(octets, 0, this.#end, length, view);
    this.#end += length;
  }

  /** As UTF-8. */
  text(text: string): void {
    this.#reserve(text.length * 3);
    this.#end += this.#buf.write(text, this.#end, 'utf8');
  }

  /** As JSON has it: null for what is no number there. */
  number(value: number): void {
    if (value >= 0 && value < DIGITS_BELOW && Number.isInteger(value)) this.#digits(value);
    else this.text(Number.isFinite(value) ? String(value) : 'null');
  }

  /** A number with at most three places behind its point. */
  thousandths(value: number): void {
    const whole = Math.floor(value);
    const rest = Math.round((value - whole) * 1000);
    if (!(whole >= 0 && whole < DIGITS_BELOW) || rest > 999 || whole + rest / 1000 !== value) {
      this.number(value);
      return;
    }
    this.#digits(whole);
    if (rest === 0) return;
    this.#reserve(4);
    const buf = this.#buf;
    let end = this.#end;
    buf[end++] = 0x2e;
    buf[end++] = ZERO + ((rest / 100) | 0);
    if (rest % 100 !== 0) buf[end++] = ZERO + (((rest / 10) | 0) % 10);
    if (rest % 10 !== 0) buf[end++] = ZERO + (rest % 10);
    this.#end = end;
  }

  #digits(value: number): void {
    this.#reserve(MOST_DIGITS);
    let length = 1;
    for (let bound = 10; value >= bound; bound *= 10) length++;
    const buf = this.#buf;
    this.#end += length;
    let rest = value;
    for (let at = this.#end - 1, i = 0; i < length; i++, at--) {
      const tenth = (rest / 10) | 0;
      buf[at] = ZERO + rest - tenth * 10;
      rest = tenth;
    }
  }

  #reserve(octets: number): void {
    const needed = this.#end + octets;
    if (needed <= this.#buf.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#buf.length * 2));
    this.#buf.copy(larger, 0, 0, this.#end);
    this.#use(larger);
  }

  #use(buf: Buffer): void {
    this.#buf = buf;
    this.#target.use(buf);
  }
}
