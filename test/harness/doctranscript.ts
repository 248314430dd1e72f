// What a `console` block shows: commands, and what they print.

/** A command with the output that is shown for it. */
export interface Shown {
  /** `undefined` where a block shows more of what a terminal's command prints, `^C` where that is ended. */
  readonly command: string | undefined;
  readonly output: readonly string[];
}

/** The commands of a `sh` block: one a line, or more lines where one ends in `\`. Comments are left out. */
export function commandsOf(text: string): string[] {
  return text
    .replace(/\\\n/g, '\\\0')
    .split('\n')
    .map((line) => line.replaceAll('\\\0', '\\\n'))
    .filter((line) => line.trim() !== '' && !line.startsWith('#'));
}

/** A `console` block: `$ ` begins a command, `> ` goes on with it, `^C` ends the terminal's; the rest is output. */
export function transcriptOf(text: string): Shown[] {
  const shown: Array<{ command: string | undefined; output: string[] }> = [];
  for (const line of text.trimEnd().split('\n')) {
    const last = shown.at(-1);
    if (line.startsWith('$ ')) shown.push({ command: line.slice(2), output: [] });
    else if (line === '^C') shown.push({ command: line, output: [] });
    else if (line.startsWith('> ') && last?.command !== undefined && last.output.length === 0)
      last.command += `\n${line.slice(2)}`;
    else if (last === undefined) shown.push({ command: undefined, output: [line] });
    else last.output.push(line);
  }
  return shown;
}

/**
 * Finds shown output at the beginning of what was printed; in it `…` is anything of one line, and a line of its own any
 * lines. Returns how many characters it takes, or -1. With `whole` it must be all that was printed.
 */
export function matchOutput(shown: readonly string[], printed: string, whole: boolean): number {
  const lines = shown.map((line) =>
    line === '…' ? '(?:.*\\n)*?' : `${line.split('…').map(escaped).join('.*').trimEnd()}[ \\t]*\\n`,
  );
  const found = new RegExp(`^${lines.join('')}${whole ? '$' : ''}`).exec(printed);
  return found === null ? -1 : found[0].length;
}

const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
