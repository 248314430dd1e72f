import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { renderBudgets } from './peers/budget.ts';
import { BenchError } from './peers/errors.ts';
import { readOptions, USAGE } from './peers/options.ts';
import { Processes } from './peers/proc.ts';
import { run } from './peers/run.ts';
import { renderIdle, renderTable } from './peers/table.ts';

// The driver of `npm run bench:peers`; see bench/README.md. It reads on from peers/run.ts.

const LATEST = fileURLToPath(new URL('results/latest.json', import.meta.url));
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2));
  if (options.help) {
    console.log(USAGE);
    return 0;
  }
  const folder = mkdtempSync(join(tmpdir(), 'hauberk-bench-'));
  const processes = new Processes(folder);
  const clear = () => rmSync(folder, { recursive: true, force: true });
  for (const signal of SIGNALS) {
    process.once(signal, () => {
      processes.stop().then(() => {
        clear();
        process.exit(128 + constants.signals[signal]);
      });
    });
  }
  process.once('exit', () => processes.stopNow());

  try {
    const result = await run(options, folder, processes, (line) => console.error(line));
    const path = options.json === undefined ? LATEST : resolve(options.json);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, `${JSON.stringify(result, undefined, 2)}\n`);

    const budgets = renderBudgets(result);
    console.log(
      `\n${renderTable(result.rows)}\n\n(ratio) = hauberk / pair; CPU and RSS of both proxies together`,
    );
    if (result.idle.length > 0) console.log(`\n${renderIdle(result.idle)}`);
    if (budgets !== '') console.log(`\nBudgets\n${budgets}`);
    console.log(`\n${result.minutes.toFixed(1)} minutes. Written to ${path}`);

    const failed = result.rows.filter((row) => row.failed > 0);
    for (const row of failed) console.error(`${row.pair} under ${row.load}: ${row.failed} calls failed`);
    return failed.length === 0 ? 0 : 1;
  } finally {
    await processes.stop();
    clear();
  }
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    console.error(error instanceof BenchError ? `bench: ${error.message}` : error);
    process.exitCode = 1;
  },
);
