import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Cleanup } from './cleanup.ts';

const MAIN = fileURLToPath(new URL('../main.js', import.meta.url));

interface ReadyLine {
  readonly pid: number;
  readonly spiffeId: string;
  readonly egress: readonly string[];
  readonly ingress: readonly string[];
  readonly probes: { readonly http: readonly string[]; readonly grpc: readonly string[] };
}

/** One audit event, as the file adapter wrote it. */
export interface DemoEvent {
  readonly time: string;
  readonly type: string;
  readonly [field: string]: unknown;
}

/** A sidecar in a process of its own, exactly as a user runs it. */
export class SidecarProcess {
  readonly name: string;
  readonly ready: ReadyLine;
  readonly configFile: string;
  readonly #auditFile: string;

  private constructor(name: string, ready: ReadyLine, configFile: string, auditFile: string) {
    this.name = name;
    this.ready = ready;
    this.configFile = configFile;
    this.#auditFile = auditFile;
  }

  /** Writes the configuration into `dir` and starts `hauberk run` with it. `cleanup` will end it. */
  static async start(name: string, dir: string, yaml: string, cleanup: Cleanup): Promise<SidecarProcess> {
    const configFile = join(dir, `${name}.yaml`);
    const auditFile = join(dir, `${name}.audit.jsonl`);
    writeFileSync(configFile, `${yaml}monitoring: { adapters: [{ file: { path: ${auditFile} } }] }\n`);
    // Nothing of our environment: a HAUBERK_* variable would change what the demo shows.
    const child = spawn(process.execPath, [MAIN, 'run', '-c', configFile], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {},
    });
    await cleanup.add(() => stop(child));
    let complaint = '';
    child.stderr?.on('data', (text: Buffer) => {
      complaint = (complaint + text.toString()).slice(-4000);
    });
    const ready = await new Promise<ReadyLine>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) =>
        reject(new Error(`the sidecar ${name} ended with ${code ?? signal}:\n${complaint}`)),
      );
      createInterface({ input: child.stdout as NodeJS.ReadableStream }).once('line', (line) => {
        resolve(JSON.parse(line) as ReadyLine);
      });
    });
    return new SidecarProcess(name, ready, configFile, auditFile);
  }

  /** The audit events so far; a line that is still being written is left out. */
  get events(): DemoEvent[] {
    const lines = readFileSync(this.#auditFile, 'utf8').split('\n').slice(0, -1);
    return lines.map((line) => JSON.parse(line) as DemoEvent);
  }

  /** Waits until an event of this type is in the file, for at most 5 s. */
  async event(type: string): Promise<DemoEvent | undefined> {
    for (let i = 0; i < 100; i++) {
      const found = this.events.find((event) => event.type === type);
      if (found !== undefined) return found;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return undefined;
  }
}

/** SIGTERM, and resolves when the process has drained and gone. */
async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await gone;
}
