import { ratioOf } from './ratio.ts';
import type { Figures, Row } from './result.ts';

interface Column {
  readonly title: string;
  cell(row: Row, hauberk: Row | undefined): string;
}

/** Hauberk's value divided by the pair's: below 1, Hauberk has less of it. */
const ratio = (figure: keyof Figures): Column => ({
  title: '(ratio)',
  cell: (row, hauberk) => {
    const value = hauberk && ratioOf(hauberk, row, figure);
    return value === undefined ? '' : `(${value.toFixed(2)})`;
  },
});

const COLUMNS: readonly Column[] = [
  { title: 'pair', cell: (row) => row.pair },
  { title: 'CPU us/call', cell: (row) => (row.cpuUsPerCall === 0 ? '-' : row.cpuUsPerCall.toFixed(1)) },
  ratio('cpuUsPerCall'),
  { title: 'calls/s', cell: (row) => row.callsPerSecond.toLocaleString('en') },
  ratio('callsPerSecond'),
  { title: 'p50 us', cell: (row) => String(row.p50Us) },
  ratio('p50Us'),
  { title: 'p99 us', cell: (row) => String(row.p99Us) },
  ratio('p99Us'),
  { title: 'RSS MiB', cell: (row) => (row.rssMiB === 0 ? '-' : row.rssMiB.toFixed(0)) },
  { title: 'calls', cell: (row) => row.calls.toLocaleString('en') },
  { title: 'failed', cell: (row) => row.failed.toLocaleString('en') },
];

/** One block of aligned lines for each load. Ratios are Hauberk's value divided by the pair's. */
export function renderTable(rows: readonly Row[]): string {
  const loads = [...new Set(rows.map((row) => row.load))];
  return loads
    .map((load) =>
      renderLoad(
        load,
        rows.filter((row) => row.load === load),
      ),
    )
    .join('\n\n');
}

function renderLoad(load: string, rows: readonly Row[]): string {
  const hauberk = rows.find((row) => row.pair === 'hauberk');
  const lines = [
    COLUMNS.map(({ title }) => title),
    ...rows.map((row) => COLUMNS.map(({ cell }) => cell(row, hauberk))),
  ];
  const widths = COLUMNS.map((_, at) => Math.max(...lines.map((line) => line[at].length)));
  const aligned = lines.map((line) =>
    line.map((cell, at) => (at === 0 ? cell.padEnd(widths[at]) : cell.padStart(widths[at]))).join('  '),
  );
  return [load, ...aligned.map((line) => `  ${line}`.trimEnd())].join('\n');
}
