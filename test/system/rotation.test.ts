import { copyFile, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { SayHello } from '../harness/greeter-methods.ts';
import { answerOf, fieldOf, framed, RawApp, RawClient } from '../harness/rawh2.ts';
import {
  type ConfigFile,
  ingressTo,
  merge,
  type SidecarProcess,
  startPair,
  World,
} from '../harness/sidecars.ts';
import { Steady } from '../harness/steady.ts';
import { makeTrustFolder, type TrustFolder } from '../harness/trust.ts';

/*
 * Identities that change while sidecars serve calls: SVIDs, trust bundles, files that are wrong, and an end that nobody has
 * put off. What is decided in which case is in test/identity/keeper.test.ts and test/relay/rotation.test.ts.
 */

const LOOKS: ConfigFile = { identity: { reload: '100ms' } };
const SECOND = 1_000;
const PATIENCE = { timeout: 30_000 };

/** Sessions of these sidecars whose handshake was with an SVID that has been replaced. */
async function outdated(...sidecars: SidecarProcess[]): Promise<number> {
  const counts = await Promise.all(sidecars.map((each) => each.metric('hauberk_sessions_outdated')));
  return counts.reduce((sum, count) => sum + count, 0);
}

/** The files of one sidecar, in a folder of their own, which are replaced as whoever hands them out does it. */
class Kit {
  readonly dir: string;
  readonly config: ConfigFile;

  private constructor(dir: string) {
    this.dir = dir;
    const path = (name: string): string => join(dir, name);
    this.config = {
      identity: {
        svid: path('svid.pem'),
        key: path('svid.key'),
        bundle: path('bundle.pem'),
        reload: '100ms',
      },
    };
  }

  static async make(world: World, name: string): Promise<Kit> {
    const kit = new Kit(join(world.dir, `kit-${name}`));
    await mkdir(kit.dir);
    await kit.identity(world.trust, name);
    await kit.bundle(world.trust);
    return kit;
  }

  async identity(trust: TrustFolder, name: string): Promise<void> {
    const { svid, key } = await trust.issue(name);
    await this.#put('svid.key', (path) => copyFile(key, path));
    await this.#put('svid.pem', (path) => copyFile(svid, path));
  }

  async bundle(...trusts: TrustFolder[]): Promise<void> {
    const texts = await Promise.all(trusts.map(({ bundle }) => readFile(bundle, 'utf8')));
    await this.#put('bundle.pem', (path) => writeFile(path, texts.join('')));
  }

  async #put(name: string, write: (path: string) => Promise<void>): Promise<void> {
    const path = join(this.dir, name);
    await write(`${path}.new`);
    await rename(`${path}.new`, path);
  }
}

describe('SVIDs that are renewed while calls go on', () => {
  it('lose no call, and leave no session that was made with an old one', async () => {
    const { world, web, greeter, client } = await startPair({ web: LOOKS, greeter: LOOKS });
    const steady = await Steady.start(client);
    for (let round = 1; round <= 3; round++) {
      await world.trust.issue('web', { ttlMs: 60 * SECOND });
      await world.trust.issue('greeter', { ttlMs: 60 * SECOND });
      for (const sidecar of [web, greeter]) await sidecar.audit.events('identity.rotated', round);
      await expect.poll(() => outdated(web, greeter), PATIENCE).toBe(0);
      await steady.more(50);
    }
    steady.stop();
    for (const sidecar of [web, greeter]) {
      const last = (await sidecar.audit.of('identity.rotated')).at(-1);
      const old = (await sidecar.audit.of('session.created')).filter(({ seq }) => seq < (last?.seq ?? 0));
      const closed = await sidecar.audit.events('session.closed', old.length);
      expect(old.length).toBeGreaterThanOrEqual(3);
      expect(closed.map(({ sessionId }) => sessionId)).toEqual(
        expect.arrayContaining(old.map(({ sessionId }) => sessionId)),
      );
      expect(new Set(closed.map(({ reason }) => reason))).toEqual(new Set(['identity-rotated']));
      expect(await sidecar.audit.of('session.resumed')).toEqual([]);
      expect(await sidecar.audit.of('handshake.failed')).toEqual([]);
      expect(await sidecar.metric('hauberk_identity_reloads_total', { result: 'rotated' })).toBe(3);
      expect(await sidecar.metric('hauberk_identity_remaining_seconds')).toBeLessThanOrEqual(60);
    }
  });

  it('leave a call alone that goes on in an old session', async () => {
    const world = await World.make();
    const app = await RawApp.start();
    const { web, greeter } = await startPair({
      world,
      web: LOOKS,
      greeter: merge(ingressTo(world, app.address), LOOKS),
    });
    const client = new RawClient(web.egress, 'greeter.shop');
    const answer = answerOf(client.grpc('/shop.Raw/Hold').end(framed(Buffer.alloc(1))));
    await expect.poll(() => app.requests.length, PATIENCE).toBe(1);
    await world.trust.issue('greeter');
    const { seq } = await greeter.audit.event('identity.rotated');
    // The called side has asked for another session, and the calling side has opened one.
    await greeter.audit.event('session.created', () => true, seq);
    await greeter.audit.event('connection.draining', ({ reason }) => reason !== 'idle', seq);
    const ok = { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '0' };
    for (const { stream } of app.requests.splice(0)) stream.respond(ok, { endStream: true });
    expect(fieldOf((await answer).headers, 'grpc-status')).toBe('0');
    await expect.poll(() => outdated(web, greeter), PATIENCE).toBe(0);
  });

  it('are renewed by their sidecars where that is wanted: two of the same files, for several lives', async () => {
    const world = await World.make();
    const app = await world.app();
    const renews = { identity: { renew: true, reload: '100ms' } };
    const config = await world.configure('greeter', merge(ingressTo(world, app.address), renews));
    const { notAfter: first } = await world.trust.issue('greeter', { ttlMs: 6 * SECOND });
    const ends = await Promise.all([world.run('greeter', config), world.run('greeter', config)]);
    const { client } = await startPair({ world, route: { endpoints: ends.map(({ ingress }) => ingress) } });
    const steady = await Steady.start(client);
    await expect.poll(() => Date.now() > first + 6 * SECOND, PATIENCE).toBe(true);
    await steady.more(50);
    steady.stop();
    const [one, two] = ends;
    // Both write into one file.
    const byInstance = new Map<string, Set<string>>();
    for (const { instance, leafSha256 } of await one.audit.of('identity.rotated')) {
      byInstance.set(instance, (byInstance.get(instance) ?? new Set()).add(leafSha256));
    }
    const [leaves, others] = [...byInstance.values()];
    const shared = [...(leaves ?? [])].filter((leaf) => others?.has(leaf));
    expect(shared.length).toBeGreaterThanOrEqual(2);
    const renewed = await one.audit.of('identity.renewed');
    expect(renewed.length).toBeLessThanOrEqual(Math.max(leaves?.size ?? 0, others?.size ?? 0) + 1);
    expect(await one.metric('hauberk_identity_reloads_total', { result: 'rotated' })).toBeGreaterThanOrEqual(
      2,
    );
    expect(await two.metric('hauberk_identity_reloads_total', { result: 'rotated' })).toBeGreaterThanOrEqual(
      2,
    );
    expect(await one.metric('hauberk_identity_renewals_total', { result: 'failed' })).toBe(0);
    expect(await two.metric('hauberk_identity_renewals_total', { result: 'failed' })).toBe(0);
  });
});

describe('a CA that is replaced', () => {
  it('by an overlap of both loses no call; a peer that only the old one vouches for is cut, and stays out', async () => {
    const world = await World.make();
    const next = await makeTrustFolder({
      dir: join(world.dir, 'next'),
      trustDomain: world.trust.trustDomain,
    });
    const [webs, greeters] = [await Kit.make(world, 'web'), await Kit.make(world, 'greeter')];
    const { web, greeter, client } = await startPair({ world, web: webs.config, greeter: greeters.config });
    const steady = await Steady.start(client);

    for (const kit of [webs, greeters]) await kit.bundle(world.trust, next);
    for (const { audit } of [web, greeter]) {
      expect(await audit.event('identity.rotated')).toMatchObject({ changed: 'bundle', bundleGeneration: 2 });
    }
    await steady.more(50);
    expect(await greeter.audit.of('session.closed')).toEqual([]);

    await greeters.identity(next, 'greeter');
    await greeter.audit.event('identity.rotated', ({ changed }) => changed === 'svid');
    await expect.poll(() => outdated(greeter), PATIENCE).toBe(0);
    await steady.more(50);
    steady.stop();

    // web has not been renewed in time.
    await greeters.bundle(next);
    const { seq } = await greeter.audit.event(
      'identity.rotated',
      ({ bundleGeneration }) => bundleGeneration === 3,
    );
    const cut = await greeter.audit.event('session.closed', () => true, seq);
    expect(cut.reason).toBe('identity-untrusted');
    expect(await client.unary(SayHello, { name: 'Ada' })).toMatchObject({ code: 14 });
    expect(await greeter.audit.event('handshake.failed')).toMatchObject({ reason: 'untrusted-peer' });
    expect(await greeter.metric('hauberk_sessions_open')).toBe(0);

    await webs.identity(next, 'web');
    await web.audit.event('identity.rotated', ({ changed }) => changed !== 'bundle');
    await expect.poll(async () => (await client.unary(SayHello, { name: 'Ada' })).code, PATIENCE).toBe(0);
  });
});

describe('files that are wrong', () => {
  it('are refused by name, and calls go on; with reload off only a signal has them read', async () => {
    const world = await World.make();
    const [webs, greeters] = [await Kit.make(world, 'web'), await Kit.make(world, 'greeter')];
    const { web, greeter, client } = await startPair({
      world,
      web: merge(webs.config, { identity: { reload: 'off' } }),
      greeter: greeters.config,
    });
    const steady = await Steady.start(client);
    const svid = join(greeters.dir, 'svid.pem');
    await greeters.identity(world.trust, 'mallory');
    const refused = await greeter.audit.event('identity.reload-failed');
    expect(refused).toMatchObject({ reason: 'other-identity', cause: 'files' });
    expect(refused.detail).toContain(svid);
    await writeFile(svid, 'half of');
    await greeter.audit.event('identity.reload-failed', ({ reason }) => reason === 'not-pem');
    await steady.more(20);
    await webs.identity(world.trust, 'web');
    await greeters.identity(world.trust, 'greeter');
    await greeter.audit.event('identity.rotated');
    expect(await web.audit.of('identity.rotated')).toEqual([]);
    web.signal('SIGHUP');
    expect(await web.audit.event('identity.rotated')).toMatchObject({ changed: 'svid', cause: 'command' });
    await steady.more(20);
    steady.stop();
    expect(await greeter.metric('hauberk_identity_reloads_total', { result: 'refused' })).toBe(2);
    expect(greeter.log).toContain('changed identity files refused');
  });
});

describe('an SVID that nobody renews', () => {
  it('ends its sessions, and the sidecar is not ready until there is another', async () => {
    const { world, web, client } = await startPair({ web: LOOKS });
    await world.trust.issue('web', { ttlMs: 4 * SECOND });
    await web.audit.event('identity.rotated');
    await expect.poll(async () => (await client.unary(SayHello, { name: 'Ada' })).code, PATIENCE).toBe(14);
    await web.audit.event('identity.expired');
    await web.audit.event('session.expired', ({ reason }) => reason === 'identity-expired');
    expect(await web.probe('/readyz')).toMatchObject({ status: 503 });
    expect((await web.probe('/readyz')).body).toContain('expired');
    await world.trust.issue('web');
    await expect.poll(async () => (await web.probe('/readyz')).status, PATIENCE).toBe(200);
    await expect.poll(async () => (await client.unary(SayHello, { name: 'Ada' })).code, PATIENCE).toBe(0);
  });
});
