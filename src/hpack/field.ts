import { HpackError } from './errors.ts';
import { type NameRule, ruleOf } from './namerule.ts';
import { STATIC_TABLE } from './statictable.ts';

const ABOVE_LATIN1 = /[^\x00-\xff]/;

/**
 * A header field (RFC 7541 1.3). Immutable; the same object may be in many lists, tables and connections at
 * once: what comes from the static table, a dynamic table or a memo is the same object each time, so `===`
 * is a fast (not a complete) test of equality. Make one with `headerField`; the constructor is for the decoder,
 * which knows that its strings are latin1.
 */
export class HeaderField {
  /** One character an octet, as on the wire (latin1). Not checked for what HTTP allows. */
  readonly name: string;
  readonly value: string;
  /** Sent as "never indexed" (RFC 7541 6.2.3), and so it must be sent on. */
  readonly neverIndexed: boolean;
  /** Octets of name and value, and 32 (RFC 7541 4.1, RFC 9113 6.5.2). */
  readonly size: number;
  /** How the codec treats fields of this name. */
  readonly rule: NameRule;
  /** Never to be memoised: never indexed, or a name for credentials or binary metadata. */
  readonly sensitive: boolean;
  /** The static-table index of exactly this field, 0 if none or if never indexed. */
  readonly staticIndex: number;
  /** A hint that belongs to the encoder with this id: where the field is in its table. Only a hint: entries die. */
  encoderId = 0;
  encoderEntry = 0;

  constructor(name: string, value: string, neverIndexed: boolean, rule: NameRule) {
    this.name = name;
    this.value = value;
    this.neverIndexed = neverIndexed;
    this.size = name.length + value.length + 32;
    this.rule = rule;
    this.sensitive = neverIndexed || rule.sensitive;
    this.staticIndex = neverIndexed || rule.staticIndex === 0 ? 0 : staticMatch(rule, value);
  }
}

function staticMatch(rule: NameRule, value: string): number {
  const end = rule.staticIndex + rule.staticCount;
  for (let index = rule.staticIndex; index < end; index++) {
    if (STATIC_TABLE[index - 1]![1] === value) return index;
  }
  return 0;
}

/** Throws HpackError `not-latin1` for a character above U+00FF, which would become another one on the wire. */
export function headerField(name: string, value: string, neverIndexed = false): HeaderField {
  if (ABOVE_LATIN1.test(name) || ABOVE_LATIN1.test(value)) {
    throw new HpackError('not-latin1', `the field ${JSON.stringify(name)} has characters above U+00FF`, {
      origin: 'local',
    });
  }
  return new HeaderField(name, value, neverIndexed, ruleOf(name));
}

/** The fields of the static table, by index; 0 is a filler that no block can name. */
export const STATIC_FIELDS: readonly HeaderField[] = [
  headerField('', ''),
  ...STATIC_TABLE.map(([name, value]) => headerField(name, value)),
];
