import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { initTrustDomain, issueSvid } from '../../src/identity/authority.ts';
import { atEnd } from './sidecars.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const TSX = import.meta.resolve('tsx');
const PATIENCE_MS = 30_000;

/** The folder of an example, copied, with the package among its node_modules and identities in keys/. */
export async function exampleFolder(example: string, names: readonly string[]): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), `hauberk-${example}-`));
  atEnd(() => rm(dir, { recursive: true, force: true }));
  await cp(join(ROOT, 'examples', example), dir, { recursive: true });
  await writeFile(join(dir, 'package.json'), '{ "type": "module" }');
  await mkdir(join(dir, 'node_modules'));
  await symlink(ROOT, join(dir, 'node_modules', 'hauberk'));
  const keys = join(dir, 'keys');
  await initTrustDomain({ dir: keys, trustDomain: 'shop.example' });
  for (const name of names) await issueSvid({ dir: keys, name });
  return dir;
}

/** A program of an example, in a process of its own. */
export class ExampleProgram {
  /** Its lines on stdout until now. */
  readonly said: string[] = [];
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #name: string;
  readonly #end: Promise<number | null>;
  #stderr = '';
  #rest = '';
  #heard: () => void = () => {};

  constructor(
    folder: string,
    file: string,
    env: Readonly<Record<string, string>> = {},
    args: readonly string[] = [],
  ) {
    this.#name = file;
    this.#child = spawn(process.execPath, ['--import', TSX, file, ...args], {
      cwd: folder,
      env: { PATH: process.env.PATH, ...env },
    });
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n');
      this.#rest = lines.pop() as string;
      this.said.push(...lines);
      this.#heard();
    });
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    this.#end = once(this.#child, 'close').then(([code]) => {
      this.#heard();
      return code as number | null;
    });
    atEnd(async () => {
      this.#child.kill('SIGKILL');
      await this.#end;
    });
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** Says a line to its standard input. */
  tell(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }

  /** It has nothing more to read. */
  hangUp(): void {
    this.#child.stdin.end();
  }

  /** The first line that matches, now or later. */
  async line(pattern: RegExp): Promise<RegExpExecArray> {
    const deadline = setTimeout(() => this.#heard(), PATIENCE_MS);
    try {
      const until = performance.now() + PATIENCE_MS;
      for (;;) {
        for (const line of this.said) {
          const match = pattern.exec(line);
          if (match !== null) return match;
        }
        if (performance.now() >= until || this.#child.exitCode !== null) {
          throw new Error(
            `${this.#name} has not said ${pattern}, but:\n${this.said.slice(-20).join('\n')}\n${this.#stderr}`,
          );
        }
        await new Promise<void>((resolve) => {
          this.#heard = resolve;
        });
      }
    } finally {
      clearTimeout(deadline);
    }
  }

  /** The port that its first line names. */
  async port(): Promise<number> {
    return Number((await this.line(/port (\d+)$|:(\d+)$/)).slice(1).find((port) => port !== undefined));
  }

  /** Ends it by a signal, if one is named, and resolves with its exit code. */
  end(signal?: NodeJS.Signals): Promise<number | null> {
    if (signal !== undefined) this.#child.kill(signal);
    return this.#end;
  }
}
