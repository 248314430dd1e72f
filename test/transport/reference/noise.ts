import {
  createCipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
} from 'node:crypto';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';

/*
 * The cryptography of HBK/1 as docs/protocol.md has it, with nothing of src/ and as plainly as can be: both sides in
 * one, for their secrets are all known. The test vectors come from it.
 */

const X25519_PKCS8 = Buffer.from('302e020100300506032b656e04220420', 'hex');
/** The nonce that REKEY uses and no message ever does: 2^64-1. */
const REKEY = 0xffff_ffff_ffff_ffffn;

export const u16 = (n: number): Buffer => Buffer.of(n >>> 8, n & 0xff);
export const sha256 = (...parts: Uint8Array[]): Buffer =>
  createHash('sha256').update(Buffer.concat(parts)).digest();
const hmac = (key: Uint8Array, ...parts: Uint8Array[]): Buffer =>
  createHmac('sha256', key).update(Buffer.concat(parts)).digest();

/** HKDF-Expand of RFC 5869 for outputs of one block. */
export const expand = (prk: Buffer, info: Buffer, length: number): Buffer =>
  hmac(prk, info, Buffer.of(1)).subarray(0, length);

/** HKDF of Noise, section 4.3. */
function hkdf(ck: Buffer, ikm: Uint8Array): [Buffer, Buffer, Buffer] {
  const temp = hmac(ck, ikm);
  const one = hmac(temp, Buffer.of(1));
  const two = hmac(temp, one, Buffer.of(2));
  return [one, two, hmac(temp, two, Buffer.of(3))];
}

function seal(key: Buffer, n: bigint, ad: Buffer, plaintext: Buffer): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64BE(n, 4);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(ad);
  return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

const privateKey = (raw: Buffer) =>
  createPrivateKey({ key: Buffer.concat([X25519_PKCS8, raw]), format: 'der', type: 'pkcs8' });
export const publicOf = (raw: Buffer): Buffer =>
  createPublicKey(privateKey(raw)).export({ type: 'spki', format: 'der' }).subarray(-32);
const dh = (mine: Buffer, theirs: Buffer): Buffer =>
  diffieHellman({ privateKey: privateKey(mine), publicKey: createPublicKey(privateKey(theirs)) });

export type Role = 'initiator' | 'responder';
export type Mode = 0 | 1 | 2;
type Token = 'e' | 'e1' | 's' | 'ee' | 'ekem1' | 'es' | 'se' | 'psk';

/** By mode. */
export const PROTOCOLS: Readonly<Record<Mode, string>> = {
  0: 'Noise_XX_25519_AESGCM_SHA256',
  1: 'Noise_XXhfs_25519+MLKEM768_AESGCM_SHA256',
  2: 'Noise_NNpsk0_25519_AESGCM_SHA256',
};
const PATTERNS: Readonly<Record<Mode, readonly Token[][]>> = {
  0: [['e'], ['e', 'ee', 's', 'es'], ['s', 'se']],
  1: [
    ['e', 'e1'],
    ['e', 'ee', 'ekem1', 's', 'es'],
    ['s', 'se'],
  ],
  2: [
    ['psk', 'e'],
    ['e', 'ee'],
  ],
};

/** The private values of one side. */
export interface Keys {
  readonly ephemeral: Buffer;
  readonly static: Buffer | undefined;
  /** In mode 1. Initiator: d | z of ML-KEM.KeyGen, 64 bytes; responder: m of ML-KEM.Encaps. */
  readonly kem: Buffer | undefined;
}

export interface Message {
  readonly from: Role;
  readonly bytes: Buffer;
  readonly payload: Buffer;
}

export interface Finished {
  readonly messages: Message[];
  readonly H: Buffer;
  readonly k1: Buffer;
  readonly k2: Buffer;
  readonly exporter: Buffer;
}

/** A whole handshake; `payload` gives that of each message, from 0 on. */
export function handshake(
  mode: Mode,
  prologue: Buffer,
  keys: Readonly<Record<Role, Keys>>,
  psk: Buffer | undefined,
  payload: (from: Role, h: Buffer, index: number) => Buffer,
): Finished {
  const state = new Symmetric(PROTOCOLS[mode], prologue);
  const messages = PATTERNS[mode].map((tokens, index): Message => {
    const from = index % 2 === 0 ? 'initiator' : 'responder';
    const parts = tokens.map((token) => field(token, state, mode, from, keys, psk));
    const body = payload(from, state.h, index);
    parts.push(state.encryptAndHash(body));
    return { from, bytes: Buffer.concat(parts), payload: body };
  });
  const [k1, k2, exporter] = hkdf(state.ck, Buffer.alloc(0));
  return { messages, H: state.h, k1, k2, exporter };
}

/** What a token does, and its field in the message. */
function field(
  token: Token,
  state: Symmetric,
  mode: Mode,
  from: Role,
  keys: Readonly<Record<Role, Keys>>,
  psk: Buffer | undefined,
): Buffer {
  const { initiator, responder } = keys;
  const e = publicOf(keys[from].ephemeral);
  switch (token) {
    case 'psk':
      return state.mixKeyAndHash(psk as Buffer);
    case 'e':
      state.mixHash(e);
      if (mode === 2) state.mixKey(e);
      return e;
    case 's':
      return state.encryptAndHash(publicOf(keys[from].static as Buffer));
    case 'e1':
      return state.encryptAndHash(encapsulationKey(initiator));
    case 'ekem1': {
      const made = ml_kem768.encapsulate(encapsulationKey(initiator), responder.kem as Buffer);
      const ciphertext = state.encryptAndHash(Buffer.from(made.cipherText));
      state.mixKey(made.sharedSecret);
      return ciphertext;
    }
    case 'ee':
      return state.mixKey(dh(initiator.ephemeral, responder.ephemeral));
    case 'es':
      return state.mixKey(dh(initiator.ephemeral, responder.static as Buffer));
    case 'se':
      return state.mixKey(dh(initiator.static as Buffer, responder.ephemeral));
  }
}

function encapsulationKey({ kem }: Keys): Buffer {
  return Buffer.from(ml_kem768.keygen(kem as Buffer).publicKey);
}

const NO_FIELD = Buffer.alloc(0);

class Symmetric {
  h: Buffer;
  ck: Buffer;
  #k: Buffer | undefined;
  #n = 0n;

  constructor(protocol: string, prologue: Buffer) {
    const name = Buffer.from(protocol, 'ascii');
    this.h = name.length <= 32 ? Buffer.concat([name], 32) : sha256(name);
    this.ck = this.h;
    this.mixHash(prologue);
  }

  mixHash(data: Uint8Array): void {
    this.h = sha256(this.h, data);
  }

  mixKey(ikm: Uint8Array): Buffer {
    [this.ck, this.#k] = hkdf(this.ck, ikm);
    this.#n = 0n;
    return NO_FIELD;
  }

  mixKeyAndHash(ikm: Uint8Array): Buffer {
    const [ck, temp, k] = hkdf(this.ck, ikm);
    this.ck = ck;
    this.mixHash(temp);
    this.#k = k;
    this.#n = 0n;
    return NO_FIELD;
  }

  encryptAndHash(plaintext: Buffer): Buffer {
    const field = this.#k === undefined ? plaintext : seal(this.#k, this.#n++, this.h, plaintext);
    this.mixHash(field);
    return field;
  }
}

/** One direction's records. */
export class Records {
  key: Buffer;
  counter = 0;

  constructor(key: Buffer) {
    this.key = key;
  }

  seal(type: number, payload: Buffer, padding: number): Buffer {
    const plain = Buffer.concat([Buffer.of(type), u16(payload.length), payload, Buffer.alloc(padding)]);
    const sealed = seal(this.key, BigInt(this.counter++), Buffer.alloc(0), plain);
    return Buffer.concat([u16(sealed.length), sealed]);
  }

  /** After KEY_UPDATE; the counter goes on. */
  rekey(): void {
    this.key = seal(this.key, REKEY, Buffer.alloc(0), Buffer.alloc(32)).subarray(0, 32);
  }
}
