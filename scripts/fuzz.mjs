// `npm run fuzz -- --minutes N`: mutates the corpus of test/fuzz, guided by what of src/ it reaches, and holds every
// input against its target's claims. See docs/testing.md.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FINDINGS = new URL('../test/fuzz/findings/', import.meta.url);
const TARGETS = [
  'hpack',
  'frames',
  'server',
  'client',
  'relay',
  'nghttp2',
  'records',
  'record-plaintext',
  'handshake',
  'hello',
  'identity-payload',
  'certificate',
  'text',
  'config',
];
/** One input may take so long: what takes longer hangs. */
const HANG_MS = 30_000;
const LONGEST = 1 << 20;

const USAGE = `npm run fuzz -- [--minutes N] [--targets a,b] [--jobs N] [--seed N] [--runs N] [--no-save] [--files]
npm run fuzz -- --replay test/fuzz/findings/FILE

  --minutes N   how long in all, shared by the targets (1)
  --targets     which: ${TARGETS.join(', ')}
  --jobs N      targets at the same time (1)
  --seed N      the same seed makes the same inputs (1)
  --runs N      end each target after so many inputs, to repeat a whole run
  --no-save     leave test/fuzz/corpus as it is
  --files       which files were reached, and how far
  --replay      run one input that was found`;

function options() {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '1' },
      targets: { type: 'string', default: TARGETS.join(',') },
      jobs: { type: 'string', default: '1' },
      seed: { type: 'string', default: '1' },
      runs: { type: 'string', default: '0' },
      'no-save': { type: 'boolean', default: false },
      files: { type: 'boolean', default: false },
      replay: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  for (const name of ['minutes', 'jobs', 'seed', 'runs']) {
    values[name] = Number(values[name]);
    if (!Number.isFinite(values[name]) || values[name] < 0) throw new Error(`--${name} is not a number`);
  }
  values.targets = values.targets.split(',');
  const unknown = values.targets.filter((target) => !TARGETS.includes(target));
  if (unknown.length > 0) throw new Error(`no such target: ${unknown.join(', ')}\n\n${USAGE}`);
  return values;
}

function start(order) {
  const watch = new SharedArrayBuffer(8 + LONGEST);
  const worker = new Worker(new URL('./fuzz-worker.mjs', import.meta.url), {
    workerData: { seed: 1, ms: 0, runs: 0, save: false, replay: undefined, ...order, watch },
  });
  return { worker, watch };
}

/** Writes an input that breaks a claim, and what it does; returns the command that runs it again. */
function keep(target, input, error) {
  mkdirSync(FINDINGS, { recursive: true });
  const name = `${target}-${createHash('sha256').update(input).digest('hex').slice(0, 12)}`;
  const file = relative(ROOT, fileURLToPath(new URL(`${name}.bin`, FINDINGS)));
  const command = `npm run fuzz -- --replay ${file}`;
  writeFileSync(new URL(`${name}.bin`, FINDINGS), input);
  writeFileSync(new URL(`${name}.txt`, FINDINGS), `${command}\n\n${error}\n`);
  return command;
}

/** Fuzzes one target; resolves with its last message, and with what was found. */
function fuzz(target, { minutes, targets, jobs, seed, runs, 'no-save': noSave }) {
  const ms =
    runs > 0 ? Number.MAX_SAFE_INTEGER : (minutes * 60_000 * Math.min(jobs, targets.length)) / targets.length;
  const { worker, watch } = start({ target, seed, ms, runs, save: !noSave });
  const counts = new Int32Array(watch, 0, 2);
  const input = () => Buffer.from(new Uint8Array(watch, 8, counts[1]));
  const found = [];
  const note = (bytes, error) => {
    const command = keep(target, bytes, error);
    found.push(command);
    console.log(`\n${target}: FOUND ${error.split('\n').slice(0, 4).join('\n  ')}\n  ${command}\n`);
  };
  return new Promise((resolve) => {
    let last;
    let runsThen = -1;
    const watchdog = setInterval(() => {
      if (counts[0] !== runsThen) {
        runsThen = counts[0];
        return;
      }
      if (runsThen === 0) return;
      note(input(), `no end after ${HANG_MS} ms`);
      worker.terminate();
    }, HANG_MS);
    worker.on('message', (message) => {
      if (message.type === 'finding') note(Buffer.from(message.input), message.error);
      else {
        last = message;
        const { executions, blocks, corpus } = message;
        console.log(`${target}: ${executions} runs, ${blocks} blocks, corpus of ${corpus}`);
      }
    });
    worker.on('error', (error) => note(input(), `the thread died: ${error?.stack ?? error}`));
    worker.on('exit', () => {
      clearInterval(watchdog);
      resolve({ target, found, ...last });
    });
  });
}

function replay(file) {
  const target = basename(file).replace(/-[0-9a-f]{12}\.bin$/, '');
  const { worker } = start({ target, replay: readFileSync(file) });
  worker.on('message', () => console.log(`${target}: every claim holds`));
  worker.on('error', (error) => {
    console.error(error);
    process.exitCode = 1;
  });
}

async function main() {
  const given = options();
  if (given.help) {
    console.log(USAGE);
    return;
  }
  if (given.replay !== undefined) {
    replay(given.replay);
    return;
  }
  const queue = [...given.targets];
  const results = [];
  const next = async () => {
    for (let target = queue.shift(); target !== undefined; target = queue.shift()) {
      results.push(await fuzz(target, given));
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, given.jobs) }, next));
  console.log('\ntarget             runs      a second  blocks  corpus  octets  findings');
  for (const { target, executions, seconds, blocks, kept, octets, found, files } of results) {
    const rate = seconds > 0 ? Math.round(executions / seconds) : 0;
    console.log(
      [
        target.padEnd(16),
        ...[executions, rate].map((n) => String(n).padStart(10)),
        ...[blocks, kept, octets].map((n) => String(n).padStart(7)),
        String(found.length).padStart(8),
      ].join(' '),
    );
    if (given.files)
      for (const { file, reached, blocks: all } of files ?? []) console.log(`    ${file} ${reached}/${all}`);
  }
  if (results.some(({ found, kept }) => found.length > 0 || kept === undefined)) process.exitCode = 1;
}

try {
  await main();
} catch (error) {
  console.error(`fuzz: ${error.message}`);
  process.exitCode = 2;
}
