import {
  copyFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { IdentityError } from '../../src/identity/errors.ts';
import { type IdentityChange, IdentityKeeper, type ReloadCause } from '../../src/identity/keeper.ts';
import type { IdentityFiles } from '../../src/identity/load.ts';
import { toPem } from '../../src/identity/pem.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { makeTrust, makeTrustFolder, type TrustFolder } from '../harness/trust.ts';

/** Longer than the second that vitest waits by itself: a busy machine may need that. */
const PATIENCE = { timeout: 20_000 };

const DOMAIN = 'shop.example';
const MINUTE = 60_000;
const INTERVAL = 30_000;
const SETTLED = 500;

let clock: FakeClock;
let folder: TrustFolder;
let files: IdentityFiles;
let keeper: IdentityKeeper;
let changes: IdentityChange[];
let refusals: Array<{ code: string; file: string | undefined; cause: ReloadCause }>;

beforeEach(async () => {
  clock = new FakeClock();
  folder = await makeTrustFolder({ trustDomain: DOMAIN, clock });
  files = { ...(await folder.issue('web')), trustDomain: DOMAIN };
  await open(INTERVAL);
});

afterEach(async () => {
  keeper.close();
  await folder.remove();
});

async function open(reloadMs: number | undefined, from: IdentityFiles = files): Promise<void> {
  keeper?.close();
  changes = [];
  refusals = [];
  keeper = await IdentityKeeper.open({ files: from, clock, reloadMs, random: () => 1 });
  keeper.start({
    onChanged: (change) => void changes.push(change),
    onRefused: ({ code, file }: IdentityError, cause) => void refusals.push({ code, file, cause }),
  });
}

/** Lets a look at the files begin, and what it found settle; resolves when the next look has been set. */
async function look(): Promise<void> {
  clock.advance(INTERVAL);
  const nextAt = clock.monotonic() + INTERVAL;
  await vi.waitFor(() => {
    expect(clock.pending).toBe(1); // nothing is being read
    clock.advance(SETTLED);
    expect(clock.pending).toBe(1);
    expect(clock.monotonic()).toBeLessThan(nextAt);
  }, PATIENCE);
}

const fileError = (code: string, file: string) => ({ code, file });

/** Adds CAs to the bundle, or replaces it. */
async function writeBundle({ keep }: { keep: boolean }): Promise<void> {
  const { ca } = await makeTrust({ clock });
  const before = keep ? readFileSync(files.bundle, 'utf8') : '';
  writeFileSync(files.bundle, before + toPem('CERTIFICATE', ca));
}

describe('asked to read the files again', () => {
  it('finds nothing new where nothing has changed, and keeps its very objects', async () => {
    const { identity, bundle } = keeper;
    writeFileSync(files.svid, readFileSync(files.svid)); // touched
    expect(await keeper.reload()).toBe(false);
    expect(keeper.identity).toBe(identity);
    expect(keeper.bundle).toBe(bundle);
    expect(changes).toEqual([]);
  });

  it('takes a renewed SVID, and leaves the bundle alone', async () => {
    const { identity, bundle } = keeper;
    clock.advance(MINUTE);
    const { notAfter } = await folder.issue('web');
    expect(await keeper.reload()).toBe(true);
    expect(keeper.identity.notAfter).toBe(notAfter);
    expect(keeper.identity.chain[0]).not.toEqual(identity.chain[0]);
    expect(keeper.bundle).toBe(bundle);
    expect(changes).toMatchObject([{ svid: true, bundle: false, cause: 'command' }]);
    expect(changes[0]?.previous.identity).toBe(identity);
  });

  it('takes a bundle with one CA more as the next generation, and leaves the SVID alone', async () => {
    const { identity } = keeper;
    await writeBundle({ keep: true });
    expect(await keeper.reload()).toBe(true);
    expect(keeper.bundle.generation).toBe(2);
    expect(keeper.identity).toBe(identity);
    expect(changes).toMatchObject([{ svid: false, bundle: true }]);
  });

  it('refuses an SVID that has another key than the one beside it, until that is there too', async () => {
    const { identity } = keeper;
    const oldKey = readFileSync(files.key);
    await folder.issue('web');
    const newKey = readFileSync(files.key);
    writeFileSync(files.key, oldKey);
    await expect(keeper.reload()).rejects.toMatchObject(fileError('key-mismatch', files.key));
    expect(keeper.identity).toBe(identity);
    expect(keeper.refusal).toMatchObject(fileError('key-mismatch', files.key));
    writeFileSync(files.key, newKey);
    expect(await keeper.reload()).toBe(true);
    expect(keeper.refusal).toBeUndefined();
    expect(refusals).toHaveLength(1);
  });

  it('refuses an SVID of another SPIFFE ID', async () => {
    const { identity } = keeper;
    const other = await folder.issue('db');
    copyFileSync(other.svid, files.svid);
    copyFileSync(other.key, files.key);
    await expect(keeper.reload()).rejects.toMatchObject(fileError('other-identity', files.svid));
    expect(keeper.identity).toBe(identity);
  });

  it('takes a bundle without the CA of its own SVID all the same: whom it trusts does not wait', async () => {
    const { identity } = keeper;
    await writeBundle({ keep: false });
    await expect(keeper.reload()).rejects.toMatchObject(fileError('untrusted-issuer', files.svid));
    expect(keeper.bundle.generation).toBe(2);
    expect(keeper.identity).toBe(identity);
    expect(() => keeper.bundle.verifyChain(identity.chain, clock.now())).toThrow();
    expect(changes).toMatchObject([{ svid: false, bundle: true }]);
  });

  it.each([
    ['empty-file', ''],
    ['not-pem', 'no certificates here'],
  ])('refuses a bundle that is damaged (%s), and with it all else', async (code, content) => {
    const { identity, bundle } = keeper;
    await folder.issue('web');
    writeFileSync(files.bundle, content);
    await expect(keeper.reload()).rejects.toMatchObject(fileError(code, files.bundle));
    expect([keeper.identity, keeper.bundle]).toEqual([identity, bundle]);
    expect(changes).toEqual([]);
  });

  it('answers two who ask at once one after the other', async () => {
    await folder.issue('web');
    expect(await Promise.all([keeper.reload(), keeper.reload()])).toEqual([true, false]);
  });

  it('takes nothing once it is closed', async () => {
    const { identity } = keeper;
    await folder.issue('web');
    const reading = keeper.reload();
    keeper.close();
    expect(await reading).toBe(false);
    expect(keeper.identity).toBe(identity);
    expect(clock.pending).toBe(0);
  });
});

describe('on its interval', () => {
  it('takes what has changed, and looks on', async () => {
    await look();
    expect(changes).toEqual([]);
    await folder.issue('web');
    await look();
    expect(changes).toMatchObject([{ svid: true, cause: 'files' }]);
    await writeBundle({ keep: true });
    await look();
    expect(changes).toMatchObject([{ svid: true }, { bundle: true, svid: false }]);
  });

  it('tells a refusal once, however often it looks', async () => {
    writeFileSync(files.svid, 'half of');
    await look();
    await look();
    expect(refusals).toEqual([{ code: 'not-pem', file: files.svid, cause: 'files' }]);
    writeFileSync(files.svid, '');
    await look();
    expect(refusals).toHaveLength(2);
  });

  it('takes an SVID that was not valid yet once it is', async () => {
    const later = new FakeClock(clock.now() + 6 * MINUTE);
    const ahead = await makeTrustFolder({
      trustDomain: DOMAIN,
      clock: later,
      dir: join(folder.dir, 'ahead'),
    });
    copyFileSync(ahead.bundle, join(folder.dir, 'bundle.pem'));
    const { svid, key } = await ahead.issue('web');
    copyFileSync(svid, files.svid);
    copyFileSync(key, files.key);
    await look();
    expect(refusals).toMatchObject([{ code: 'not-yet-valid' }]);
    clock.advance(MINUTE);
    await vi.waitFor(
      () => expect(changes).toMatchObject([{ bundle: true, svid: false }, { svid: true }]),
      PATIENCE,
    );
  });

  it('follows the link that Kubernetes moves', async () => {
    const mount = join(folder.dir, 'mount');
    const publish = (version: string, from: IdentityFiles) => {
      mkdirSync(join(mount, version), { recursive: true });
      copyFileSync(from.svid, join(mount, version, 'web.pem'));
      copyFileSync(from.key, join(mount, version, 'web.key'));
      copyFileSync(from.bundle, join(mount, version, 'bundle.pem'));
      symlinkSync(version, join(mount, '..data_tmp'));
      renameSync(join(mount, '..data_tmp'), join(mount, '..data'));
    };
    publish('..1', files);
    for (const name of ['web.pem', 'web.key', 'bundle.pem']) symlinkSync(`..data/${name}`, join(mount, name));
    const mounted = {
      svid: join(mount, 'web.pem'),
      key: join(mount, 'web.key'),
      bundle: join(mount, 'bundle.pem'),
      trustDomain: DOMAIN,
    };
    await open(INTERVAL, mounted);
    const next = { ...(await folder.issue('web')), trustDomain: DOMAIN };
    publish('..2', next);
    rmSync(join(mount, '..1'), { recursive: true });
    await look();
    expect(changes).toMatchObject([{ svid: true }]);
    expect(keeper.identity.notAfter).toBe(next.notAfter);
  });

  it('leaves files alone while they are being written', async () => {
    await folder.issue('web');
    const whole = readFileSync(files.svid);
    clock.advance(INTERVAL);
    await vi.waitFor(() => expect(clock.pending).toBe(1), PATIENCE); // it has seen them, and waits
    writeFileSync(files.svid, 'half of');
    clock.advance(SETTLED);
    await vi.waitFor(() => expect(clock.pending).toBe(1), PATIENCE);
    expect([changes, refusals]).toEqual([[], []]);
    writeFileSync(files.svid, whole);
    await look();
    expect(changes).toMatchObject([{ svid: true }]);
  });

  it('does not look at all when that is off, but when asked', async () => {
    await open(undefined);
    expect(clock.pending).toBe(0);
    await folder.issue('web');
    expect(await keeper.reload()).toBe(true);
  });
});
