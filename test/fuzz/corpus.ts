import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Inputs that once reached something new, a file a target: one a line, in base64. */
const FOLDER = new URL('./corpus/', import.meta.url);

function fileOf(target: string): string {
  return fileURLToPath(new URL(`${target}.txt`, FOLDER));
}

export function readCorpus(target: string): Buffer[] {
  const file = fileOf(target);
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'latin1').split('\n');
  return lines.filter((line) => line !== '').map((line) => Buffer.from(line, 'base64'));
}

/** Short ones first. */
export function writeCorpus(target: string, inputs: readonly Buffer[]): void {
  mkdirSync(FOLDER, { recursive: true });
  const sorted = [...inputs].sort((a, b) => a.length - b.length || a.compare(b));
  writeFileSync(fileOf(target), sorted.map((input) => `${input.toString('base64')}\n`).join(''));
}
