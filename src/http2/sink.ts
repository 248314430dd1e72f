/**
 * Where a connection's bytes go: a socket, or the records of a session. Bytes are gathered in a buffer that
 * the sink hands out, so that a session can seal them without another copy.
 */
export interface ByteSink {
  /** Octets that must stay free in front of the bytes in a buffer. */
  readonly headroom: number;
  /** The most octets that one write takes. */
  readonly capacity: number;
  /** Hands out a buffer of at least `headroom + capacity` octets; it is the caller's until `write`. */
  acquire(): Buffer;
  /**
   * Takes the octets [start, end) of a buffer from `acquire`; the buffer is the sink's from now on.
   * False asks the caller to hold DATA back until it is told that the sink has drained. What must go out all
   * the same (control frames, headers) may still be written.
   */
  write(buffer: Buffer, start: number, end: number): boolean;
}
