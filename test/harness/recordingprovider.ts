/** A crypto provider that keeps a copy of every secret that it makes or is given. */
import type * as Provider from '../../src/crypto/provider.ts';
import type { Aead, CryptoProvider } from '../../src/crypto/provider.ts';

export interface Recorded {
  readonly what: string;
  readonly bytes: Buffer;
}

const KEY = 32; // bytes

/** One for each provider that was loaded through a module made by `recording`, in order. */
export const recorded: RecordingProvider[] = [];

/** src/crypto/provider.ts, whose providers remember. For vi.mock. */
export function recording(real: typeof Provider): typeof Provider {
  return {
    ...real,
    loadCryptoProvider: async (...args) => {
      const provider = new RecordingProvider(await real.loadCryptoProvider(...args));
      recorded.push(provider);
      return provider.crypto;
    },
  };
}

export class RecordingProvider {
  readonly crypto: CryptoProvider;
  readonly #secrets: Recorded[] = [];
  readonly #inUse = new Set<Recorded>();

  constructor(real: CryptoProvider) {
    const keep = (what: string, bytes: Uint8Array): Recorded => {
      const recorded = { what: `${what} ${this.#secrets.length}`, bytes: Buffer.from(bytes) };
      this.#secrets.push(recorded);
      return recorded;
    };
    const kem = real.mlkem768;
    this.crypto = {
      ...real,
      dh: (own, remote) => {
        const shared = real.dh(own, remote);
        keep('result of Diffie-Hellman', shared);
        return shared;
      },
      hkdfExtract: (salt, ikm) => {
        const prk = real.hkdfExtract(salt, ikm);
        keep('pseudorandom key', prk);
        return prk;
      },
      hkdfExpand: (prk, info, length) => {
        const okm = real.hkdfExpand(prk, info, length);
        const label = Buffer.from(info).toString('latin1');
        const what = label.startsWith('HBK1 session key')
          ? 'session key'
          : label.startsWith('HBK1 resume')
            ? 'PSK'
            : 'output of HKDF';
        for (let at = 0; at + KEY <= length; at += KEY) keep(what, okm.subarray(at, at + KEY));
        return okm;
      },
      aes256gcm: (key) => this.#aead(real.aes256gcm(key), keep('AES key', key)),
      mlkem768: kem && {
        ...kem,
        encapsulate: (key) => {
          const made = kem.encapsulate(key);
          keep('secret of ML-KEM', made.sharedSecret);
          return made;
        },
        decapsulate: (own, ciphertext) => {
          const shared = kem.decapsulate(own, ciphertext);
          keep('secret of ML-KEM', shared);
          return shared;
        },
      },
    };
  }

  /** All of them, in order. */
  get secrets(): readonly Recorded[] {
    return this.#secrets;
  }

  /** AES keys that have not been wiped: after a handshake those of the directions of connections. */
  get aesKeysInUse(): Recorded[] {
    return [...this.#inUse];
  }

  #aead(aead: Aead, recorded: Recorded): Aead {
    this.#inUse.add(recorded);
    return {
      seal: (...args) => aead.seal(...args),
      sealInto: (...args) => aead.sealInto(...args),
      open: (...args) => aead.open(...args),
      wipe: () => {
        this.#inUse.delete(recorded);
        aead.wipe();
      },
    };
  }
}
