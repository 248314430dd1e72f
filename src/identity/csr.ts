import { importPublicKey, readKeyType, readSignatureAlgorithm, signatureHolds } from './algorithm.ts';
import { DerReader, malformed, Tag } from './der.ts';
import { IdentityError } from './errors.ts';

/** A request has a key of 91 octets and a signature of 72; the rest is names that nobody reads. */
export const MAX_REQUEST_BYTES = 4096;

/** What a certificate request is good for here. */
export interface CertificateRequest {
  /** DER of the SubjectPublicKeyInfo; a copy. */
  readonly spki: Buffer;
  readonly keyType: 'p256' | 'ed25519';
}

/**
 * Reads a PKCS #10 request (RFC 2986 4) in DER and verifies its signature, by which whoever made it has shown that the
 * private key is theirs. Names and attributes are stepped over. Throws IdentityError, and nothing else, whatever the
 * input: `bad-request`, `unsupported-key` or `bad-signature`.
 */
export function readCertificateRequest(input: Uint8Array): CertificateRequest {
  if (input.length > MAX_REQUEST_BYTES) {
    throw new IdentityError(
      'bad-request',
      `a certificate request of ${input.length} bytes; at most ${MAX_REQUEST_BYTES} are read`,
    );
  }
  try {
    return verified(Buffer.from(input));
  } catch (error) {
    throw error instanceof IdentityError ? ofRequest(error) : error;
  }
}

function verified(der: Buffer): CertificateRequest {
  const outer = new DerReader(der);
  const request = outer.enter(Tag.SEQUENCE);
  outer.end();
  const info = request.element(Tag.SEQUENCE);
  const algorithm = readSignatureAlgorithm(request.enter(Tag.SEQUENCE));
  const signature = request.octetsOfBitString();
  request.end();

  const whole = new DerReader(info);
  const fields = whole.enter(Tag.SEQUENCE);
  if (fields.smallInteger() !== 0) malformed('it is not of version 1');
  fields.element(Tag.SEQUENCE); // subject
  const spki = fields.element(Tag.SEQUENCE);
  if (!fields.atEnd) fields.element(Tag.explicit(0)); // attributes, which some leave out
  fields.end();

  const keyType = readKeyType(spki);
  if (keyType !== 'p256' && keyType !== 'ed25519') {
    throw new IdentityError('unsupported-key', `the key of the request is ${keyType}`, {
      cure: 'make a P-256 or Ed25519 key',
    });
  }
  const key = importPublicKey(spki);
  if (!algorithm.keys.includes(keyType) || !signatureHolds(algorithm.digest, info, key, signature)) {
    throw new IdentityError(
      'bad-signature',
      'the signature of the request is not by the key in it: whoever sent it has not shown that the key is theirs',
    );
  }
  return { spki: Buffer.from(spki), keyType };
}

const OF_CERTIFICATES = 'not a valid X.509 certificate: ';

function ofRequest(error: IdentityError): IdentityError {
  if (error.code === 'unsupported-key' || error.code === 'bad-signature') return error;
  const code = error.code === 'unsupported-algorithm' ? 'unsupported-key' : 'bad-request';
  const what = error.what.startsWith(OF_CERTIFICATES) ? error.what.slice(OF_CERTIFICATES.length) : error.what;
  return new IdentityError(code, `not a valid certificate request: ${what}`, { cause: error.cause });
}
