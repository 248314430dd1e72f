import { isStream, LOADS, type Load } from './load.ts';
import { addedUs, ratioOf } from './ratio.ts';
import type { Figures, Idle, Row } from './result.ts';

interface Column {
  readonly title: string;
  cell(row: Row, hauberk: Row | undefined, direct: Row | undefined): string;
}

/** Hauberk's value divided by the pair's: below 1, Hauberk has less of it. */
const ratio = (figure: keyof Figures): Column => ({
  title: '(ratio)',
  cell: (row, hauberk) => {
    const value = hauberk && ratioOf(hauberk, row, figure);
    return value === undefined ? '' : `(${value.toFixed(2)})`;
  },
});

const number = (title: string, figure: keyof Figures, digits: number): Column => ({
  title,
  cell: (row) => {
    const value = row[figure];
    if (value === 0) return '-';
    return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
  },
});

const PAIR: Column = { title: 'pair', cell: (row) => row.pair };
const CALLS: Column = { title: 'calls', cell: (row) => row.calls.toLocaleString('en') };
const FAILED: Column = { title: 'failed', cell: (row) => row.failed.toLocaleString('en') };
const COUNTS: readonly Column[] = [number('RSS MiB', 'rssMiB', 0), CALLS, FAILED];

const OF_CALLS: readonly Column[] = [
  PAIR,
  ...[number('CPU us/call', 'cpuUsPerCall', 1), ratio('cpuUsPerCall')],
  ...[number('calls/s', 'callsPerSecond', 0), ratio('callsPerSecond')],
  ...[number('p50 us', 'p50Us', 0), ratio('p50Us')],
  ...[number('p99 us', 'p99Us', 0), ratio('p99Us')],
  ...COUNTS,
];

const OF_STREAMS: readonly Column[] = [
  PAIR,
  ...[number('CPU us/MiB', 'cpuUsPerMib', 0), ratio('cpuUsPerMib')],
  ...[number('MiB/s', 'mibPerSecond', 0), ratio('mibPerSecond')],
  ...COUNTS,
];

const added = (title: string, figure: 'p50Us' | 'p99Us'): Column => ({
  title,
  cell: (row, _, direct) => {
    if (direct === undefined || row === direct) return '';
    return addedUs(row, direct, figure).toFixed(0);
  },
});

const OF_PACED: readonly Column[] = [
  PAIR,
  ...[number('cores', 'cores', 3), ratio('cores')],
  ...[number('of A', 'coresA', 3), number('of B', 'coresB', 3)],
  ...[number('p50 us', 'p50Us', 0), added('added', 'p50Us')],
  ...[number('p99 us', 'p99Us', 0), added('added', 'p99Us')],
  ...[number('RSS MiB of A', 'rssMiBA', 0), number('of B', 'rssMiBB', 0)],
  ...[number('calls/s', 'callsPerSecond', 0), CALLS, FAILED],
];

function columnsOf(load: Load): readonly Column[] {
  if (load.callsPerSecond !== undefined) return OF_PACED;
  return isStream(load) ? OF_STREAMS : OF_CALLS;
}

const PUBLISHED = 'published, a sidecar at 1,000 calls/s: Istio 0.20 cores, 60 MB; Dapr 0.48 cores, 23 MB';

/** Memory before the first call, a line for all pairs. */
export function renderIdle(idle: readonly Idle[]): string {
  const ofPair = ({ pair, rssMiBA, rssMiBB }: Idle) =>
    `${pair} ${rssMiBA.toFixed(0)} + ${rssMiBB.toFixed(0)}`;
  return `Idle, RSS MiB of A + B: ${idle.map(ofPair).join('; ')}`;
}

/** One block of aligned lines for each load. Ratios are Hauberk's value divided by the pair's. */
export function renderTable(rows: readonly Row[]): string {
  return LOADS.map((load) => ({ load, rows: rows.filter((row) => row.load === load.name) }))
    .filter(({ rows }) => rows.length > 0)
    .map(({ load, rows }) => renderLoad(load, rows))
    .join('\n\n');
}

function renderLoad(load: Load, rows: readonly Row[]): string {
  const hauberk = rows.find((row) => row.pair === 'hauberk');
  const direct = rows.find((row) => row.pair === 'direct');
  const columns = columnsOf(load);
  const lines = [
    columns.map(({ title }) => title),
    ...rows.map((row) => columns.map(({ cell }) => cell(row, hauberk, direct))),
  ];
  const widths = columns.map((_, at) => Math.max(...lines.map((line) => line[at].length)));
  const aligned = lines.map((line) =>
    line.map((cell, at) => (at === 0 ? cell.padEnd(widths[at]) : cell.padStart(widths[at]))).join('  '),
  );
  const below = load.callsPerSecond === undefined ? [] : [PUBLISHED];
  return [load.name, ...[...aligned, ...below].map((line) => `  ${line}`.trimEnd())].join('\n');
}
