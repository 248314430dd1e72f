import { describe, expect, it, vi } from 'vitest';
import type { IdentityChange } from '../../src/identity/keeper.ts';
import { TrustBundle } from '../../src/identity/trustbundle.ts';
import type { PeerConnection } from '../../src/relay/peerconnections.ts';
import { Rotation } from '../../src/relay/rotation.ts';
import type { Session } from '../../src/session/session.ts';
import { makeTrust, type Trust } from '../harness/trust.ts';
import { type Side, type Sides, sides } from './peersides.ts';

/** Longer than the second that vitest waits by itself: a busy machine may need that. */
const PATIENCE = { timeout: 20_000 };

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HANDSHAKE_MS = 10 * SECOND;

function rotationOf(side: Side, random = 0.5): Rotation {
  return new Rotation(side.context, {
    sessions: side.sessions,
    identity: () => side.now.identity,
    bundle: () => side.now.bundle,
    handshakeMs: HANDSHAKE_MS,
    random: () => random,
  });
}

/** One side gets another SVID, another bundle, or both. */
function change(side: Side, rotation: Rotation, next: Partial<IdentityChange['current']>): void {
  const { identity, bundle } = side.now;
  Object.assign(side.now, next);
  rotation.changed({
    previous: { identity, bundle },
    current: { identity: side.now.identity, bundle: side.now.bundle },
    svid: side.now.identity !== identity,
    bundle: side.now.bundle !== bundle,
    cause: 'files',
  });
}

async function renew(rig: Sides, side: Side, rotation: Rotation, trust: Trust = rig.trust): Promise<void> {
  const name = side === rig.web ? 'web' : 'greeter';
  change(side, rotation, { identity: await trust.identity(name) });
}

/** A session that has served a call, from both ends, and what they were asked for. */
async function used(rig: Sides) {
  const near = await rig.dial();
  const far = await rig.came.next();
  const asked: string[] = [];
  for (const { session } of [near, far]) call(session);
  near.session.listen({ successorDue: (reason) => void asked.push(reason) });
  return { near: near.session, far: far.session, asked };
}

function call(session: Session): void {
  session.callStarted();
  session.callEnded();
}

/** A bundle with another CA, and with that of the world if it is `kept`. */
async function bundleOf({ trust, clock }: Sides, kept: boolean, generation: number) {
  const other = await makeTrust({ clock });
  const certificates = kept ? [trust.ca, other.ca] : [other.ca];
  return { other, bundle: new TrustBundle({ trustDomain: trust.trustDomain, certificates, generation }) };
}

describe('a renewed SVID', () => {
  it('has the sessions that we opened replaced, each at its time', async () => {
    const rig = await sides();
    const rotation = rotationOf(rig.web);
    const { near, asked } = await used(rig);
    await renew(rig, rig.web, rotation);
    expect(rotation.outdated()).toEqual({ inbound: 0, outbound: 1 });
    rig.clock.advance(2 * SECOND);
    expect(asked).toEqual([]);
    rig.clock.advance(SECOND);
    expect(asked).toEqual(['identity-rotated']);
    expect(near.isDraining).toBe(false); // not before the successor is there
    const successor = await rig.dial();
    expect(successor.session).not.toBe(near);
    expect(successor.session.resumptions).toBe(0);
    near.drain('identity-rotated');
    near.end('identity-rotated');
    expect(rotation.outdated()).toEqual({ inbound: 0, outbound: 0 });
  });

  it('asks the peers for the sessions that they opened, and tells those to go that stay', async () => {
    const rig = await sides();
    const rotation = rotationOf(rig.greeter);
    const { far, asked } = await used(rig);
    await renew(rig, rig.greeter, rotation);
    expect(rotation.outdated()).toEqual({ inbound: 1, outbound: 0 });
    rig.clock.advance(3 * SECOND);
    await vi.waitFor(() => expect(asked).toEqual(['identity-rotated']), PATIENCE);
    expect(far.isDraining).toBe(false);
    rig.clock.advance(29 * SECOND);
    expect(far.isDraining).toBe(false);
    rig.clock.advance(SECOND);
    expect(far.isDraining).toBe(true);
    far.end('identity-rotated');
    expect(far.endReason).toBe('identity-rotated');
  });

  it('lets one go at once that nobody has called in, and one that rests', async () => {
    const rig = await sides();
    const rotation = rotationOf(rig.web);
    const { session: unused } = await rig.dial();
    await renew(rig, rig.web, rotation);
    const { near: resting } = await used(rig);
    for (const { channel } of rig.web.sessions.connectionsOf(resting)) channel.destroy('heartbeat-timeout');
    await vi.waitFor(() => expect(resting.state).toBe('error'), PATIENCE);
    expect(resting.isDisposed).toBe(false);
    await renew(rig, rig.web, rotation);
    rig.clock.advance(3 * SECOND);
    expect(unused.isDraining).toBe(true);
    expect(resting.endReason).toBe('identity-rotated');
  });

  it('is not held up by the next one: who was to go goes', async () => {
    const rig = await sides();
    const rotation = rotationOf(rig.greeter);
    const { far } = await used(rig);
    for (let second = 0; second < 33; second++) {
      await renew(rig, rig.greeter, rotation);
      rig.clock.advance(SECOND);
    }
    expect(far.isDraining).toBe(true);
  });

  it('finds the sessions of handshakes that were under way', async () => {
    const rig = await sides();
    const rotation = rotationOf(rig.web);
    const before = rig.web.now.identity;
    await renew(rig, rig.web, rotation);
    const after = rig.web.now.identity;
    rig.web.now.identity = before; // as a dial has taken it
    const { asked } = await used(rig);
    rig.web.now.identity = after;
    rig.clock.advance(HANDSHAKE_MS);
    expect(asked).toEqual([]);
    rig.clock.advance(3 * SECOND);
    expect(asked).toEqual(['identity-rotated']);
  });

  it('has replaced all within three quarters of what is left of the old one', async () => {
    const rig = await sides({ greeter: { ttlMs: 8 * SECOND } });
    const rotation = rotationOf(rig.greeter, 0.999);
    const { far, asked } = await used(rig);
    await renew(rig, rig.greeter, rotation);
    rig.clock.advance(4.5 * SECOND); // of 9, for 8 s ends with its last millisecond
    await vi.waitFor(() => expect(asked).toEqual(['identity-rotated']), PATIENCE);
    rig.clock.advance(2.25 * SECOND);
    expect(far.isDraining).toBe(true);
    expect(far.endReason).toBeUndefined();
  });

  it('leaves nothing to be done once it is closed', async () => {
    const rig = await sides();
    const rotation = rotationOf(rig.web);
    const { asked } = await used(rig);
    await renew(rig, rig.web, rotation);
    rotation.close();
    rig.clock.advance(MINUTE);
    expect(asked).toEqual([]);
  });

  it('does not trouble the peer, who resumes the session that it has with the new one', async () => {
    const rig = await sides();
    const rotation = rotationOf(rig.greeter);
    await used(rig);
    await renew(rig, rig.web, rotationOf(rig.web));
    expect(rotation.outdated()).toEqual({ inbound: 0, outbound: 0 });
    const { session } = await rig.dial();
    const again = await rig.dial();
    expect(again.session).toBe(session);
  });
});

describe('a changed bundle', () => {
  it('that still has the CA leaves sessions and their tickets alone', async () => {
    const rig = await sides();
    const { near, far } = await used(rig);
    const { bundle } = await bundleOf(rig, true, 2);
    change(rig.greeter, rotationOf(rig.greeter), { bundle });
    change(rig.web, rotationOf(rig.web), { bundle });
    const again = await rig.dial();
    expect(again.session).toBe(near);
    expect(far.isDisposed).toBe(false);
  });

  it.each(['web', 'greeter'] as const)(
    'without the CA ends the sessions at %s, and opens no other',
    async (name) => {
      const rig = await sides();
      const { near, far } = await used(rig);
      const { bundle } = await bundleOf(rig, false, 2);
      const [own, others] = name === 'web' ? [near, far] : [far, near];
      const [{ channel }] = rig[name].sessions.connectionsOf(own) as [PeerConnection];
      const other = rig[name === 'web' ? 'greeter' : 'web'].sessions.connectionsOf(
        others,
      )[0] as PeerConnection;
      const { received } = channel;
      const octets = other.channel.acquire();
      other.channel.write(octets, other.channel.headroom, other.channel.headroom + 5); // on its way
      change(rig[name], rotationOf(rig[name]), { bundle });
      expect(own.endReason).toBe('identity-untrusted');
      expect(own.sessionKey.wiped).toBe(true);
      await vi.waitFor(() => expect(others.isDisposed).toBe(true), PATIENCE);
      expect(channel.received).toBe(received);
      expect(other.channel.closed).toBe(true);
      expect(await rig[name].said('session.closed')).toMatchObject([{ reason: 'identity-untrusted' }]);
      await expect(rig.dial()).rejects.toThrow();
    },
  );

  it('is not what counts once there is another one', async () => {
    const rig = await sides();
    const { near } = await used(rig);
    const rotation = rotationOf(rig.web);
    const { bundle } = await bundleOf(rig, true, 2);
    const { bundle: without } = await bundleOf(rig, false, 3);
    change(rig.web, rotation, { bundle });
    change(rig.web, rotation, { bundle: without });
    rig.clock.advance(1);
    expect(near.endReason).toBe('identity-untrusted');
  });
});
