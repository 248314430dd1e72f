import { inspect } from 'node:util';
import { CryptoError } from './errors.ts';

/** Overwrites `bytes` with zeros. */
export function wipe(bytes: Uint8Array): void {
  bytes.fill(0);
}

/**
 * Zeros outside V8's heap, for a secret: arrays up to 64 bytes are in the heap otherwise, where the garbage collector
 * moves them and leaves what they held behind.
 */
export function unmovedBuffer(length: number): Buffer {
  return Buffer.from(new ArrayBuffer(length));
}

/**
 * Secret bytes that do not print: toString, toJSON and util.inspect give `[secret]`.
 *
 * wipe() overwrites the one buffer that this object owns. It cannot reach copies that the garbage collector made of
 * small typed arrays while moving them (see unmovedBuffer), copies inside OpenSSL (those are cleansed when their
 * KeyObject is collected), pages that were swapped out, or a core dump.
 */
export class Secret {
  readonly #bytes: Buffer;
  #wiped = false;

  /** Takes ownership of `bytes`: the caller neither keeps nor changes them, and wipe() zeroes them. */
  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** A secret that owns a copy, outside Node's buffer pool and V8's heap; the original stays the caller's to wipe. */
  static copyOf(bytes: Uint8Array): Secret {
    const copy = unmovedBuffer(bytes.length);
    copy.set(bytes);
    return new Secret(copy);
  }

  /** The bytes themselves, not a copy: valid until wipe(). Throws CryptoError `key-wiped` after it. */
  get bytes(): Buffer {
    if (this.#wiped) throw new CryptoError('key-wiped', 'A secret was used after it had been wiped');
    return this.#bytes;
  }

  get wiped(): boolean {
    return this.#wiped;
  }

  /** Zeroes the bytes. A second call does nothing. */
  wipe(): void {
    this.#wiped = true;
    wipe(this.#bytes);
  }

  /** `[secret]`. */
  toString(): string {
    return '[secret]';
  }

  /** `[secret]`. */
  toJSON(): string {
    return '[secret]';
  }

  /** `[secret]`. */
  [inspect.custom](): string {
    return '[secret]';
  }
}
