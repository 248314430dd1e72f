import { stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, isAbsolute, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Clock, TimerHandle } from '../../clock/clock.ts';
import { type AuditAdapter, type MonitoringAdapter, namedAdapter } from '../adapter.ts';
import { AuditError, reasonOf } from '../errors.ts';

export interface ModuleSource {
  /** A path, absolute or from `folder` on (`./my-adapter.mjs`), or the name of a package installed there. */
  readonly module: string;
  /** Handed to the module's function. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** The folder of the configuration file. */
  readonly folder: string;
}

/** How long a module may take to make its adapter. */
const MAKE_DEADLINE_MS = 10_000;

const SHAPE =
  'A module adapter exports by default `(options) => ({ write(events) { ... } })`, or the object itself';

/**
 * The adapter that a user's module makes: its default export, or what that returns or resolves to when it is a function.
 * Throws AuditError `adapter-module-missing`, `adapter-module-failed`, `adapter-no-default` or `adapter-no-write`.
 */
export async function loadModuleAdapter(source: ModuleSource, clock: Clock): Promise<AuditAdapter> {
  const file = await locate(source);
  const exported = await importDefault(file);
  let made: unknown = exported;
  if (typeof exported === 'function') {
    try {
      made = await inTime(clock, () => exported(source.options ?? {}));
    } catch (error) {
      throw failed(`the function that the audit adapter ${file} exports failed`, error);
    }
  }
  if (
    typeof made !== 'object' ||
    made === null ||
    typeof (made as { write?: unknown }).write !== 'function'
  ) {
    throw new AuditError(
      'adapter-no-write',
      `The audit adapter ${file} has no function \`write\`: ${
        typeof exported === 'function' ? 'its function returned' : 'its default export is'
      } ${made === null ? 'null' : `a value of type ${typeof made}`}. ${SHAPE}`,
    );
  }
  return namedAdapter(made as MonitoringAdapter, basename(file));
}

async function locate({ module, folder }: ModuleSource): Promise<string> {
  let file = resolve(folder, module);
  if (!isAbsolute(module) && !module.startsWith('.') && !(await isFile(file))) {
    try {
      file = createRequire(join(resolve(folder), 'noop.js')).resolve(module);
    } catch {
      // Neither a file nor a package: reported with the path, which is the likelier intent.
    }
  }
  if (!(await isFile(file))) {
    throw new AuditError(
      'adapter-module-missing',
      `There is no audit adapter at ${file} (\`module: ${module}\`, looked up from ${resolve(folder)}). Give the path of a JavaScript module`,
    );
  }
  return file;
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (info) => info.isFile(),
    () => false,
  );
}

async function importDefault(file: string): Promise<unknown> {
  let loaded: { readonly default?: unknown };
  try {
    loaded = await import(pathToFileURL(file).href);
  } catch (error) {
    throw failed(`the audit adapter ${file} cannot be loaded`, error);
  }
  const exported = loaded.default;
  if (typeof exported !== 'function' && (typeof exported !== 'object' || exported === null)) {
    throw new AuditError(
      'adapter-no-default',
      `The audit adapter ${file} has ${
        exported === undefined ? 'no default export' : `a default export of type ${typeof exported}`
      }. ${SHAPE}`,
    );
  }
  return exported;
}

async function inTime(clock: Clock, run: () => unknown): Promise<unknown> {
  let timer: TimerHandle | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = clock.after(MAKE_DEADLINE_MS, () =>
      reject(new Error(`it did not answer within ${MAKE_DEADLINE_MS / 1000} s`)),
    );
  });
  try {
    return await Promise.race([run(), late]);
  } finally {
    clock.clear(timer);
  }
}

function failed(what: string, cause: unknown): AuditError {
  return new AuditError(
    'adapter-module-failed',
    `${what.slice(0, 1).toUpperCase()}${what.slice(1)}: ${reasonOf(cause)}. Mend the module or take it out of \`monitoring.adapters\``,
    { cause },
  );
}
