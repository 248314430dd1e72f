import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock as clock } from '../../src/clock/clock.ts';
import { ControllerIssuer } from '../../src/control/certify.ts';
import { ControlChannel } from '../../src/control/channel.ts';
import { loadIdentityDefinition } from '../../src/control/definition.ts';
import type { CertifyRequest, CertifyResponse } from '../../src/control/messages.ts';
import type { IdentityError } from '../../src/identity/errors.ts';
import { type IdentityFiles, loadIdentity } from '../../src/identity/load.ts';
import { certifyRequest, keysOfRequest } from '../harness/certifystub.ts';
import { ControllerStub, failure } from '../harness/controllerstub.ts';
import {
  bundleOf,
  DOMAIN,
  type Forged,
  forgeCa,
  forgeIntermediate,
  forgeLeaf,
  type Recipe,
} from '../identity/forge.ts';

const PEER = `spiffe://${DOMAIN}/ns/hauberk-system/sa/hauberk-controller`;
const ID = `spiffe://${DOMAIN}/ns/shop/sa/web`;
const now = Date.now();
const VALID = { notBefore: now - 3_600_000, notAfter: now + 3_600_000 };

let ca: Forged;
let dir: string;
let files: IdentityFiles;
let token: string;
beforeAll(async () => {
  ca = await forgeCa(VALID);
});
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'hauberk-certify-'));
  mkdirSync(join(dir, 'run'), { mode: 0o700 });
  const at = (name: string): string => join(dir, 'run', name);
  files = { svid: at('svid.pem'), key: at('svid.key'), bundle: at('bundle.pem'), trustDomain: DOMAIN };
  token = join(dir, 'token');
  writeFileSync(token, 'secret-token\n');
});

const ends: Array<() => void> = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
  rmSync(dir, { recursive: true });
});

const svidFor = (request: CertifyRequest, recipe: Recipe = {}, issuer = ca): Promise<Forged> =>
  certifyRequest(issuer, request.csr, { ...VALID, uris: [ID], ...recipe });

const answer = (chain: readonly Forged[], bundle: readonly Forged[] = [ca]): CertifyResponse => ({
  chain: chain.map(({ der }) => der),
  bundle: bundle.map(({ der }) => der),
  spiffeId: ID,
  notAfterMs: VALID.notAfter,
});

type Certify = (request: CertifyRequest) => CertifyResponse | Promise<CertifyResponse>;

/** An issuer whose controller answers so. */
async function issuer(
  certify: Certify = async (request) => answer([await svidFor(request)]),
  getBundle = (): object => ({ bundle: [ca.der] }),
): Promise<ControllerIssuer> {
  const identity = await loadIdentityDefinition();
  const leaf = await forgeLeaf(ca, { uris: [PEER], ...VALID });
  const stub = await ControllerStub.start(
    [leaf],
    [[identity, { Certify: certify as never, GetBundle: getBundle }]],
  );
  const channel = new ControlChannel({
    address: { host: '127.0.0.1', port: stub.port },
    peer: PEER,
    token,
    bundle: () => bundle,
    clock,
  });
  const bundle = bundleOf(ca);
  ends.push(
    () => channel.close(),
    () => stub.stop(),
  );
  return new ControllerIssuer({ files, channel, token, clock });
}

/** What the folder holds, by name. */
const contents = (): Record<string, string> =>
  Object.fromEntries(
    readdirSync(join(dir, 'run')).map((name) => [name, readFileSync(join(dir, 'run', name), 'utf8')]),
  );

const refusal = (issuing: Promise<unknown>): Promise<[string, string]> =>
  issuing.then(
    () => ['no error', ''],
    (error: IdentityError) => [error.code, error.message],
  );

describe('an SVID of the controller', () => {
  it('is asked for with a new key and the token of the moment, and put into the files with its bundle', async () => {
    const asked: CertifyRequest[] = [];
    const controller = await issuer(async (request) => {
      asked.push(request);
      return answer([await svidFor(request)]);
    });
    expect(await controller.issue(undefined)).toBe(Math.floor(VALID.notAfter / 1000) * 1000 + 999);
    const first = await loadIdentity(files, clock);
    expect(first.identity.spiffeId).toBe(ID);
    expect(first.bundle.trustsAs(bundleOf(ca))).toBe(true);
    for (const path of [files.svid, files.key, files.bundle]) expect(statSync(path).mode & 0o777).toBe(0o600);
    writeFileSync(token, 'another-token');
    await controller.issue(first.identity);
    const second = await loadIdentity(files, clock);
    expect(second.identity.chain).not.toEqual(first.identity.chain);
    expect(asked.map(({ serviceAccountToken }) => serviceAccountToken)).toEqual([
      'secret-token',
      'another-token',
    ]);
    const keys = await Promise.all(asked.map(({ csr }) => keysOfRequest(csr)));
    const jwks = await Promise.all(keys.map(({ publicKey }) => crypto.subtle.exportKey('jwk', publicKey)));
    expect(jwks[0]?.x).not.toBe(jwks[1]?.x);
    expect(Object.keys(contents()).sort()).toEqual(['bundle.pem', 'svid.key', 'svid.pem']);
  });

  it('may have an intermediate CA, and come with a bundle of several', async () => {
    const middle = await forgeIntermediate(ca, VALID);
    const other = await forgeCa({ ...VALID, name: 'CN=Other' });
    const controller = await issuer(async (request) =>
      answer([await svidFor(request, {}, middle), middle], [ca, other]),
    );
    await controller.issue(undefined);
    const { identity, bundle } = await loadIdentity(files, clock);
    expect(identity.chain).toHaveLength(2);
    expect(bundle.trustsAs(bundleOf(other, ca))).toBe(true);
  });

  const stranger = forgeCa({ ...VALID, name: 'CN=Stranger' });
  it.each<[string, string, Certify]>([
    ['no certificate', 'empty-chain', () => answer([])],
    ['no bundle', 'bad-bundle', async (request) => answer([await svidFor(request)], [])],
    [
      'garbage as the chain',
      'malformed-certificate',
      () => ({ ...answer([]), chain: [Buffer.from('garbage')] }),
    ],
    [
      'garbage as the bundle',
      'malformed-certificate',
      async (request) => ({ ...answer([await svidFor(request)]), bundle: [Buffer.from('garbage')] }),
    ],
    [
      'a chain under another CA than the bundle',
      'untrusted-issuer',
      async (request) => answer([await svidFor(request, {}, await stranger)]),
    ],
    [
      'a leaf in the bundle',
      'not-a-ca',
      async (request) => {
        const leaf = await svidFor(request);
        return answer([leaf], [leaf]);
      },
    ],
    [
      'a bundle of another trust domain',
      'wrong-trust-domain',
      async (request) =>
        answer([await svidFor(request)], [await forgeCa({ ...VALID, uris: ['spiffe://evil.example'] })]),
    ],
    [
      'another trust domain',
      'wrong-trust-domain',
      async (request) => answer([await svidFor(request, { uris: [ID.replace(DOMAIN, 'evil.example')] })]),
    ],
    [
      'another SPIFFE ID',
      'bad-answer',
      async (request) => answer([await svidFor(request, { uris: [`spiffe://${DOMAIN}/ns/shop/sa/other`] })]),
    ],
    [
      'an SVID for somebody else’s key',
      'key-mismatch',
      async () => answer([await forgeLeaf(ca, { ...VALID, uris: [ID] })]),
    ],
    [
      'one that has expired',
      'expired',
      async (request) => answer([await svidFor(request, { notAfter: now - 60_000 })]),
    ],
    [
      'one that is not valid yet',
      'not-yet-valid',
      async (request) => answer([await svidFor(request, { notBefore: now + 600_000 })]),
    ],
    ['a CA', 'leaf-is-ca', async (request) => answer([await svidFor(request, { ca: true })])],
    [
      'too many certificates',
      'chain-too-long',
      async (request) => answer([await svidFor(request), ca, ca, ca, ca]),
    ],
  ])('with %s is refused (%s), and the good one stays', async (_what, code, certify) => {
    const good = await issuer();
    await good.issue(undefined);
    const { identity } = await loadIdentity(files, clock);
    const before = contents();
    const [got, message] = await refusal((await issuer(certify)).issue(identity));
    expect([got, message]).toEqual([code, expect.stringMatching(/^the controller's answer: .+; .+/)]);
    expect(contents()).toEqual(before);
  });

  it('of another SPIFFE ID than before is refused, whatever the controller calls it', async () => {
    await (await issuer()).issue(undefined);
    const { identity } = await loadIdentity(files, clock);
    const other = `spiffe://${DOMAIN}/ns/shop/sa/other`;
    const controller = await issuer(async (request) => ({
      ...answer([await svidFor(request, { uris: [other] })]),
      spiffeId: other,
    }));
    const before = contents();
    expect(await refusal(controller.issue(identity))).toEqual([
      'other-identity',
      expect.stringContaining(`it is the SVID of ${other}, and this is ${ID}; who a sidecar is changes only`),
    ]);
    expect(contents()).toEqual(before);
  });

  it('is refused with the words of the controller, and when to ask again', async () => {
    const controller = await issuer(() => {
      throw failure(grpc.status.PERMISSION_DENIED, 'the service account web is gone', 7_000);
    });
    await expect(controller.issue(undefined)).rejects.toMatchObject({
      code: 'controller-refuses',
      retryAfterMs: 7_000,
      message: expect.stringMatching(/refuses: the service account web is gone \(PERMISSION_DENIED\)$/),
    });
  });

  it('is not asked for without a token, and no error has it', async () => {
    const controller = await issuer(() => {
      throw failure(grpc.status.UNAUTHENTICATED, 'the token is not valid');
    });
    const [code, message] = await refusal(controller.issue(undefined));
    expect(code).toBe('controller-refuses');
    expect(message).not.toContain('secret-token');
    rmSync(token);
    expect(await refusal(controller.issue(undefined))).toEqual([
      'controller-refuses',
      expect.stringContaining('the file does not exist; mount a projected service account token'),
    ]);
  });

  it('is not lost to a folder that cannot be written to', async () => {
    const controller = await issuer();
    rmSync(join(dir, 'run'), { recursive: true });
    expect(await refusal(controller.issue(undefined))).toEqual([
      'write-failed',
      expect.stringContaining('cannot be written: ENOENT'),
    ]);
  });
});

describe('the bundle', () => {
  const digest = (): string => createHash('sha256').update(readFileSync(files.svid)).digest('hex');

  it('is replaced by itself once the controller has another, and not before', async () => {
    const other = await forgeCa({ ...VALID, name: 'CN=Other' });
    let bundle = [ca];
    const controller = await issuer(undefined, () => ({ bundle: bundle.map(({ der }) => der) }));
    await controller.issue(undefined);
    const [svid, loaded] = [digest(), await loadIdentity(files, clock)];
    expect(await controller.refreshBundle(loaded.bundle)).toBe(false);
    bundle = [ca, other];
    expect(await controller.refreshBundle(loaded.bundle)).toBe(true);
    expect((await loadIdentity(files, clock)).bundle.trustsAs(bundleOf(ca, other))).toBe(true);
    expect(digest()).toBe(svid);
  });

  it.each([
    ['nothing', [], 'bad-bundle'],
    ['garbage', [Buffer.from('x')], 'malformed-certificate'],
  ])('of %s is refused, and the good one stays', async (_what, bundle, code) => {
    const controller = await issuer(undefined, () => ({ bundle }));
    await controller.issue(undefined);
    const before = contents();
    expect((await refusal(controller.refreshBundle((await loadIdentity(files, clock)).bundle)))[0]).toBe(
      code,
    );
    expect(contents()).toEqual(before);
  });
});
