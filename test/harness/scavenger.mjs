/*
 * Loaded into a sidecar's process before the sidecar, by `node --expose-gc --import`: hangs TEST_SCAVENGER_MARK octets on each
 * socket, and on SIGUSR2 tells TEST_SCAVENGER_FILE what ArrayBuffers take after scavenges, and then after full collections: a
 * line of JSON each time.
 */
import { appendFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';

const SCAVENGES = 3; // the first counts what the last one before has found
const COLLECTIONS = 10;
const mark = Number(process.env.TEST_SCAVENGER_MARK);

const { setNoDelay } = Socket.prototype;
Socket.prototype.setNoDelay = function marked(...given) {
  this.mark ??= new ArrayBuffer(mark);
  return setNoDelay.apply(this, given);
};

async function buffersAfter(times, options) {
  for (let n = 0; n < times; n++) {
    globalThis.gc(options);
    await turn();
  }
  return process.memoryUsage().arrayBuffers;
}

process.on('SIGUSR2', async () => {
  const young = await buffersAfter(SCAVENGES, { type: 'minor' });
  const full = await buffersAfter(COLLECTIONS);
  appendFileSync(process.env.TEST_SCAVENGER_FILE, `${JSON.stringify({ young, full })}\n`);
});
