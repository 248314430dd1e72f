import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import type { CertifyRequest } from '../../src/control/messages.ts';
import { initTrustDomain } from '../../src/identity/authority.ts';
import { parseCertificate } from '../../src/identity/certificate.ts';
import { IdentityError } from '../../src/identity/errors.ts';
import { TrustBundle } from '../../src/identity/trustbundle.ts';
import { collectionPath, SECRETS } from '../../src/kube/client/resource.ts';
import { CertifyRefusal, REFUSAL_STATUS } from '../../src/kube/issuer/errors.ts';
import type { KubeSecret } from '../../src/kube/objects.ts';
import { turns } from '../audit/collector.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { KubeApi } from '../harness/kubeapi.ts';
import { makeCsr, makePair } from '../identity/csrs.ts';
import {
  CA_PATH,
  CONTROLLER,
  fakeNow,
  makeReplica,
  NAMESPACE,
  POD,
  type Replica,
  requestWith,
  secretOf,
} from './issuancerig.ts';

let api: KubeApi;
let dir: string;
const replicas: Replica[] = [];

beforeEach(async () => {
  api = await KubeApi.start();
  dir = await mkdtemp(join(tmpdir(), 'hauberk-issuance-'));
});

afterEach(async () => {
  for (const replica of replicas.splice(0)) await replica.end();
  await api.end();
  await rm(dir, { recursive: true });
});

function replica(text?: string, clock: Parameters<typeof makeReplica>[1] = systemClock): Replica {
  const made = makeReplica(api, clock, text);
  replicas.push(made);
  return made;
}

async function opened(text?: string, clock?: Parameters<typeof makeReplica>[1]): Promise<Replica> {
  const made = replica(text, clock);
  expect(await made.issuance.open()).toBe(true);
  return made;
}

const put = (secret: KubeSecret): void => void api.put(collectionPath(SECRETS, NAMESPACE), secret);

let cas = 0;
/** A CA as `hauberk init` makes it. */
async function newCa(trustDomain = 'cluster.local', ttlMs?: number): Promise<{ cert: string; key: string }> {
  const folder = join(dir, `ca${++cas}`);
  const files = await initTrustDomain({ dir: folder, trustDomain, ...(ttlMs !== undefined && { ttlMs }) });
  return { cert: await readFile(files.bundle, 'latin1'), key: await readFile(files.caKey, 'latin1') };
}

const signerOf = ({ issuance }: Replica): Buffer => issuance.ca.authority.certificate.der;

describe('the CA', () => {
  it('is made where there is none, and is the same for whoever comes later', async () => {
    const first = await opened();
    const secret = api.at<KubeSecret>(CA_PATH);
    expect(Object.keys(secret?.data ?? {}).sort()).toEqual(['ca.crt', 'ca.key']);
    const second = await opened();
    expect(signerOf(second)).toEqual(signerOf(first));
    expect(api.at(CA_PATH)).toEqual(secret);
    expect((await first.events())[0]).toMatchObject({
      type: 'ca.taken',
      cause: 'made',
      secret: 'hauberk-system/hauberk-ca',
      certificates: 1,
      overlaps: true,
    });
    expect((await second.events())[0]).toMatchObject({ type: 'ca.taken', cause: 'found' });
    expect(first.issuance.ca.authority.certificate.notAfter - Date.now()).toBeGreaterThan(3649 * 86_400_000);
  });

  it('is made by one of many replicas that come at the same time', async () => {
    let waiting = 0;
    let release: () => void = () => undefined;
    const all = new Promise<void>((resolve) => {
      release = resolve;
    });
    // Each has seen that there is none before any of them creates it.
    api.hold = async ({ verb, resource }) => {
      if (verb !== 'create' || resource !== 'secrets') return;
      if (++waiting === 5) release();
      await all;
    };
    const made = await Promise.all(Array.from({ length: 5 }, () => opened()));
    expect(new Set(made.map((one) => signerOf(one).toString('hex'))).size).toBe(1);
    const causes = await Promise.all(made.map(async (one) => (await one.events())[0]?.cause as string));
    expect(causes.sort()).toEqual(['found', 'found', 'found', 'found', 'made']);
    expect(waiting).toBe(5);
  });

  it('is waited for while the API server is away, and a controller that is ended meanwhile ends', async () => {
    await api.stop();
    const patient = replica();
    const ended = replica();
    const [opening, ending] = [patient.issuance.open(), ended.issuance.open()];
    await expect(Promise.race([opening, turns(50).then(() => 'waits')])).resolves.toBe('waits');
    ended.issuance.close();
    await expect(ending).resolves.toBe(false);
    await api.listen();
    await expect(opening).resolves.toBe(true);
  });

  it('that an operator replaces is taken without a restart, signs, and is what sidecars are told to trust', async () => {
    const one = await opened();
    const old = signerOf(one);
    const told: string[] = [];
    one.issuance.onCa(() => told.push('changed'));
    const next = await newCa();
    const oldPem = one.issuance.ca.bundlePem;
    const oldKey = Buffer.from(api.at<KubeSecret>(CA_PATH)?.data?.['ca.key'] as string, 'base64').toString(
      'latin1',
    );
    // First both are trusted, and the old one signs.
    put(secretOf(next.cert + oldPem, oldKey));
    await one.issuance.look();
    expect(signerOf(one)).toEqual(old);
    expect(one.issuance.ca.certificates).toHaveLength(2);
    // Then the new one signs.
    put(secretOf(next.cert + oldPem, next.key));
    await one.issuance.look();
    expect(signerOf(one)).not.toEqual(old);
    // At last the old one is trusted no more.
    put(secretOf(next.cert, next.key));
    await one.issuance.look();
    expect(told).toHaveLength(3);
    const taken = (await one.events()).filter(({ type }) => type === 'ca.taken');
    expect(taken.map(({ cause, certificates, overlaps }) => [cause, certificates, overlaps])).toEqual([
      ['made', 1, true],
      ['replaced', 2, true],
      ['replaced', 2, true],
      ['replaced', 1, true],
    ]);
  });

  it('that takes the place of another without overlap says so', async () => {
    const one = await opened();
    const next = await newCa();
    put(secretOf(next.cert, next.key));
    await one.issuance.look();
    expect((await one.events()).at(-1)).toMatchObject({
      type: expect.stringMatching(/ca.taken|svid.issued/),
    });
    const taken = (await one.events()).filter(({ type }) => type === 'ca.taken');
    expect(taken.at(-1)).toMatchObject({ cause: 'replaced', overlaps: false });
  });

  it('that begins later takes the place of the one before when it has begun, and is refused once until then', async () => {
    const DAY_MS = 86_400_000;
    const clock = new FakeClock(Date.now() - DAY_MS);
    const next = await newCa();
    const one = await opened('{}', clock);
    const before = signerOf(one);
    put(secretOf(next.cert, next.key));
    await one.issuance.look();
    await one.issuance.look();
    expect(signerOf(one)).toEqual(before);
    const refused = async () => (await one.events()).filter(({ type }) => type === 'ca.refused');
    expect(await refused()).toMatchObject([{ reason: 'not-yet-valid' }]);
    clock.advance(DAY_MS);
    await one.issuance.look();
    expect(signerOf(one)).not.toEqual(before);
    expect(await refused()).toHaveLength(1);
  });

  it('stays where its Secret is changed to something that is none, which is told once, or removed', async () => {
    const one = await opened();
    const before = signerOf(one);
    put(secretOf('not PEM', 'nor this'));
    await one.issuance.look();
    await one.issuance.look();
    expect(signerOf(one)).toEqual(before);
    const refused = (await one.events()).filter(({ type }) => type === 'ca.refused');
    expect(refused).toEqual([
      {
        type: 'ca.refused',
        secret: 'hauberk-system/hauberk-ca',
        reason: 'not-pem',
        detail: expect.stringMatching(/^Secret hauberk-system\/hauberk-ca, ca\.crt: the file is not PEM; /),
      },
    ]);
    api.remove(CA_PATH);
    await expect(one.issuance.look()).rejects.toThrow(
      /hauberk-ca is gone; the CA that was in it stays in force/,
    );
    expect(signerOf(one)).toEqual(before);
    expect(api.at(CA_PATH)).toBeUndefined();
  });

  it.each<[string, () => Promise<KubeSecret>, string, RegExp]>([
    [
      'no certificate',
      async () => secretOf('', (await newCa()).key),
      'missing-file',
      /ca\.crt: there is no such key/,
    ],
    [
      'no key',
      async () => secretOf((await newCa()).cert, ''),
      'missing-file',
      /ca\.key: there is no such key/,
    ],
    [
      'the key of another CA',
      async () => secretOf((await newCa()).cert, (await newCa()).key),
      'key-mismatch',
      /ca\.key: the key is of none of the certificates/,
    ],
    [
      'a certificate that is cut off',
      async () => secretOf((await newCa()).cert.slice(0, 400), (await newCa()).key),
      'not-pem',
      /ca\.crt: the PEM block "CERTIFICATE" is cut off/,
    ],
    [
      'a CA of another trust domain',
      async () => {
        const { cert, key } = await newCa('shop.example');
        return secretOf(cert, key);
      },
      'wrong-trust-domain',
      /ca\.crt: it has a CA of the trust domain shop\.example; set trustDomain: shop\.example/,
    ],
    [
      'a CA that has ended',
      async () => {
        const { cert, key } = await newCa('cluster.local', 1_000);
        await new Promise((resolve) => setTimeout(resolve, parseEnd(cert) - Date.now() + 5));
        return secretOf(cert, key);
      },
      'expired',
      /ca\.key: the CA of this key ended at .*; replace the CA/,
    ],
  ])('of a Secret with %s is refused, and the Secret left alone', async (_what, make, code, message) => {
    const secret = await make();
    put(secret);
    const error = await replica()
      .issuance.open()
      .then(
        () => undefined,
        (failure: unknown) => failure,
      );
    expect(error).toBeInstanceOf(IdentityError);
    expect((error as IdentityError).code).toBe(code);
    expect((error as IdentityError).message).toMatch(message);
    expect((error as IdentityError).message).not.toMatch(/PRIVATE KEY/);
    expect(api.at<KubeSecret>(CA_PATH)?.data).toEqual(secret.data);
  });
});

const parseEnd = (pem: string): number => TrustBundle.fromPem(pem, 'cluster.local').notAfter;

describe('a pod', () => {
  let one: Replica;
  const token = (over: object = {}): string =>
    api.tokens.issue({ namespace: 'shop', serviceAccount: 'web', pod: POD, ...over });
  const certify = (request: CertifyRequest, remote = '10.1.2.3:4711') =>
    one.issuance.issuer.certify(request, { remote, signal: new AbortController().signal });
  /** Why it is refused. */
  const refusal = (request: CertifyRequest, remote?: string): Promise<CertifyRefusal> =>
    certify(request, remote).then(
      () => expect.unreachable('it was not refused'),
      (error) => {
        expect(error).toBeInstanceOf(CertifyRefusal);
        return error as CertifyRefusal;
      },
    );
  const refused = async (): Promise<unknown[]> =>
    (await one.events()).filter(({ type }) => type === 'svid.refused');

  it('that proves its service account gets an SVID for it', async () => {
    one = await opened('issuer: { svidTtl: 2h }');
    const pair = makePair('ed25519');
    const { chain, bundle, spiffeId, notAfterMs } = await certify({
      csr: makeCsr({ pair }),
      proof: 'serviceAccountToken',
      serviceAccountToken: token(),
    });
    expect(spiffeId).toBe('spiffe://cluster.local/ns/shop/sa/web');
    const trust = new TrustBundle({ trustDomain: 'cluster.local', certificates: bundle });
    const peer = trust.verifyChain(chain, Date.now());
    expect(peer.spiffeId).toBe(spiffeId);
    expect(peer.notAfter).toBe(notAfterMs);
    expect(notAfterMs - Date.now()).toBeGreaterThan(2 * 3_600_000 - 10_000);
    expect(notAfterMs - Date.now()).toBeLessThan(2 * 3_600_000 + 1_000);
    const leaf = parseCertificate(chain[0] as Buffer);
    expect(leaf.spki).toEqual(pair.publicKey.export({ type: 'spki', format: 'der' }));
    const [own, issued] = (await one.events()).filter(({ type }) => type === 'svid.issued');
    expect(own).toMatchObject({ spiffeId: CONTROLLER });
    expect(own).not.toHaveProperty('pod');
    expect(issued).toMatchObject({
      spiffeId,
      pod: 'shop/web-1',
      podUid: POD.uid,
      remote: '10.1.2.3:4711',
      keyType: 'ed25519',
      leafSha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      notAfter: new Date(notAfterMs).toISOString(),
    });
    const review = api.asked.filter(({ resource }) => resource === 'tokenreviews');
    expect(review).toHaveLength(1);
    expect(JSON.stringify(await one.events())).not.toContain(token());
  });

  it.each<[string, () => CertifyRequest, keyof typeof REFUSAL_STATUS, RegExp]>([
    ['no proof', () => ({ csr: makeCsr({ pair: makePair() }) }), 'no-proof', /send a service account token/],
    ['an empty proof', () => requestWith(''), 'no-proof', /send a service account token/],
    [
      'a token of strange characters',
      () => requestWith('a b'),
      'bad-token',
      /is not a service account token/,
    ],
    [
      'a token that is too long',
      () => requestWith('a'.repeat(16_385)),
      'bad-token',
      /is not a service account token/,
    ],
    [
      'a token that nobody knows',
      () => requestWith('nobody.knows.it'),
      'bad-token',
      /does not accept the token/,
    ],
    [
      'a token that has ended',
      () => requestWith(token({ expiresAt: Date.now() - 1 })),
      'bad-token',
      /does not accept/,
    ],
    [
      'a token for the API server',
      () => requestWith(token({ audiences: ['https://kubernetes.default.svc'] })),
      'bad-token',
      /does not accept/,
    ],
    [
      'a token that is bound to no pod',
      () => requestWith(token({ pod: undefined })),
      'not-bound',
      /not bound to a pod/,
    ],
    [
      'a token of a name that leads elsewhere',
      () => requestWith(token({ namespace: 'shop/sa/admin' })),
      'not-a-service-account',
      /not of a service account/,
    ],
    [
      'a token of a name with a dot segment',
      () => requestWith(token({ serviceAccount: '..' })),
      'not-a-service-account',
      /not of a service account/,
    ],
    [
      'a request that is none',
      () => ({ ...requestWith(token()), csr: Buffer.from('hello') }),
      'bad-request',
      /not a valid certificate request/,
    ],
    [
      'a request that is huge',
      () => ({ ...requestWith(token()), csr: Buffer.alloc(100_000) }),
      'bad-request',
      /100000 bytes; at most 4096/,
    ],
    [
      'a request for another’s key',
      () => ({ ...requestWith(token()), csr: makeCsr({ pair: makePair(), signer: makePair().privateKey }) }),
      'bad-signature',
      /not shown that the key is theirs/,
    ],
  ])('with %s gets none, and that is in the audit', async (_what, request, code, message) => {
    one = await opened();
    const asked = request();
    const error = await refusal(asked);
    expect([error.code, error.message]).toEqual([code, expect.stringMatching(message)]);
    const [event, ...more] = await refused();
    expect(more).toEqual([]);
    expect(event).toMatchObject({ reason: code, remote: '10.1.2.3:4711', count: 1, detail: error.message });
    const sent = asked.serviceAccountToken ?? '';
    if (sent.length > 8) expect(JSON.stringify(await one.events()) + error.message).not.toContain(sent);
  });

  it.each<[string, (status: object) => object, keyof typeof REFUSAL_STATUS]>([
    [
      'does not say for whom the token is',
      ({ audiences: _, ...rest }: { audiences?: unknown }) => rest,
      'wrong-audience',
    ],
    [
      'says that it is for somebody else',
      (status) => ({ ...status, audiences: ['other'] }),
      'wrong-audience',
    ],
    ['names a user', (status) => ({ ...status, user: { username: 'admin' } }), 'not-a-service-account'],
    [
      'names a service account with a part too many',
      (status) => ({ ...status, user: { username: 'system:serviceaccount:a:b:c' } }),
      'not-a-service-account',
    ],
    ['says yes of nobody', () => ({ authenticated: true, audiences: ['hauberk'] }), 'not-a-service-account'],
    ['is empty', () => ({}), 'bad-token'],
  ])('gets none where the review %s', async (_what, twist, code) => {
    one = await opened();
    api.tokens.twist = twist as never;
    expect((await refusal(requestWith(token()))).code).toBe(code);
  });

  it('is told to come again where the API server is away, and gets its SVID when it is back', async () => {
    one = await opened();
    const request = requestWith(token());
    await api.stop();
    const error = await refusal(request);
    expect(error.code).toBe('kubernetes-unavailable');
    expect(REFUSAL_STATUS[error.code]).toBe('UNAVAILABLE');
    expect(error.message).toMatch(/the SVID at hand stays good/);
    expect(error.retryMs).toBeGreaterThan(0);
    await api.listen();
    expect((await certify(request)).spiffeId).toBe('spiffe://cluster.local/ns/shop/sa/web');
    api.deny('create tokenreviews');
    expect((await refusal(requestWith(token({ serviceAccount: 'other' })))).code).toBe(
      'kubernetes-unavailable',
    );
  });

  it('that floods is refused for itself, and not its neighbours', async () => {
    one = await opened('issuer: { maxPerPod: 3, maxPerAddress: 100 }', fakeNow());
    const request = requestWith(token());
    for (let i = 0; i < 3; i++) await certify(request);
    const error = await refusal(request);
    expect(error).toMatchObject({ code: 'pod-limit', retryMs: 100_000 });
    expect(error.message).toMatch(/use the one at hand/);
    const other = { name: 'web-2', uid: '22222222-2222-4222-8222-222222222222' };
    await expect(certify(requestWith(token({ pod: other })))).resolves.toMatchObject({
      notAfterMs: expect.any(Number),
    });
    expect(await refused()).toEqual([
      expect.objectContaining({
        reason: 'pod-limit',
        spiffeId: 'spiffe://cluster.local/ns/shop/sa/web',
        pod: 'shop/web-1',
      }),
    ]);
  });

  it('whose address asks too often is refused before anything of the request is looked at', async () => {
    const clock = fakeNow();
    one = await opened('issuer: { maxPerAddress: 2 }', clock);
    const junk = { csr: Buffer.alloc(0) };
    expect((await refusal(junk)).code).toBe('bad-request');
    expect((await refusal(junk)).code).toBe('bad-request');
    for (let i = 0; i < 50; i++) expect((await refusal(junk)).code).toBe('address-limit');
    // Another port is the same address; IPv4 may be mapped. In a cluster an IPv6 /64 is a node or a subnet, not one pod.
    for (const remote of ['10.1.2.3:1', '::ffff:10.1.2.3:1', '[::ffff:10.1.2.3]:1']) {
      expect((await refusal(junk, remote)).code).toBe('address-limit');
    }
    expect((await refusal(junk, '10.1.2.4:1')).code).toBe('bad-request');
    for (let i = 0; i < 2; i++) expect((await refusal(junk, '2001:db8::1:1')).code).toBe('bad-request');
    expect((await refusal(junk, '2001:db8::1:2')).code).toBe('address-limit');
    expect((await refusal(junk, '2001:db8::2:1')).code).toBe('bad-request');
    // The audit has the first at once, and how many there were later.
    const limits = async () =>
      (await refused()).filter((event) => (event as { reason: string }).reason === 'address-limit');
    expect(await limits()).toHaveLength(2);
    clock.advance(1_000);
    const counted = (await limits()) as Array<{ count: number }>;
    expect(counted.map(({ count }) => count)).toEqual([1, 1, 52]);
    clock.advance(60_000);
    expect((await refusal(junk)).code).toBe('bad-request');
  });

  it('waits no longer than there is room, and not for those who went away', async () => {
    one = await opened('issuer: { maxConcurrent: 1, maxWaiting: 16 }');
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    api.hold = async ({ resource }) => {
      if (resource === 'tokenreviews') await held;
    };
    const first = certify(requestWith(token()));
    const flood = Array.from({ length: 20 }, () => refusal(requestWith(token())).catch(() => undefined));
    const neighbour = certify(
      requestWith(token({ pod: { name: 'n', uid: '33333333-3333-4333-8333-333333333333' } })),
      '10.9.9.9:1',
    );
    const gone = new AbortController();
    const leaver = one.issuance.issuer
      .certify(requestWith(token()), { remote: '10.8.8.8:1', signal: gone.signal })
      .then(
        () => 'issued',
        ({ code }: CertifyRefusal) => code,
      );
    const { issuer } = one.issuance;
    await expect.poll(() => [issuer.running, issuer.waiting]).toEqual([1, 16]);
    gone.abort();
    expect(await leaver).toBe('busy');
    release();
    await first;
    await expect(neighbour).resolves.toMatchObject({ spiffeId: expect.any(String) });
    const codes = (await Promise.all(flood)).map((error) => error?.code);
    expect(codes.filter((code) => code === 'busy').length).toBeGreaterThanOrEqual(6);
    one.issuance.close();
    expect((await refusal(requestWith(token()))).code).toBe('stopping');
  });

  it('gets no SVID that outlives the CA, and none of a CA that has ended', async () => {
    const clock = fakeNow();
    const { cert, key } = await newCa('cluster.local', 3_600_000);
    put(secretOf(cert, key));
    one = await opened('{}', clock);
    const { notAfterMs } = await certify(requestWith(token()));
    expect(notAfterMs).toBe(one.issuance.ca.authority.certificate.notAfter);
    clock.advance(3_700_000);
    const error = await refusal(requestWith(token({ expiresAt: Date.now() + 10_000_000 })));
    expect([error.code, REFUSAL_STATUS[error.code]]).toEqual(['ca-ended', 'UNAVAILABLE']);
  });
});
