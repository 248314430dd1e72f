import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

// Fields of /proc/PID/stat after the closing parenthesis of the name (proc(5) counts from 1, with pid and comm).
const PPID = 4 - 3;
const UTIME = 14 - 3; // ticks
const STIME = 15 - 3; // ticks
const CUTIME = 16 - 3; // ticks, children that have ended and were waited for
const CSTIME = 17 - 3; // ticks, likewise
const STARTTIME = 22 - 3; // ticks since boot: with the pid, it names a process for good

const TICKS_PER_SECOND = ticksPerSecond();

function ticksPerSecond(): number {
  try {
    return Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
  } catch {
    return 100; // what Linux reports on every architecture that Node runs on
  }
}

/** Undefined where the process has ended. */
function read(pid: number, file: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return undefined;
  }
}

function statFields(pid: number): number[] | undefined {
  const stat = read(pid, 'stat');
  // The name may itself hold spaces and parentheses.
  return stat
    ?.slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
}

/** Changes when a pid is used again by another process; undefined when none has it. */
export const startTime = (pid: number): number | undefined => statFields(pid)?.[STARTTIME];

/** The processes themselves and all that descend from them (workers), in no order. */
export function processTree(roots: readonly number[]): number[] {
  const children = new Map<number, number[]>();
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    const parent = statFields(pid)?.[PPID];
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), pid]);
  }
  const found = new Set<number>();
  const visit = (pid: number): void => {
    if (found.has(pid)) return;
    found.add(pid);
    for (const child of children.get(pid) ?? []) visit(child);
  };
  for (const root of roots) visit(root);
  return [...found];
}

/**
 * User + system time so far, in microseconds, of the processes and all their threads. Where the kernel keeps it, the
 * scheduler's own count, exact to the nanosecond; else ticks, which also hold children that have ended.
 */
export function cpuMicroseconds(pids: readonly number[]): number {
  let sum = 0;
  for (const pid of pids) sum += scheduledMicroseconds(pid) ?? tickMicroseconds(pid);
  return sum;
}

function scheduledMicroseconds(pid: number): number | undefined {
  let nanoseconds = 0;
  for (const thread of threads(pid)) {
    const onCpu = read(pid, `task/${thread}/schedstat`)?.split(' ')[0];
    if (onCpu === undefined) return undefined;
    nanoseconds += Number(onCpu);
  }
  return nanoseconds === 0 ? undefined : nanoseconds / 1000;
}

function threads(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return []; // it has ended
  }
}

function tickMicroseconds(pid: number): number {
  const fields = statFields(pid);
  if (fields === undefined) return 0;
  const ticks = fields[UTIME] + fields[STIME] + fields[CUTIME] + fields[CSTIME];
  return (ticks / TICKS_PER_SECOND) * 1e6;
}

/** Resident memory, summed; pages that a master and its worker share count twice. */
export function rssMiB(pids: readonly number[]): number {
  let kib = 0;
  for (const pid of pids) kib += Number(/^VmRSS:\s+(\d+) kB/m.exec(read(pid, 'status') ?? '')?.[1] ?? 0);
  return kib / 1024;
}
