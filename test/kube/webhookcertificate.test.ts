import { X509Certificate } from 'node:crypto';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Clock, systemClock } from '../../src/clock/clock.ts';
import type { KubeClient } from '../../src/kube/client/client.ts';
import { openKubeClient } from '../../src/kube/client/httpsclient.ts';
import { collectionPath, MUTATING_WEBHOOKS, objectPath, SECRETS } from '../../src/kube/client/resource.ts';
import type { KubeSecret, MutatingWebhookConfiguration } from '../../src/kube/objects.ts';
import {
  livingCertificates,
  makeServing,
  type ServingCertificate,
} from '../../src/kube/webhook/certificates.ts';
import { FileCertificate } from '../../src/kube/webhook/filecertificate.ts';
import { Publisher } from '../../src/kube/webhook/publisher.ts';
import { SelfCertificate } from '../../src/kube/webhook/selfcertificate.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { KubeApi } from '../harness/kubeapi.ts';
import { makeServerCertificate } from '../harness/kubetls.ts';

const DAY = 86_400_000;
const NAME = 'hauberk-controller.hauberk-system.svc';
const SECRET = objectPath(SECRETS, 'hauberk-webhook-tls', 'hauberk-system');
const CONFIGURATION = objectPath(MUTATING_WEBHOOKS, 'hauberk-injector');

let api: KubeApi;
let client: KubeClient;
let clock: FakeClock;
const settled = { timeout: 20_000 };
/** For expect.poll: the value, after some more time. */
const after =
  <T>(ms: number, value: () => T) =>
  (): T => {
    clock.advance(ms);
    return value();
  };
const closing: Array<{ close(): void }> = [];

beforeEach(async () => {
  api = await KubeApi.start();
  client = openKubeClient({ access: api.access, clock: systemClock });
  clock = new FakeClock();
});

afterEach(async () => {
  for (const each of closing.splice(0)) each.close();
  client.close();
  await api.end();
});

/** A replica: what it shows, what it was told, and how long the bundle has been published. */
function replica(isLeader = true) {
  const taken: Array<[cause: string, certificate: ServingCertificate]> = [];
  const troubles: string[] = [];
  const state = { publishedMs: 0, isLeader };
  const source = new SelfCertificate({
    client,
    clock,
    namespace: 'hauberk-system',
    secret: 'hauberk-webhook-tls',
    names: [NAME],
    isLeader: () => state.isLeader,
    publishedMs: () => state.publishedMs,
    listener: {
      onTaken: (certificate, cause) => taken.push([cause, certificate]),
      onTrouble: (message) => troubles.push(message),
    },
  });
  closing.push(source);
  return { source, taken, troubles, state, shown: () => taken.at(-1)?.[1].chain as string };
}

/** Whether whoever trusts the bundle takes the certificate. */
function isTrusted(chain: string, bundle: string): boolean {
  const leaf = new X509Certificate(chain);
  return livingCertificates(bundle, clock.now()).some((ca) => leaf.verify(new X509Certificate(ca).publicKey));
}

it('of replicas that find no certificate at the same time one makes it, and the others show the same', async () => {
  const replicas = [replica(false), replica(false), replica(false)];
  await Promise.all(replicas.map(({ source }) => source.open()));
  expect(new Set(replicas.map(({ shown }) => shown())).size).toBe(1);
  expect(new Set(replicas.map(({ source }) => source.bundle)).size).toBe(1);
  const [first] = replicas as [ReturnType<typeof replica>];
  expect(isTrusted(first.shown(), first.source.bundle)).toBe(true);
  expect(new X509Certificate(first.shown()).checkHost(NAME)).toBe(NAME);
  expect(api.at<KubeSecret>(SECRET)?.data).not.toHaveProperty('ca.key');
});

it('a rotation shows nothing that is not published yet, and publishes both CAs before and after', async () => {
  const [leader, follower] = [replica(true), replica(false)];
  await leader.source.open();
  await follower.source.open();
  const [old, oldBundle] = [leader.shown(), leader.source.bundle];
  clock.advance(59 * DAY);
  await leader.source.look();
  expect(leader.source.bundle).toBe(oldBundle);

  clock.advance(2 * DAY);
  await follower.source.look();
  expect(follower.source.bundle).toBe(oldBundle);
  await leader.source.look();
  const both = leader.source.bundle;
  expect(livingCertificates(both, clock.now())).toHaveLength(2);
  expect(leader.shown()).toBe(old);

  leader.state.publishedMs = 59_000;
  await leader.source.look();
  expect(leader.shown()).toBe(old);
  leader.state.publishedMs = 60_000;
  await leader.source.look();
  expect(leader.shown()).not.toBe(old);
  expect(leader.taken.map(([cause]) => cause)).toEqual(['made', 'rotated']);
  expect(leader.source.bundle).toBe(both);
  for (const chain of [old, leader.shown()]) expect(isTrusted(chain, both)).toBe(true);
  await follower.source.look();
  expect(follower.shown()).toBe(leader.shown());
  expect(api.at<KubeSecret>(SECRET)?.data).not.toHaveProperty('next.key');

  // The CA of the old one goes when it has ended, with the next rotation.
  clock.advance(61 * DAY);
  await leader.source.look();
  expect(livingCertificates(leader.source.bundle, clock.now())).toHaveLength(2);
  expect(isTrusted(leader.shown(), leader.source.bundle)).toBe(true);
});

it('another replica that leads meanwhile finishes the rotation', async () => {
  const [first, second] = [replica(true), replica(false)];
  await first.source.open();
  await second.source.open();
  clock.advance(61 * DAY);
  await first.source.look();
  first.source.close();
  Object.assign(second.state, { isLeader: true, publishedMs: 60_000 });
  await second.source.look();
  expect(second.taken.map(([cause]) => cause)).toEqual(['found', 'rotated']);
});

it('a Secret that cannot be used is made anew, and CAs that API servers may still need stay in the bundle', async () => {
  const { source, taken, troubles, shown } = replica(false);
  await source.open();
  const old = source.bundle;
  const damage = async (data: Record<string, string>): Promise<void> => {
    const secret = api.at<KubeSecret>(SECRET) as KubeSecret;
    const changed = Object.fromEntries(
      Object.entries(data).map(([name, text]) => [name, Buffer.from(text).toString('base64')]),
    );
    await client.replace(SECRET, { ...secret, data: { ...secret.data, ...changed } });
    await source.look();
  };
  const other = await makeServing([NAME], clock.now(), DAY);
  const foreign = await makeServing(['elsewhere.svc'], clock.now(), DAY);
  await damage({ 'tls.crt': 'junk' });
  await damage({ 'tls.key': 'junk' });
  await damage({ 'tls.key': other.serving.key });
  await damage({ 'tls.crt': other.serving.chain, 'tls.key': other.serving.key });
  await damage({
    'tls.crt': foreign.serving.chain,
    'tls.key': foreign.serving.key,
    'ca.crt': old + foreign.ca,
  });
  expect(troubles).toEqual([
    expect.stringContaining(
      'Secret hauberk-system/hauberk-webhook-tls, tls.crt: the certificate is not PEM; it is made anew',
    ),
    expect.stringContaining('the key is not an unencrypted private key in PEM; it is made anew'),
    expect.stringContaining('the key is not that of the certificate; it is made anew'),
    expect.stringContaining('no CA in ca.crt has signed it; it is made anew'),
    expect.stringContaining(`it is not for ${NAME}; it is made anew`),
  ]);
  expect(taken).toHaveLength(6);
  expect(isTrusted(shown(), source.bundle)).toBe(true);
  expect(source.bundle).toContain(old.trim());
});

it('a certificate that ended while nobody looked is made anew', async () => {
  const { source, taken, shown } = replica(false);
  await source.open();
  clock.advance(91 * DAY);
  await source.look();
  expect(taken.map(([cause]) => cause)).toEqual(['made', 'rotated']);
  expect(Date.parse(new X509Certificate(shown()).validTo)).toBeGreaterThan(clock.now());
});

it('an API server that is away is waited for', async () => {
  const { source, troubles, taken } = replica(false);
  await api.stop();
  const opened = source.open();
  await expect.poll(() => troubles).toHaveLength(1);
  await api.listen();
  await expect
    .poll(
      after(20_000, () => taken.length),
      settled,
    )
    .toBe(1);
  expect(await opened).toBe(true);
});

function configuration(...bundles: Array<string | undefined>): MutatingWebhookConfiguration {
  return {
    metadata: { name: 'hauberk-injector' },
    webhooks: bundles.map((caBundle, i) => ({
      name: `w${i}.hauberk.mesh`,
      clientConfig: caBundle === undefined ? {} : { caBundle },
    })),
  };
}

const bundlesNow = () =>
  api
    .at<MutatingWebhookConfiguration>(CONFIGURATION)
    ?.webhooks?.map(({ clientConfig }) => clientConfig?.caBundle);

/** A CA, PEM. */
const makeCa = async (lifeMs = DAY): Promise<string> => (await makeServing([NAME], Date.now(), lifeMs)).ca;
const base64 = (...pems: string[]): string => Buffer.from(pems.join('')).toString('base64');

/** A replica's publisher, and what it was told. `start` it. */
function publisherOf(bundle: string, isLeader = false, time: Clock = systemClock) {
  const state = { bundle, isLeader };
  const published: number[] = [];
  const troubles: string[] = [];
  const publisher = new Publisher({
    client,
    clock: time,
    configuration: 'hauberk-injector',
    bundle: () => state.bundle,
    isLeader: () => state.isLeader,
    onPublished: (webhooks) => published.push(webhooks),
    onTrouble: (message) => troubles.push(message),
  });
  closing.push(publisher);
  return { publisher, state, published, troubles };
}

it('the CA is published in every webhook, and again as soon as somebody takes it out', async () => {
  clock = new FakeClock(Date.now());
  const [one, two] = [await makeCa(), await makeCa()];
  const { publisher, state, published, troubles } = publisherOf('', false, clock);
  const later = <T>(value: () => T) => expect.poll(after(200, value), settled);
  const collection = collectionPath(MUTATING_WEBHOOKS);
  const started = publisher.start();
  clock.advance(0);
  await started;
  state.bundle = one;
  await later(() => troubles).toEqual([
    'there is no MutatingWebhookConfiguration hauberk-injector, so that no pod is injected: install it with the chart, or set webhook.configuration',
  ]);
  api.put(collection, configuration(undefined, base64(one)));
  await later(bundlesNow).toEqual([base64(one), base64(one)]);
  // What the server has, the publisher knows with its answer only.
  await later(() => published).toEqual([1]);
  await later(() => api.watching).toBe(1);
  await later(() => publisher.publishedMs(one)).toBeGreaterThan(0);
  expect(publisher.publishedMs(two)).toBe(0);

  api.put(collection, configuration(undefined, base64('junk')));
  await later(bundlesNow).toEqual([base64(one), base64(one)]);
  await later(() => published).toEqual([1, 2]);

  state.bundle = two;
  await later(bundlesNow).toEqual([base64(two, one), base64(two, one)]);
  await later(() => publisher.publishedMs(one)).toBe(0);

  state.bundle = 'no PEM';
  await later(() => troubles.at(-1)).toMatch(
    /is no certificate in PEM that is in force: replace webhook.caBundle/,
  );
  expect(bundlesNow()).toEqual([base64(two, one), base64(two, one)]);
});

it('replicas of two configurations keep what the other one shows, and none is ready before', async () => {
  const [one, two, ended] = [await makeCa(), await makeCa(), await makeCa(-1000)];
  api.put(collectionPath(MUTATING_WEBHOOKS), configuration(base64(ended), undefined));
  const replicas = [publisherOf(one, true), publisherOf(two), publisherOf(two), publisherOf(one)];
  await Promise.all(replicas.map(({ publisher }) => publisher.start()));
  for (const bundle of bundlesNow() ?? []) {
    const pems = livingCertificates(Buffer.from(bundle ?? '', 'base64').toString(), Date.now());
    expect(pems.sort()).toEqual([one, two].sort());
  }
  expect(replicas.flatMap(({ troubles }) => troubles)).toEqual([]);
});

it('what nobody has added again for ten minutes is taken out, by the leader', async () => {
  clock = new FakeClock(Date.now());
  const [own, before, third] = [await makeCa(), await makeCa(), await makeCa()];
  const collection = collectionPath(MUTATING_WEBHOOKS);
  api.put(collection, configuration(base64(before)));
  const { publisher, state } = publisherOf(own, true, clock);
  const started = publisher.start();
  clock.advance(0);
  await started;
  expect(bundlesNow()).toEqual([base64(own, before)]);
  await expect.poll(() => api.watching, settled).toBe(1);
  clock.advance(599_000);
  // Somebody adds another one: ten minutes from now.
  api.put(collection, configuration(base64(own, before, third)));
  await expect.poll(() => api.watching, settled).toBe(0);
  clock.advance(100);
  await expect.poll(() => api.watching, settled).toBe(1);
  clock.advance(599_000);
  clock.advance(2000);
  state.isLeader = false;
  clock.advance(2000);
  expect(bundlesNow()).toEqual([base64(own, before, third)]);
  state.isLeader = true;
  await expect.poll(after(2000, bundlesNow), settled).toEqual([base64(own)]);
});

it('files are taken once they fit each other, and what was good stays until then', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'hauberk-webhook-'));
  const files = { cert: join(folder, 'tls.crt'), key: join(folder, 'tls.key') };
  const taken: string[] = [];
  const troubles: string[] = [];
  clock = new FakeClock(Date.now());
  const source = new FileCertificate(files, clock, {
    onTaken: (_certificate, cause) => taken.push(cause),
    onTrouble: (message) => troubles.push(message),
  });
  closing.push(source);
  const looks = (list: readonly string[]) =>
    expect.poll(
      after(10_000, () => list),
      settled,
    );
  try {
    await expect(source.open()).rejects.toThrow(
      /tls.crt cannot be read \(ENOENT\): webhook.cert and webhook.key name the files/,
    );
    const [first, second] = [await makeServerCertificate(), await makeServerCertificate()];
    await writeFile(files.cert, first.cert);
    await writeFile(files.key, first.key);
    expect(await source.open()).toBe(true);
    await writeFile(`${files.cert}.new`, second.cert);
    await rename(`${files.cert}.new`, files.cert);
    await looks(troubles).toEqual([expect.stringContaining('the key is not that of the certificate')]);
    expect(taken).toEqual(['found']);
    // At once, as Secrets are mounted: a look must not meet half of it.
    await writeFile(`${files.key}.new`, second.key);
    await rename(`${files.key}.new`, files.key);
    await looks(taken).toEqual(['found', 'rotated']);
    expect(troubles).toHaveLength(1);
  } finally {
    await rm(folder, { recursive: true });
  }
});
