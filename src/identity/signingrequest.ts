import { createPublicKey, type KeyObject, sign } from 'node:crypto';

/*
 * A certification request (PKCS #10, RFC 2986), written by hand: the library that makes certificates would take 20 MiB of a
 * sidecar for good, and this is a key and a signature.
 */

const VERSION = Buffer.from('020100', 'hex'); // INTEGER 0
const NO_NAME = Buffer.from('3000', 'hex'); // an empty SEQUENCE: who asks is proved otherwise
const NO_ATTRIBUTES = Buffer.from('a000', 'hex'); // [0], an empty SET
/** AlgorithmIdentifier, by the kind of key: RFC 5758 3.2, RFC 8410 3. */
const ALGORITHMS: Readonly<Record<string, { id: Buffer; digest: string | null }>> = {
  ec: { id: Buffer.from('300a06082a8648ce3d040302', 'hex'), digest: 'sha256' },
  ed25519: { id: Buffer.from('300506032b6570', 'hex'), digest: null },
};
const SEQUENCE = 0x30;
const BIT_STRING = 0x03;

/** A request in DER for the public key of `key` (P-256 or Ed25519), without a name, signed to prove that the caller has it. */
export function certificationRequest(key: KeyObject): Buffer {
  const algorithm = ALGORITHMS[key.asymmetricKeyType ?? ''];
  if (algorithm === undefined) throw new TypeError('a request needs a P-256 or Ed25519 key');
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
  const info = element(SEQUENCE, VERSION, NO_NAME, spki, NO_ATTRIBUTES);
  const signature = sign(algorithm.digest, info, key);
  return element(SEQUENCE, info, algorithm.id, element(BIT_STRING, Buffer.of(0), signature));
}

function element(tag: number, ...parts: readonly Buffer[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const head =
    length < 0x80
      ? [tag, length]
      : length < 0x100
        ? [tag, 0x81, length]
        : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(head), ...parts]);
}
