import { execFile, spawn } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { endOf, type Outcome } from './cli.ts';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const TSC = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');

/** The versions of Node that are promised. */
export const MAJORS = [20, 24] as const;
export type NodeMajor = (typeof MAJORS)[number];

/** What `npm pack` makes of this checkout, in a folder of its own. */
export interface Tarball {
  readonly file: string;
  /** Paths in the package, with their sizes in bytes. */
  readonly contents: readonly { readonly path: string; readonly size: number }[];
  /** Of the tarball itself, and of what is in it. */
  readonly size: number;
  readonly unpackedSize: number;
}

/**
 * An empty project of a user, in which the packed package is installed, as from a registry. The registry's packages come
 * from npm's cache where it has them.
 */
export class PackedProject implements AsyncDisposable {
  readonly folder: string;
  readonly tarball: Tarball;
  readonly #nodes = new Map<NodeMajor, string>();

  private constructor(folder: string, tarball: Tarball) {
    this.folder = folder;
    this.tarball = tarball;
  }

  /** dist/ has been built (test/harness/build.ts). */
  static async make(packages: readonly string[] = []): Promise<PackedProject> {
    const folder = await mkdtemp(join(tmpdir(), 'hauberk-packed-'));
    const packed = await npm(ROOT, 'pack', '--ignore-scripts', '--json', '--pack-destination', folder);
    const [made] = JSON.parse(packed) as [
      { filename: string; files: Tarball['contents']; size: number; unpackedSize: number },
    ];
    const tarball: Tarball = {
      file: join(folder, made.filename),
      contents: made.files,
      size: made.size,
      unpackedSize: made.unpackedSize,
    };
    const project = new PackedProject(folder, tarball);
    await project.write('package.json', JSON.stringify({ name: 'project', private: true }));
    await npm(folder, 'install', '--prefer-offline', '--no-audit', '--no-fund', tarball.file, ...packages);
    return project;
  }

  path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }

  async write(path: string, text: string): Promise<string> {
    const file = this.path(path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, text);
    return file;
  }

  read(path: string): Promise<string> {
    return readFile(this.path(path), 'utf8');
  }

  /** A Node of this major version: the one that runs the tests, or one that npm brings. */
  async node(major: NodeMajor): Promise<string> {
    if (Number.parseInt(process.versions.node, 10) === major) return process.execPath;
    let node = this.#nodes.get(major);
    if (node === undefined) {
      const name = `node-${process.platform}-${process.arch}`;
      const folder = this.path(`node-${major}`);
      await this.write(`node-${major}/package.json`, '{"private":true}');
      await npm(folder, 'install', '--prefer-offline', '--no-audit', '--no-fund', `${name}@${major}`);
      node = join(folder, 'node_modules', name, 'bin/node');
      this.#nodes.set(major, node);
    }
    return node;
  }

  /** Runs a program of the project to its end. */
  async run(major: NodeMajor, program: string, ...args: string[]): Promise<Outcome> {
    const child = spawn(await this.node(major), [program, ...args], {
      cwd: this.folder,
      env: { PATH: process.env.PATH },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return endOf(child);
  }

  /** What the TypeScript compiler of this checkout says of the project's files with these options; empty if all is well. */
  async compile(files: readonly string[], options: Readonly<Record<string, unknown>>): Promise<string> {
    const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
    try {
      await run(process.execPath, [TSC, ...flags, ...files], { cwd: this.folder });
      return '';
    } catch (error) {
      return (error as { stdout: string }).stdout;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true });
  }
}

async function npm(cwd: string, ...args: string[]): Promise<string> {
  const { stdout } = await run('npm', args, { cwd, maxBuffer: 16 * 1024 * 1024 });
  return stdout;
}
