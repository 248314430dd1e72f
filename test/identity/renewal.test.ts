import {
  copyFileSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { renewSvid } from '../../src/identity/authority.ts';
import { parseCertificate } from '../../src/identity/certificate.ts';
import { IdentityError } from '../../src/identity/errors.ts';
import { FolderIssuer, openRenewing } from '../../src/identity/folderissuer.ts';
import { lockFor } from '../../src/identity/issuelock.ts';
import type { Issuer } from '../../src/identity/issuer.ts';
import { IdentityKeeper } from '../../src/identity/keeper.ts';
import { type IdentityFiles, loadIdentity } from '../../src/identity/load.ts';
import { Renewal, type RenewalOptions } from '../../src/identity/renewal.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { makeTrustFolder, type TrustFolder } from '../harness/trust.ts';

/** Longer than the second that vitest waits by itself: a busy machine may need that. */
const PATIENCE = { timeout: 20_000 };

const DOMAIN = 'shop.example';
const SECOND = 1_000;
const HOUR = 3_600 * SECOND;

let clock: FakeClock;
let folder: TrustFolder;
let files: IdentityFiles;
const replicas: Replica[] = [];

beforeEach(async () => {
  clock = new FakeClock();
  folder = await makeTrustFolder({ trustDomain: DOMAIN, clock });
  files = { ...(await folder.issue('web', { ttlMs: 10 * HOUR, leafKey: 'ed25519' })), trustDomain: DOMAIN };
});

afterEach(async () => {
  for (const replica of replicas.splice(0)) replica.close();
  await folder.remove();
});

/** A program that renews its identity. */
class Replica {
  readonly keeper: IdentityKeeper;
  readonly renewal: Renewal;
  readonly renewed: number[] = [];
  readonly failed: Array<{ code: string; attempts: number; retryMs: number }> = [];

  constructor(keeper: IdentityKeeper, options: Partial<RenewalOptions>) {
    this.keeper = keeper;
    this.renewal = new Renewal({
      issuer: new FolderIssuer(files, clock),
      clock,
      keeper,
      random: () => 0.5,
      ...options,
    });
    keeper.start({ onChanged: () => void this.plan(), onRefused: () => undefined });
    replicas.push(this);
  }

  static async start(options: Partial<RenewalOptions> = {}): Promise<Replica> {
    return new Replica(await IdentityKeeper.open({ files, clock, reloadMs: undefined }), options);
  }

  plan(): Promise<boolean> {
    return this.renewal.plan({
      onRenewed: (notAfter) => void this.renewed.push(notAfter),
      onFailed: ({ code }, attempts, retryMs) => void this.failed.push({ code, attempts, retryMs }),
    });
  }

  get leaf() {
    return parseCertificate(this.keeper.identity.chain[0] as Buffer);
  }

  close(): void {
    this.renewal.close();
    this.keeper.close();
  }
}

describe('an SVID that is renewed here', () => {
  it('gets a successor of its ID, lifetime and kind of key at half of its life, again and again', async () => {
    const replica = await Replica.start();
    expect(await replica.plan()).toBe(true);
    for (let round = 1; round <= 3; round++) {
      const { leaf } = replica;
      const { notAfter, spiffeId } = replica.keeper.identity;
      const half = Math.round((notAfter - clock.now()) / 2);
      expect(replica.renewal.at).toBe(clock.now() + half);
      clock.advance(half - SECOND);
      expect(replica.renewed).toHaveLength(round - 1);
      clock.advance(SECOND);
      await vi.waitFor(() => expect(replica.renewal.at).toBeGreaterThan(clock.now()), PATIENCE);
      expect(replica.leaf.der).not.toEqual(leaf.der);
      expect(replica.leaf.spki).not.toEqual(leaf.spki);
      expect(replica.leaf.keyType).toBe('ed25519');
      expect(replica.keeper.identity.spiffeId).toBe(spiffeId);
      const life = replica.leaf.notAfter - replica.leaf.notBefore;
      expect(Math.abs(life - (leaf.notAfter - leaf.notBefore))).toBeLessThanOrEqual(SECOND);
      expect(replica.renewed).toEqual(expect.arrayContaining([replica.keeper.identity.notAfter]));
      expect(replica.renewed).toHaveLength(round);
    }
    expect(replica.failed).toEqual([]);
    expect((await loadIdentity(files, clock)).identity.chain).toEqual(replica.keeper.identity.chain);
  });

  it.each([
    [0, 0.4],
    [0.999, 0.6],
  ])('is so at random around that: with %d at %d', async (random, share) => {
    const replica = await Replica.start({ random: () => random });
    await replica.plan();
    const left = replica.keeper.identity.notAfter - clock.now();
    expect(((replica.renewal.at ?? 0) - clock.now()) / left).toBeCloseTo(share, 2);
  });

  it('is renewed once by two that come at the same time, and both have it', async () => {
    const [one, two] = [await Replica.start(), await Replica.start()];
    await Promise.all([one.plan(), two.plan()]);
    clock.advance(5.1 * HOUR);
    await vi.waitFor(() => {
      for (const { renewal } of [one, two]) expect(renewal.at).toBeGreaterThan(clock.now());
    }, PATIENCE);
    expect(one.keeper.identity.chain).toEqual(two.keeper.identity.chain);
    expect([...one.renewed, ...two.renewed]).toHaveLength(1);
    expect([...one.failed, ...two.failed]).toEqual([]);
  });

  it('stays in use when that fails, and is tried again later and later', async () => {
    const replica = await Replica.start();
    await replica.plan();
    const { identity } = replica.keeper;
    const caKey = join(folder.dir, 'ca.key');
    renameSync(caKey, `${caKey}.away`);
    clock.advance(5.1 * HOUR);
    for (let attempt = 1; attempt <= 4; attempt++) {
      await vi.waitFor(() => expect(replica.failed).toHaveLength(attempt), PATIENCE);
      clock.advance(replica.failed.at(-1)?.retryMs ?? 0);
    }
    await vi.waitFor(() => expect(replica.failed).toHaveLength(5), PATIENCE);
    expect(replica.keeper.identity).toBe(identity);
    expect(replica.failed.map(({ code }) => code)).toEqual(Array(5).fill('missing-file'));
    expect(replica.failed.map(({ retryMs }) => retryMs / SECOND)).toEqual([1, 1.5, 2.5, 4.5, 8.5]);
    renameSync(`${caKey}.away`, caKey);
    clock.advance(replica.failed.at(-1)?.retryMs ?? 0);
    await vi.waitFor(() => expect(replica.keeper.identity).not.toBe(identity), PATIENCE);
  });

  it('is asked for no sooner than whoever refuses it wants, and every quarter of a minute once it has ended', async () => {
    let retryAfterMs: number | undefined = 20 * SECOND;
    const issuer: Issuer = {
      files,
      able: async () => true,
      issue: () => Promise.reject(new IdentityError('controller-refuses', 'not now', { retryAfterMs })),
    };
    const replica = await Replica.start({ issuer });
    await replica.plan();
    clock.advance(5.1 * HOUR);
    await vi.waitFor(() => expect(replica.failed).toMatchObject([{ retryMs: 20.5 * SECOND }]), PATIENCE);
    retryAfterMs = undefined;
    clock.advance(5 * HOUR);
    for (let attempt = 2; attempt <= 7; attempt++) {
      await vi.waitFor(() => expect(replica.failed).toHaveLength(attempt), PATIENCE);
      clock.advance(replica.failed.at(-1)?.retryMs ?? 0);
    }
    await vi.waitFor(() => expect(replica.failed.at(-1)?.retryMs).toBe(8 * SECOND), PATIENCE);
  });

  it('can be brought forward, and is renewed but once', async () => {
    let asked = 0;
    const own = new FolderIssuer(files, clock);
    let goOn = (): void => undefined;
    const issuer: Issuer = {
      files,
      able: () => own.able(),
      issue: async (current) => {
        asked++;
        await new Promise<void>((resolve) => {
          goOn = resolve;
        });
        return await own.issue(current);
      },
    };
    const replica = await Replica.start({ issuer });
    await replica.plan();
    const { identity } = replica.keeper;
    replica.renewal.soon(10 * SECOND);
    expect(replica.renewal.at).toBe(clock.now() + 5 * SECOND);
    clock.advance(5 * SECOND);
    replica.renewal.soon(0);
    clock.advance(SECOND);
    expect(asked).toBe(1);
    goOn();
    await vi.waitFor(() => expect(replica.keeper.identity).not.toBe(identity), PATIENCE);
    await vi.waitFor(() => expect((replica.renewal.at ?? 0) - clock.now()).toBeGreaterThan(HOUR), PATIENCE);
    expect(replica.renewed).toHaveLength(1);
  });

  it('is not renewed where it could not outlast the CA, which is said', async () => {
    await folder.remove();
    rmSync(folder.dir, { recursive: true, force: true });
    const { initTrustDomain, issueSvid } = await import('../../src/identity/authority.ts');
    await initTrustDomain({ dir: folder.dir, trustDomain: DOMAIN, clock, ttlMs: 8 * HOUR });
    await issueSvid({ dir: folder.dir, name: 'web', clock, ttlMs: 10 * HOUR });
    const replica = await Replica.start();
    await replica.plan();
    const { identity } = replica.keeper;
    clock.advance(4.1 * HOUR);
    await vi.waitFor(
      () => expect(replica.failed).toMatchObject([{ code: 'ca-ending', attempts: 1 }]),
      PATIENCE,
    );
    expect(replica.keeper.identity).toBe(identity);
  });

  it('is not renewed without the CA key, nor where its file is a link', async () => {
    const replica = await Replica.start();
    renameSync(files.svid, `${files.svid}.real`);
    symlinkSync(`${files.svid}.real`, files.svid);
    expect(await replica.plan()).toBe(false);
    rmSync(files.svid);
    renameSync(`${files.svid}.real`, files.svid);
    rmSync(join(folder.dir, 'ca.key'));
    expect(await replica.plan()).toBe(false);
    expect(replica.renewal.at).toBeUndefined();
    expect(clock.pending).toBe(0);
  });
});

describe('at the start', () => {
  it.each([
    ['has expired', () => clock.advance(11 * HOUR)],
    [
      'is another’s than the key',
      async () => {
        const key = readFileSync(files.key);
        await folder.issue('web');
        writeFileSync(files.key, key);
      },
    ],
  ] as const)('an SVID that %s is renewed first', async (_what, spoil) => {
    await spoil();
    const keeper = await openRenewing({ files, clock, reloadMs: undefined });
    expect(keeper.identity.notAfter).toBeGreaterThan(clock.now());
    expect(keeper.identity.spiffeId).toBe(`spiffe://${DOMAIN}/ns/default/sa/web`);
    keeper.close();
  });

  it('the key of another service that was named by mistake is left alone', async () => {
    await folder.issue('shop');
    const key = join(folder.dir, 'shop.key');
    const before = readFileSync(key);
    await expect(
      openRenewing({ files: { ...files, key }, clock, reloadMs: undefined }),
    ).rejects.toMatchObject({ code: 'key-mismatch' });
    expect(readFileSync(key).equals(before)).toBe(true);
  });

  it('an SVID that has expired is refused where it cannot be renewed', async () => {
    clock.advance(11 * HOUR);
    rmSync(join(folder.dir, 'ca.key'));
    await expect(openRenewing({ files, clock, reloadMs: undefined })).rejects.toMatchObject({
      code: 'expired',
    });
  });
});

describe('an SVID and its key', () => {
  it('fit, however many replace them at the same time', async () => {
    for (let round = 0; round < 3; round++) {
      await Promise.all(Array.from({ length: 6 }, () => folder.issue('web')));
      await expect(loadIdentity(files, clock)).resolves.toBeDefined();
    }
    expect(readdirSync(folder.dir).filter((name) => name.endsWith('.lock') || name.endsWith('.tmp'))).toEqual(
      [],
    );
  });

  it('are replaced by the next one if who was about to has died', async () => {
    const lock = join(folder.dir, '.web.pem.lock');
    writeFileSync(lock, 'of a process that is gone');
    utimesSync(lock, new Date(Date.now() - 11 * SECOND), new Date(Date.now() - 11 * SECOND));
    await Promise.all([folder.issue('web'), folder.issue('web')]);
    await expect(loadIdentity(files, clock)).resolves.toBeDefined();
  });

  it('are not replaced by who was taken for dead', async () => {
    const before = [readFileSync(files.svid), readFileSync(files.key)];
    const lock = await lockFor(files.svid);
    expect(await lock.holds()).toBe(true);
    let done = false;
    const waiting = folder.issue('web').then(() => {
      done = true;
    });
    copyFileSync(join(folder.dir, '.web.pem.lock'), join(folder.dir, 'seen'));
    expect(done).toBe(false);
    expect([readFileSync(files.svid), readFileSync(files.key)]).toEqual(before);
    rmSync(join(folder.dir, '.web.pem.lock'));
    await waiting;
    expect(await lock.holds()).toBe(false);
    await lock.release();
  });

  it('are left alone where somebody else has renewed them', async () => {
    const { identity } = await loadIdentity(files, clock);
    await folder.issue('web');
    const svid = readFileSync(files.svid);
    expect(await renewSvid({ files, current: identity.chain[0], clock })).toBeUndefined();
    expect(readFileSync(files.svid)).toEqual(svid);
  });
});
