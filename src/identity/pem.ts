import { createPrivateKey, type KeyObject } from 'node:crypto';
import { IdentityError, quoted } from './errors.ts';

/** One block of a PEM file (RFC 7468). */
interface PemBlock {
  readonly label: string;
  /** The whole block, a view of the file. */
  readonly bytes: Buffer;
  /** What is between the lines of dashes, a view of the file. */
  readonly body: Buffer;
}

const BEGIN = '-----BEGIN ';
const DASHES = '-----';
const CERTIFICATE = 'CERTIFICATE';
const PRIVATE_KEYS = new Set(['PRIVATE KEY', 'EC PRIVATE KEY', 'RSA PRIVATE KEY', 'ENCRYPTED PRIVATE KEY']);
/** What `openssl ecparam -genkey` puts before the key; the key says the same again. */
const EC_PARAMETERS = 'EC PARAMETERS';

/** The blocks of a file, without making strings of what may be secret. Text between blocks is allowed. */
function blocksOf(file: Buffer): PemBlock[] {
  if (file.every((byte) => byte <= 0x20)) throw new IdentityError('empty-file', 'the file is empty');
  const blocks: PemBlock[] = [];
  for (let at = file.indexOf(BEGIN); at >= 0; at = file.indexOf(BEGIN, at)) {
    const start = at;
    const labelEnd = file.indexOf(DASHES, start + BEGIN.length);
    const label = labelEnd < 0 ? '' : file.toString('latin1', start + BEGIN.length, labelEnd);
    if (!/^[A-Z0-9 ]{1,40}$/.test(label))
      throw new IdentityError('not-pem', 'a PEM block has no proper first line');
    const last = `-----END ${label}-----`;
    const bodyEnd = file.indexOf(last, labelEnd + DASHES.length);
    if (bodyEnd < 0) throw new IdentityError('not-pem', `the PEM block ${quoted(label)} is cut off`);
    at = bodyEnd + last.length;
    blocks.push({
      label,
      bytes: file.subarray(start, at),
      body: file.subarray(labelEnd + DASHES.length, bodyEnd),
    });
  }
  if (blocks.length === 0) throw new IdentityError('not-pem', 'the file is not PEM');
  return blocks;
}

/**
 * The DER of every certificate in a PEM file, in order. The file may hold nothing but certificates: a private
 * key in it would lie where others may read it. Throws IdentityError.
 */
export function certificatesIn(file: Buffer): Buffer[] {
  return blocksOf(file).map(({ label, body }) => {
    if (PRIVATE_KEYS.has(label)) {
      throw new IdentityError('unexpected-pem-block', 'the file holds a private key beside certificates', {
        cure: 'keep the key in a file of its own',
      });
    }
    if (label !== CERTIFICATE) {
      throw new IdentityError('unexpected-pem-block', `the file holds a PEM block ${quoted(label)}`, {
        cure: 'leave only CERTIFICATE blocks in it',
      });
    }
    const text = body.toString('latin1').replace(/[ \t\r\n]/g, '');
    if (text.length === 0 || text.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(text)) {
      throw new IdentityError('not-pem', 'a CERTIFICATE block is not base64');
    }
    return Buffer.from(text, 'base64');
  });
}

/**
 * The one private key in a PEM file: PKCS #8 or SEC 1, P-256 or Ed25519, not encrypted. Makes no copy of it
 * outside OpenSSL; the caller may wipe `file` afterwards. Throws IdentityError.
 */
export function privateKeyIn(file: Buffer): KeyObject {
  const blocks = blocksOf(file).filter(({ label }) => label !== EC_PARAMETERS);
  const keys = blocks.filter(({ label }) => PRIVATE_KEYS.has(label));
  if (keys.length > 1) {
    throw new IdentityError('several-keys', `the file holds ${keys.length} private keys`, {
      cure: 'leave the one that belongs to the certificate',
    });
  }
  const [key] = keys;
  if (key === undefined) {
    throw new IdentityError('no-private-key', 'the file holds no private key', {
      cure: 'put the PKCS #8 PEM private key of the SVID there',
    });
  }
  if (blocks.length > 1) {
    throw new IdentityError(
      'unexpected-pem-block',
      'the file holds other PEM blocks beside the private key',
      {
        cure: 'leave only the private key in it',
      },
    );
  }
  if (key.label === 'ENCRYPTED PRIVATE KEY' || key.bytes.includes('ENCRYPTED')) {
    throw new IdentityError(
      'encrypted-key',
      'the private key is encrypted, and nobody can be asked for its passphrase',
      {
        cure: 'decrypt it: openssl pkcs8 -in KEY -out NEW-KEY (with umask 077)',
      },
    );
  }
  let parsed: KeyObject;
  try {
    parsed = createPrivateKey({ key: key.bytes, format: 'pem' });
  } catch (cause) {
    throw new IdentityError('unsupported-key', 'the private key cannot be read', {
      cure: 'make it a PKCS #8 PEM key, P-256 or Ed25519',
      cause,
    });
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = parsed;
  if (type !== 'ed25519' && !(type === 'ec' && details?.namedCurve === 'prime256v1')) {
    throw new IdentityError('unsupported-key', `the private key is ${details?.namedCurve ?? type}`, {
      cure: 'use a P-256 or Ed25519 key',
    });
  }
  return parsed;
}

/** PEM of a DER structure, in lines of 64 characters. */
export function toPem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}
