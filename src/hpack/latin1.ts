/** Buffer's own latin1 methods, which spare the look-up of an encoding's name; @types/node 20 leaves them out. */
interface Latin1Buffer {
  latin1Slice(from: number, to: number): string;
  latin1Write(text: string, at: number): number;
}

export function readLatin1(buf: Buffer, from: number, to: number): string {
  return (buf as unknown as Latin1Buffer).latin1Slice(from, to);
}

/** Returns the position behind what was written. */
export function writeLatin1(buf: Buffer, at: number, text: string): number {
  return at + (buf as unknown as Latin1Buffer).latin1Write(text, at);
}
