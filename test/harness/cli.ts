import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

export const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

export interface CommandOptions {
  cwd?: string;
  env?: Readonly<Record<string, string>>;
}

/** How a command ended. */
export interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts `hauberk ARGS`, as a user does. The environment has nothing but PATH and what is given. */
export function spawnHauberk(
  args: readonly string[],
  { cwd, env = {} }: CommandOptions = {},
): ChildProcessByStdio<null, Readable, Readable> {
  return spawn(process.execPath, [MAIN, ...args], {
    cwd,
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** Runs `hauberk ARGS` to its end. */
export async function hauberk(args: readonly string[], options: CommandOptions = {}): Promise<Outcome> {
  return endOf(spawnHauberk(args, options));
}

/** Waits for a program's end. */
export async function endOf(child: ChildProcessByStdio<null, Readable, Readable>): Promise<Outcome> {
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return { code, signal, stdout, stderr };
}
