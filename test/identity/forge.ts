import { createPrivateKey, type KeyObject, sign, webcrypto } from 'node:crypto';
import { IdentityError } from '../../src/identity/errors.ts';
import { TrustBundle } from '../../src/identity/trustbundle.ts';
import { loadX509 } from '../../src/identity/x509.ts';

/*
 * Forges certificates of every kind, good and bad, with a library that the code under test does not use for
 * validation; and, where even that library refuses, from single bytes.
 */

export const x509 = await loadX509();
export const DOMAIN = 'shop.example';
export const NOW = Date.UTC(2026, 5, 1, 12);
const HOUR = 3_600_000;

const KEY_KINDS = {
  p256: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
  p384: { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' },
  p521: { name: 'ECDSA', namedCurve: 'P-521', hash: 'SHA-512' },
  rsa: rsa(2048),
  rsa1024: rsa(1024),
  ed25519: { name: 'Ed25519' },
};
export type KeyKind = keyof typeof KEY_KINDS;

function rsa(modulusLength: number) {
  return {
    name: 'RSASSA-PKCS1-v1_5',
    modulusLength,
    publicExponent: new Uint8Array([1, 0, 1]),
    hash: 'SHA-256',
  };
}

export interface Forged {
  readonly der: Buffer;
  readonly name: string;
  readonly keys: webcrypto.CryptoKeyPair;
  readonly kind: KeyKind;
}

export interface Recipe {
  name?: string;
  kind?: KeyKind;
  keys?: webcrypto.CryptoKeyPair;
  issuer?: Forged;
  /** The name put down as the issuer, if another than the issuer's. */
  issuerName?: string;
  hash?: string;
  ca?: boolean | 'absent';
  pathLength?: number;
  /** KeyUsage bits as the library has them, or none at all. */
  usage?: number | 'absent';
  purposes?: string[];
  uris?: string[];
  dns?: string[];
  notBefore?: number;
  notAfter?: number;
  more?: InstanceType<typeof x509.Extension>[];
}

export const Usage = x509.KeyUsageFlags;

const keyCache = new Map<KeyKind, webcrypto.CryptoKeyPair>();

/** A new key pair; the slow ones are made once. */
async function keyPair(kind: KeyKind): Promise<webcrypto.CryptoKeyPair> {
  const known = keyCache.get(kind);
  if (known !== undefined) return known;
  const pair = (await webcrypto.subtle.generateKey(KEY_KINDS[kind] as never, true, [
    'sign',
    'verify',
  ])) as webcrypto.CryptoKeyPair;
  if (kind.startsWith('rsa')) keyCache.set(kind, pair);
  return pair;
}

let serial = 1;

export async function forge(recipe: Recipe): Promise<Forged> {
  const { kind = 'p256', issuer, ca = 'absent', usage = 'absent', more = [] } = recipe;
  const keys = recipe.keys ?? (await keyPair(kind));
  const name = recipe.name ?? '';
  const signer = issuer ?? { name, keys, kind };
  const extensions = [...more];
  if (ca !== 'absent') extensions.push(new x509.BasicConstraintsExtension(ca, recipe.pathLength, true));
  if (usage !== 'absent') extensions.push(new x509.KeyUsagesExtension(usage, true));
  if (recipe.purposes) extensions.push(new x509.ExtendedKeyUsageExtension(recipe.purposes));
  const names = [
    ...(recipe.uris ?? []).map((value) => ({ type: 'url' as const, value })),
    ...(recipe.dns ?? []).map((value) => ({ type: 'dns' as const, value })),
  ];
  if (names.length > 0) extensions.push(new x509.SubjectAlternativeNameExtension(names, true));
  const algorithm = KEY_KINDS[signer.kind];
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: (serial++).toString(16).padStart(4, '0'),
    subject: name,
    issuer: recipe.issuerName ?? signer.name,
    notBefore: new Date(recipe.notBefore ?? NOW - HOUR),
    notAfter: new Date(recipe.notAfter ?? NOW + HOUR),
    signingAlgorithm: { ...algorithm, ...(recipe.hash ? { hash: recipe.hash } : {}) } as never,
    publicKey: keys.publicKey,
    signingKey: signer.keys.privateKey,
    extensions,
  });
  return { der: Buffer.from(certificate.rawData), name, keys, kind };
}

export const forgeCa = (recipe: Recipe = {}): Promise<Forged> =>
  forge({
    name: 'CN=Root',
    ca: true,
    usage: Usage.keyCertSign | Usage.cRLSign,
    uris: [`spiffe://${DOMAIN}`],
    ...recipe,
  });

export const LEAF_ID = `spiffe://${DOMAIN}/ns/default/sa/web`;

export const forgeLeaf = (issuer: Forged, recipe: Recipe = {}): Promise<Forged> =>
  forge({ issuer, ca: false, usage: Usage.digitalSignature, uris: [LEAF_ID], ...recipe });

export const forgeIntermediate = (issuer: Forged, recipe: Recipe = {}): Promise<Forged> =>
  forgeCa({ name: 'CN=Intermediate', issuer, ...recipe });

export const bundleOf = (...anchors: Forged[]): TrustBundle =>
  new TrustBundle({ trustDomain: DOMAIN, certificates: anchors.map(({ der }) => der) });

/** What becomes of a chain: its SPIFFE ID, or the code of the refusal. */
export function outcome(trust: TrustBundle, chain: Array<Forged | Buffer>, now = NOW): string {
  const ders = chain.map((certificate) => (Buffer.isBuffer(certificate) ? certificate : certificate.der));
  try {
    return trust.verifyChain(ders, now).spiffeId;
  } catch (error) {
    if (!(error instanceof IdentityError)) throw error;
    return error.code;
  }
}

/** The private key of a forged certificate, as node:crypto has it. */
export async function privateKeyOf({ keys }: Forged): Promise<KeyObject> {
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return createPrivateKey({ key: Buffer.from(pkcs8), format: 'der', type: 'pkcs8' });
}

/** DER of one element. */
export function tlv(tag: number, ...parts: Uint8Array[]): Buffer {
  const contents = Buffer.concat(parts);
  const { length } = contents;
  let head = [tag, length];
  if (length > 0xff) head = [tag, 0x82, length >> 8, length & 0xff];
  else if (length > 0x7f) head = [tag, 0x81, length];
  return Buffer.concat([Buffer.from(head), contents]);
}

/** The elements in the contents of a constructed one. */
export function elementsOf(element: Buffer): Buffer[] {
  const elements: Buffer[] = [];
  let at = headerLength(element, 0);
  while (at < element.length) {
    const end = at + headerLength(element, at) + contentLength(element, at);
    elements.push(element.subarray(at, end));
    at = end;
  }
  return elements;
}

const headerLength = (bytes: Buffer, at: number): number => {
  const first = bytes[at + 1] as number;
  return first < 0x80 ? 2 : 2 + (first & 0x7f);
};

const contentLength = (bytes: Buffer, at: number): number => {
  const first = bytes[at + 1] as number;
  return first < 0x80 ? first : bytes.readUIntBE(at + 2, first & 0x7f);
};

/** Fields of a TBSCertificate with version and extensions. */
export const Field = {
  version: 0,
  serial: 1,
  algorithm: 2,
  issuer: 3,
  validity: 4,
  subject: 5,
  spki: 6,
  extensions: 7,
};

/** The certificate with its fields changed by `edit`, signed again with ECDSA and SHA-256. */
export async function resigned(
  original: Forged,
  issuer: Forged,
  edit: (fields: Buffer[]) => Uint8Array[],
): Promise<Buffer> {
  const [tbs, algorithm] = elementsOf(original.der) as [Buffer, Buffer, Buffer];
  const changed = tlv(0x30, ...edit([...elementsOf(tbs)]));
  const signature = sign('sha256', changed, await privateKeyOf(issuer));
  return tlv(0x30, changed, algorithm, tlv(0x03, Buffer.from([0]), signature));
}

/** An extension with any contents. */
export const extension = (oid: string, critical: boolean, contents: Uint8Array) =>
  new x509.Extension(oid, critical, contents as never);

/** NameConstraints from lists of [form, constraint]. */
export function nameConstraints(
  permitted: Array<[form: number, constraint: string]>,
  excluded: Array<[form: number, constraint: string]> = [],
) {
  const trees = (tag: number, list: Array<[number, string]>): Buffer =>
    list.length === 0
      ? Buffer.alloc(0)
      : tlv(tag, ...list.map(([form, text]) => tlv(0x30, tlv(0x80 | form, Buffer.from(text, 'latin1')))));
  return extension('2.5.29.30', true, tlv(0x30, trees(0xa0, permitted), trees(0xa1, excluded)));
}
