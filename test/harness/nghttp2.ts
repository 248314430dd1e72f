/** Nghttp2's tools, as Debian has them. A tool that is missing fails the test that needs it. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { freePorts } from '../../bench/peers/port.ts';
import { atEnd } from './sidecars.ts';

/** Header fields as they stood on the wire, in their order: `name: value`. */
export type FieldLines = readonly string[];

export interface ToolResult {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

// Debian puts servers where an ordinary user's PATH does not look.
const ENV = { ...process.env, PATH: `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin` };

/** Runs a tool to its end, in the folder `cwd` if it is given. Rejects when it cannot be started. */
export async function runTool(name: string, args: readonly string[], cwd?: string): Promise<ToolResult> {
  const child = spawn(name, args, { stdio: ['ignore', 'pipe', 'pipe'], env: ENV, ...(cwd && { cwd }) });
  const stdout: Buffer[] = [];
  let stderr = '';
  child.stdout.on('data', (octets: Buffer) => stdout.push(octets));
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const closed = once(child, 'close') as Promise<[number | null]>;
  const [code] = await closed.catch((cause: unknown) => {
    throw new Error(`${name} could not be run; .ci/run installs it`, { cause });
  });
  return { code, stdout: Buffer.concat(stdout), stderr };
}

/** A file server with HTTP/2. Its log says what came. */
export class Nghttpd {
  /** `127.0.0.1:port`. */
  readonly address: string;
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  readonly #log: string[] = [];
  readonly #open = new Map<string, string[]>();
  readonly #ended: FieldLines[] = [];
  readonly #seen = new EventEmitter();

  private constructor(child: ChildProcessByStdio<null, Readable, Readable>, address: string) {
    this.#child = child;
    this.address = address;
    createInterface(child.stdout).on('line', (line) => this.#read(line));
    createInterface(child.stderr).on('line', (line) => this.#log.push(line));
  }

  /** Serves the files of `root`. */
  static async start(root: string, args: readonly string[] = []): Promise<Nghttpd> {
    const [port] = await freePorts(1);
    const all = ['--verbose', '--no-tls', '--address=127.0.0.1', `--htdocs=${root}`, ...args, `${port}`];
    const child = spawn('nghttpd', all, { stdio: ['ignore', 'pipe', 'pipe'], env: ENV });
    const server = new Nghttpd(child, `127.0.0.1:${port}`);
    await once(child, 'spawn').catch((cause: unknown) => {
      throw new Error('nghttpd could not be run; apt-get install nghttp2-server', { cause });
    });
    atEnd(() => server.stop());
    await server.#listening(Number(port));
    return server;
  }

  /** The requests of the next `count` streams that close, header fields and trailers; waits for them. */
  async next(count: number): Promise<FieldLines[]> {
    while (this.#ended.length < count) await once(this.#seen, 'ended');
    return this.#ended.splice(0, count);
  }

  #read(line: string): void {
    this.#log.push(line);
    const [, connection, rest] = /^\[id=(\d+)\] \[ *[\d.]+\] (.*)$/.exec(line) ?? [];
    if (connection === undefined || rest === undefined) return;
    const [, received, field] = /^recv \(stream_id=(\d+)\) (.*)$/.exec(rest) ?? [];
    const [, closed] = /^stream_id=(\d+) closed$/.exec(rest) ?? [];
    const key = `${connection}/${received ?? closed}`;
    if (field !== undefined) {
      const fields = this.#open.get(key);
      if (fields === undefined) this.#open.set(key, [field]);
      else fields.push(field);
    } else if (closed !== undefined) {
      this.#ended.push(this.#open.get(key) ?? []);
      this.#open.delete(key);
      this.#seen.emit('ended');
    }
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }

  async #listening(port: number): Promise<void> {
    for (;;) {
      if (this.#child.exitCode !== null) {
        throw new Error(`nghttpd ended before it listened:\n${this.#log.join('\n')}`);
      }
      const socket = connect(port, '127.0.0.1');
      const open = await new Promise<boolean>((resolve) => {
        socket.once('connect', () => resolve(true));
        socket.once('error', () => resolve(false));
      });
      socket.destroy();
      if (open) return;
      await pause(10);
    }
  }
}

/** What `nghttp --verbose` printed of its responses, header fields and trailers, in the order of the streams. */
export function responsesIn(output: string): FieldLines[] {
  const found = new Map<number, string[]>();
  for (const line of output.split('\n')) {
    const [, stream, field] = /^\[ *[\d.]+\] recv \(stream_id=(\d+)\) (.*)$/.exec(line) ?? [];
    if (stream === undefined || field === undefined) continue;
    const fields = found.get(Number(stream));
    if (fields === undefined) found.set(Number(stream), [field]);
    else fields.push(field);
  }
  return [...found].sort(([a], [b]) => a - b).map(([, fields]) => fields);
}

/** The lines in which h2load sums up. */
export interface LoadReport {
  readonly succeeded: number;
  /** Everything else: failed, errored, timed out, or not begun. */
  readonly failed: number;
  readonly status2xx: number;
  /** Octets of bodies. */
  readonly bodyBytes: number;
}

export function loadReportIn(output: string): LoadReport {
  const number = (pattern: RegExp): number => {
    const [, digits] = pattern.exec(output) ?? [];
    if (digits === undefined) throw new Error(`h2load said nothing of ${pattern}:\n${output}`);
    return Number(digits);
  };
  const succeeded = number(/(\d+) succeeded/);
  return {
    succeeded,
    failed: number(/requests: (\d+) total/) - succeeded,
    status2xx: number(/status codes: (\d+) 2xx/),
    bodyBytes: number(/\((\d+)\) data/),
  };
}
