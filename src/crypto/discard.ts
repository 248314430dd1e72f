/** Below this, leaving it to the collector is cheaper. */
const SMALL = 8192;

/** Set where the runtime has it (Node 21 on). */
const transfer = (ArrayBuffer.prototype as { transfer?: (this: ArrayBuffer, length: number) => ArrayBuffer })
  .transfer;

/** What is posted to a closed port is dropped, and what it transferred is freed. */
const nowhere = transfer === undefined ? closedPort() : undefined;

function closedPort() {
  const { port1 } = new MessageChannel();
  port1.close();
  return port1;
}

/**
 * Frees the memory of a large buffer at once, if it has an ArrayBuffer to itself; afterwards it may have no octets. For
 * what node:crypto allocates for each call: left to the collector, which hardly sees it, it piles up until full
 * collections run for it, several a second under load. Not for what sockets read: Node 20 does not bear that.
 */
export function discard(buf: Uint8Array): void {
  const memory = buf.buffer as ArrayBuffer;
  if (memory.byteLength < SMALL || memory.byteLength !== buf.byteLength) return;
  if (nowhere === undefined) (transfer as NonNullable<typeof transfer>).call(memory, 0);
  else nowhere.postMessage(undefined, [memory]);
}
