import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { BenchError } from './errors.ts';
import { processTree, startTime } from './procfs.ts';

const READY_MS = 10_000;
const STOP_MS = 3_000;
const POLL_MS = 20;

interface Started {
  readonly name: string;
  readonly child: ChildProcess;
  readonly log: string;
}

/** A process by pid and start time, so that a pid used again is never signalled. */
interface Identified {
  readonly pid: number;
  readonly started: number | undefined;
}

/** The processes of a run: started here, ended here, by pid. Their output goes to log files in `folder`. */
export class Processes {
  readonly #folder: string;
  readonly #started: Started[] = [];

  constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Starts a program that stays in the foreground and waits until it accepts connections on 127.0.0.1:`port`.
   * Returns its pid. Throws BenchError `process-ended` or `not-ready`, with the end of its log.
   */
  async start(name: string, program: string, args: readonly string[], port: number): Promise<number> {
    const log = join(this.#folder, `${name}.log`);
    const output = openSync(log, 'a', 0o600);
    const child = spawn(program, args, { cwd: this.#folder, stdio: ['ignore', output, output] });
    closeSync(output);
    const started: Started = { name, child, log };
    this.#started.push(started);
    const failed = once(child, 'error').then(([error]) => {
      throw new BenchError('process-ended', `${name}: ${program} did not start: ${error}`, { cause: error });
    });
    await Promise.race([this.#untilListening(started, port), failed]);
    child.once('error', () => {}); // a failed kill must not become an uncaught error
    return child.pid as number;
  }

  async #untilListening(started: Started, port: number): Promise<void> {
    const deadline = performance.now() + READY_MS;
    while (!(await accepts(port))) {
      this.#assertAlive(started);
      if (performance.now() > deadline) {
        throw new BenchError(
          'not-ready',
          `${started.name} does not listen on 127.0.0.1:${port} after ${READY_MS / 1000} s${logTail(started)}`,
        );
      }
      await delay(POLL_MS);
    }
    this.#assertAlive(started);
  }

  #assertAlive(started: Started): void {
    const { exitCode, signalCode } = started.child;
    if (exitCode === null && signalCode === null) return;
    throw new BenchError(
      'process-ended',
      `${started.name} ended with ${signalCode ?? `exit code ${exitCode}`}${logTail(started)}`,
    );
  }

  /** Throws BenchError `process-ended` if a process of this run has ended on its own. */
  assertAllAlive(): void {
    for (const started of this.#started) this.#assertAlive(started);
  }

  /** The end of what the processes called `prefix`... have printed, to be put behind an error message. */
  logTails(prefix: string): string {
    return this.#started
      .filter(({ name }) => name.startsWith(prefix))
      .map(logTail)
      .join('');
  }

  /** SIGTERM to all, then, to what is left of them and their workers after 3 s, SIGKILL. Never throws. */
  async stop(): Promise<void> {
    const tree = this.#tree();
    const ended = this.#started.map(({ child }) =>
      child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined,
    );
    for (const { child } of this.#started) child.kill('SIGTERM');
    await Promise.race([Promise.all(ended), delay(STOP_MS, undefined, { ref: false })]);
    killLeft(tree);
  }

  /** For the last moment of a run, when nothing can be waited for. */
  stopNow(): void {
    killLeft(this.#tree());
  }

  #tree(): Identified[] {
    const roots = this.#started
      .filter(({ child }) => child.exitCode === null && child.signalCode === null)
      .map(({ child }) => child.pid)
      .filter((pid) => pid !== undefined);
    return processTree(roots).map((pid) => ({ pid, started: startTime(pid) }));
  }
}

function killLeft(processes: readonly Identified[]): void {
  for (const { pid, started } of processes) {
    if (started === undefined || startTime(pid) !== started) continue;
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // ended in between
    }
  }
}

function logTail({ name, log }: Started): string {
  const text = readFileSync(log, 'utf8').trim();
  return text === '' ? '' : `\n${name}: ${text.split('\n').slice(-15).join('\n')}`;
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const done = (open: boolean) => {
      socket.destroy();
      resolve(open);
    };
    socket.once('connect', () => done(true)).once('error', () => done(false));
  });
}
