/*
 * A process that runs the handshakes of the test vectors, exchanges records, and disposes of everything when told to, so that
 * others can look for its keys in its memory. Run with --expose-gc; the argument is the crypto provider.
 */
import { createInterface } from 'node:readline';
import { setImmediate as turn } from 'node:timers/promises';
import { type CryptoProviderName, loadCryptoProvider } from '../../src/crypto/provider.ts';
import type { Established } from '../../src/transport/handshake.ts';
import { DATA } from '../../src/transport/record.ts';
import { meet, vectors } from '../transport/vectorpair.ts';

const crypto = await loadCryptoProvider(process.argv[2] as CryptoProviderName, { postQuantum: true });
const chosen = vectors.handshakes.filter(({ first }) => first === null);

let ends: Established[] = chosen.flatMap((vector) => {
  const { initiator, responder } = meet(crypto, vector);
  return [initiator as Established, responder as Established];
});
for (const [i, { send }] of ends.entries()) {
  const { receive } = ends[i ^ 1] as Established;
  receive.decrypt(send.encryptWithAd(Buffer.alloc(0), Buffer.of(DATA, 0, 0)));
  send.rekey();
  receive.rekey();
  receive.decrypt(send.encryptWithAd(Buffer.alloc(0), Buffer.of(DATA, 0, 0)));
}
console.log('holds');

for await (const line of createInterface({ input: process.stdin })) {
  if (line !== 'dispose') continue;
  for (const { send, receive, session } of ends) {
    send.wipe();
    receive.wipe();
    session.key.wipe();
  }
  ends = [];
  for (let i = 0; i < 10; i++) {
    (globalThis as unknown as { gc(): void }).gc();
    await turn();
  }
  console.log('disposed');
}
