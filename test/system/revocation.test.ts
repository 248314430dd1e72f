import { expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import { cryptoProvider } from '../../src/crypto/provider.ts';
import { loadIdentity } from '../../src/identity/load.ts';
import type { Session } from '../../src/session/session.ts';
import type { SecureChannel } from '../../src/transport/channel.ts';
import { dial } from '../../src/transport/dial.ts';
import { XX } from '../../src/transport/mode.ts';
import { StaticKey } from '../../src/transport/statickey.ts';
import { embed } from '../harness/embedded.ts';
import { PREFACE, ping, settings, settingsAck } from '../harness/http2-peer.ts';
import { atEnd, World } from '../harness/sidecars.ts';

const crypto = cryptoProvider('native');
const GOING = 1000;
const STAYING = 200;
const AT_A_TIME = 20;

/** A peer's end of a session: how many records it has sent, and how it ended. */
interface Client {
  readonly session: string;
  readonly records: number;
  readonly channel: SecureChannel;
  end: string | undefined;
}

it('1,000 of 1,200 real sessions are revoked by a filter: each is told, its receipt counts its records', async () => {
  const world = await World.make();
  const greeter = await embed(world, 'greeter', {
    handshake: { ratePerAddress: 100_000, burstPerAddress: 100_000, maxHalfOpenPerAddress: 256 },
    session: { maxPerPeer: 5000 },
    records: { heartbeat: '1h' }, // an answer to one would be a record more
    log: { level: 'silent' },
  });
  const staticKey = new StaticKey(crypto, systemClock, 3_600_000);
  atEnd(() => staticKey.close());
  const address = greeter.ingress.split(':');

  const open = async (name: string, count: number): Promise<Client[]> => {
    const files = await world.trust.issue(name);
    const trust = { ...files, trustDomain: world.trust.trustDomain };
    const { identity, bundle } = await loadIdentity(trust, systemClock);
    const clients: Client[] = [];
    const one = async (index: number): Promise<void> => {
      const channel = await dial({
        host: address[0] as string,
        port: Number(address[1]),
        identity,
        bundle,
        expectedPeer: world.spiffeId('greeter'),
        staticKey,
        crypto,
        clock: systemClock,
        modes: [XX],
      });
      const send = (octets: Buffer): void => {
        const buf = channel.acquire();
        octets.copy(buf, channel.headroom);
        channel.write(buf, channel.headroom, channel.headroom + octets.length);
      };
      send(Buffer.concat([PREFACE, settings(), settingsAck()]));
      const pings = index % 7;
      for (let i = 0; i < pings; i++) send(ping());
      const client: Client = { session: channel.session.id, records: 2 + pings, channel, end: undefined };
      channel.onClose = (reason) => {
        client.end = reason;
      };
      channel.onData = () => {};
      clients.push(client);
    };
    for (let at = 0; at < count; at += AT_A_TIME) {
      await Promise.all(Array.from({ length: AT_A_TIME }, (_, i) => one(at + i)));
    }
    return clients;
  };

  const going = await open('web', GOING);
  const staying = await open('cart', STAYING);
  const sessions: Session[] = [];
  const accepted = async (): Promise<number> => {
    sessions.length = 0;
    const where = (session: Session): boolean => {
      sessions.push(session);
      return false;
    };
    await greeter.sidecar.revocation.revoke({ where }, { reason: 'only looks' });
    return sessions.reduce((sum, { counters }) => sum + counters.recordsIn, 0);
  };
  const sent = [...going, ...staying].reduce((sum, { records }) => sum + records, 0);
  await expect.poll(accepted, { timeout: 20_000 }).toBe(sent);
  expect(sessions).toHaveLength(GOING + STAYING);

  const where = { peer: world.spiffeId('w*') };
  const receipt = await greeter.sidecar.revocation.revoke({ where }, { mayReturn: false, reason: 'drill' });
  expect(receipt.sessions).toHaveLength(GOING);
  const receipts = new Map(receipt.sessions.map((session) => [session.sessionId, session]));
  for (const { session, records } of going) {
    const { connections, recordsAccepted } = receipts.get(session) ?? {};
    expect([recordsAccepted, connections]).toEqual([
      records,
      [{ remote: expect.any(String), records, lastRecord: records - 1 }],
    ]);
  }
  expect(receipt.blocked.map(({ peer }) => peer)).toEqual([world.spiffeId('web')]);
  for (const session of sessions) {
    const isGone = receipts.has(session.id);
    expect([session.isDisposed, session.sessionKey.wiped]).toEqual([isGone, isGone]);
  }
  // All are told in order, and by the time that they are the others have noticed nothing.
  await expect.poll(() => going.filter(({ end }) => end === undefined).length, { timeout: 20_000 }).toBe(0);
  expect(new Set(going.map(({ end }) => end))).toEqual(new Set(['peer-closed']));
  expect(staying.filter(({ end }) => end !== undefined)).toEqual([]);
  expect((await greeter.audit.events('session.revoked', GOING)).length).toBe(GOING);
  // The last session's command to cut is that of all.
  expect(receipt.cutMicros).toBeGreaterThanOrEqual(Math.max(...receipt.sessions.map((s) => s.cutMicros)));
});
