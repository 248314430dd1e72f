import { ratioOf } from './ratio.ts';
import type { PairName, Row } from './result.ts';

/** A figure of Hauberk's may be at most, or must be at least, so many times the peer's under the same load. */
interface Budget {
  readonly load: string;
  readonly figure: 'cpuUsPerCall' | 'p50Us' | 'mibPerSecond';
  readonly peer: PairName;
  readonly most?: number;
  readonly least?: number;
}

const BUDGETS: readonly Budget[] = [
  { load: '100B-4x32', figure: 'cpuUsPerCall', peer: 'nghttpx', most: 0.6 },
  { load: '100B-4x32', figure: 'cpuUsPerCall', peer: 'haproxy', most: 0.3 },
  { load: '100B-4x32', figure: 'cpuUsPerCall', peer: 'nginx', most: 0.15 },
  { load: 'unique-4x32', figure: 'cpuUsPerCall', peer: 'nghttpx', most: 0.9 },
  { load: '100B-1x1', figure: 'p50Us', peer: 'nghttpx', most: 1.1 },
  { load: '10KiB-4x16', figure: 'cpuUsPerCall', peer: 'nghttpx', most: 1.0 },
  { load: '1MiB-stream-up', figure: 'mibPerSecond', peer: 'nghttpx', least: 1.0 },
  { load: '1MiB-stream-down', figure: 'mibPerSecond', peer: 'nghttpx', least: 1.0 },
];

const FIGURE_NAMES = {
  cpuUsPerCall: 'CPU per call',
  p50Us: 'median latency',
  mibPerSecond: 'throughput',
} as const;

/** A line for each budget of which both sides were measured. Missing one does not fail the run. */
export function renderBudgets(rows: readonly Row[]): string {
  const find = (pair: PairName, load: string) => rows.find((row) => row.pair === pair && row.load === load);
  return BUDGETS.flatMap(({ load, figure, peer, most, least }) => {
    const own = find('hauberk', load);
    const other = find(peer, load);
    if (own === undefined || other === undefined) return [];
    const ratio = ratioOf(own, other, figure);
    if (ratio === undefined) return [];
    const verdict = ratio <= (most ?? ratio) && ratio >= (least ?? ratio) ? 'met' : 'MISSED';
    const bound = most === undefined ? `at least ${least?.toFixed(2)}` : `at most ${most.toFixed(2)}`;
    const name = `${load} ${FIGURE_NAMES[figure]}`;
    return [`  ${name.padEnd(29)} ${ratio.toFixed(2)} x ${peer}, budget ${bound}: ${verdict}`];
  }).join('\n');
}
