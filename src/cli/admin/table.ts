import { printable } from '../../config/pointer.ts';

/** Rows in columns, the first row the heads; nothing in them that a terminal would obey. */
export function table(rows: ReadonlyArray<readonly string[]>): string {
  const shown = rows.map((row) => row.map((cell) => printable(cell === '' ? '-' : cell)));
  const widths: number[] = [];
  for (const row of shown) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  }
  return shown
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] as number))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
