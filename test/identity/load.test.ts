import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CertificateAuthority } from '../../src/identity/certificateauthority.ts';
import { IdentityError } from '../../src/identity/errors.ts';
import { checkStats, readChecked } from '../../src/identity/files.ts';
import {
  BUNDLE_FILE,
  type IdentityFiles,
  KEY_FILE,
  loadIdentity,
  SVID_FILE,
} from '../../src/identity/load.ts';
import { toPem } from '../../src/identity/pem.ts';
import { spiffeIdForName } from '../../src/identity/spiffeid.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { makeTrustFolder, type TrustFolder } from '../harness/trust.ts';

const DAY = 86_400_000;
const DOMAIN = 'shop.example';

let clock: FakeClock;
let folder: TrustFolder;
let files: IdentityFiles;

beforeEach(async () => {
  clock = new FakeClock();
  folder = await makeTrustFolder({ trustDomain: DOMAIN, clock });
  files = { ...(await folder.issue('web')), trustDomain: DOMAIN };
});

afterEach(() => folder.remove());

async function refusal(change: Partial<IdentityFiles> = {}): Promise<IdentityError> {
  const error = await loadIdentity({ ...files, ...change }, clock).then(
    () => undefined,
    (caught: unknown) => caught,
  );
  expect(error).toBeInstanceOf(IdentityError);
  return error as IdentityError;
}

/** Checks code, the file at fault and the cure, all of which the message must name. */
async function expectRefusal(code: string, file: string, cure: string, change: Partial<IdentityFiles> = {}) {
  const error = await refusal(change);
  expect(error.message).toContain(file);
  expect(error.message).toContain(cure);
  expect({ code: error.code, file: error.file }).toEqual({ code, file });
}

it('an SVID, its key and the bundle load, and sign what peers verify', async () => {
  const { identity, bundle } = await loadIdentity(files, clock, 3);
  expect(identity.spiffeId).toBe('spiffe://shop.example/ns/default/sa/web');
  expect(identity.trustDomain).toBe(DOMAIN);
  expect(identity.signatureAlgorithm).toBe(0x0403);
  expect(bundle.generation).toBe(3);
  const peer = bundle.verifyChain(identity.chain, clock.now());
  const data = Buffer.from('to be signed');
  expect(peer.verifySignature(0x0403, data, identity.sign(data))).toBe(true);
  expect(peer.verifySignature(0x0403, Buffer.from('other'), identity.sign(data))).toBe(false);
  expect(peer.verifySignature(0x0807, data, identity.sign(data))).toBe(false);
  expect(peer.notAfter).toBe(identity.notAfter);
});

it('an Ed25519 SVID loads and signs with 0x0807', async () => {
  const { svid, key } = await folder.issue('ed', { leafKey: 'ed25519' });
  const { identity, bundle } = await loadIdentity({ ...files, svid, key }, clock);
  expect(identity.signatureAlgorithm).toBe(0x0807);
  const data = Buffer.from('to be signed');
  const peer = bundle.verifyChain(identity.chain, clock.now());
  expect(peer.verifySignature(0x0807, data, identity.sign(data))).toBe(true);
  expect(peer.verifySignature(0x0403, data, identity.sign(data))).toBe(false);
});

it('a key in SEC 1 form loads, with the parameters that openssl puts before it', async () => {
  const text = readFileSync(files.key, 'utf8');
  const sec1 = createPrivateKey(text).export({ type: 'sec1', format: 'pem' });
  writeFileSync(
    files.key,
    `-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n${sec1}`,
  );
  expect((await loadIdentity(files, clock)).identity.spiffeId).toContain('/web');
});

it('nothing that is printed of an identity holds its key', async () => {
  const { identity } = await loadIdentity(files, clock);
  const secret = readFileSync(files.key, 'latin1').split('\n')[1] as string;
  const printed = inspect(identity, { depth: 9, showHidden: true }) + JSON.stringify(identity);
  expect(printed).not.toContain(secret.slice(0, 20));
  expect(Object.keys(identity)).not.toContain('key');
});

describe('a key file is refused', () => {
  it.each(['640', '604', '620', '602', '610', '644', '660', '777'])('with mode %s', async (mode) => {
    chmodSync(files.key, Number.parseInt(mode, 8));
    await expectRefusal('key-readable-by-others', files.key, `chmod 600 ${files.key}`);
  });

  it.each(['600', '400'])('but not with mode %s', async (mode) => {
    chmodSync(files.key, Number.parseInt(mode, 8));
    await expect(loadIdentity(files, clock)).resolves.toBeDefined();
  });

  it('through a symbolic link by what the link leads to', async () => {
    const linked = join(folder.dir, 'linked.key');
    symlinkSync(files.key, linked);
    await expect(loadIdentity({ ...files, key: linked }, clock)).resolves.toBeDefined();
    chmodSync(files.key, 0o644);
    await expectRefusal('key-readable-by-others', linked, 'chmod 600', { key: linked });
  });

  it('of another user', () => {
    const stats = Object.assign(statSync(files.key), { uid: 4711 });
    const check = (reader: number) => () => checkStats(files.key, KEY_FILE, stats, reader);
    expect(check(1000)).toThrow(
      `it belongs to user 4711, and Hauberk runs as user 1000; chown 1000 ${files.key}`,
    );
    expect(check(0)).toThrow('chown 0');
    expect(check(4711)).not.toThrow();
    stats.uid = 0;
    expect(check(1000)).not.toThrow();
  });

  const mounted =
    (mode: number, gid: number, reader: number, uid = 0) =>
    () => {
      const stats = Object.assign(statSync(files.key), { uid, gid, mode: 0o100000 | mode });
      checkStats(files.key, KEY_FILE, stats, reader, [1000, 2000]);
    };

  it.each([0o440, 0o640])(
    'but not with mode %o as root’s, for a group of ours, as Kubernetes mounts it',
    (mode) => {
      expect(mounted(mode, 2000, 1000)).not.toThrow();
    },
  );

  it.each<[string, () => void]>([
    ['a group that is not ours', mounted(0o440, 3000, 1000)],
    ['a group that is root’s', mounted(0o440, 0, 1000)],
    ['a group that may write', mounted(0o660, 2000, 1000)],
    ['a group that may execute', mounted(0o450, 2000, 1000)],
    ['everybody', mounted(0o444, 2000, 1000)],
    ['everybody but the group', mounted(0o404, 2000, 1000)],
    ['a group, where it is our own', mounted(0o440, 2000, 1000, 1000)],
    ['a group, where we are root', mounted(0o440, 2000, 0)],
  ])('with access for %s', (_what, check) => {
    expect(check).toThrow(/^\S+: others than its owner have access to this key/);
  });

  it('with several keys', async () => {
    appendFileSync(files.key, readFileSync(files.key));
    await expectRefusal('several-keys', files.key, 'leave the one');
  });

  it('that is not that of the certificate', async () => {
    const { key } = await folder.issue('other');
    await expectRefusal('key-mismatch', key, files.svid, { key });
  });

  it('of another kind than the certificate', async () => {
    const { key } = await folder.issue('other', { leafKey: 'ed25519' });
    await expectRefusal('key-mismatch', key, 'hauberk issue', { key });
  });

  it.each([
    ['RSA', () => generateKeyPairSync('rsa', { modulusLength: 2048 })],
    ['P-384', () => generateKeyPairSync('ec', { namedCurve: 'P-384' })],
    ['X25519', () => generateKeyPairSync('x25519')],
  ])('with a key of kind %s', async (_kind, make) => {
    writeFileSync(files.key, make().privateKey.export({ type: 'pkcs8', format: 'pem' }));
    await expectRefusal('unsupported-key', files.key, 'P-256 or Ed25519');
  });

  it('that is encrypted', async () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const cipher = { cipher: 'aes-256-cbc', passphrase: 'x', format: 'pem' } as const;
    writeFileSync(files.key, privateKey.export({ type: 'pkcs8', ...cipher }));
    await expectRefusal('encrypted-key', files.key, 'openssl pkcs8');
    writeFileSync(files.key, privateKey.export({ type: 'sec1', ...cipher }));
    await expectRefusal('encrypted-key', files.key, 'openssl pkcs8');
  });

  it.each([
    ['empty', '', 'empty-file'],
    ['blank', ' \n\n', 'empty-file'],
    ['not PEM', 'hello', 'not-pem'],
    ['cut off', '-----BEGIN PRIVATE KEY-----\nMIG', 'not-pem'],
    [
      'a key without a key in it',
      '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----',
      'unsupported-key',
    ],
    ['a public key', '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----', 'no-private-key'],
  ])('that is %s', async (_what, text, code) => {
    writeFileSync(files.key, text);
    expect((await refusal()).code).toBe(code);
  });

  it('that holds certificates too', async () => {
    appendFileSync(files.key, readFileSync(files.svid));
    await expectRefusal('unexpected-pem-block', files.key, 'leave only the private key');
  });
});

describe('a path is refused', () => {
  it.each(['svid', 'key', 'bundle'] as const)('of a missing %s', async (which) => {
    const path = join(folder.dir, 'nothing');
    const cure = which === 'bundle' ? 'hauberk init --trust-domain' : 'hauberk issue NAME';
    await expectRefusal('missing-file', path, cure, { [which]: path });
  });

  it('of a symbolic link that leads nowhere, or round in a circle', async () => {
    const path = join(folder.dir, 'link');
    symlinkSync(join(folder.dir, 'nothing'), path);
    const error = await refusal({ key: path });
    expect(error.code).toBe('missing-file');
    expect(error.message).toContain('symbolic link');
    rmSync(path);
    symlinkSync(path, path);
    await expectRefusal('unreadable-file', path, 'ELOOP', { key: path });
  });

  it.each(['svid', 'key', 'bundle'] as const)('of a directory as %s', async (which) => {
    const path = join(folder.dir, 'directory');
    mkdirSync(path);
    await expectRefusal('not-a-file', path, 'give the path of', { [which]: path });
  });

  it('of a device', async () => {
    await expectRefusal('not-a-file', '/dev/zero', 'give the path of', { svid: '/dev/zero' });
  });

  it('with a file in place of a folder', async () => {
    const path = join(files.svid, 'web.key');
    await expectRefusal('unreadable-file', path, 'ENOTDIR', { key: path });
  });

  it('of a file larger than its kind may be', async () => {
    for (const kind of [SVID_FILE, KEY_FILE, BUNDLE_FILE]) {
      const path = join(folder.dir, 'large');
      writeFileSync(path, Buffer.alloc(kind.maxBytes), { mode: 0o600 });
      expect((await readChecked(path, kind)).length).toBe(kind.maxBytes);
      appendFileSync(path, 'x');
      await expect(readChecked(path, kind)).rejects.toMatchObject({ code: 'file-too-large', file: path });
    }
  });
});

describe('an SVID is refused', () => {
  it('that has expired', async () => {
    clock.advance(DAY + 1000);
    await expectRefusal('expired', files.svid, 'hauberk issue');
  });

  it('that is not valid yet', async () => {
    const early = new FakeClock(clock.now() - DAY);
    await expect(loadIdentity(files, early)).rejects.toMatchObject({
      code: 'not-yet-valid',
      file: files.svid,
      cure: "check this machine's clock",
    });
  });

  it('of another trust domain', async () => {
    const other = await makeTrustFolder({ trustDomain: 'other.example', clock });
    try {
      const { svid, key } = await other.issue('web');
      await expectRefusal('wrong-trust-domain', svid, 'trustDomain', { svid, key });
    } finally {
      await other.remove();
    }
  });

  it('that a foreign CA of the same trust domain issued', async () => {
    const other = await makeTrustFolder({ trustDomain: DOMAIN, clock });
    try {
      const { svid, key } = await other.issue('web');
      await expectRefusal('untrusted-issuer', svid, 'use the bundle of the CA', { svid, key });
    } finally {
      await other.remove();
    }
  });

  it('that is the certificate of the CA', async () => {
    await expectRefusal('leaf-is-ca', files.bundle, 'put the SVID', { svid: files.bundle });
  });

  it('with the issuer before the leaf', async () => {
    writeFileSync(files.svid, readFileSync(files.bundle, 'utf8') + readFileSync(files.svid, 'utf8'));
    expect((await refusal()).file).toBe(files.svid);
  });

  it.each([
    ['empty', '', 'empty-file'],
    ['DER', Buffer.from([0x30, 0x82, 1, 0]), 'not-pem'],
    ['not base64', '-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----', 'not-pem'],
    ['a block without contents', '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----', 'not-pem'],
    [
      'a certificate that is none',
      '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----',
      'malformed-certificate',
    ],
    [
      'a request',
      '-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----',
      'unexpected-pem-block',
    ],
  ])('that is %s', async (_what, contents, code) => {
    writeFileSync(files.svid, contents);
    const error = await refusal();
    expect({ code: error.code, file: error.file }).toEqual({ code, file: files.svid });
  });

  it('with a private key in the same file', async () => {
    appendFileSync(files.svid, readFileSync(files.key));
    await expectRefusal('unexpected-pem-block', files.svid, 'keep the key in a file of its own');
  });
});

describe('a bundle is refused', () => {
  it.each(['602', '620', '666'])('that others can change (mode %s)', async (mode) => {
    chmodSync(files.bundle, Number.parseInt(mode, 8));
    await expectRefusal('writable-by-others', files.bundle, `chmod go-w ${files.bundle}`);
  });

  it('but not one that others can read', async () => {
    chmodSync(files.bundle, 0o644);
    await expect(loadIdentity(files, clock)).resolves.toBeDefined();
  });

  it('of another trust domain', async () => {
    await expectRefusal('wrong-trust-domain', files.bundle, 'use the bundle of other.example', {
      trustDomain: 'other.example',
    });
  });

  it('that is an SVID', async () => {
    await expectRefusal('not-a-ca', files.svid, 'leave only CA certificates', { bundle: files.svid });
  });
});

it('an SVID under an intermediate loads with its chain', async () => {
  const nowMs = clock.now();
  const { authority } = await CertificateAuthority.create({ trustDomain: DOMAIN, nowMs });
  const issued = await authority.issue({ spiffeId: spiffeIdForName('web', DOMAIN), nowMs });
  const ca = toPem('CERTIFICATE', authority.certificate.der);
  writeFileSync(files.svid, issued.chain.map((der) => toPem('CERTIFICATE', der)).join('') + ca);
  writeFileSync(files.key, issued.key.export({ type: 'pkcs8', format: 'pem' }));
  writeFileSync(files.bundle, ca);
  const { identity } = await loadIdentity(files, clock);
  expect(identity.chain).toHaveLength(2);
});
