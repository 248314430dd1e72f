/** Resident memory of other processes, as Linux counts it. */
import { readFile, writeFile } from 'node:fs/promises';

const RESET_PEAK = '5'; // proc_pid_clear_refs(5)

async function statusField(pid: number, field: string): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'latin1');
  const [, kib] = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status) ?? [];
  if (kib === undefined) throw new Error(`process ${pid} has no ${field}`);
  return Number(kib) * 1024;
}

/** Octets resident now. */
export function residentOf({ pid }: { readonly pid: number }): Promise<number> {
  return statusField(pid, 'VmRSS');
}

/** The most octets that were resident at any moment since `resetPeak`, not only when somebody looked. */
export function peakOf({ pid }: { readonly pid: number }): Promise<number> {
  return statusField(pid, 'VmHWM');
}

export function resetPeak({ pid }: { readonly pid: number }): Promise<void> {
  return writeFile(`/proc/${pid}/clear_refs`, RESET_PEAK);
}
