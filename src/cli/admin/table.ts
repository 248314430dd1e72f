import { printable } from '../../config/pointer.ts';

export interface Fitting {
  /** Columns of the terminal; undefined where lines may be as long as they are. */
  readonly columns: number | undefined;
  /** The column, from 0, whose long cells lose their beginnings where a line would not fit. */
  readonly elastic: number;
}

/** An elastic column becomes no narrower. */
const NARROWEST = 16;

/** Rows in columns, the first row the heads; nothing in them that a terminal would obey. */
export function table(rows: ReadonlyArray<readonly string[]>, fitting?: Fitting): string {
  const shown = rows.map((row) => row.map((cell) => printable(cell === '' ? '-' : cell)));
  const widths: number[] = [];
  for (const row of shown) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  }
  if (fitting !== undefined) squeeze(widths, fitting);
  return shown
    .map((row) =>
      row
        .map((cell, i) => fitted(cell, widths[i] as number))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function squeeze(widths: number[], { columns, elastic }: Fitting): void {
  const width = widths[elastic];
  if (columns === undefined || width === undefined) return;
  const line = widths.reduce((sum, each) => sum + each + 2, -2);
  if (line > columns) widths[elastic] = Math.min(width, Math.max(NARROWEST, width - (line - columns)));
}

/** What tells peers of one trust domain apart stands at the end of their names. */
function fitted(cell: string, width: number): string {
  return cell.length > width ? `…${cell.slice(cell.length - width + 1)}` : cell.padEnd(width);
}
