import { parentPort, workerData } from 'node:worker_threads';
import { readCorpus, writeCorpus } from './corpus.ts';
import { Coverage } from './coverage.ts';
import { Engine } from './engine.ts';
import { loadTarget, type TargetName } from './targets.ts';

/** What scripts/fuzz.mjs asks of a thread. */
interface Order {
  readonly target: TargetName;
  readonly seed: number;
  readonly ms: number;
  /** Ends after so many runs, for a repeatable whole; 0: none. */
  readonly runs: number;
  readonly save: boolean;
  readonly replay: Uint8Array | undefined;
  /** Runs so far i32, length of the input i32, the input. */
  readonly watch: SharedArrayBuffer;
}

const order = workerData as Order;
const counts = new Int32Array(order.watch, 0, 2);
const current = new Uint8Array(order.watch, 8);
const post = (message: unknown): void => parentPort?.postMessage(message);

const target = await loadTarget(order.target);
if (order.replay !== undefined) {
  await target.run(Buffer.from(order.replay));
  post({ type: 'held' });
} else {
  await fuzz();
}

async function fuzz(): Promise<void> {
  const coverage = new Coverage();
  const engine = new Engine(target, coverage, order.seed, {
    running(input) {
      current.set(input.subarray(0, current.length));
      counts[1] = Math.min(input.length, current.length);
      counts[0] = (counts[0] as number) + 1;
    },
    found: ({ input, error }) => post({ type: 'finding', input, error: error.stack }),
  });
  await engine.begin([...target.seeds, ...readCorpus(order.target)]);
  const stats = () => ({
    executions: engine.executions,
    blocks: coverage.blocks,
    corpus: engine.corpus.length,
    findings: engine.findings,
  });
  post({ type: 'stats', ...stats() });
  const began = performance.now();
  let told = began;
  await engine.go(() => {
    if (order.runs > 0 && engine.executions >= order.runs) return true;
    const now = performance.now();
    if (now - told > 5000) {
      told = now;
      post({ type: 'stats', ...stats() });
    }
    return now - began > order.ms;
  });
  const seconds = (performance.now() - began) / 1000;
  const kept = await engine.minimal();
  if (order.save) writeCorpus(order.target, kept);
  const octets = kept.reduce((sum, input) => sum + input.length, 0);
  post({ type: 'done', ...stats(), seconds, kept: kept.length, octets, files: coverage.byFile() });
}
