import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startBackend } from './backend.ts';
import { type Certificates, makeCertificates } from './certificates.ts';
import { BenchError } from './errors.ts';
import { framed } from './load.ts';
import { Course } from './measure.ts';
import type { Options } from './options.ts';
import { direct } from './pairs/direct.ts';
import { haproxy } from './pairs/haproxy.ts';
import { hauberk } from './pairs/hauberk.ts';
import { nghttpx } from './pairs/nghttpx.ts';
import { nginx } from './pairs/nginx.ts';
import type { Pair, RunningPair } from './pairs/pair.ts';
import type { Processes } from './proc.ts';
import type { PairName, Result, Row } from './result.ts';
import { describeMachine, findTools, type ToolPaths, toolPath } from './tools.ts';
import { verifyPair } from './verify.ts';

const PAIRS: Readonly<Record<PairName, Pair>> = { hauberk, nghttpx, haproxy, nginx, direct };

/**
 * Starts the back end and all pairs, checks each, then measures: load by load, and within a load round by round
 * over all pairs, so that a disturbance of the machine falls on all of them. `progress` gets a line now and then.
 */
export async function run(
  options: Options,
  folder: string,
  processes: Processes,
  progress: (line: string) => void,
): Promise<Result> {
  const tools = findTools(options.pairs);
  const startedAt = new Date().toISOString();
  const pairs = await startPairs(options, folder, processes, tools, progress);

  const h2load = toolPath(tools, 'h2load');
  const rows: Row[] = [];
  for (const load of options.loads) {
    const requestFile = join(folder, `${load.name}.request`);
    writeFileSync(requestFile, framed(load.requestBytes));
    const courses = pairs.map(
      (pair) =>
        new Course(
          pair,
          { port: pair.port, load, requestFile },
          { seconds: options.seconds, h2load, folder },
        ),
    );
    for (let round = 0; round < options.rounds; round++) {
      progress(`${load.name}: round ${round + 1} of ${options.rounds}`);
      for (const course of rotated(courses, round)) await course.round();
      processes.assertAllAlive();
    }
    rows.push(...courses.map((course) => course.row()));
  }
  return {
    machine: describeMachine(tools),
    startedAt,
    rounds: options.rounds,
    secondsPerMeasurement: options.seconds,
    rows,
  };
}

async function startPairs(
  options: Options,
  folder: string,
  processes: Processes,
  tools: ToolPaths,
  progress: (line: string) => void,
): Promise<RunningPair[]> {
  const backendPort = await startBackend(toolPath(tools, 'nghttpd'), folder, processes);
  let made: Certificates | undefined;
  const certificates = () => {
    made ??= makeCertificates(toolPath(tools, 'openssl'), folder);
    return made;
  };
  const running: RunningPair[] = [];
  for (const name of options.pairs) {
    const own = join(folder, name);
    mkdirSync(own);
    const pair = await PAIRS[name].start({ folder: own, backendPort, processes, tools, certificates });
    await verifyPair(pair, options.loads, certificates).catch((error) => {
      if (!(error instanceof BenchError)) throw error;
      throw new BenchError(error.code, error.message + processes.logTails(name), { cause: error });
    });
    progress(
      `${name}: ${pair.between === undefined ? 'answers' : 'answers, and its inner hop refuses strangers'}`,
    );
    running.push(pair);
  }
  return running;
}

/** Each round begins with another pair, so that none is always first after another. */
const rotated = <T>(all: readonly T[], by: number): T[] => [
  ...all.slice(by % all.length),
  ...all.slice(0, by % all.length),
];
