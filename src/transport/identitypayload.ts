import { HandshakeError } from './errors.ts';

/*
 * The payload of messages 2 and 3: TLVs `type u8 | length u16 | value`, each once, strictly ascending by the low
 * 7 bits of the type, nothing after them. The top bit means critical: whoever does not know such a type aborts.
 */
const CHAIN = 0x81; // one to four times `length u16 | DER`, leaf first
const SIGNATURE_ALGORITHM = 0x82; // u16, TLS numbers
const SIGNATURE = 0x83;
const EXPECTED_PEER = 0x84; // the SPIFFE ID that the initiator expects of the responder
const MAX_RECORD = 0x05; // u16, the largest record length field that the sender accepts
const INSTANCE = 0x06; // 8 bytes that name the sender's process

const CRITICAL = 0x80;
const TLV_HEADER = 3;
const MAX_CERTIFICATES = 4;
const MAX_CHAIN_BYTES = 12 * 1024; // of the chain's value
const MAX_SPIFFE_ID = 2_048; // SPIFFE-ID, section 2.3
const MAX_SIGNATURE = 512;
export const INSTANCE_LENGTH = 8;
export const MIN_MAX_RECORD = 1_024;

/** 0x0403 is ECDSA over P-256 with SHA-256, its signature in DER; 0x0807 is Ed25519. */
export type SignatureAlgorithmId = 0x0403 | 0x0807;

export interface IdentityPayload {
  /** DER, leaf first. */
  readonly chain: readonly Buffer[];
  readonly signatureAlgorithm: SignatureAlgorithmId;
  readonly signature: Buffer;
  /** In the initiator's payload always, in the responder's never. */
  readonly expectedPeer: string | undefined;
  readonly maxRecord: number | undefined;
  readonly instance: Buffer | undefined;
}

export type PayloadSender = 'initiator' | 'responder';

export function encodeIdentityPayload(payload: IdentityPayload): Buffer {
  const parts: Buffer[] = [];
  const tlv = (type: number, value: Uint8Array): void => {
    const header = Buffer.alloc(TLV_HEADER);
    header[0] = type;
    header.writeUInt16BE(value.length, 1);
    parts.push(header, value as Buffer);
  };
  tlv(CHAIN, Buffer.concat(payload.chain.flatMap((der) => [u16(der.length), der])));
  tlv(SIGNATURE_ALGORITHM, u16(payload.signatureAlgorithm));
  tlv(SIGNATURE, payload.signature);
  if (payload.expectedPeer !== undefined) tlv(EXPECTED_PEER, Buffer.from(payload.expectedPeer, 'latin1'));
  if (payload.maxRecord !== undefined) tlv(MAX_RECORD, u16(payload.maxRecord));
  if (payload.instance !== undefined) tlv(INSTANCE, payload.instance);
  return Buffer.concat(parts);
}

/**
 * Strict: throws HandshakeError `bad-identity-payload`, or `no-certificate` if the chain is missing or empty. The
 * buffers of the result are views of `bytes`.
 */
export function decodeIdentityPayload(bytes: Buffer, sender: PayloadSender): IdentityPayload {
  let chain: Buffer[] | undefined;
  let signatureAlgorithm: SignatureAlgorithmId | undefined;
  let signature: Buffer | undefined;
  let expectedPeer: string | undefined;
  let maxRecord: number | undefined;
  let instance: Buffer | undefined;
  let last = -1;
  let at = 0;
  while (at < bytes.length) {
    if (bytes.length - at < TLV_HEADER) throw bad(`${bytes.length - at} bytes after the last TLV`);
    const type = bytes[at] as number;
    const start = at + TLV_HEADER;
    at = start + bytes.readUInt16BE(at + 1);
    if (at > bytes.length) throw bad(`TLV ${hex(type)} is longer than the payload`);
    const order = type & ~CRITICAL;
    if (order <= last) throw bad(`TLV ${hex(type)} is repeated or out of order`);
    last = order;
    const value = bytes.subarray(start, at);
    switch (type) {
      case CHAIN:
        chain = decodeChain(value);
        break;
      case SIGNATURE_ALGORITHM:
        signatureAlgorithm = decodeAlgorithm(value);
        break;
      case SIGNATURE:
        if (value.length === 0 || value.length > MAX_SIGNATURE)
          throw bad(`a signature of ${value.length} bytes`);
        signature = value;
        break;
      case EXPECTED_PEER:
        if (sender === 'responder') throw bad('the responder sent an expected SPIFFE ID');
        if (value.length === 0 || value.length > MAX_SPIFFE_ID) {
          throw bad(`an expected SPIFFE ID of ${value.length} bytes`);
        }
        expectedPeer = value.toString('latin1');
        break;
      case MAX_RECORD:
        if (value.length !== 2) throw bad(`a largest record of ${value.length} bytes`);
        maxRecord = value.readUInt16BE(0);
        if (maxRecord < MIN_MAX_RECORD) throw bad(`a largest record below ${MIN_MAX_RECORD}: ${maxRecord}`);
        break;
      case INSTANCE:
        if (value.length !== INSTANCE_LENGTH) throw bad(`an instance id of ${value.length} bytes`);
        instance = value;
        break;
      default:
        if (type >= CRITICAL) throw bad(`the unknown critical TLV ${hex(type)}`);
    }
  }
  if (chain === undefined) throw new HandshakeError('no-certificate', 'The peer sent no certificate chain');
  if (signatureAlgorithm === undefined) throw bad('no signature algorithm');
  if (signature === undefined) throw bad('no signature');
  if (sender === 'initiator' && expectedPeer === undefined) throw bad('no expected SPIFFE ID');
  return { chain, signatureAlgorithm, signature, expectedPeer, maxRecord, instance };
}

function decodeChain(value: Buffer): Buffer[] {
  if (value.length > MAX_CHAIN_BYTES)
    throw bad(`a chain of ${value.length} bytes; at most ${MAX_CHAIN_BYTES}`);
  if (value.length === 0)
    throw new HandshakeError('no-certificate', 'The peer sent an empty certificate chain');
  const chain: Buffer[] = [];
  let at = 0;
  while (at < value.length) {
    if (value.length - at < 2) throw bad('a byte after the last certificate');
    const start = at + 2;
    at = start + value.readUInt16BE(at);
    if (at === start || at > value.length)
      throw bad(`certificate ${chain.length + 1} of ${at - start} bytes`);
    if (chain.length === MAX_CERTIFICATES) throw bad(`more than ${MAX_CERTIFICATES} certificates`);
    chain.push(value.subarray(start, at));
  }
  return chain;
}

function decodeAlgorithm(value: Buffer): SignatureAlgorithmId {
  const id = value.length === 2 ? value.readUInt16BE(0) : undefined;
  if (id !== 0x0403 && id !== 0x0807) throw bad(`the unknown signature algorithm ${value.toString('hex')}`);
  return id;
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

const hex = (type: number): string => `0x${type.toString(16).padStart(2, '0')}`;

function bad(what: string): HandshakeError {
  return new HandshakeError('bad-identity-payload', `The peer's identity payload has ${what}`);
}
