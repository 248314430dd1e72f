import { expect, it, vi } from 'vitest';
import { nativeMlKem768 } from '../../src/crypto/nativemlkem.ts';
import type { Finding } from '../harness/memorysearch.ts';
import { recording } from '../harness/recordingprovider.ts';
import { ML_KEM, REKEY_RECORDS, Scene, SESSIONS, STATIC_KEY, SVID_KEY } from '../harness/scene.ts';

/*
 * What is in the memory of a real sidecar of the secrets of its sessions: while they live what they need, afterwards nothing.
 */

vi.mock('../../src/crypto/provider.ts', async (original) => recording(await original()));

const hasNativeMlKem = nativeMlKem768() !== undefined;

const sorted = (texts: Iterable<string>): string[] => [...new Set(texts)].sort();

/** What is found, and in which forms; but for what neither we nor anybody can wipe (docs/security.md). */
const formsIn = (findings: readonly Finding[]): string[] =>
  sorted(
    findings.filter((finding) => !isOutOfReach(finding)).map(({ secret, form }) => `${secret}, ${form}`),
  );

/**
 * Where JavaScript computes ML-KEM, its library leaves copies in V8's heap; with AVX-512 OpenSSL leaves round keys on its
 * stack.
 */
const isOutOfReach = ({ secret, form, mapping }: Finding): boolean =>
  (!hasNativeMlKem && secret.includes(ML_KEM)) || (form === 'AES round keys' && mapping === '[stack]');

/**
 * What belongs to the process: OpenSSL has it for as long as it is used. No trace of the files and buffers that it came from.
 */
const OPENSSL_ONLY = [`${SVID_KEY}, reversed`, `${STATIC_KEY}, raw`];

/** A sidecar whose sessions have been resumed and have changed their keys. */
async function used(): Promise<Scene> {
  const scene = await Scene.make();
  const { audit } = scene.peer;
  await scene.call(2);
  scene.cut();
  await scene.call(REKEY_RECORDS + 100);
  await audit.events('session.resumed', 2);
  await audit.events('session.rekeyed', 4);
  expect(scene.live).toHaveLength(SESSIONS * 3); // a key each, and one each direction
  return scene;
}

it('of the secrets of sessions the memory holds those that are in use, and none once they are revoked', async () => {
  const scene = await used();
  const { sidecar, live } = scene;
  const secrets = await scene.secrets();
  // 2 full handshakes, 2 resumptions, 4 rekeys.
  expect(secrets.names.length).toBeGreaterThan(60);
  await scene.collect();
  expect(formsIn(secrets.findIn(sidecar.pid))).toEqual(
    sorted([...live.map((key) => `${key}, raw`), ...OPENSSL_ONLY]),
  );

  await scene.revoke();
  await scene.collect();
  expect(formsIn(secrets.findIn(sidecar.pid))).toEqual(OPENSSL_ONLY);
});

it('nothing is left of sessions that were idle for too long, nor of their tickets', async () => {
  const scene = await Scene.make({ both: { session: { idle: '1s', grace: '0ms' } } });
  const { sidecar } = scene;
  await scene.call(2);
  scene.cut();
  await scene.call(2);
  const secrets = await scene.secrets();
  await sidecar.audit.events('session.expired', SESSIONS);
  await expect.poll(() => sidecar.metric('hauberk_sessions_open'), { timeout: 20_000 }).toBe(0);
  await scene.collect();
  expect(formsIn(secrets.findIn(sidecar.pid))).toEqual(OPENSSL_ONLY);
});
