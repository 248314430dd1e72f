import { createCipheriv, createDecipheriv } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import { describe, expect, it } from 'vitest';
import { CryptoError } from '../../src/crypto/errors.ts';
import { type Aead, type CryptoProvider, loadCryptoProvider } from '../../src/crypto/provider.ts';
import { HandshakeState } from '../../src/noise/handshakestate.ts';

/** Payloads are empty; the messages are there as SHA-256, the last one whole. All values hex. */
interface HfsVector {
  static_i_private: string;
  static_r_private: string;
  ephemeral_dh_i_private: string;
  ephemeral_dh_r_private: string;
  kem_keygen_seed: string;
  kem_encap_seed: string;
  prologue: string;
  msg_a_sha256: string;
  msg_b_sha256: string;
  msg_c: string;
  msg_bytes: number[];
  handshake_hash: string;
  cs1_k: string;
  cs2_k: string;
}

const url = new URL('../vectors/noise-xxhfs-mlkem768-chachapoly-sha256.json', import.meta.url);
const file = JSON.parse(readFileSync(url, 'utf8')) as { protocol: string; vectors: HfsVector[] };
const hex = (text: string): Buffer => Buffer.from(text, 'hex');
const PROTOCOL = 'Noise_XXhfs_25519+MLKEM768_AESGCM_SHA256';
const EMPTY = Buffer.alloc(0);
const error = (code: string, side = 'remote') => expect.objectContaining({ name: 'NoiseError', code, side });

const crypto = await loadCryptoProvider('native', { postQuantum: true });
const mlkem = crypto.mlkem768 as NonNullable<CryptoProvider['mlkem768']>;

/** ChaCha20-Poly1305 where Noise has AES-GCM: its nonce is little-endian (Noise, section 12.3). */
function chaChaPoly(key: Uint8Array): Aead {
  const copy = Buffer.from(key);
  const options = { authTagLength: 16 };
  const littleEndian = (nonce: Uint8Array): Buffer =>
    Buffer.concat([Buffer.alloc(4), Buffer.from(nonce.subarray(4)).reverse()]);
  return {
    seal(nonce, ad, plaintext) {
      const cipher = createCipheriv('chacha20-poly1305', copy, littleEndian(nonce), options);
      cipher.setAAD(ad, { plaintextLength: plaintext.length });
      return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
    },
    sealInto(nonce, ad, plaintext, out, at) {
      const sealed = this.seal(nonce, ad, plaintext);
      sealed.copy(out, at);
      return at + sealed.length;
    },
    open(nonce, ad, sealed) {
      const end = sealed.length - 16;
      const decipher = createDecipheriv('chacha20-poly1305', copy, littleEndian(nonce), options);
      decipher.setAAD(ad, { plaintextLength: end }).setAuthTag(sealed.subarray(end));
      const plaintext = decipher.update(sealed.subarray(0, end));
      try {
        decipher.final();
      } catch (cause) {
        throw new CryptoError('authentication-failed', 'no', { cause });
      }
      return plaintext;
    },
    wipe: () => void copy.fill(0),
  };
}

/** A provider for the published vectors: their cipher, the name that goes with it, and their KEM's randomness. */
function vectorProvider(vector: HfsVector, keys: Buffer[]): CryptoProvider {
  return {
    ...crypto,
    sha256(...parts) {
      const renamed = parts.length === 1 && parts[0]?.toString() === PROTOCOL;
      return crypto.sha256(...(renamed ? [Buffer.from(file.protocol)] : parts));
    },
    aes256gcm(key) {
      keys.push(Buffer.from(key));
      return chaChaPoly(key);
    },
    mlkem768: {
      ...mlkem,
      generate: () => mlkem.fromSeed(hex(vector.kem_keygen_seed)),
      encapsulate(encapsulationKey) {
        const made = ml_kem768.encapsulate(encapsulationKey, hex(vector.kem_encap_seed));
        return { ciphertext: Buffer.from(made.cipherText), sharedSecret: Buffer.from(made.sharedSecret) };
      },
    },
  };
}

describe('published vectors of XXhfs with ML-KEM-768, ChaChaPoly and SHA-256', () => {
  it('there are two, and SHA-256 of the protocol name begins them', () => {
    expect(file.vectors).toHaveLength(2);
    expect(file.protocol).toBe('Noise_XXhfs_25519+MLKEM768_ChaChaPoly_SHA256');
  });

  it.each(file.vectors)('messages, hash and keys match ($static_i_private)', (vector) => {
    const keys: Buffer[] = [];
    const provider = vectorProvider(vector, keys);
    const side = (initiator: boolean, s: string, e: string): HandshakeState =>
      new HandshakeState({
        crypto: provider,
        protocol: PROTOCOL,
        initiator,
        prologue: hex(vector.prologue),
        s: crypto.x25519FromPrivate(hex(s)),
        e: crypto.x25519FromPrivate(hex(e)),
      });
    const initiator = side(true, vector.static_i_private, vector.ephemeral_dh_i_private);
    const responder = side(false, vector.static_r_private, vector.ephemeral_dh_r_private);
    const a = initiator.writeMessage();
    responder.readMessage(a);
    const b = responder.writeMessage();
    initiator.readMessage(b);
    const c = initiator.writeMessage();
    responder.readMessage(c);
    expect([a, b, c].map(({ length }) => length)).toEqual(vector.msg_bytes);
    const sha256 = (bytes: Buffer): string => crypto.sha256(bytes).toString('hex');
    expect([sha256(a), sha256(b)]).toEqual([vector.msg_a_sha256, vector.msg_b_sha256]);
    expect(c.toString('hex')).toBe(vector.msg_c);
    keys.length = 0;
    const [one, two] = [initiator.split(), responder.split()];
    expect(keys.slice(0, 2).map((key) => key.toString('hex'))).toEqual([vector.cs1_k, vector.cs2_k]);
    for (const { handshakeHash } of [one, two]) {
      expect(handshakeHash.toString('hex')).toBe(vector.handshake_hash);
    }
    expect(one.exporter.bytes).toEqual(two.exporter.bytes);
  });
});

describe('XXhfs with ML-KEM-768, AESGCM and SHA-256', () => {
  const [si, sr] = [crypto.generateX25519(), crypto.generateX25519()];
  const side = (initiator: boolean, provider: CryptoProvider = crypto): HandshakeState =>
    new HandshakeState({
      crypto: provider,
      protocol: PROTOCOL,
      initiator,
      prologue: EMPTY,
      s: initiator ? si : sr,
    });
  const flip = (bytes: Buffer, at: number): Buffer => {
    const copy = Buffer.from(bytes);
    copy[at]! ^= 1;
    return copy;
  };

  it('has messages of 1216, 1200+P and 64+P bytes, and founds a transport', () => {
    const [initiator, responder] = [side(true), side(false)];
    const a = initiator.writeMessage();
    responder.readMessage(a);
    const b = responder.writeMessage(Buffer.alloc(100));
    expect(initiator.readMessage(b).payload).toHaveLength(100);
    const c = initiator.writeMessage(Buffer.alloc(10));
    responder.readMessage(c);
    expect([a, b, c].map(({ length }) => length)).toEqual([1216, 1300, 74]);
    const [one, two] = [initiator.split(), responder.split()];
    expect(two.receive.decrypt(one.send.encryptWithAd(EMPTY, Buffer.from('hi'))).toString()).toBe('hi');
    expect(one.exporter.bytes).toEqual(two.exporter.bytes);
  });

  it('does not depend on X25519 alone: another KEM secret gives other keys', () => {
    const [initiator, responder] = [side(true), side(false, { ...crypto, mlkem768: lying(0) })];
    responder.readMessage(initiator.writeMessage());
    const message = responder.writeMessage();
    expect(() => initiator.readMessage(message)).toThrow(error('authentication-failed'));
  });

  it('a changed ciphertext ends the handshake before its secret is used', () => {
    const used: string[] = [];
    const watched = {
      ...mlkem,
      decapsulate(...args: Parameters<typeof mlkem.decapsulate>) {
        used.push('decapsulate');
        return mlkem.decapsulate(...args);
      },
    };
    const [initiator, responder] = [side(true, { ...crypto, mlkem768: watched }), side(false)];
    responder.readMessage(initiator.writeMessage());
    const message = responder.writeMessage();
    expect(() => initiator.readMessage(flip(message, 32 + 500))).toThrow(error('authentication-failed'));
    expect(used).toEqual([]);
    expect(initiator.dead).toBe(true);
  });

  it('an encapsulation key that is not reduced ends the handshake by name', () => {
    const responder = side(false);
    const message = side(true).writeMessage();
    message.fill(0xff, 32, 35);
    responder.readMessage(message);
    expect(() => responder.writeMessage()).toThrow(error('weak-public-key'));
    expect(responder.dead).toBe(true);
  });

  it('a changed encapsulation key makes message 2 worthless', () => {
    const [initiator, responder] = [side(true), side(false)];
    responder.readMessage(flip(initiator.writeMessage(), 1215));
    const message = responder.writeMessage();
    expect(() => initiator.readMessage(message)).toThrow(error('authentication-failed'));
  });

  it('messages that end early are refused', () => {
    const message = side(true).writeMessage();
    for (const length of [0, 31, 32, 1215]) {
      expect(() => side(false).readMessage(message.subarray(0, length))).toThrow(error('message-too-short'));
    }
    const [initiator, responder] = [side(true), side(false)];
    responder.readMessage(initiator.writeMessage());
    const cut = responder.writeMessage().subarray(0, 32 + 1103);
    expect(() => initiator.readMessage(cut)).toThrow(error('message-too-short'));
  });

  it('needs a provider that was loaded with ML-KEM', async () => {
    const without = await loadCryptoProvider('native');
    expect(() => side(true, without).writeMessage()).toThrow(
      expect.objectContaining({ name: 'CryptoError', code: 'provider-not-loaded' }),
    );
  });

  it('wipes its KEM key with the handshake', () => {
    const made: ReturnType<typeof mlkem.generate>[] = [];
    const watched = {
      ...mlkem,
      generate() {
        const pair = mlkem.generate();
        made.push(pair);
        return pair;
      },
    };
    for (const end of ['split', 'wipe'] as const) {
      const [initiator, responder] = [side(true, { ...crypto, mlkem768: watched }), side(false)];
      responder.readMessage(initiator.writeMessage());
      const pair = made.at(-1) as ReturnType<typeof mlkem.generate>;
      const { ciphertext } = mlkem.encapsulate(pair.publicKey);
      expect(mlkem.decapsulate(pair, ciphertext)).toHaveLength(32);
      if (end === 'split') {
        initiator.readMessage(responder.writeMessage());
        initiator.writeMessage();
      }
      initiator[end]();
      expect(() => mlkem.decapsulate(pair, ciphertext)).toThrow(
        expect.objectContaining({ code: 'key-wiped' }),
      );
    }
  });

  /** Says another shared secret than the one in its ciphertext. */
  function lying(byte: number): typeof mlkem {
    return {
      ...mlkem,
      encapsulate: (key) => ({ ...mlkem.encapsulate(key), sharedSecret: Buffer.alloc(32, byte) }),
    };
  }
});

it('the two providers understand one another', async () => {
  const noble = await loadCryptoProvider('noble', { postQuantum: true });
  for (const [left, right] of [
    [crypto, noble],
    [noble, crypto],
  ] as const) {
    const side = (initiator: boolean, provider: CryptoProvider): HandshakeState =>
      new HandshakeState({
        crypto: provider,
        protocol: PROTOCOL,
        initiator,
        prologue: EMPTY,
        s: provider.generateX25519(),
      });
    const [initiator, responder] = [side(true, left), side(false, right)];
    responder.readMessage(initiator.writeMessage());
    initiator.readMessage(responder.writeMessage());
    responder.readMessage(initiator.writeMessage());
    expect(initiator.split().handshakeHash).toEqual(responder.split().handshakeHash);
  }
});
