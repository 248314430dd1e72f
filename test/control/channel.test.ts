import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { load, type ServiceDefinition } from '@grpc/proto-loader';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import { ControlChannel, type ControlChannelOptions, type ControlMethod } from '../../src/control/channel.ts';
import { loadIdentityDefinition } from '../../src/control/definition.ts';
import type { ControlError } from '../../src/control/errors.ts';
import type { TrustBundle } from '../../src/identity/trustbundle.ts';
import { type Answer, ControllerStub, failure, type Streamer } from '../harness/controllerstub.ts';
import { bundleOf, DOMAIN, type Forged, forgeCa, forgeIntermediate, forgeLeaf } from '../identity/forge.ts';

const PEER = `spiffe://${DOMAIN}/ns/hauberk-system/sa/hauberk-controller`;
const now = Date.now();
const VALID = { notBefore: now - 3_600_000, notAfter: now + 3_600_000 };
const CONTROLLER = { uris: [PEER], ...VALID };

let identity: ServiceDefinition;
let ca: Forged;
let leaf: Forged;
beforeAll(async () => {
  identity = await loadIdentityDefinition();
  ca = await forgeCa(VALID);
  leaf = await forgeLeaf(ca, CONTROLLER);
});

const ends: Array<() => void> = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

const ANSWER = { chain: [Buffer.from('a')], bundle: [], spiffeId: 'x', notAfterMs: 5 };

async function stub(
  chain: readonly Forged[],
  certify: Answer = () => ANSWER,
  port = 0,
): Promise<ControllerStub> {
  const started = await ControllerStub.start(chain, [[identity, { Certify: certify }]], port);
  ends.push(() => started.stop());
  return started;
}

function channel(port: number, more: Partial<ControlChannelOptions> = {}): ControlChannel {
  const made = new ControlChannel({
    address: { host: '127.0.0.1', port },
    peer: PEER,
    token: '/no/token',
    bundle: () => bundle,
    clock: systemClock,
    ...more,
  });
  const bundle = bundleOf(ca);
  ends.push(() => made.close());
  return made;
}

const certify = (through: ControlChannel, options = {}, deadlineMs = 5_000): Promise<unknown> =>
  through.call(identity.Certify as ControlMethod, { csr: Buffer.from('c') }, deadlineMs, options);

/** The code and message of the ControlError that comes. */
const refusal = (call: Promise<unknown>): Promise<[string, string]> =>
  call.then(
    () => ['no error', ''],
    (error: ControlError) => [error.code, error.message],
  );

describe('the controller', () => {
  it('is called over TLS when its chain and its SPIFFE ID are right', async () => {
    const { port } = await stub([leaf], (request: { csr: Buffer }) => ({ ...ANSWER, chain: [request.csr] }));
    expect(await certify(channel(port))).toEqual({ ...ANSWER, chain: [Buffer.from('c')] });
  });

  it('may have an intermediate CA above it, and one that is an anchor by itself', async () => {
    const middle = await forgeIntermediate(ca, VALID);
    const { port } = await stub([await forgeLeaf(middle, CONTROLLER), middle]);
    expect(await certify(channel(port))).toMatchObject({ spiffeId: 'x' });
    expect(await certify(channel(port, { bundle: () => bundleOf(middle) }))).toMatchObject({ spiffeId: 'x' });
  });

  it.each<[string, () => Promise<Forged[]>, RegExp]>([
    [
      'a certificate of another CA',
      async () => {
        const other = await forgeCa({ ...VALID, name: 'CN=Other' });
        return [await forgeLeaf(other, CONTROLLER)];
      },
      /no CA of the trust bundle vouches for its certificate/,
    ],
    [
      'a CA of the same name with another key',
      async () => [await forgeLeaf(await forgeCa(VALID), CONTROLLER)],
      /no CA of the trust bundle vouches|signature/,
    ],
    [
      'another SPIFFE ID of the trust domain',
      async () => [await forgeLeaf(ca, { ...VALID, uris: [`spiffe://${DOMAIN}/ns/shop/sa/web`] })],
      /it is spiffe:\/\/shop\.example\/ns\/shop\/sa\/web, and the controller is spiffe:\/\/.*; correct controller\.address/,
    ],
    [
      'the right path in another trust domain',
      async () => [await forgeLeaf(ca, { ...VALID, uris: [PEER.replace(DOMAIN, 'evil.example')] })],
      /is not of trust domain shop\.example/,
    ],
    [
      'two URIs, the right one among them',
      async () => [await forgeLeaf(ca, { ...VALID, uris: [PEER, `spiffe://${DOMAIN}/x`] })],
      /2 URIs/,
    ],
    [
      'the right name as a DNS name and no URI',
      async () => [await forgeLeaf(ca, { ...VALID, uris: [], dns: ['hauberk-controller'] })],
      /no URI/,
    ],
    [
      'an expired certificate',
      async () => [
        await forgeLeaf(ca, { ...CONTROLLER, notBefore: now - 7_200_000, notAfter: now - 60_000 }),
      ],
      /certificate has expired/,
    ],
    ['a leaf with the CA flag', async () => [await forgeLeaf(ca, { ...CONTROLLER, ca: true })], /CA flag/],
    [
      'a leaf without key usage, which OpenSSL takes',
      async () => [await forgeLeaf(ca, { ...CONTROLLER, usage: 'absent' })],
      /key usage/,
    ],
  ])('is not called with %s', async (_what, chain, reason) => {
    let calls = 0;
    const { port } = await stub(await chain(), () => {
      calls++;
      return ANSWER;
    });
    const [code, message] = await refusal(certify(channel(port)));
    expect([code, message]).toEqual(['untrusted-controller', expect.stringMatching(reason)]);
    expect(message).toContain(`what answers at 127.0.0.1:${port} is not the controller: `);
    expect(calls).toBe(0);
  });

  it('that is away is told with its address, and is called once it is there', async () => {
    const gone = await stub([leaf]);
    gone.stop();
    const through = channel(gone.port);
    const [code, message] = await refusal(certify(through));
    expect(code).toBe('UNAVAILABLE');
    expect(message).toMatch(
      new RegExp(`^the controller at 127\\.0\\.0\\.1:${gone.port} cannot be reached: .*ECONNREFUSED`),
    );
    await stub([leaf], undefined, gone.port);
    await expect.poll(() => refusal(certify(through)), { timeout: 10_000 }).toEqual(['no error', '']);
  });

  it('is told apart from what answered there before', async () => {
    const wrong = await stub([await forgeLeaf(ca, VALID)]);
    const through = channel(wrong.port);
    expect((await refusal(certify(through)))[0]).toBe('untrusted-controller');
    wrong.stop();
    await expect
      .poll(async () => (await refusal(certify(through)))[0], { timeout: 10_000 })
      .toBe('UNAVAILABLE');
  });

  it('that does not answer is given up after the deadline', async () => {
    const { port } = await stub([leaf], () => new Promise<object>(() => undefined));
    expect(await refusal(certify(channel(port), {}, 100))).toEqual([
      'DEADLINE_EXCEEDED',
      `the controller at 127.0.0.1:${port} has not answered within 0.1 s`,
    ]);
  });

  it('says why it refuses, and when to come again', async () => {
    const { port } = await stub([leaf], () => {
      throw failure(grpc.status.RESOURCE_EXHAUSTED, 'too many requests', 1500);
    });
    const error = await certify(channel(port)).then(undefined, (reason: ControlError) => reason);
    expect(error).toMatchObject({
      code: 'RESOURCE_EXHAUSTED',
      retryAfterMs: 1500,
      message: `the controller at 127.0.0.1:${port} refuses: too many requests (RESOURCE_EXHAUSTED)`,
    });
  });
});

describe('the token', () => {
  const folder = mkdtempSync(join(tmpdir(), 'hauberk-token-'));
  const token = join(folder, 'token');
  afterEach(() => rmSync(token, { force: true }));
  afterAll(() => rmSync(folder, { recursive: true }));

  it('is read anew for each call, and sent only where it is asked for', async () => {
    const sent: unknown[] = [];
    const { port } = await stub([leaf], (_request, metadata) => {
      sent.push(metadata.get('authorization'));
      return ANSWER;
    });
    const through = channel(port, { token });
    writeFileSync(token, 'one\n');
    await certify(through, { authorize: true });
    writeFileSync(token, 'two');
    await certify(through, { authorize: true });
    await certify(through);
    expect(sent).toEqual([['Bearer one'], ['Bearer two'], []]);
  });

  it.each([
    [
      'missing',
      undefined,
      /^the token .*\/token: the file does not exist; mount a projected service account token/,
    ],
    ['empty', '\n', /it is empty; mount/],
    ['of several lines', 'a\nb', /is not one line of printable characters/],
  ])('that is %s is told, and nothing is sent', async (_what, text, reason) => {
    if (text !== undefined) writeFileSync(token, text);
    expect(await refusal(certify(channel(1, { token }), { authorize: true }))).toEqual([
      'UNAUTHENTICATED',
      expect.stringMatching(reason),
    ]);
  });
});

it('calls go by the bundle of the moment: a CA that is trusted no longer vouches for no connection', async () => {
  const other = await forgeCa({ ...VALID, name: 'CN=Other' });
  let bundle: TrustBundle = bundleOf(ca, other);
  const { port } = await stub([leaf]);
  const through = channel(port, { bundle: () => bundle });
  await certify(through);
  bundle = bundleOf(other);
  expect((await refusal(certify(through)))[0]).toBe('untrusted-controller');
  bundle = bundleOf(ca);
  expect(await certify(through)).toMatchObject({ spiffeId: 'x' });
});

it('a call ends by its signal, and by the end of the channel', async () => {
  const { port } = await stub([leaf], () => new Promise<object>(() => undefined));
  const through = channel(port);
  const abort = new AbortController();
  const called = refusal(certify(through, { signal: abort.signal }));
  setTimeout(() => abort.abort(), 20);
  expect((await called)[0]).toBe('CANCELLED');
  through.close();
  expect(await refusal(certify(through))).toEqual(['CANCELLED', 'the sidecar is ending']);
});

describe('a stream', () => {
  let discovery: ServiceDefinition;
  beforeAll(async () => {
    const all = await load('hauberk/control/v1/discovery.proto', { includeDirs: ['proto'], defaults: true });
    discovery = all['hauberk.control.v1.Discovery'] as ServiceDefinition;
  });

  const watch = (through: ControlChannel, options = {}) =>
    through.stream<{ service: string }>(discovery.Watch as ControlMethod, { authority: 'a' }, options);

  async function streaming(watcher: Streamer): Promise<ControllerStub> {
    const started = await ControllerStub.start([leaf], [[discovery, { Watch: watcher }]]);
    ends.push(() => started.stop());
    return started;
  }

  it('gives each message, and returns when the controller ends it', async () => {
    const { port } = await streaming((call) => {
      call.write({ service: 'one' });
      call.write({ service: 'two' });
      call.end();
    });
    const got: string[] = [];
    for await (const { service } of watch(channel(port))) got.push(service);
    expect(got).toEqual(['one', 'two']);
  });

  it('that breaks off throws, and one that its reader gives up returns', async () => {
    const started = await streaming((call) => void call.write({ service: 'one' }));
    const through = channel(started.port);
    const abort = new AbortController();
    const given = watch(through, { signal: abort.signal });
    expect((await given.next()).value).toMatchObject({ service: 'one' });
    const after = given.next();
    abort.abort();
    expect(await after).toEqual({ done: true, value: undefined });
    const broken = watch(through);
    await broken.next();
    started.stop();
    expect((await refusal(broken.next()))[0]).toBe('UNAVAILABLE');
  });

  it('ends when another bundle holds, and when the channel is closed', async () => {
    let bundle: TrustBundle = bundleOf(ca);
    const { port } = await streaming((call) => void call.write({ service: 'one' }));
    const through = channel(port, { bundle: () => bundle });
    const before = watch(through);
    await before.next();
    through.refresh();
    bundle = bundleOf(ca, await forgeCa({ ...VALID, name: 'CN=Other' }));
    const next = refusal(before.next());
    through.refresh();
    expect((await next)[0]).toBe('CANCELLED');
    const after = watch(through);
    await after.next();
    through.close();
    expect((await refusal(after.next()))[0]).toBe('CANCELLED');
  });
});
