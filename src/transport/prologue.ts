const LABEL = Buffer.from('HBK1/1\0', 'latin1');
const SEPARATOR = Buffer.of(0);

/**
 * The Noise prologue: `"HBK1/1\0" | protocol name | 0x00 | current CLIENT_HELLO with its ticket id`, and after a
 * RETRY the SHA-256 of every earlier byte on the connection (first CLIENT_HELLO, its message frame, the RETRY
 * frame). Whoever tampers with the first attempt fails the second.
 */
export function prologue(protocol: string, hello: Uint8Array, earlierHash?: Uint8Array): Buffer {
  const parts = [LABEL, Buffer.from(protocol, 'latin1'), SEPARATOR, hello];
  if (earlierHash !== undefined) parts.push(earlierHash);
  return Buffer.concat(parts);
}
