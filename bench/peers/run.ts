import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startBackend } from './backend.ts';
import { type Certificates, makeCertificates } from './certificates.ts';
import { BenchError } from './errors.ts';
import { measureHandshakes } from './handshakes.ts';
import { framed, type Load } from './load.ts';
import { Course } from './measure.ts';
import { Meter } from './meter.ts';
import type { Options } from './options.ts';
import { direct } from './pairs/direct.ts';
import { haproxy } from './pairs/haproxy.ts';
import { hauberk } from './pairs/hauberk.ts';
import { nghttpx } from './pairs/nghttpx.ts';
import { nginx } from './pairs/nginx.ts';
import type { Pair, RunningPair } from './pairs/pair.ts';
import type { Processes } from './proc.ts';
import type { Handshakes, Idle, PairName, Result, Row } from './result.ts';
import { describeMachine, findTools, type ToolPaths, toolPath } from './tools.ts';
import { verifyPair } from './verify.ts';

const PAIRS: Readonly<Record<PairName, Pair>> = { hauberk: hauberk(), nghttpx, haproxy, nginx, direct };

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
  const from = performance.now();
  const { pairs, idle } = await startPairs(options, folder, processes, tools, progress);

  const h2load = toolPath(tools, 'h2load');
  const rows: Row[] = [];
  for (const load of options.loads) {
    const requestFile = join(folder, `${load.name}.request`);
    writeFileSync(requestFile, framed(load.request));
    const courses = pairs.map((started) => {
      const pair = (load.observed ? started.observed : started.plain) as RunningPair;
      const pace = { seconds: options.seconds, h2load, folder };
      return new Course(pair, { port: pair.port, load, requestFile }, pace);
    });
    for (let round = 0; round < options.rounds; round++) {
      progress(`${load.name}: round ${round + 1} of ${options.rounds}`);
      for (const course of rotated(courses, round)) await course.round();
      processes.assertAllAlive();
    }
    rows.push(...courses.map((course) => course.row()));
  }
  const handshakes: Handshakes[] = [];
  if (options.handshakes) {
    progress('handshakes');
    const own = join(folder, 'handshakes');
    mkdirSync(own);
    handshakes.push(...(await measureHandshakes(own, processes, options.seconds)));
  }
  return {
    machine: describeMachine(tools),
    startedAt,
    minutes: (performance.now() - from) / 60_000,
    rounds: options.rounds,
    secondsPerMeasurement: options.seconds,
    rows,
    idle,
    handshakes,
  };
}

/** A pair as the loads want it; what no load wants is not started. */
interface Started {
  readonly plain: RunningPair | undefined;
  /** The same as `plain` where the pair cannot be observed. */
  readonly observed: RunningPair | undefined;
}

async function startPairs(
  options: Options,
  folder: string,
  processes: Processes,
  tools: ToolPaths,
  progress: (line: string) => void,
): Promise<{ pairs: Started[]; idle: Idle[] }> {
  const backendPort = await startBackend(toolPath(tools, 'nghttpd'), folder, processes);
  let made: Certificates | undefined;
  const certificates = () => {
    made ??= makeCertificates(toolPath(tools, 'openssl'), folder);
    return made;
  };

  const idle: Idle[] = [];
  const start = async (pair: Pair, observed: boolean, loads: readonly Load[]) => {
    if (loads.length === 0) return undefined;
    const own = join(folder, observed ? `${pair.name}-observed` : pair.name);
    mkdirSync(own);
    const running = await pair.start({ folder: own, backendPort, observed, processes, tools, certificates });
    const name = observed ? `${pair.name}, observed` : pair.name;
    const { rssMiBA, rssMiBB } = new Meter(running.pids).used;
    if (running.pids.length > 0) idle.push({ pair: name, rssMiBA, rssMiBB });
    await verifyPair(running, loads, certificates).catch((error) => {
      if (!(error instanceof BenchError)) throw error;
      throw new BenchError(error.code, error.message + processes.logTails(pair.name), { cause: error });
    });
    const inner = running.between === undefined ? '' : ', and its inner hop refuses strangers';
    progress(`${name}: answers${inner}`);
    return running;
  };

  const pairs: Started[] = [];
  const others = options.builds.map(({ name, dist }) => hauberk(name, dist));
  for (const pair of [...options.pairs.map((name) => PAIRS[name]), ...others]) {
    if (pair.observable) {
      const of = (observed: boolean) => options.loads.filter((load) => load.observed === observed);
      pairs.push({
        plain: await start(pair, false, of(false)),
        observed: await start(pair, true, of(true)),
      });
    } else {
      const plain = await start(pair, false, options.loads);
      pairs.push({ plain, observed: plain });
    }
  }
  return { pairs, idle };
}

/** Each round begins with another pair, so that none is always first after another. */
const rotated = <T>(all: readonly T[], by: number): T[] => [
  ...all.slice(by % all.length),
  ...all.slice(0, by % all.length),
];
