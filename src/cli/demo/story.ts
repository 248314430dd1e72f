/** How the demo looks on a terminal. */
import { print } from '../terminal.ts';

const color = process.stdout.isTTY === true && process.stdout.hasColors(); // NO_COLOR, TERM
const paint = (code: number, text: string): string => (color ? `\u001b[${code}m${text}\u001b[0m` : text);
export const bold = (text: string): string => paint(1, text);
export const dim = (text: string): string => paint(2, text);
export const green = (text: string): string => paint(32, text);
export const red = (text: string): string => paint(31, text);

let step = 0;

export function heading(text: string): void {
  print('');
  print(bold(`${++step}. ${text}`));
}

export function line(text: string): void {
  print(`   ${text}`);
}

const COLUMNS = 16; // octets a line

/** Octets as hexdump -C shows them. */
export function hexdump(octets: Buffer, lines: number): string[] {
  const rows: string[] = [];
  for (let at = 0; at < octets.length && rows.length < lines; at += COLUMNS) {
    const row = octets.subarray(at, at + COLUMNS);
    const hex = [...row].map((octet) => octet.toString(16).padStart(2, '0')).join(' ');
    const text = [...row]
      .map((octet) => (octet >= 0x20 && octet < 0x7f ? String.fromCharCode(octet) : '.'))
      .join('');
    rows.push(`${hex.padEnd(COLUMNS * 3 - 1)}  ${text}`);
  }
  return rows;
}
