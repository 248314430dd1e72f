/** The buffers asked for last: mostly what is being read from a socket, and from a session. */
let latest: Uint8Array | undefined;
let latestView: DataView;
let earlier: Uint8Array | undefined;
let earlierView: DataView;

/**
 * A DataView of all of `buf`, which reads and writes four octets at a time. Making one takes as long as reading sixty
 * octets one by one; it is made once for a buffer that is asked for again and again.
 */
export function viewOf(buf: Uint8Array): DataView {
  if (buf === latest) return latestView;
  if (buf === earlier) return earlierView;
  earlier = latest;
  earlierView = latestView;
  latest = buf;
  latestView = newView(buf);
  return latestView;
}

/** Octets that their owner keeps, and a view of them for whoever copies them. */
export interface Viewed {
  readonly octets: Buffer;
  readonly view: DataView;
}

export function viewed(octets: Buffer): Viewed {
  return { octets, view: newView(octets) };
}

export function newView(buf: Uint8Array): DataView {
  return new DataView(buf.buffer, buf.byteOffset, buf.byteLength);
}
