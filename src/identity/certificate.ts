import type { KeyObject } from 'node:crypto';
import {
  importPublicKey,
  type KeyType,
  readKeyType,
  readSignatureAlgorithm,
  type SignatureAlgorithm,
} from './algorithm.ts';
import { DerReader, malformed, Tag } from './der.ts';
import { IdentityError } from './errors.ts';
import { type NameConstraints, NameForm, readNameConstraints } from './nameconstraints.ts';

/** Bits of KeyUsage (RFC 5280 4.2.1.3) in the first octet of the BIT STRING. */
export const KeyUsage = { digitalSignature: 0x80, keyCertSign: 0x04, cRLSign: 0x02 } as const;

/** Purposes of ExtendedKeyUsage, as hex of the OID. */
export const Purpose = {
  serverAuth: '2b06010505070301',
  clientAuth: '2b06010505070302',
  any: '551d2500',
} as const;

const MAX_SERIAL_BYTES = 20; // RFC 5280 4.1.2.2

interface Extensions {
  ca: boolean;
  pathLength: number | undefined;
  keyUsage: number | undefined;
  purposes: readonly string[] | undefined;
  uris: readonly string[];
  forms: ReadonlySet<number>;
  nameConstraints: NameConstraints | undefined;
}

/**
 * An X.509 v3 certificate (RFC 5280 4.1), as far as path validation needs it. Immutable. It owns its bytes:
 * nothing in it is a view of the buffer that it was parsed from.
 */
export interface Certificate extends Readonly<Extensions> {
  readonly der: Buffer;
  /** What the signature is over. */
  readonly tbs: Buffer;
  readonly signatureAlgorithm: SignatureAlgorithm;
  readonly signature: Buffer;
  /** DER of the names; compared byte by byte, which is stricter than RFC 5280 7.1. */
  readonly issuer: Buffer;
  readonly subject: Buffer;
  readonly subjectEmpty: boolean;
  /** Milliseconds since the epoch; valid from the first to the last millisecond of the second named. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** DER of the SubjectPublicKeyInfo. */
  readonly spki: Buffer;
  readonly keyType: KeyType;
  /** Made at the first use; throws IdentityError if the key is not one. */
  publicKey(): KeyObject;
}

/**
 * Parses one DER certificate and every extension that means something to path validation. Refuses versions
 * below 3, duplicate extensions and unknown critical ones, bytes after the end, and whatever is not DER.
 * Throws IdentityError, and nothing else, whatever the input. Does not verify anything.
 */
export function parseCertificate(input: Uint8Array): Certificate {
  const der = Buffer.allocUnsafeSlow(input.length); // not from the pool, whose slabs it would pin
  der.set(input);
  const outer = new DerReader(der);
  const certificate = outer.enter(Tag.SEQUENCE);
  outer.end();
  const tbs = certificate.element(Tag.SEQUENCE);
  const outerAlgorithm = certificate.element(Tag.SEQUENCE);
  const signature = certificate.octetsOfBitString();
  certificate.end();

  const whole = new DerReader(tbs);
  const fields = whole.enter(Tag.SEQUENCE);
  readVersion(fields);
  if (fields.unsignedInteger().length > MAX_SERIAL_BYTES) malformed('a serial number of more than 20 bytes');
  const innerAlgorithm = fields.element(Tag.SEQUENCE);
  if (!innerAlgorithm.equals(outerAlgorithm)) malformed('it names two different signature algorithms');
  const signatureAlgorithm = readSignatureAlgorithm(new DerReader(outerAlgorithm).enter(Tag.SEQUENCE));
  const issuer = fields.element(Tag.SEQUENCE);
  const validity = fields.enter(Tag.SEQUENCE);
  const notBefore = validity.time();
  const notAfter = validity.time() + 999;
  validity.end();
  const subject = fields.element(Tag.SEQUENCE);
  const spki = fields.element(Tag.SEQUENCE);
  const extensions = readExtensions(fields.enterOptional(Tag.explicit(3)));
  fields.end(); // also refuses the unique identifiers of version 2

  let key: KeyObject | undefined;
  return {
    der,
    tbs,
    signatureAlgorithm,
    signature,
    issuer,
    subject,
    subjectEmpty: new DerReader(subject).contents(Tag.SEQUENCE).length === 0,
    notBefore,
    notAfter,
    spki,
    keyType: readKeyType(spki),
    publicKey: () => {
      key ??= importPublicKey(spki);
      return key;
    },
    ...extensions,
  };
}

function readVersion(fields: DerReader): void {
  const version = fields.enterOptional(Tag.explicit(0));
  if (version?.smallInteger() !== 2) malformed('it is not of version 3');
  version?.end();
}

type ExtensionReader = (value: DerReader, into: Extensions) => void;

/** By the hex of the OID. Whatever is not here is ignored, or refused if critical. */
const EXTENSIONS: Readonly<Record<string, ExtensionReader>> = {
  '551d13': readBasicConstraints,
  '551d0f': readKeyUsage,
  '551d25': readPurposes,
  '551d11': readAlternativeNames,
  '551d1e': (value, into) => {
    into.nameConstraints = readNameConstraints(value);
  },
};

function readExtensions(wrapper: DerReader | undefined): Extensions {
  const into: Extensions = {
    ca: false,
    pathLength: undefined,
    keyUsage: undefined,
    purposes: undefined,
    uris: [],
    forms: new Set(),
    nameConstraints: undefined,
  };
  if (wrapper === undefined) return into;
  const list = wrapper.enter(Tag.SEQUENCE);
  wrapper.end();
  if (list.atEnd) malformed('an empty list of extensions');
  const seen = new Set<string>();
  while (!list.atEnd) {
    const extension = list.enter(Tag.SEQUENCE);
    const oid = extension.oid();
    const critical = extension.defaultFalse();
    const value = extension.enter(Tag.OCTET_STRING);
    extension.end();
    if (seen.has(oid)) {
      throw new IdentityError('duplicate-extension', `extension ${dotted(oid)} occurs twice`);
    }
    seen.add(oid);
    const read = Object.hasOwn(EXTENSIONS, oid) ? EXTENSIONS[oid] : undefined;
    if (read !== undefined) read(value, into);
    else if (critical) {
      throw new IdentityError(
        'unknown-critical-extension',
        `extension ${dotted(oid)} is critical and not understood here`,
      );
    }
  }
  return into;
}

/** RFC 5280 4.2.1.9 */
function readBasicConstraints(outer: DerReader, into: Extensions): void {
  const value = outer.enter(Tag.SEQUENCE);
  outer.end();
  into.ca = value.defaultFalse();
  if (value.nextTag === Tag.INTEGER) {
    into.pathLength = value.smallInteger();
    if (!into.ca) malformed('a path length without the CA flag');
  }
  value.end();
}

/** RFC 5280 4.2.1.3 */
function readKeyUsage(outer: DerReader, into: Extensions): void {
  const bits = outer.contents(Tag.BIT_STRING);
  outer.end();
  const unused = bits[0] ?? 8;
  if (bits.length < 2 || bits.length > 3 || unused > 7) malformed('a key usage of odd length');
  if ((bits[bits.length - 1] as number) & ((1 << unused) - 1))
    malformed('unused bits of a key usage are set');
  into.keyUsage = bits[1] as number;
}

/** RFC 5280 4.2.1.12 */
function readPurposes(outer: DerReader, into: Extensions): void {
  const value = outer.enter(Tag.SEQUENCE);
  outer.end();
  const purposes: string[] = [];
  while (!value.atEnd) purposes.push(value.oid());
  if (purposes.length === 0) malformed('an empty list of purposes');
  into.purposes = purposes;
}

/** Forms of GeneralName that are SEQUENCEs or CHOICEs, and so constructed. */
const CONSTRUCTED: readonly number[] = [NameForm.other, NameForm.x400, NameForm.directory, NameForm.edi];

/** RFC 5280 4.2.1.6 */
function readAlternativeNames(outer: DerReader, into: Extensions): void {
  const value = outer.enter(Tag.SEQUENCE);
  outer.end();
  if (value.atEnd) malformed('an empty list of alternative names');
  const uris: string[] = [];
  const forms = new Set<number>();
  while (!value.atEnd) {
    const tag = value.nextTag;
    const form = tag & 0x1f;
    if ((tag & 0xc0) !== 0x80 || form > NameForm.oid) malformed('an alternative name of unknown form');
    const constructed = CONSTRUCTED.includes(form);
    if (tag !== (constructed ? Tag.explicit(form) : Tag.context(form)))
      malformed(`an alternative name of form ${form} that is ${constructed ? 'primitive' : 'constructed'}`);
    const name = value.contents(tag);
    forms.add(form);
    if (form !== NameForm.uri) continue;
    if (name.some((byte) => byte > 0x7f)) malformed('a URI that is not ASCII');
    uris.push(name.toString('latin1'));
  }
  into.uris = uris;
  into.forms = forms;
}

/** An OID in its usual spelling, for messages. */
function dotted(hex: string): string {
  const parts: bigint[] = [];
  let value = 0n;
  for (const byte of Buffer.from(hex, 'hex')) {
    value = (value << 7n) | BigInt(byte & 0x7f);
    if (byte & 0x80) continue;
    parts.push(value);
    value = 0n;
  }
  const first = parts.shift() ?? 0n;
  const root = first < 80n ? first / 40n : 2n;
  return [root, first - root * 40n, ...parts].join('.');
}
