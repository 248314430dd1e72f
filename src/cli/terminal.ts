/**
 * The only place that writes to the terminal. Whoever reads may go away (`hauberk demo | head`): what is written
 * then is lost, and nothing else; a sidecar whose reader went goes on. Commands that only show things end then.
 */
const gone = new AbortController();
process.stdout.on('error', () => gone.abort());
process.stderr.on('error', () => {});

/** Aborted once nobody reads standard output any more, which is seen when something is written. */
export const readerGone: AbortSignal = gone.signal;

/** Columns of the terminal that standard output is; undefined where it is none. */
export function columns(): number | undefined {
  return process.stdout.isTTY ? process.stdout.columns : undefined;
}

export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Prints for as long as there is something to say: resolves when the reader wants more, or has gone. */
export async function printPaced(line: string): Promise<void> {
  if (process.stdout.write(`${line}\n`) || readerGone.aborted) return;
  await new Promise<void>((resolve) => {
    const go = (): void => {
      process.stdout.off('drain', go);
      readerGone.removeEventListener('abort', go);
      resolve();
    };
    process.stdout.on('drain', go);
    readerGone.addEventListener('abort', go);
  });
}

export function printError(text: string): void {
  process.stderr.write(`${text}\n`);
}
