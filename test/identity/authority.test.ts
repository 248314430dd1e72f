import { X509Certificate } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { initTrustDomain, issueSvid } from '../../src/identity/authority.ts';
import { parseCertificate } from '../../src/identity/certificate.ts';
import { CertificateAuthority } from '../../src/identity/certificateauthority.ts';
import { loadIdentity } from '../../src/identity/load.ts';
import { certificatesIn } from '../../src/identity/pem.ts';
import { spiffeIdForName } from '../../src/identity/spiffeid.ts';
import { TrustBundle } from '../../src/identity/trustbundle.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { x509 } from './forge.ts';

const HOUR = 3_600_000;
const trustDomain = 'shop.example';
const clock = new FakeClock();

let parent: string;
let dir: string;

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'hauberk-authority-'));
  dir = join(parent, 'keys');
});

afterEach(() => rmSync(parent, { recursive: true }));

const init = (more = {}) => initTrustDomain({ dir, trustDomain, clock, ...more });
const issue = (name: string, more = {}) => issueSvid({ dir, name, clock, ...more });
const modeOf = (path: string): number => statSync(path).mode & 0o777;
const certificateIn = (path: string) => parseCertificate(certificatesIn(readFileSync(path))[0] as Buffer);

describe('init', () => {
  it('makes a folder and files that only their owner can read', async () => {
    const files = await init();
    expect(modeOf(dir)).toBe(0o700);
    expect(readdirSync(dir).sort()).toEqual(['.gitignore', 'bundle.pem', 'ca.key']);
    for (const path of [files.bundle, files.caKey]) expect(modeOf(path)).toBe(0o600);
    expect(readFileSync(join(dir, '.gitignore'), 'utf8')).toBe('*\n');
  });

  it('makes a CA certificate as X509-SVID 4 has it', async () => {
    const { bundle, notAfter } = await init();
    const ca = certificateIn(bundle);
    expect(ca.ca).toBe(true);
    expect(ca.pathLength).toBe(0);
    expect(ca.uris).toEqual(['spiffe://shop.example']);
    expect(ca.keyType).toBe('p256');
    expect(ca.keyUsage).toBe(0x06);
    expect(notAfter).toBe(clock.now() + 5 * 365 * 24 * HOUR + 999);
    const twin = new x509.X509Certificate(ca.der);
    expect(twin.getExtension(x509.BasicConstraintsExtension)?.critical).toBe(true);
    expect(twin.getExtension(x509.KeyUsagesExtension)?.critical).toBe(true);
  });

  it('refuses a folder with a trust domain in it, and changes nothing', async () => {
    const { bundle, caKey } = await init();
    const before = [bundle, caKey].map((path) => readFileSync(path, 'utf8'));
    await expect(init()).rejects.toMatchObject({ code: 'already-exists', file: caKey });
    rmSync(caKey);
    await expect(init()).rejects.toMatchObject({ code: 'already-exists', file: bundle });
    expect(readdirSync(dir).sort()).toEqual(['.gitignore', 'bundle.pem']);
    expect(readFileSync(bundle, 'utf8')).toBe(before[0]);
  });

  it('made twice at once makes one trust domain', async () => {
    const results = await Promise.allSettled([init(), init(), init()]);
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    await expect(issue('web')).resolves.toMatchObject({
      spiffeId: 'spiffe://shop.example/ns/default/sa/web',
    });
    expect(readdirSync(dir).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  it('closes a folder that was open but empty, such as keys/ of a fresh checkout', async () => {
    mkdirSync(dir, { mode: 0o755 });
    chmodSync(dir, 0o777);
    writeFileSync(join(dir, 'README.md'), '');
    await init();
    expect(modeOf(dir)).toBe(0o700);
  });

  it('refuses a folder in use that others can write to', async () => {
    mkdirSync(dir);
    writeFileSync(join(dir, 'something'), '');
    chmodSync(dir, 0o777);
    await expect(init()).rejects.toMatchObject({ code: 'writable-by-others', cure: `chmod 700 ${dir}` });
    chmodSync(dir, 0o755);
    await init();
    expect(modeOf(dir)).toBe(0o755);
  });

  it('says so when the folder cannot be made', async () => {
    writeFileSync(dir, '');
    await expect(init()).rejects.toMatchObject({ code: 'write-failed', file: dir });
  });

  it('refuses a trust domain that is none, before it makes anything', async () => {
    await expect(init({ trustDomain: 'Shop Example' })).rejects.toMatchObject({
      code: 'invalid-trust-domain',
    });
    expect(readdirSync(parent)).toEqual([]);
  });

  it('takes a path length for CAs in between', async () => {
    const { bundle } = await init({ pathLength: 2, ttlMs: HOUR });
    expect(certificateIn(bundle).pathLength).toBe(2);
    expect(certificateIn(bundle).notAfter).toBe(clock.now() + HOUR + 999);
  });
});

describe('issue', () => {
  beforeEach(() => init());

  it('makes an SVID as X509-SVID has it, for 24 hours, with owner-only files', async () => {
    const files = await issue('web');
    expect(modeOf(files.svid)).toBe(0o600);
    expect(modeOf(files.key)).toBe(0o600);
    const leaf = certificateIn(files.svid);
    expect(leaf).toMatchObject({ ca: false, keyUsage: 0x80, uris: [files.spiffeId], subjectEmpty: true });
    expect(leaf.notAfter).toBe(clock.now() + 24 * HOUR + 999);
    expect(leaf.notBefore).toBe(clock.now() - 5 * 60_000);
    const twin = new x509.X509Certificate(leaf.der);
    expect(twin.getExtension(x509.SubjectAlternativeNameExtension)?.critical).toBe(true);
    expect(twin.getExtension(x509.ExtendedKeyUsageExtension)?.usages).toEqual([
      x509.ExtendedKeyUsage.serverAuth,
      x509.ExtendedKeyUsage.clientAuth,
    ]);
    expect(readFileSync(files.key, 'utf8')).toMatch(/^-----BEGIN PRIVATE KEY-----/);
  });

  it('makes one that OpenSSL verifies too', async () => {
    const { svid, bundle } = await issue('shop/web');
    const leaf = new X509Certificate(readFileSync(svid));
    const ca = new X509Certificate(readFileSync(bundle));
    expect(leaf.checkIssued(ca)).toBe(true);
    expect(leaf.verify(ca.publicKey)).toBe(true);
    expect(leaf.subjectAltName).toBe('URI:spiffe://shop.example/ns/shop/sa/web');
  });

  it('renews the same name with a new key, also after it has expired', async () => {
    const later = new FakeClock(clock.now() + 48 * HOUR);
    const first = await issue('web');
    const key = readFileSync(first.key, 'utf8');
    const second = await issue('web', { clock: later });
    expect(second.svid).toBe(first.svid);
    expect(readFileSync(second.key, 'utf8')).not.toBe(key);
    await expect(loadIdentity({ ...second, trustDomain }, later)).resolves.toBeDefined();
  });

  it('does not write over the SVID of another ID, or what is no SVID', async () => {
    await issue('shop/web');
    await expect(issue('shop.web')).rejects.toMatchObject({ code: 'already-exists' });
    writeFileSync(join(dir, 'mine.pem'), 'my notes');
    await expect(issue('mine')).rejects.toMatchObject({
      code: 'already-exists',
      file: join(dir, 'mine.pem'),
    });
    writeFileSync(join(dir, 'lone.key'), 'a key');
    await expect(issue('lone')).rejects.toMatchObject({
      code: 'already-exists',
      file: join(dir, 'lone.key'),
    });
    expect(readFileSync(join(dir, 'lone.key'), 'utf8')).toBe('a key');
  });

  it('does not write over the files of the CA', async () => {
    const before = readFileSync(join(dir, 'ca.key'), 'utf8');
    for (const name of ['ca', 'CA', 'bundle'])
      await expect(issue(name)).rejects.toMatchObject({ code: 'invalid-name' });
    expect(readFileSync(join(dir, 'ca.key'), 'utf8')).toBe(before);
  });

  it('never outlives the CA, and refuses once the CA has expired', async () => {
    const { notAfter } = certificateIn(join(dir, 'bundle.pem'));
    const late = new FakeClock(notAfter - HOUR);
    expect((await issue('web', { clock: late })).notAfter).toBe(notAfter);
    const over = new FakeClock(notAfter + HOUR);
    await expect(issue('late', { clock: over })).rejects.toMatchObject({
      code: 'expired',
      file: join(dir, 'bundle.pem'),
    });
    expect(readdirSync(dir)).not.toContain('late.key');
  });

  it.each([0, -1, 999, Number.NaN, Number.POSITIVE_INFINITY, 1e15])(
    'refuses a lifetime of %d ms',
    async (ttlMs) => {
      await expect(issue('web', { ttlMs })).rejects.toMatchObject({ code: 'invalid-ttl' });
    },
  );

  it('takes a lifetime', async () => {
    expect((await issue('web', { ttlMs: 2 * HOUR })).notAfter).toBe(clock.now() + 2 * HOUR + 999);
  });

  it('refuses another trust domain than the one in the folder', async () => {
    await expect(issue('web', { trustDomain: 'other.example' })).rejects.toMatchObject({
      code: 'wrong-trust-domain',
    });
    await expect(issue('web', { trustDomain })).resolves.toBeDefined();
  });

  it('refuses a CA key that others can read', async () => {
    const path = join(dir, 'ca.key');
    chmodSync(path, 0o640);
    await expect(issue('web')).rejects.toMatchObject({
      code: 'key-readable-by-others',
      cure: `chmod 600 ${path}`,
    });
  });

  it('refuses a CA key that no certificate of the bundle belongs to', async () => {
    const other = await CertificateAuthority.create({ trustDomain, nowMs: clock.now() });
    writeFileSync(join(dir, 'ca.key'), other.key.export({ type: 'pkcs8', format: 'pem' }));
    await expect(issue('web')).rejects.toMatchObject({ code: 'key-mismatch', file: join(dir, 'bundle.pem') });
  });

  it('finds the CA of its key among several in the bundle', async () => {
    const path = join(dir, 'bundle.pem');
    const other = await initTrustDomain({ dir: join(parent, 'other'), trustDomain, clock });
    writeFileSync(path, readFileSync(other.bundle, 'utf8') + readFileSync(path, 'utf8'));
    const files = await issue('web');
    await expect(loadIdentity({ ...files, trustDomain }, clock)).resolves.toBeDefined();
  });

  it('says what to do in a folder without a trust domain', async () => {
    const nowhere = join(parent, 'nowhere');
    await expect(issueSvid({ dir: nowhere, name: 'web', clock })).rejects.toMatchObject({
      code: 'missing-file',
      file: join(nowhere, 'ca.key'),
      cure: 'make a trust domain there with `hauberk init --trust-domain DOMAIN`',
    });
  });
});

it('two trust domains of one name do not trust each other', async () => {
  const nowMs = clock.now();
  const [one, two] = await Promise.all([1, 2].map(() => CertificateAuthority.create({ trustDomain, nowMs })));
  const { chain } = await one!.authority.issue({ spiffeId: spiffeIdForName('web', trustDomain), nowMs });
  const strangers = new TrustBundle({ trustDomain, certificates: [two!.authority.certificate.der] });
  expect(() => strangers.verifyChain(chain, nowMs)).toThrow('no CA in the bundle');
});
