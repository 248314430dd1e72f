// The code blocks of a Markdown page, and what its fences say is to be done with each. docs/testing.md has the words.

/** Words that a fence may have behind its language. */
const WORDS = new Set([
  'file',
  'run',
  'check',
  'prelude',
  'part',
  'terminal',
  'exit',
  'not-run',
  'controller',
  'kubernetes',
  'values',
]);

export interface Block {
  /** Of the fence, counted from 1. */
  readonly line: number;
  /** `ts`, `sh`, `console`, ...; `` where the fence names none, `indented` for a block without a fence. */
  readonly language: string;
  /** Word to value; a word without `=` has the value ''. */
  readonly words: ReadonlyMap<string, string>;
  readonly text: string;
  /** In a comment: readers do not see it. */
  readonly hidden: boolean;
}

const FENCE = /^( *)(`{3,}|~{3,}) *(.*)$/;
const HIDDEN = /^<!-- docs: (.+)$/;
const LIST_ITEM = /^ *([-*+]|\d+[.)]) /;

/** Every block of a page in order. Throws where a fence does not end or has a word that nobody knows. */
export function blocksOf(page: string): Block[] {
  const lines = page.split('\n');
  const blocks: Block[] = [];
  let inList = false;
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at] as string;
    const fence = FENCE.exec(line);
    const hidden = HIDDEN.exec(line);
    if (fence !== null) {
      const [, margin, ticks, info] = fence as unknown as [string, string, string, string];
      const end = endOf(lines, at, (other) => other.trim() === ticks);
      const text = lines.slice(at + 1, end).map((inside) => withoutMargin(inside, margin.length));
      blocks.push(blockOf(at + 1, info, text, false));
      at = end;
    } else if (hidden !== null) {
      const end = endOf(lines, at, (other) => other.trim() === '-->');
      blocks.push(blockOf(at + 1, hidden[1] as string, lines.slice(at + 1, end), true));
      at = end;
    } else if (line.startsWith('<!--')) {
      at = endOf(lines, at - 1, (other) => other.includes('-->'));
    } else if (LIST_ITEM.test(line)) {
      inList = true;
    } else if (/^ {4,}\S/.test(line) && !inList && (lines[at - 1] ?? '').trim() === '') {
      const end = lines.findIndex((other, index) => index > at && /^ {0,3}\S/.test(other));
      blocks.push(blockOf(at + 1, 'indented', lines.slice(at, end === -1 ? undefined : end), false));
      at = (end === -1 ? lines.length : end) - 1;
    } else if (/^\S/.test(line)) {
      inList = false;
    }
  }
  return blocks;
}

function endOf(lines: readonly string[], from: number, ends: (line: string) => boolean): number {
  const end = lines.findIndex((line, index) => index > from && ends(line));
  if (end === -1) throw new Error(`line ${from + 1}: what begins here does not end`);
  return end;
}

const withoutMargin = (line: string, margin: number): string =>
  line.slice(Math.min(margin, line.length - line.trimStart().length));

function blockOf(line: number, info: string, text: readonly string[], hidden: boolean): Block {
  const [language = '', ...rest] = info.match(/[^\s"]+(?:"[^"]*")?/g) ?? [];
  const words = new Map<string, string>();
  for (const word of rest) {
    const [name = '', value = ''] = word.split(/=(.*)/s);
    if (!WORDS.has(name)) throw new Error(`line ${line}: no word \`${name}\` is known`);
    words.set(name, value.replace(/^"(.*)"$/s, '$1'));
  }
  return { line, language, words, text: `${text.join('\n')}\n`, hidden };
}

/** What becomes of a block; `undefined` is a block that nobody would notice to be wrong. */
export type Treatment = 'run' | 'type-check' | 'configuration' | 'json' | 'mermaid' | 'file' | 'not-run';

export function treatmentOf({ language, words }: Block): Treatment | undefined {
  if (words.has('not-run')) return words.get('not-run') === '' ? undefined : 'not-run';
  switch (language) {
    case 'console':
      return 'run';
    case 'sh':
      return words.has('run') ? 'run' : undefined;
    case 'ts':
      return ['file', 'check', 'prelude'].some((word) => words.has(word)) ? 'type-check' : undefined;
    case 'yaml':
      return 'configuration';
    case 'json':
    case 'mermaid':
      return language;
    default:
      // Programs without types, and data: the page's commands use them.
      return words.has('file') ? 'file' : undefined;
  }
}
