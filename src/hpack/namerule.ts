import { STATIC_TABLE } from './statictable.ts';

/**
 * What the codec does with fields of one name. The rules are a closed list, so that nothing a peer sends can
 * fill our encoder's table or our memos with values that never come again or must not be kept.
 */
export class NameRule {
  /** First static-table index with this name, 0 if none. */
  readonly staticIndex: number;
  /** How many consecutive static entries have this name. */
  readonly staticCount: number;
  /** Longest value that our encoder puts into its dynamic table; -1: none. */
  readonly longestIndexed: number;
  /** Credentials and binary metadata: neither indexed by our encoder nor memoised by either side. */
  readonly sensitive: boolean;
  /** The value differs in nearly every call: looking for it in a cache is a waste. */
  readonly varying: boolean;
  /** Position of an indexable name among the indexable ones, -1 for others. */
  readonly slot: number;

  constructor(name: string, kind: 'plain' | 'sensitive' | 'varying', longestIndexed: number, slot: number) {
    this.staticIndex = STATIC_TABLE.findIndex((entry) => entry[0] === name) + 1;
    this.staticCount = STATIC_TABLE.filter((entry) => entry[0] === name).length;
    this.longestIndexed = longestIndexed;
    this.sensitive = kind === 'sensitive';
    this.varying = kind === 'varying';
    this.slot = slot;
  }
}

/** Names that our encoder may index, with the longest value. What an application sends in each call anew is not here. */
const INDEXABLE: ReadonlyArray<readonly [name: string, longest: number]> = [
  [':path', 256],
  [':authority', 128],
  [':method', 16],
  [':scheme', 8],
  [':status', 3],
  ['content-type', 64],
  ['user-agent', 128],
  ['te', 16],
  ['grpc-encoding', 32],
  ['grpc-accept-encoding', 64],
  ['accept-encoding', 64],
  ['accept', 64],
  ['grpc-status', 2],
  ['server', 64],
  ['hauberk-peer', 256],
  ['hauberk-session', 64],
];

const SENSITIVE = ['authorization', 'proxy-authorization', 'cookie', 'set-cookie'];

const VARYING = [
  'grpc-timeout',
  'traceparent',
  'tracestate',
  'x-request-id',
  'x-b3-traceid',
  'x-b3-spanid',
  'x-b3-parentspanid',
  'b3',
  'date',
  'content-length',
  'grpc-message',
];

const RULES = new Map<string, NameRule>();
for (const [name] of STATIC_TABLE) RULES.set(name, new NameRule(name, 'plain', -1, -1));
for (const name of SENSITIVE) RULES.set(name, new NameRule(name, 'sensitive', -1, -1));
for (const name of VARYING) RULES.set(name, new NameRule(name, 'varying', -1, -1));
INDEXABLE.forEach(([name, longest], slot) => {
  RULES.set(name, new NameRule(name, 'plain', longest, slot));
});

const BINARY = new NameRule('', 'sensitive', -1, -1);
const OTHER = new NameRule('', 'plain', -1, -1);

/** How many names our encoder may index. */
export const INDEXABLE_COUNT = INDEXABLE.length;

/** The rule for a name as it is on the wire (lower case). */
export function ruleOf(name: string): NameRule {
  return RULES.get(name) ?? (name.endsWith('-bin') ? BINARY : OTHER);
}
