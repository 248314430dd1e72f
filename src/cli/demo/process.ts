import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

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
  readonly #child: ChildProcess;
  readonly #auditFile: string;

  private constructor(
    name: string,
    child: ChildProcess,
    ready: ReadyLine,
    configFile: string,
    auditFile: string,
  ) {
    this.name = name;
    this.#child = child;
    this.ready = ready;
    this.configFile = configFile;
    this.#auditFile = auditFile;
  }

  /** Writes the configuration into `dir` and starts `hauberk run` with it. */
  static async start(name: string, dir: string, yaml: string): Promise<SidecarProcess> {
    const configFile = join(dir, `${name}.yaml`);
    const auditFile = join(dir, `${name}.audit.jsonl`);
    writeFileSync(configFile, `${yaml}monitoring: { adapters: [{ file: { path: ${auditFile} } }] }\n`);
    const child = spawn(process.execPath, [MAIN, 'run', '-c', configFile], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let complaint = '';
    child.stderr?.on('data', (text: Buffer) => {
      complaint = (complaint + text.toString()).slice(-4000);
    });
    const ready = await new Promise<ReadyLine>((resolve, reject) => {
      child.once('exit', (code) =>
        reject(new Error(`the sidecar ${name} exited with ${code}:\n${complaint}`)),
      );
      createInterface({ input: child.stdout as NodeJS.ReadableStream }).once('line', (line) => {
        resolve(JSON.parse(line) as ReadyLine);
      });
    });
    child.removeAllListeners('exit');
    return new SidecarProcess(name, child, ready, configFile, auditFile);
  }

  /** The audit events so far. */
  get events(): DemoEvent[] {
    const lines = readFileSync(this.#auditFile, 'utf8').split('\n').filter(Boolean);
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

  /** SIGTERM, and resolves when it has drained and gone. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGTERM');
    await gone;
  }
}
