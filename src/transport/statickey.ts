import type { Clock, TimerHandle } from '../clock/clock.ts';
import type { CryptoProvider, X25519KeyPair } from '../crypto/provider.ts';

/**
 * The Noise static key pair of this process: made at start, never written anywhere, replaced when it is
 * `lifetimeMs` old (at most 24 h). Identities do not hang on it: each handshake's signature vouches for it anew.
 */
export class StaticKey {
  readonly #crypto: CryptoProvider;
  readonly #clock: Clock;
  readonly #lifetimeMs: number;
  readonly #graceMs: number;
  #pair: X25519KeyPair;
  #since: number;
  #retired: X25519KeyPair | undefined;
  #timer: TimerHandle;

  /** Handshakes that began with the old key have `graceMs` to finish before it is wiped. */
  constructor(crypto: CryptoProvider, clock: Clock, lifetimeMs: number, graceMs = 10_000) {
    this.#crypto = crypto;
    this.#clock = clock;
    this.#lifetimeMs = Math.min(lifetimeMs, 24 * 3_600_000);
    this.#graceMs = graceMs;
    this.#pair = crypto.generateX25519();
    this.#since = clock.monotonic();
    this.#timer = clock.after(this.#lifetimeMs, () => this.#replace());
  }

  /** The pair to begin a handshake with. It belongs to this object, which wipes it. */
  get current(): X25519KeyPair {
    if (this.ageMs >= this.#lifetimeMs) this.#replace();
    return this.#pair;
  }

  get ageMs(): number {
    return this.#clock.monotonic() - this.#since;
  }

  /** Wipes the keys; no handshake can begin or go on. */
  close(): void {
    this.#clock.clear(this.#timer);
    this.#retired?.wipe();
    this.#pair.wipe();
  }

  #replace(): void {
    this.#clock.clear(this.#timer);
    this.#retired?.wipe();
    this.#retired = this.#pair;
    this.#pair = this.#crypto.generateX25519();
    this.#since = this.#clock.monotonic();
    this.#timer = this.#clock.after(this.#graceMs, () => {
      this.#retired?.wipe();
      this.#retired = undefined;
      this.#timer = this.#clock.after(this.#lifetimeMs - this.ageMs, () => this.#replace());
    });
  }
}
