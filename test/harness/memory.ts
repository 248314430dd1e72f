/** Resident memory of other processes, as Linux counts it. */
import { readFile } from 'node:fs/promises';

async function statusField(pid: number, field: string): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'latin1');
  const [, kib] = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status) ?? [];
  if (kib === undefined) throw new Error(`process ${pid} has no ${field}`);
  return Number(kib) * 1024;
}

/** The most octets that were resident at any moment, not only when somebody looked. */
export function peakOf({ pid }: { readonly pid: number }): Promise<number> {
  return statusField(pid, 'VmHWM');
}
