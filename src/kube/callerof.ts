const MAPPED_IPV4 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;

/**
 * What limits of the control listener count an address by: the whole of it, IPv6 too, for in a cluster a /64 is no one's own
 * but a node or a subnet, and networks let a pod send from its own address only. IPv4 that is mapped into IPv6 is IPv4.
 */
export function callerAddress(address: string): string {
  const bare = address.split('%', 1)[0] as string;
  return MAPPED_IPV4.exec(bare)?.[1] ?? bare;
}

/** The same of `address:port`, with or without brackets. */
export function callerOf(peer: string): string {
  return callerAddress(peer.replace(/:[0-9]+$/, '').replace(/^\[|\]$/g, ''));
}
