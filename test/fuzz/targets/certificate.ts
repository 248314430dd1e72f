import { type KeyObject, sign, X509Certificate } from 'node:crypto';
import { parseCertificate } from '../../../src/identity/certificate.ts';
import { IdentityError } from '../../../src/identity/errors.ts';
import {
  bundleOf,
  DOMAIN,
  elementsOf,
  forgeCa,
  forgeIntermediate,
  forgeLeaf,
  NOW,
  privateKeyOf,
  tlv,
  x509,
} from '../../identity/forge.ts';
import { EDIT, edited, mutateScript } from '../edits.ts';
import { claim, same, type Target } from '../target.ts';

/*
 * An input is two octets, which certificate is changed and whether its issuer signs it again, and a script of edits. OpenSSL
 * reads and verifies what we accept.
 */
const HEAD = 2;

const root = await forgeCa();
const intermediate = await forgeIntermediate(root, { pathLength: 0 });
const other = await forgeCa();
const leaves = [
  await forgeLeaf(intermediate),
  await forgeLeaf(intermediate, {
    dns: ['web'],
    purposes: [x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth],
  }),
  await forgeLeaf(intermediate, { kind: 'ed25519' }),
  await forgeLeaf(intermediate, { uris: [`spiffe://${DOMAIN}/a`, `spiffe://${DOMAIN}/b`] }),
  await forgeLeaf(intermediate, { notAfter: NOW - 1 }),
  await forgeLeaf(other),
];
const signer: KeyObject = await privateKeyOf(intermediate);
const bundle = bundleOf(root);

/** The certificate with its to-be-signed part edited, and signed again. */
function resigned(der: Buffer, script: Buffer): Buffer {
  const [tbs, algorithm] = elementsOf(der) as [Buffer, Buffer];
  const changed = edited(tbs, script);
  return tlv(0x30, changed, algorithm, tlv(0x03, Buffer.from([0]), sign('sha256', changed, signer)));
}

/** Undefined for an IdentityError. */
function attempt<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof IdentityError)) throw error;
    claim(/^[\x20-\x7e]*$/.test(error.message), 'a message that is not printable ASCII');
    return undefined;
  }
}

const urisOf = (certificate: X509Certificate): string[] =>
  (certificate.subjectAltName ?? '')
    .split(', ')
    .filter((name) => name.startsWith('URI:'))
    .map((name) => name.slice(4));

function openssl(der: Buffer): X509Certificate | undefined {
  try {
    return new X509Certificate(der);
  } catch {
    return undefined;
  }
}

export type Verify = (chain: readonly Buffer[], now: number) => { spiffeId: string };

export function checkCertificate(input: Buffer, verify: Verify): void {
  const original = (leaves[(input[0] ?? 0) % leaves.length] as { der: Buffer }).der;
  const script = input.subarray(HEAD);
  const again = ((input[1] ?? 0) & 1) === 1;
  const der = again ? resigned(original, script) : edited(original, script);

  const parsed = attempt(() => parseCertificate(der));
  const theirs = openssl(der);
  if (parsed !== undefined && theirs !== undefined) {
    same(parsed.notAfter - 999, Date.parse(theirs.validTo), 'OpenSSL reads another end of validity');
    same(parsed.notBefore, Date.parse(theirs.validFrom), 'OpenSSL reads another begin of validity');
    claim(parsed.ca === theirs.ca || parsed.keyUsage !== undefined, 'OpenSSL has it that it is (no) CA');
  }

  const peer = attempt(() => verify([der, intermediate.der], NOW));
  if (peer === undefined) {
    const whole = der.equals(original) && [0, 1, 2].includes((input[0] ?? 0) % leaves.length);
    claim(!whole, 'a good chain is refused');
    return;
  }
  claim(again || der.equals(original), 'a certificate was changed, and its chain is accepted');
  claim(theirs !== undefined, 'a chain is accepted whose leaf OpenSSL cannot read');
  claim(
    theirs.verify(new X509Certificate(intermediate.der).publicKey),
    'OpenSSL does not verify its signature',
  );
  claim(!theirs.ca, 'a leaf that is a CA is accepted');
  claim(
    Date.parse(theirs.validFrom) <= NOW && NOW <= Date.parse(theirs.validTo) + 999,
    'it is not valid now',
  );
  same(urisOf(theirs), [peer.spiffeId], 'OpenSSL reads other URIs');
  claim(peer.spiffeId.startsWith(`spiffe://${DOMAIN}/`), `${peer.spiffeId} is of another trust domain`);
}

export const target: Target = {
  name: 'certificate',
  claim:
    'a certificate that was changed is refused by a typed error, or else signed again and what OpenSSL reads and verifies too',
  seeds: [
    [0, 0],
    [1, 1],
    [2, 1],
    [3, 1],
    [4, 0],
    [5, 0],
    [0, 0, 0, 128, 0, 1],
    [1, 1, 0, 200, 0, 1],
    [1, 1, 1, 250, 0, 255],
    [1, 1, 0xe1, 0xfc, 0x24, 0xf1], // an otherName that is primitive
  ].map((octets) => Buffer.from(octets)),
  maxLength: HEAD + 6 * EDIT,
  mutate: (random, input, more) => mutateScript(random, input, more, HEAD, EDIT),
  run: (input) => checkCertificate(input, (chain, now) => bundle.verifyChain(chain, now)),
};
