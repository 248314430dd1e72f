import { CryptoError } from '../crypto/errors.ts';
import {
  KEY_LENGTH,
  MLKEM_CIPHERTEXT_LENGTH,
  MLKEM_PUBLIC_LENGTH,
  X25519_LENGTH,
} from '../crypto/lengths.ts';
import type { MlKem768, MlKemKeyPair } from '../crypto/mlkem.ts';
import type { CryptoProvider, X25519KeyPair } from '../crypto/provider.ts';
import { Secret } from '../crypto/secret.ts';
import { type CipherState, MAX_MESSAGE_LENGTH } from './cipherstate.ts';
import { NoiseError } from './errors.ts';
import { type HandshakePattern, isOneWay, type Token } from './patterns.ts';
import { parseProtocolName } from './protocolname.ts';
import { SymmetricState } from './symmetricstate.ts';

const EMPTY = Buffer.alloc(0);

export interface HandshakeOptions {
  readonly crypto: CryptoProvider;
  /** For example `Noise_XX_25519_AESGCM_SHA256`; with `hfs`, `crypto` must have been loaded with ML-KEM. */
  readonly protocol: string;
  readonly initiator: boolean;
  readonly prologue: Uint8Array;
  /** Our static key pair; stays the caller's. */
  readonly s?: X25519KeyPair;
  /** Our ephemeral key pair, for tests with published vectors only; wiped with the handshake. */
  readonly e?: X25519KeyPair;
  /** The remote's static public key, exactly if the pattern has it as a pre-message. */
  readonly rs?: Uint8Array;
  /** 32 bytes each, copied: as many as the pattern has psk tokens, in their order. */
  readonly psks?: readonly Uint8Array[];
}

/** What a finished handshake yields. The caller owns all of it, and wipes it. */
export interface Transport {
  /** By role. In a one-way pattern the direction that does not exist is a wiped CipherState. */
  readonly send: CipherState;
  readonly receive: CipherState;
  /** h after the last message: the same at both ends, and unique to this handshake. */
  readonly handshakeHash: Buffer;
  /** 32 bytes: the third output of HKDF(ck, "", 3), of which the cipher states' keys are the first two. */
  readonly exporter: Secret;
}

/** How a token is written to and read from a message. To add one is to add a row. */
interface TokenRule {
  /** Bytes of its field in the message now. */
  length(handshake: HandshakeState): number;
  write(handshake: HandshakeState): Buffer;
  /** `field`: a view of exactly length() bytes of the message. */
  read(handshake: HandshakeState, field: Uint8Array): void;
}

/**
 * One side of a Noise handshake (section 5.3): writeMessage and readMessage in turn as the pattern has it, then split.
 *
 * A message that fails, whatever the reason, leaves the handshake dead and its keys wiped: nothing of a half-read
 * message is ever used, and nothing is tried twice. The remote's static and ephemeral keys must differ from our own
 * (`own-public-key`), so that our own messages, sent back, end the handshake by name.
 */
export class HandshakeState {
  readonly #crypto: CryptoProvider;
  readonly #pattern: HandshakePattern;
  readonly #initiator: boolean;
  readonly #symmetric: SymmetricState;
  readonly #s: X25519KeyPair | undefined;
  #e: X25519KeyPair | undefined;
  #e1: MlKemKeyPair | undefined;
  #rs: Buffer | undefined;
  #re: Buffer | undefined;
  #re1: Buffer | undefined;
  readonly #psks: Secret[];
  #next = 0; // index of the next message of the pattern
  #state: 'running' | 'split' | 'dead' = 'running';

  static readonly #TOKENS: Readonly<Record<Token, TokenRule>> = {
    e: {
      length: () => X25519_LENGTH,
      write: (hs) => hs.#writeEphemeral(),
      read: (hs, field) => hs.#readEphemeral(field),
    },
    s: {
      length: (hs) => X25519_LENGTH + hs.#symmetric.overhead,
      write: (hs) => hs.#symmetric.encryptAndHash(known(hs.#s).publicKey),
      read: (hs, field) => {
        hs.#rs = hs.#foreign('static', hs.#symmetric.decryptAndHash(field));
      },
    },
    ee: mixing((hs) => hs.#mixDh(hs.#e, hs.#re)),
    es: mixing((hs) => (hs.#initiator ? hs.#mixDh(hs.#e, hs.#rs) : hs.#mixDh(hs.#s, hs.#re))),
    se: mixing((hs) => (hs.#initiator ? hs.#mixDh(hs.#s, hs.#re) : hs.#mixDh(hs.#e, hs.#rs))),
    ss: mixing((hs) => hs.#mixDh(hs.#s, hs.#rs)),
    psk: mixing((hs) => hs.#symmetric.mixKeyAndHash(known(hs.#psks.shift()).bytes)),
    e1: {
      length: (hs) => MLKEM_PUBLIC_LENGTH + hs.#symmetric.overhead,
      write(hs) {
        hs.#e1 = hs.#kem.generate();
        return hs.#symmetric.encryptAndHash(hs.#e1.publicKey);
      },
      read: (hs, field) => {
        hs.#re1 = hs.#symmetric.decryptAndHash(field);
      },
    },
    ekem1: {
      length: (hs) => MLKEM_CIPHERTEXT_LENGTH + hs.#symmetric.overhead,
      write(hs) {
        const { ciphertext, sharedSecret } = hs.#kem.encapsulate(known(hs.#re1));
        const field = hs.#symmetric.encryptAndHash(ciphertext);
        hs.#symmetric.mixKey(sharedSecret);
        return field;
      },
      read(hs, field) {
        const ciphertext = hs.#symmetric.decryptAndHash(field);
        hs.#symmetric.mixKey(hs.#kem.decapsulate(known(hs.#e1), ciphertext));
      },
    },
  };

  /** Throws NoiseError `unknown-protocol`, `missing-key`, `unexpected-key` or `own-public-key`. */
  constructor(options: HandshakeOptions) {
    const { crypto, protocol, initiator, prologue, s, e, rs, psks = [] } = options;
    this.#crypto = crypto;
    this.#pattern = parseProtocolName(protocol);
    this.#initiator = initiator;
    this.#s = s;
    this.#e = e;
    this.#checkKeys(options);
    this.#rs = rs && this.#foreign('static', Buffer.from(rs));
    this.#psks = psks.map((psk) => Secret.copyOf(psk));

    this.#symmetric = new SymmetricState(crypto, protocol);
    this.#symmetric.mixHash(prologue);
    const local = s?.publicKey;
    if (this.#pattern.initiatorKnown) this.#symmetric.mixHash(known(initiator ? local : this.#rs));
    if (this.#pattern.responderKnown) this.#symmetric.mixHash(known(initiator ? this.#rs : local));
  }

  /** The remote's static public key, once it is known; authenticated by the tokens that follow it. */
  get remoteStatic(): Buffer | undefined {
    return this.#rs;
  }

  get remoteEphemeral(): Buffer | undefined {
    return this.#re;
  }

  /** Our own static public key. */
  get localStatic(): Buffer | undefined {
    return this.#s?.publicKey;
  }

  /** Whether every message has been written or read, so that split() may be called. */
  get finished(): boolean {
    return this.#state !== 'dead' && this.#next === this.#pattern.messages.length;
  }

  /** Whether a message failed or wipe() was called before split(). */
  get dead(): boolean {
    return this.#state === 'dead';
  }

  /** A copy of h as it is now. */
  get handshakeHash(): Buffer {
    this.#assertAlive();
    return this.#symmetric.handshakeHash;
  }

  /**
   * The next message, with `payload` in it. A function as payload gets h as it is just before the payload is
   * encrypted, when every token of the message is done; what it throws passes through, and the handshake is dead.
   */
  writeMessage(payload: Uint8Array | ((h: Buffer) => Uint8Array) = EMPTY): Buffer {
    const tokens = this.#turn(this.#initiator, 'written');
    return this.#orDie(() => {
      const parts: Buffer[] = [];
      for (const token of tokens) parts.push(HandshakeState.#TOKENS[token].write(this));
      const bytes = typeof payload === 'function' ? payload(this.#symmetric.handshakeHash) : payload;
      const length = parts.reduce((sum, part) => sum + part.length, bytes.length + this.#symmetric.overhead);
      assertMessageLength('local', length);
      parts.push(this.#symmetric.encryptAndHash(bytes));
      this.#next += 1;
      return Buffer.concat(parts);
    });
  }

  /**
   * Reads the remote's next message. Returns its payload in a buffer of its own, and h as it was just before the
   * payload was decrypted. Payloads of messages before the last prove less than the last one's (section 7.7).
   */
  readMessage(message: Uint8Array): { payload: Buffer; payloadHash: Buffer } {
    const tokens = this.#turn(!this.#initiator, 'read');
    return this.#orDie(() => {
      assertMessageLength('remote', message.length);
      let at = 0;
      for (const token of tokens) {
        const rule = HandshakeState.#TOKENS[token];
        const end = at + rule.length(this);
        if (end > message.length) throw tooShort(this.#next, token);
        rule.read(this, message.subarray(at, end));
        at = end;
      }
      if (message.length - at < this.#symmetric.overhead) throw tooShort(this.#next, 'payload');
      const payloadHash = this.#symmetric.handshakeHash;
      const payload = this.#symmetric.decryptAndHash(message.subarray(at));
      this.#next += 1;
      return { payload, payloadHash };
    });
  }

  /** Once, after the last message. The handshake's own keys are wiped; what it knows of the remote remains. */
  split(): Transport {
    this.#assertAlive();
    if (!this.finished || this.#state === 'split') {
      throw new NoiseError('not-finished', 'local', 'split() comes once, after the last message');
    }
    return this.#orDie(() => {
      const { ciphers, exporter } = this.#symmetric.split();
      if (isOneWay(this.#pattern)) ciphers[1].wipe();
      const [send, receive] = this.#initiator ? ciphers : [ciphers[1], ciphers[0]];
      this.#wipeKeys();
      this.#state = 'split';
      return { send, receive, handshakeHash: this.#symmetric.handshakeHash, exporter };
    });
  }

  /** Gives the handshake up: its keys are wiped, and it is dead. What split() has yielded is not touched. */
  wipe(): void {
    this.#wipeKeys();
    this.#state = 'dead';
    this.#rs = undefined;
    this.#re = undefined;
  }

  #wipeKeys(): void {
    this.#e?.wipe();
    this.#e = undefined;
    this.#e1?.wipe();
    this.#e1 = undefined;
    this.#re1 = undefined;
    for (const psk of this.#psks) psk.wipe();
    this.#symmetric.wipe();
  }

  /** Runs a step of the handshake; if it throws, for whatever reason, the handshake is dead. */
  #orDie<T>(step: () => T): T {
    try {
      return step();
    } catch (cause) {
      this.wipe();
      if (!(cause instanceof CryptoError && cause.code === 'weak-public-key')) throw cause;
      throw new NoiseError('weak-public-key', 'remote', cause.message, { cause });
    }
  }

  get #kem(): MlKem768 {
    const { mlkem768 } = this.#crypto;
    if (mlkem768 !== undefined) return mlkem768;
    throw new CryptoError(
      'provider-not-loaded',
      'The hfs modifier needs a crypto provider loaded with postQuantum',
    );
  }

  #assertAlive(): void {
    if (this.#state === 'dead') {
      throw new NoiseError(
        'handshake-dead',
        'local',
        'A message of this handshake has failed; start a new one',
      );
    }
  }

  /** The tokens of the next message, if it is the turn of the side that asks. */
  #turn(initiatorSends: boolean, action: 'written' | 'read'): readonly Token[] {
    this.#assertAlive();
    const tokens = this.#pattern.messages[this.#next];
    if (tokens !== undefined && (this.#next % 2 === 0) === initiatorSends) return tokens;
    throw new NoiseError(
      'out-of-turn',
      'local',
      `No message is to be ${action} after ${this.#next} of ${this.#pattern.messages.length} messages of ${this.#pattern.name}`,
    );
  }

  #checkKeys({ initiator, s, rs, psks = [] }: HandshakeOptions): void {
    const { name, initiatorKnown, responderKnown, messages } = this.#pattern;
    const sent = messages.some((tokens, index) => (index % 2 === 0) === initiator && tokens.includes('s'));
    if ((sent || (initiator ? initiatorKnown : responderKnown)) && s === undefined) {
      throw new NoiseError('missing-key', 'local', `${name} needs a static key pair (s) of this side`);
    }
    const wanted = initiator ? responderKnown : initiatorKnown;
    if (wanted !== (rs !== undefined)) {
      throw new NoiseError(
        wanted ? 'missing-key' : 'unexpected-key',
        'local',
        `${name} ${wanted ? 'needs' : 'does not take'} the remote's static public key (rs) beforehand`,
      );
    }
    if (rs !== undefined && rs.length !== X25519_LENGTH) {
      throw new NoiseError('missing-key', 'local', `rs has ${X25519_LENGTH} bytes, not ${rs.length}`);
    }
    const places = messages.flat().filter((token) => token === 'psk').length;
    if (psks.length !== places || psks.some((psk) => psk.length !== KEY_LENGTH)) {
      throw new NoiseError(
        psks.length > places ? 'unexpected-key' : 'missing-key',
        'local',
        `${name} takes ${places} PSKs of ${KEY_LENGTH} bytes, and ${psks.length} were given`,
      );
    }
  }

  #writeEphemeral(): Buffer {
    this.#e ??= this.#crypto.generateX25519();
    const { publicKey } = this.#e;
    this.#mixEphemeral(publicKey);
    return publicKey;
  }

  #readEphemeral(field: Uint8Array): void {
    this.#re = this.#foreign('ephemeral', Buffer.from(field));
    this.#mixEphemeral(this.#re);
  }

  /** With a PSK an ephemeral key is also mixed into the key, so that no key is used twice (section 9.2). */
  #mixEphemeral(publicKey: Buffer): void {
    this.#symmetric.mixHash(publicKey);
    const hasPsk = this.#pattern.messages.some((tokens) => tokens.includes('psk'));
    if (hasPsk) this.#symmetric.mixKey(Buffer.from(publicKey));
  }

  #mixDh(own: X25519KeyPair | undefined, remote: Buffer | undefined): void {
    this.#symmetric.mixKey(this.#crypto.dh(known(own), known(remote)));
  }

  #foreign(kind: 'static' | 'ephemeral', remote: Buffer): Buffer {
    if (this.#s?.publicKey.equals(remote) || this.#e?.publicKey.equals(remote)) {
      throw new NoiseError('own-public-key', 'remote', `The remote's ${kind} public key is one of our own`);
    }
    return remote;
  }
}

/** The constructor's check and the order of tokens in the patterns make sure of it; were they wrong, this fails closed. */
function known<T>(key: T | undefined): T {
  if (key !== undefined) return key;
  throw new NoiseError('missing-key', 'local', 'A token came before the key that it needs');
}

/** A token that has no field in the message and only mixes. */
function mixing(mix: (handshake: HandshakeState) => void): TokenRule {
  return {
    length: () => 0,
    write(handshake) {
      mix(handshake);
      return EMPTY;
    },
    read: mix,
  };
}

function assertMessageLength(side: 'local' | 'remote', length: number): void {
  if (length <= MAX_MESSAGE_LENGTH) return;
  throw new NoiseError(
    'message-too-long',
    side,
    `A Noise message has at most ${MAX_MESSAGE_LENGTH} bytes, not ${length}`,
  );
}

function tooShort(message: number, field: string): NoiseError {
  return new NoiseError(
    'message-too-short',
    'remote',
    `Handshake message ${message + 1} ends before the end of its ${field}`,
  );
}
