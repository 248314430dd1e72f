/** The only place that writes to the terminal. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

export function printError(text: string): void {
  process.stderr.write(`${text}\n`);
}
