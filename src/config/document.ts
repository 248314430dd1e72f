import {
  type Alias,
  Composer,
  type CST,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  type Node,
  Parser,
  type Document as YamlDocument,
} from 'yaml';
import type { ConfigErrorCode, ConfigIssue } from './errors.ts';
import { below, dotted, parent, printable, quote } from './pointer.ts';

const MAX_DEPTH = 64; // mappings and lists in one another
const MAX_OPEN = 200; // collections and their parts that yaml may hold open at once
const MAX_NODES = 200_000; // values, counted again for each alias that repeats them

export interface Place {
  readonly line: number;
  readonly column: number;
}

/** A YAML file as plain values that know where they came from. */
export interface Document {
  /** Mappings have no prototype. */
  readonly value: unknown;
  /** Syntax errors, repeated keys, too many aliases. `value` is usable only when there are none but repeats. */
  readonly issues: readonly ConfigIssue[];
  /** Whether the file itself gives this value. */
  has(pointer: string): boolean;
  /** Where a value begins, or the nearest mapping or list around one that is not in the file. */
  valueAt(pointer: string): Place | undefined;
  /** Where a key is; for items of lists, where the item begins. */
  keyAt(pointer: string): Place | undefined;
}

interface Offsets {
  readonly key: number;
  readonly value: number;
}

const TOO_DEEP = `more than ${MAX_DEPTH} levels deep`;
const MAX_LISTED = 100; // issues of one sort

const CURES: Readonly<Record<string, string>> = {
  TAB_AS_INDENT: 'a tab indents this line: use spaces',
  TAG_RESOLVE_FAILED: 'this tag (!...) is not known: remove it',
};

/** yaml's message less what it quotes of the file behind a colon, which may be a secret. */
const withoutSource = (message: string): string => printable(message.replace(/(?<=\S): .*$/s, ''));

type Pairs = ReadonlyArray<{ readonly key: Node; readonly value: Node | null }>;

/** Turns YAML nodes into values, noting each one's offset. Stops at the first breach of a bound. */
class Walker {
  readonly offsets = new Map<string, Offsets>();
  readonly repeats: Array<{ pointer: string; offset: number; first: number }> = [];
  readonly oddKeys: number[] = [];
  breach: { code: ConfigErrorCode; offset: number; message: string } | undefined;
  readonly #anchors = new Map<string, Node>();
  /** Aliases around the current node; what they repeat has set its anchors already. */
  #aliases = 0;
  #nodes = 0;

  walk(node: Node | null, pointer: string, depth: number, key: number): unknown {
    const offset = node?.range?.[0] ?? key;
    this.offsets.set(pointer, { key, value: offset });
    if (++this.#nodes > MAX_NODES) {
      this.#stop('alias-limit', offset, `more than ${MAX_NODES} values, counting those that aliases repeat`);
    }
    if (depth > MAX_DEPTH) {
      this.#stop('too-deep', offset, `more than ${MAX_DEPTH} levels deep, or an alias inside its own anchor`);
    }
    if (this.breach !== undefined || node === null) return null;
    if (isAlias(node)) return this.#walkAlias(node, pointer, depth, key);
    this.#note(node);
    if (isMap(node)) return this.#walkMap(node.items as unknown as Pairs, pointer, depth);
    if (isSeq(node)) {
      return node.items.map((item, index) => {
        const at = (item as Node | null)?.range?.[0] ?? offset;
        return this.walk(item as Node | null, below(pointer, index), depth + 1, at);
      });
    }
    return isScalar(node) ? node.value : null;
  }

  #walkAlias(alias: Alias, pointer: string, depth: number, key: number): unknown {
    const named = this.#anchors.get(alias.source);
    if (named === undefined) {
      const offset = alias.range?.[0] ?? key;
      this.#stop('yaml-syntax', offset, `no anchor before this alias is called ${quote(alias.source)}`);
      return null;
    }
    this.#aliases++;
    const value = this.walk(named, pointer, depth + 1, key);
    this.#aliases--;
    return value;
  }

  #note(node: Node): void {
    if (this.#aliases > 0 || !('anchor' in node) || typeof node.anchor !== 'string') return;
    this.#anchors.set(node.anchor, node);
  }

  #walkMap(items: Pairs, pointer: string, depth: number): unknown {
    const result: Record<string, unknown> = Object.create(null);
    for (const { key, value } of items) {
      if (this.breach !== undefined) break;
      const at = key?.range?.[0] ?? 0;
      if (!isScalar(key) || typeof key.value !== 'string') {
        this.oddKeys.push(at);
        continue;
      }
      this.#note(key);
      const path = below(pointer, key.value);
      const earlier = Object.hasOwn(result, key.value) ? this.offsets.get(path) : undefined;
      if (earlier !== undefined) {
        this.repeats.push({ pointer: path, offset: at, first: earlier.key });
        continue;
      }
      result[key.value] = this.walk(value, path, depth + 1, at);
    }
    return result;
  }

  #stop(code: ConfigErrorCode, offset: number, message: string): void {
    this.breach ??= { code, offset, message };
  }
}

/**
 * The syntax tokens of a text. Stops as soon as too many collections are open, because yaml composes nodes by
 * recursion, and a file of a million brackets would end the process.
 */
function tokensOf(text: string, lines: LineCounter): { tokens: CST.Token[]; tooDeepAt?: number } {
  lines.addNewLine(0);
  const parser = new Parser(lines.addNewLine);
  const tokens: CST.Token[] = [];
  let offset = 0;
  for (const lexeme of new Lexer().lex(text)) {
    tokens.push(...parser.next(lexeme));
    offset += lexeme.length;
    if (parser.stack.length > MAX_OPEN) return { tokens, tooDeepAt: offset };
  }
  tokens.push(...parser.end());
  return { tokens };
}

/** Parses YAML 1.2 (core schema), with or without a byte order mark. Never throws: what is wrong is in `issues`. */
export function readDocument(text: string): Document {
  const lines = new LineCounter();
  const place = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  };
  const issues: ConfigIssue[] = [];
  const report = (code: ConfigErrorCode, offset: number, message: string, key?: string) =>
    issues.push({ code, ...(key === undefined ? {} : { key }), ...place(offset), message });
  const body = text.replace(/^\ufeff/, '');
  const { tokens, tooDeepAt } = tokensOf(body, lines);
  let document: YamlDocument.Parsed | undefined;
  if (tooDeepAt !== undefined) report('too-deep', tooDeepAt, TOO_DEEP);
  else {
    const composer = new Composer({
      version: '1.2',
      schema: 'core',
      strict: true,
      uniqueKeys: false, // quadratic in yaml; the walker does it
      prettyErrors: false, // would quote lines of the file, and so its secrets
      logLevel: 'error',
    });
    for (const next of composer.compose(tokens, true, body.length)) {
      if (document !== undefined)
        report('yaml-syntax', next.range[0], 'the file holds several YAML documents: keep one');
      document ??= next;
    }
    const found = document === undefined ? [] : [...document.errors, ...document.warnings];
    for (const { code, pos, message } of found.slice(0, MAX_LISTED)) {
      report('yaml-syntax', pos[0], CURES[code] ?? withoutSource(message));
    }
  }
  const walker = new Walker();
  const value = issues.length === 0 ? walker.walk(document?.contents ?? null, '', 0, 0) : null;
  if (walker.breach !== undefined) {
    issues.length = 0;
    report(walker.breach.code, walker.breach.offset, walker.breach.message);
  }
  for (const offset of walker.oddKeys.slice(0, MAX_LISTED)) {
    report('wrong-type', offset, 'this key is not text: put it into quotes');
  }
  for (const { pointer, offset, first } of walker.repeats.slice(0, MAX_LISTED)) {
    const { line } = place(first);
    report(
      'duplicate-key',
      offset,
      `${dotted(pointer)} is already given at line ${line}: keep one`,
      dotted(pointer),
    );
  }
  const find = (pointer: string, part: keyof Offsets): Place | undefined => {
    for (let at = pointer; ; at = parent(at)) {
      const offsets = walker.offsets.get(at);
      if (offsets !== undefined) return place(at === pointer ? offsets[part] : offsets.key);
      if (at === '') return undefined;
    }
  };
  return {
    value,
    issues,
    has: (pointer) => walker.offsets.has(pointer),
    valueAt: (pointer) => find(pointer, 'value'),
    keyAt: (pointer) => find(pointer, 'key'),
  };
}

/** What a value is, for messages; text is quoted only on request, because it may be a secret in a wrong place. */
export function describeValue(value: unknown, showText: boolean): string {
  if (value === null || value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a mapping';
  if (typeof value === 'string') return showText ? quote(value) : 'text';
  return `the ${typeof value === 'boolean' ? 'truth value' : 'number'} ${String(value)}`;
}
