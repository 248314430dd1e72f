const LF = 0x0a;

/**
 * The lines of a stream of octets, without their line feeds; empty ones are left out. What stands after the last line
 * feed is not a line. `tooLong` makes the error for a line above `maxBytes`.
 */
export async function* linesOf(
  chunks: AsyncIterable<Buffer>,
  maxBytes: number,
  tooLong: () => Error,
): AsyncGenerator<string, void, undefined> {
  let begun: Buffer[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    let from = 0;
    for (;;) {
      const at = chunk.indexOf(LF, from);
      const part = at === -1 ? chunk.subarray(from) : chunk.subarray(from, at);
      length += part.length;
      if (length > maxBytes) throw tooLong();
      if (at === -1) {
        if (part.length > 0) begun.push(part);
        break;
      }
      const line = begun.length === 0 ? part : Buffer.concat([...begun, part], length);
      begun = [];
      length = 0;
      from = at + 1;
      if (line.length > 0) yield line.toString('utf8');
    }
  }
}
