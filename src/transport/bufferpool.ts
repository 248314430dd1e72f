/** Holds the largest record there is: its length field and 65,535 bytes. */
export const RECORD_BUFFER = 2 + 65_535;

/** Below this many bytes a buffer of its own (a slice of Node's pool) is cheaper than one of this pool's. */
export const SMALL = 4 * 1024;

/** At most this many wait for their next use (2 MiB); what comes back beyond is left to the garbage collector. */
const MAX_FREE = 32;

const free: Buffer[] = [];

/**
 * A buffer with any content, the caller's until it gives it back or drops it: of `length` bytes if that is small,
 * else of RECORD_BUFFER bytes. One pool serves the whole process, because most buffers are used for less than a turn.
 */
export function takeBuffer(length: number): Buffer {
  return length < SMALL ? Buffer.allocUnsafe(length) : (free.pop() ?? Buffer.allocUnsafeSlow(RECORD_BUFFER));
}

/** Takes back a buffer of takeBuffer() of which no one keeps a view. */
export function giveBuffer(buf: Buffer): void {
  if (buf.length === RECORD_BUFFER && free.length < MAX_FREE) free.push(buf);
}
