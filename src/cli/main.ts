#!/usr/bin/env node
/** argv in, exit code out. Each command loads what it needs when it runs, so that `run` stays small. */
import { CommanderError } from 'commander';
import { complaintOf, Exit, exitCodeOf } from './exit.ts';
import { listenAsFirstProcess } from './firstprocess.ts';
import { program } from './program.ts';
import { printError } from './terminal.ts';

/** A command has ended: what a user's own adapter, say, keeps alive may not keep the process for longer. */
const LINGER_MS = 1000;

async function main(): Promise<void> {
  try {
    await program().parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) {
      // Help and version are no errors; everything else that commander throws is a wrong command line.
      process.exitCode = error.exitCode === 0 ? Exit.OK : Exit.USAGE;
    } else {
      printError(complaintOf(error));
      process.exitCode = exitCodeOf(error);
    }
  }
  setTimeout(() => process.exit(), LINGER_MS).unref();
}

listenAsFirstProcess();
await main();
