import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { toPem } from '../../src/identity/pem.ts';
import type { CrowdOrder, CrowdReport } from '../harness/crowd.ts';
import { Insider } from '../harness/insider.ts';
import { atEnd, World } from '../harness/sidecars.ts';
import {
  DOMAIN,
  type Forged,
  forgeCa,
  forgeIntermediate,
  forgeLeaf,
  privateKeyOf,
} from '../identity/forge.ts';

/*
 * What a session takes that rests and can be resumed, at the end that issued its tickets and at the one that holds them:
 * the issuer is `hauberk run`, the holder the relay's PeerSessions, and real handshakes have made all that they keep.
 */

const CROWD = fileURLToPath(new URL('../harness/crowd.ts', import.meta.url));
const BUDGET = 4096; // bytes a session (design, section 11)
const SESSIONS = 10_000;
const WARM_UPS = 500;
/** So many of them are seen to be what they are counted as. */
const RESUMED = 500;
const PEERS = 4;
const DAY = 24 * 3_600_000;

/** Chains of as many certificates as HBK/1 allows, so that a session that kept one to itself would be over the budget. */
async function makeIdentities(dir: string) {
  const validity = { notBefore: Date.now() - DAY, notAfter: Date.now() + DAY };
  const root = await forgeCa({ kind: 'rsa', ...validity });
  const upper = await forgeIntermediate(root, { name: 'CN=Upper', kind: 'rsa', ...validity });
  const middle = await forgeIntermediate(upper, { name: 'CN=Middle', kind: 'rsa', ...validity });
  const lower = await forgeIntermediate(middle, { name: 'CN=Lower', kind: 'rsa', ...validity });
  const bundle = join(dir, 'bundle.pem');
  await writeFile(bundle, toPem('CERTIFICATE', root.der), { mode: 0o600 });
  let chainBytes = 0;
  const issue = async (name: string) => {
    const leaf = await forgeLeaf(lower, { uris: [`spiffe://${DOMAIN}/ns/default/sa/${name}`], ...validity });
    const chain: Forged[] = [leaf, lower, middle, upper];
    chainBytes = chain.reduce((sum, { der }) => sum + der.length, 0);
    const files = { svid: join(dir, `${name}.pem`), key: join(dir, `${name}.key`) };
    await writeFile(files.svid, chain.map(({ der }) => toPem('CERTIFICATE', der)).join(''));
    const key = (await privateKeyOf(leaf)).export({ type: 'pkcs8', format: 'pem' });
    await writeFile(files.key, key, { mode: 0o600 });
    return files;
  };
  const greeter = await issue('greeter');
  const svids = await Promise.all(Array.from({ length: PEERS }, (_, n) => issue(`web-${n}`)));
  return { bundle, greeter, svids, chainBytes };
}

class Crowd {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;

  constructor(order: CrowdOrder) {
    this.#child = spawn(process.execPath, ['--expose-gc', '--import', 'tsx', CROWD], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    atEnd(async () => {
      if (this.#child.exitCode !== null) return;
      this.#child.kill('SIGKILL');
      await once(this.#child, 'exit');
    });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
    this.#child.stdin.write(`${JSON.stringify(order)}\n`);
  }

  async tell(command: string): Promise<CrowdReport> {
    this.#child.stdin.write(`${command}\n`);
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error(`the crowd ended at: ${command}`);
    return JSON.parse(value as string) as CrowdReport;
  }
}

it('a resumable session takes less than 4 KiB at either end', async () => {
  const world = await World.make(DOMAIN);
  const { bundle, greeter, svids, chainBytes } = await makeIdentities(world.dir);
  const insider = new Insider(world, 'greeter');
  const sidecar = await world.sidecar(
    'greeter',
    {
      identity: { ...greeter, bundle },
      monitoring: { adapters: undefined },
      handshake: { ratePerAddress: 1_000_000, burstPerAddress: 1_000_000 },
      session: { max: SESSIONS, maxPerPeer: SESSIONS },
      crypto: { postQuantum: 'off' },
      log: { level: 'error' },
    },
    insider.start,
  );
  const [host, port] = sidecar.ingress.split(':') as [string, string];
  const expectedPeer = world.spiffeId('greeter');
  const crowd = new Crowd({
    ...{ trustDomain: DOMAIN, svids, bundle, host, port: Number(port), expectedPeer },
    sessions: SESSIONS,
  });
  await crowd.tell(`connect 0 ${WARM_UPS}`);
  await crowd.tell(`resume 0 ${WARM_UPS}`);
  const before = { holder: (await crowd.tell('report')).used, issuer: await insider.collect(sidecar) };
  const after = await crowd.tell(`connect ${WARM_UPS} ${SESSIONS}`);
  expect(after.resting).toBe(SESSIONS);
  expect(await sidecar.metric('hauberk_sessions_open')).toBe(SESSIONS);
  const bytes = {
    holder: (after.used - before.holder) / (SESSIONS - WARM_UPS),
    issuer: ((await insider.collect(sidecar)) - before.issuer) / (SESSIONS - WARM_UPS),
  };
  console.log(
    `a resumable session takes ${bytes.holder | 0} bytes at its holder, ${bytes.issuer | 0} at its issuer`,
  );
  expect(bytes.holder).toBeLessThan(BUDGET);
  expect(bytes.issuer).toBeLessThan(BUDGET);
  // With a chain of its own each would be above that.
  expect(Math.min(bytes.holder, bytes.issuer) + chainBytes).toBeGreaterThan(BUDGET);
  await crowd.tell(`resume ${SESSIONS - RESUMED} ${SESSIONS}`);
  expect(await sidecar.metric('hauberk_sessions_open')).toBe(SESSIONS);
  const left = (await crowd.tell('end')).used - before.holder;
  expect(left / (SESSIONS - WARM_UPS)).toBeLessThan(BUDGET / 8);
}, 240_000);
