// Certificate requests, good and bad, put together octet by octet.
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';

export interface LeafPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

export interface CsrRecipe {
  readonly pair: LeafPair;
  /** By another key than that in the request. */
  readonly signer?: KeyObject;
  /** AlgorithmIdentifier in hex, if another than that of the key in the request. */
  readonly algorithm?: string;
  readonly version?: number;
  readonly spki?: Buffer;
  /** What stands in place of the empty attributes. */
  readonly attributes?: Buffer;
  readonly trailer?: Buffer;
}

const ECDSA_SHA256 = '300a06082a8648ce3d040302';
const ED25519 = '300506032b6570';

export function makePair(kind: 'p256' | 'ed25519' = 'p256'): LeafPair {
  return kind === 'p256'
    ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
    : generateKeyPairSync('ed25519');
}

function tlv(tag: number, ...parts: Buffer[]): Buffer {
  const contents = Buffer.concat(parts);
  const { length } = contents;
  const head =
    length < 0x80
      ? [tag, length]
      : length < 0x100
        ? [tag, 0x81, length]
        : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(head), contents]);
}

/** PKCS #10 in DER. */
export function makeCsr(recipe: CsrRecipe): Buffer {
  const { pair, version = 0, attributes = Buffer.from('a000', 'hex'), trailer = Buffer.alloc(0) } = recipe;
  const signer = recipe.signer ?? pair.privateKey;
  const spki = recipe.spki ?? pair.publicKey.export({ type: 'spki', format: 'der' });
  const subject = tlv(0x30);
  const info = tlv(0x30, Buffer.from([2, 1, version]), subject, spki, attributes);
  const algorithm =
    recipe.algorithm ?? (pair.publicKey.asymmetricKeyType === 'ed25519' ? ED25519 : ECDSA_SHA256);
  const signature = sign(signer.asymmetricKeyType === 'ed25519' ? null : 'sha256', info, signer);
  return Buffer.concat([
    tlv(0x30, info, Buffer.from(algorithm, 'hex'), tlv(0x03, Buffer.of(0), signature)),
    trailer,
  ]);
}
