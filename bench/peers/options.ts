import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { BenchError } from './errors.ts';
import { LOADS, type Load } from './load.ts';
import { PAIR_NAMES, type PairName } from './result.ts';

/** Another build of Hauberk, to be measured beside this checkout's. */
export interface Build {
  readonly name: string;
  /** Its `dist` folder. */
  readonly dist: string;
}

export interface Options {
  readonly pairs: readonly PairName[];
  readonly builds: readonly Build[];
  readonly loads: readonly Load[];
  /** Measure handshakes, which is no load of a pair. */
  readonly handshakes: boolean;
  readonly rounds: number;
  readonly seconds: number;
  /** Where the result goes, as given. */
  readonly json: string | undefined;
  readonly help: boolean;
}

const DEFAULT_ROUNDS = 5;
const DEFAULT_SECONDS = 1;

const HANDSHAKES = 'handshakes';
const LOAD_NAMES = [...LOADS.map((load) => load.name), HANDSHAKES];

export const USAGE = `npm run bench:peers -- [options]
  --pairs LIST         of ${PAIR_NAMES.join(',')} (all)
  --hauberk NAME=DIST  besides, sidecars of another build, by its dist folder; as often as wanted
  --loads LIST         of ${LOAD_NAMES.join(',')} (all)
  --rounds N           measurements of each pair under each load; medians are reported (${DEFAULT_ROUNDS})
  --seconds S          of each measurement (${DEFAULT_SECONDS})
  --json PATH          where the result goes (bench/results/latest.json)`;

const text = { type: 'string' } as const;
const OPTIONS = {
  pairs: text,
  hauberk: { ...text, multiple: true },
  loads: text,
  rounds: text,
  seconds: text,
  json: text,
  help: { type: 'boolean', short: 'h' },
} as const;

/** Throws BenchError `bad-option`. */
export function readOptions(args: readonly string[]): Options {
  const values = parse(args);
  const rounds = Number(values.rounds ?? DEFAULT_ROUNDS);
  if (!Number.isInteger(rounds) || rounds < 1) {
    throw new BenchError('bad-option', `--rounds takes a whole number from 1, not "${values.rounds}"`);
  }
  const seconds = Number(values.seconds ?? DEFAULT_SECONDS);
  if (!(seconds > 0 && seconds <= 60)) {
    throw new BenchError('bad-option', `--seconds takes a number up to 60, not "${values.seconds}"`);
  }
  const pairs = pick('--pairs', values.pairs, PAIR_NAMES);
  const names = pick('--loads', values.loads, LOAD_NAMES);
  const loads = LOADS.filter((load) => names.includes(load.name));
  // What a proxy adds under a paced load is known only beside none.
  const besides = loads.some((load) => load.callsPerSecond !== undefined) && !pairs.includes('direct');
  return {
    pairs: besides ? [...pairs, 'direct'] : pairs,
    builds: (values.hauberk ?? []).map(readBuild),
    loads,
    handshakes: names.includes(HANDSHAKES),
    rounds,
    seconds,
    json: values.json,
    help: values.help ?? false,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS }).values;
  } catch (error) {
    throw new BenchError('bad-option', `${(error as Error).message}\n${USAGE}`, { cause: error });
  }
}

function readBuild(option: string): Build {
  const [, name, dist] = /^([\w.-]+)=(.+)$/.exec(option) ?? [];
  if (name === undefined || (PAIR_NAMES as readonly string[]).includes(name)) {
    throw new BenchError('bad-option', `--hauberk takes NAME=DIST with a name of its own, not "${option}"`);
  }
  return { name, dist: resolve(dist) };
}

/** Those that the list names, in full or by what comes before a dash. */
function pick<T extends string>(option: string, list: string | undefined, all: readonly T[]): readonly T[] {
  if (list === undefined) return all;
  const wanted = list.split(',').map((one) => one.trim());
  const isMeant = (one: T, by: string) => one === by || one.startsWith(`${by}-`);
  const unknown = wanted.find((by) => !all.some((one) => isMeant(one, by)));
  if (unknown !== undefined) {
    throw new BenchError('bad-option', `${option}: "${unknown}" is not one of ${all.join(', ')}`);
  }
  return all.filter((one) => wanted.some((by) => isMeant(one, by)));
}
