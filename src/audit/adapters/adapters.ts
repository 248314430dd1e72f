import type { Writable } from 'node:stream';
import type { Clock } from '../../clock/clock.ts';
import type { AdapterConfig } from '../../config/config.ts';
import type { AnyAuditAdapter } from '../adapter.ts';
import { FileAdapter } from './file.ts';
import { loadModuleAdapter } from './module.ts';
import { StdoutAdapter } from './stdout.ts';

export interface AdapterSurroundings {
  readonly clock: Clock;
  /** Takes the lines of `stdout` adapters. */
  readonly stdout: Writable;
  /** The folder of the configuration file. */
  readonly folder: string;
}

/**
 * The adapters of `monitoring.adapters`, in order. Throws AuditError for the first that cannot be made, after closing
 * those that were.
 */
export async function openAdapters(
  configs: readonly AdapterConfig[],
  surroundings: AdapterSurroundings,
): Promise<readonly AnyAuditAdapter[]> {
  const adapters: AnyAuditAdapter[] = [];
  try {
    for (const config of configs) adapters.push(await openAdapter(config, surroundings));
  } catch (error) {
    await Promise.allSettled(adapters.map(async (adapter) => adapter.close?.()));
    throw error;
  }
  return adapters;
}

async function openAdapter(
  config: AdapterConfig,
  { clock, stdout, folder }: AdapterSurroundings,
): Promise<AnyAuditAdapter> {
  switch (config.type) {
    case 'stdout':
      return new StdoutAdapter(stdout);
    case 'file':
      return FileAdapter.open(config.path, clock);
    case 'module':
      return loadModuleAdapter({ module: config.module, options: config.options, folder }, clock);
  }
}
