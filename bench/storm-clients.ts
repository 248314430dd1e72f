import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '../src/clock/clock.ts';
import { loadCryptoProvider } from '../src/crypto/provider.ts';
import { loadIdentity } from '../src/identity/load.ts';
import { type DialOptions, dial } from '../src/transport/dial.ts';
import { HandshakeError } from '../src/transport/errors.ts';
import { XX } from '../src/transport/mode.ts';
import { StaticKey } from '../src/transport/statickey.ts';
import { spiffeId, TRUST_DOMAIN } from './peers/pairs/hauberk.ts';
import type { StormOrder, StormReport } from './storm.ts';

// A part of the clients of bench/storm.ts, in a process of their own. Each tries until it is connected, as a sidecar does.

/** HTTP/2's preface, SETTINGS without entries, and the ACK of the other end's. */
const OPENING = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  Buffer.from('000000040000000000', 'hex'),
  Buffer.from('000000040100000000', 'hex'),
]);
const LIFETIME_MS = 3_600_000;
const BACKOFF_MS = 200; // the defaults of `pool`
const MAX_BACKOFF_MS = 10_000;

async function main({ keys, port, first, count }: StormOrder): Promise<StormReport> {
  const crypto = await loadCryptoProvider('native');
  const files = { svid: join(keys, 'c.pem'), key: join(keys, 'c.key'), bundle: join(keys, 'bundle.pem') };
  const { identity, bundle } = await loadIdentity({ ...files, trustDomain: TRUST_DOMAIN }, systemClock);
  const staticKey = new StaticKey(crypto, systemClock, LIFETIME_MS);
  const options: DialOptions = {
    ...{ host: '127.0.0.1', port, identity, bundle, expectedPeer: spiffeId('b') },
    ...{ staticKey, crypto, clock: systemClock, modes: [XX] },
  };
  const began = performance.now();
  const connectedMs: number[] = [];
  const refusals: Record<string, number> = {};
  const client = async (n: number): Promise<void> => {
    const localAddress = `127.1.${n >> 8}.${n & 255}`;
    for (let span = BACKOFF_MS; ; span = Math.min(2 * span, MAX_BACKOFF_MS)) {
      try {
        const channel = await dial({ ...options, localAddress });
        connectedMs.push(performance.now() - began);
        channel.onClose = (reason) => {
          refusals[`lost: ${reason}`] = (refusals[`lost: ${reason}`] ?? 0) + 1;
        };
        channel.onData = () => {};
        const buf = channel.acquire();
        OPENING.copy(buf, channel.headroom);
        channel.write(buf, channel.headroom, channel.headroom + OPENING.length);
        return;
      } catch (error) {
        if (!(error instanceof HandshakeError)) throw error;
        refusals[error.code] = (refusals[error.code] ?? 0) + 1;
        await delay(Math.random() * span);
      }
    }
  };
  await Promise.all(Array.from({ length: count }, (_, i) => client(first + i)));
  return { connectedMs, refusals };
}

process.once('message', (order: StormOrder) => {
  main(order).then(
    (report) => process.send?.(report),
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
});
