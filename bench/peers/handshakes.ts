import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../src/clock/clock.ts';
import { loadCryptoProvider } from '../../src/crypto/provider.ts';
import { loadIdentity } from '../../src/identity/load.ts';
import { type DialOptions, dial } from '../../src/transport/dial.ts';
import { RESUMPTION, XX, XXHFS } from '../../src/transport/mode.ts';
import { StaticKey } from '../../src/transport/statickey.ts';
import type { Ticket } from '../../src/transport/ticket.ts';
import { Meter } from './meter.ts';
import { common, makeKeys, programIn, spiffeId, TRUST_DOMAIN } from './pairs/hauberk.ts';
import { freePorts } from './port.ts';
import type { Processes } from './proc.ts';
import type { Handshakes } from './result.ts';

const AT_A_TIME = 8;
const WARM_UPS = 5; // times the measurement: some 3,000 handshakes, before which most of it is still interpreted
const LIFETIME_MS = 3_600_000;

/**
 * What a handshake costs the sidecar that answers it, TCP, session and all, in modes 0 and 1 and with a ticket; the
 * initiator is this process and not counted.
 */
export async function measureHandshakes(
  folder: string,
  processes: Processes,
  seconds: number,
): Promise<Handshakes[]> {
  const program = programIn();
  const keys = makeKeys(program, folder);
  const [port] = await freePorts(1);
  const file = join(folder, 'b.yaml');
  writeFileSync(
    file,
    `${common(keys, 'b')}
egress: { listen: off }
ingress:
  listen: "127.0.0.1:${port}"
  apps: [{ service: unused.bench, address: "127.0.0.1:9" }]
  allow: [{ peer: "${spiffeId('a')}", methods: ["/*/*"] }]
handshake: { ratePerAddress: 1000000, burstPerAddress: 1000000, maxHalfOpenPerAddress: 256, maxEventLoopLag: 10s }
`,
  );
  const pid = await processes.start(
    'hauberk-handshakes',
    process.execPath,
    [program, 'run', '-c', file],
    port,
  );

  const crypto = await loadCryptoProvider('native', { postQuantum: true });
  const files = { svid: join(keys, 'a.pem'), key: join(keys, 'a.key'), bundle: join(keys, 'bundle.pem') };
  const { identity, bundle } = await loadIdentity({ ...files, trustDomain: TRUST_DOMAIN }, systemClock);
  const staticKey = new StaticKey(crypto, systemClock, LIFETIME_MS);
  const options: DialOptions = {
    ...{ host: '127.0.0.1', port, identity, bundle, expectedPeer: spiffeId('b') },
    ...{ staticKey, crypto, clock: systemClock },
  };
  try {
    const measured: Handshakes[] = [];
    for (const mode of [XX, XXHFS, RESUMPTION]) {
      const connect = mode === RESUMPTION ? resumeFor : connectFor;
      const inMode = { ...options, modes: [mode === RESUMPTION ? XX : mode] };
      await connect(WARM_UPS * seconds, inMode);
      const meter = new Meter([pid]);
      meter.begin();
      const count = await connect(seconds, inMode);
      meter.end();
      meter.settle();
      const cpuUs = meter.cpuUs / count;
      measured.push({ mode: mode.id, count, cpuUs, perCoreSecond: 1e6 / cpuUs });
    }
    return measured;
  } finally {
    staticKey.close();
  }
}

/** Connects and closes, some at a time. Returns how often. */
async function connectFor(seconds: number, options: DialOptions): Promise<number> {
  const end = performance.now() + seconds * 1000;
  let count = 0;
  const connect = async () => {
    while (performance.now() < end) {
      const channel = await dial(options);
      channel.destroy('shutdown');
      count++;
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, connect));
  return count;
}

/**
 * Resumes sessions, each again with the ticket that the last connection brought. Returns how often; the handshakes that
 * found the sessions are few, and cost what they cost.
 */
async function resumeFor(seconds: number, options: DialOptions): Promise<number> {
  const end = performance.now() + seconds * 1000;
  let count = 0;
  const resume = async () => {
    let ticket: Ticket | undefined;
    while (performance.now() < end) {
      const tried = ticket;
      const channel = await dial({ ...options, takeTicket: () => tried });
      if (tried !== undefined && channel.session.mode !== RESUMPTION.id)
        throw new Error('a ticket was refused');
      // The first of them has confirmed the connection: it is there.
      channel.onTicket = ({ id }) => {
        ticket = { id, resumable: channel.resumable };
      };
      channel.destroy('shutdown');
      count++;
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, resume));
  return count;
}
