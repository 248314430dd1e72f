import type { MlKemKeyPair } from '../../src/crypto/mlkem.ts';
import type { Aead, CryptoProvider, X25519KeyPair } from '../../src/crypto/provider.ts';

/** A provider that remembers every secret it hands out, and every one that it is given to derive from. */
export class WatchedProvider {
  readonly #real: CryptoProvider;
  readonly #buffers: Array<{ what: string; bytes: Uint8Array }> = [];
  readonly #aeads: Aead[] = [];
  readonly #pairs: X25519KeyPair[] = [];
  readonly #kemPairs: MlKemKeyPair[] = [];
  readonly crypto: CryptoProvider;

  constructor(real: CryptoProvider) {
    this.#real = real;
    const kem = real.mlkem768;
    this.crypto = {
      ...real,
      generateX25519: () => this.#keep(this.#pairs, real.generateX25519()),
      dh: (own, remote) => this.#watch('a Diffie-Hellman result', real.dh(own, remote)),
      hkdfExtract: (salt, ikm) => {
        this.#watch('a chaining key', salt);
        return this.#watch('a pseudorandom key', real.hkdfExtract(salt, ikm));
      },
      hkdfExpand: (prk, info, length) => {
        const made = real.hkdfExpand(prk, info, length);
        return length < 32 ? made : this.#watch('an output of HKDF', made); // a session id is no secret
      },
      aes256gcm: (key) => this.#watchSeals(this.#keep(this.#aeads, real.aes256gcm(key))),
      mlkem768: kem && {
        ...kem,
        generate: () => this.#keep(this.#kemPairs, kem.generate()),
        encapsulate: (key) => {
          const made = kem.encapsulate(key);
          this.#watch('a secret that was encapsulated', made.sharedSecret);
          return made;
        },
        decapsulate: (own, ciphertext) =>
          this.#watch('a secret that was decapsulated', kem.decapsulate(own, ciphertext)),
      },
    };
  }

  /** How many secrets it knows. */
  get known(): number {
    return this.#buffers.length + this.#aeads.length + this.#pairs.length + this.#kemPairs.length;
  }

  /** What has not been wiped, by name. */
  left(): string[] {
    const real = this.#real;
    const nonce = Buffer.alloc(12);
    const base = Buffer.alloc(32, 9);
    return [
      ...this.#buffers.filter(({ bytes }) => bytes.some((byte) => byte !== 0)).map(({ what }) => what),
      ...this.#aeads.filter((aead) => works(() => aead.seal(nonce, base, base))).map(() => 'a cipher'),
      ...this.#pairs.filter((pair) => works(() => real.dh(pair, base))).map(() => 'an ephemeral key'),
      ...this.#kemPairs
        .filter((pair) => works(() => real.mlkem768?.decapsulate(pair, Buffer.alloc(1088))))
        .map(() => 'a KEM key'),
    ];
  }

  #watch<T extends Uint8Array>(what: string, bytes: T): T {
    this.#buffers.push({ what, bytes });
    return bytes;
  }

  #keep<T>(list: T[], item: T): T {
    list.push(item);
    return item;
  }

  /** Messages are sealed into a buffer of the caller's; only REKEY has its result, the next key, in one of its own. */
  #watchSeals(aead: Aead): Aead {
    return {
      open: (...args) => aead.open(...args),
      sealInto: (...args) => aead.sealInto(...args),
      wipe: () => aead.wipe(),
      seal: (...args) => this.#watch('a key that REKEY made', aead.seal(...args)),
    };
  }
}

function works(use: () => unknown): boolean {
  try {
    use();
    return true;
  } catch (error) {
    if ((error as { code?: unknown }).code === 'key-wiped') return false;
    throw error;
  }
}
