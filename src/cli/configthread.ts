/**
 * Reads a configuration in a thread of its own: the YAML parser and the schema compiler take 15 MiB that a sidecar
 * never needs again, and that go with the thread.
 *
 * Both sides of it are here: the thread runs this file, too.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { SidecarConfig } from '../config/config.ts';
import { ConfigError, type ConfigIssue } from '../config/errors.ts';

type Answer =
  | { readonly config: SidecarConfig }
  | { readonly file: string; readonly issues: readonly ConfigIssue[] };

/** Smaller than usual: it lives for a moment. */
const YOUNG_MIB = 4;

/** As `loadConfig`. */
export function loadConfigApart(path: string): Promise<SidecarConfig> {
  return new Promise((resolve, reject) => {
    const thread = new Worker(new URL('./configthread.js', import.meta.url), {
      workerData: { configFile: path },
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MIB },
    });
    let answer: Answer | undefined;
    thread.once('message', (message: Answer) => {
      answer = message;
    });
    thread.once('error', reject);
    thread.once('exit', (code) => {
      if (answer === undefined)
        reject(new Error(`the thread that reads the configuration exited with ${code}`));
      else if ('config' in answer) resolve(answer.config);
      else reject(new ConfigError(answer.file, answer.issues));
    });
  });
}

async function read(path: string): Promise<Answer> {
  const { loadConfig } = await import('../config/load.ts');
  try {
    return { config: await loadConfig(path) };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { file: error.file, issues: error.issues };
  }
}

const { configFile } = (workerData ?? {}) as { configFile?: unknown };
if (!isMainThread && typeof configFile === 'string') parentPort?.postMessage(await read(configFile));
