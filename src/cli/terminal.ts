/**
 * The only place that writes to the terminal. Whoever reads may go away (`hauberk demo | head`): what is written
 * then is lost, and nothing else; a sidecar whose reader went goes on.
 */
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

export function printError(text: string): void {
  process.stderr.write(`${text}\n`);
}
