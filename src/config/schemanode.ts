// The building blocks of schema.ts. TypeBox supplies the types only (`Static`): loading its builders would cost
// every sidecar 20 MB and 100 ms (measured on Node 20) to make the plain objects that are made here.
import type { Static, TObject, TOptional, TProperties, TSchema, TUnsafe } from 'typebox';
import { KINDS, type KindName, type ParsedKind } from './kinds.ts';
import { parseDuration, parseSize } from './quantity.ts';

/** JSON Schema as it is at run time; `x-` keywords are ours, and editors ignore them. */
export interface SchemaNode {
  readonly type: string | readonly string[];
  readonly description: string;
  readonly default?: unknown;
  readonly examples?: readonly unknown[];
  readonly enum?: readonly string[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly items?: SchemaNode;
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean;
  /** What a string means, and thereby what it is parsed to. */
  readonly 'x-kind'?: KindName;
  /** Bounds of a duration (ms) or size (bytes). */
  readonly 'x-range'?: readonly [least: number, most: number];
  /** What a plain number counts. */
  readonly 'x-unit'?: string;
  /** The words that a string may be, where a mapping may stand too. */
  readonly 'x-words'?: readonly string[];
  /** The value is never printed. */
  readonly 'x-secret'?: boolean;
}

interface Meaning {
  readonly description: string;
  readonly default?: unknown;
  readonly example?: unknown;
}

const MAX_ITEMS = 4096;

function node<T>({ example, ...meaning }: Meaning, rest: object): TUnsafe<T> {
  const shown = example ?? (typeof meaning.default === 'object' ? undefined : meaning.default);
  return {
    ...rest,
    ...meaning,
    ...(shown === undefined ? {} : { examples: [shown] }),
  } as unknown as TUnsafe<T>;
}

/** A string of a kind. */
export function kind<Name extends KindName>(
  name: Name,
  meaning: Meaning & { secret?: boolean },
): TUnsafe<ParsedKind<Name>> {
  const { secret, ...rest } = meaning;
  return node(
    { example: KINDS[name].example, ...rest },
    {
      type: 'string',
      'x-kind': name,
      ...(secret === true ? { 'x-secret': true } : {}),
    },
  );
}

/** A duration between two others; parsed to milliseconds. */
export function duration(least: string, most: string, meaning: Meaning): TUnsafe<number> {
  const range = [parseDuration(least), parseDuration(most)];
  return node(meaning, { type: 'string', 'x-kind': 'duration', 'x-range': range });
}

/** A size between two others, or a plain number of bytes; parsed to bytes. */
export function size(least: string, most: string, meaning: Meaning): TUnsafe<number> {
  const range = [parseSize(least), parseSize(most)];
  return node(meaning, {
    type: ['string', 'integer'],
    'x-kind': 'size',
    'x-range': range,
    minimum: range[0],
    maximum: range[1],
  });
}

/** A whole number of something. */
export function count(minimum: number, maximum: number, unit: string, meaning: Meaning): TUnsafe<number> {
  return node(meaning, { type: 'integer', minimum, maximum, 'x-unit': unit });
}

export function ratio(meaning: Meaning): TUnsafe<number> {
  return node(meaning, { type: 'number', minimum: 0, maximum: 1, 'x-unit': 'share' });
}

export function flag(meaning: Meaning): TUnsafe<boolean> {
  return node({ example: true, ...meaning }, { type: 'boolean' });
}

export function choice<const Values extends readonly string[]>(
  values: Values,
  meaning: Meaning,
): TUnsafe<Values[number]> {
  return node(meaning, { type: 'string', enum: values });
}

/** One string of a kind, or a list of them. */
export function oneOrMore<Name extends KindName>(
  name: Name,
  meaning: Meaning,
): TUnsafe<ParsedKind<Name> extends readonly (infer Item)[] ? Item[] : ParsedKind<Name>[]> {
  return node(
    { ...(meaning.default === undefined ? { example: KINDS[name].example } : {}), ...meaning },
    {
      type: ['string', 'array'],
      'x-kind': name,
      minItems: 1,
      maxItems: MAX_ITEMS,
      items: { type: 'string', 'x-kind': name, description: KINDS[name].noun },
    },
  );
}

/** Any mapping, handed on as it is. */
export function anything(meaning: Meaning): TUnsafe<Record<string, unknown>> {
  return node(meaning, { type: 'object', additionalProperties: true });
}

/** A list of `items`. */
export function list<Items extends TSchema>(
  items: Items,
  meaning: Meaning & { least?: number },
): TUnsafe<Static<Items>[]> {
  const { least, ...rest } = meaning;
  return node(rest, {
    type: 'array',
    items,
    maxItems: MAX_ITEMS,
    ...(least === undefined ? {} : { minItems: least }),
  });
}

/** A mapping with these keys and no others; keys with neither default nor `optional` are required. */
export function mapping<P extends TProperties>(properties: P, meaning: Meaning): TObject<P> {
  const required = Object.entries(properties as unknown as Record<string, SchemaNode>)
    .filter(([, value]) => value.default === undefined && !('~optional' in value))
    .map(([key]) => key);
  const complete = required.length === 0 && meaning.default === undefined ? { default: {} } : {};
  return node(
    { ...meaning, ...complete },
    {
      type: 'object',
      additionalProperties: false,
      properties,
      ...(required.length === 0 ? {} : { required }),
    },
  ) as unknown as TObject<P>;
}

/** Marks a key that may be missing and has no default; the mark is not enumerable, as in TypeBox. */
export function optional<S extends TSchema>(schema: S): TOptional<S> {
  const { default: _none, ...rest } = schema as unknown as SchemaNode;
  return Object.defineProperty(rest, '~optional', { value: true }) as unknown as TOptional<S>;
}

/** One of a few words, or a mapping with these keys, all of which may be missing. */
export function wordOrMapping<const Words extends readonly string[], P extends TProperties>(
  words: Words,
  properties: P,
  meaning: Meaning,
): TUnsafe<Words[number] | { [K in keyof P]?: Static<P[K]> }> {
  return node(meaning, {
    type: ['string', 'object'],
    pattern: `^(${words.join('|')})$`,
    'x-words': words,
    additionalProperties: false,
    properties,
  });
}
