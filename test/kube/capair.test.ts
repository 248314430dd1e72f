import { expect, it } from 'vitest';
import { toPem } from '../../src/identity/pem.ts';
import { readCaPair } from '../../src/kube/issuer/capair.ts';
import {
  DOMAIN,
  type Forged,
  forgeCa,
  forgeIntermediate,
  forgeLeaf,
  NOW,
  privateKeyOf,
} from '../identity/forge.ts';
import { secretOf } from './issuancerig.ts';

const PLACE = 'Secret hauberk-system/hauberk-ca';
const DAY = 86_400_000;

async function read(certificates: readonly Forged[], keyOf: Forged) {
  const key = (await privateKeyOf(keyOf)).export({ type: 'pkcs8', format: 'pem' }) as string;
  const pem = certificates.map(({ der }) => toPem('CERTIFICATE', der)).join('');
  return readCaPair(secretOf(pem, key), PLACE, DOMAIN, NOW);
}

it('of several certificates of one key the one that ends last signs, and of those only one that is valid', async () => {
  const ending = await forgeCa({ notAfter: NOW + DAY });
  const { keys } = ending;
  const renewed = await forgeCa({ keys, notAfter: NOW + 30 * DAY });
  const later = await forgeCa({ keys, notBefore: NOW + DAY, notAfter: NOW + 60 * DAY });
  const other = await forgeCa({ name: 'CN=Other', notAfter: NOW + 90 * DAY });
  for (const all of [
    [ending, renewed, later, other],
    [other, later, renewed, ending],
  ]) {
    const { authority, certificates } = await read(all, ending);
    expect(authority.certificate.der).toEqual(renewed.der);
    expect(certificates).toEqual(all.map(({ der }) => der));
  }
});

it.each<[string, () => Promise<[Forged[], Forged]>, RegExp]>([
  [
    'an Ed25519 key',
    async () => {
      const ca = await forgeCa({ kind: 'ed25519' });
      return [[ca], ca];
    },
    /^Secret hauberk-system\/hauberk-ca, ca\.key: SVIDs are issued with P-256 CA keys only; /,
  ],
  [
    'the certificate of a pod',
    async () => {
      const leaf = await forgeLeaf(await forgeCa());
      return [[leaf], leaf];
    },
    /^Secret hauberk-system\/hauberk-ca, ca\.crt: certificate 1 of 1 in the bundle: /,
  ],
  [
    'a CA that has not begun',
    async () => {
      const ca = await forgeCa({ notBefore: NOW + DAY, notAfter: NOW + 2 * DAY });
      return [[ca], ca];
    },
    /ca\.key: the CA of this key begins at .*; check the clock/,
  ],
])('a Secret with %s is refused', async (_what, make, message) => {
  await expect(make().then(([all, keyOf]) => read(all, keyOf))).rejects.toThrow(message);
});

it('an intermediate CA may sign, with its root beside it', async () => {
  const root = await forgeCa({ pathLength: 1 });
  const intermediate = await forgeIntermediate(root);
  const { authority, bundle } = await read([root, intermediate], intermediate);
  const { chain } = await authority.certify({
    spiffeId: { id: `spiffe://${DOMAIN}/ns/shop/sa/web`, trustDomain: DOMAIN, path: '/ns/shop/sa/web' },
    spki: authority.certificate.spki,
    nowMs: NOW,
    ttlMs: 60_000,
  });
  expect(bundle.verifyChain(chain, NOW).spiffeId).toBe(`spiffe://${DOMAIN}/ns/shop/sa/web`);
});
