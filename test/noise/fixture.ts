import { cryptoProvider, type X25519KeyPair } from '../../src/crypto/provider.ts';
import { HandshakeState } from '../../src/noise/handshakestate.ts';
import { parseProtocolName } from '../../src/noise/protocolname.ts';

export const crypto = cryptoProvider('native');
export const PROLOGUE = Buffer.from('prologue');

export const protocolOf = (pattern: string): string => `Noise_${pattern}_25519_AESGCM_SHA256`;

/** Fresh static keys and PSKs for both sides of `pattern`, from which any number of handshakes can be made. */
export class Parties {
  readonly protocol: string;
  readonly messages: number;
  readonly initiatorStatic: X25519KeyPair = crypto.generateX25519();
  readonly responderStatic: X25519KeyPair = crypto.generateX25519();
  readonly psks: Buffer[];
  readonly #known: [initiator: boolean, responder: boolean];

  constructor(pattern: string) {
    this.protocol = protocolOf(pattern);
    const { messages, initiatorKnown, responderKnown } = parseProtocolName(this.protocol);
    this.messages = messages.length;
    this.psks = messages
      .flat()
      .filter((token) => token === 'psk')
      .map(() => crypto.randomBytes(32));
    this.#known = [initiatorKnown, responderKnown];
  }

  initiator(): HandshakeState {
    const rs = this.#known[1] ? { rs: this.responderStatic.publicKey } : {};
    return this.#side(true, this.initiatorStatic, rs);
  }

  responder(): HandshakeState {
    const rs = this.#known[0] ? { rs: this.initiatorStatic.publicKey } : {};
    return this.#side(false, this.responderStatic, rs);
  }

  /** Both sides after `done` messages, and the one that is next to send first. */
  after(done: number): [next: HandshakeState, other: HandshakeState] {
    let sides: [HandshakeState, HandshakeState] = [this.initiator(), this.responder()];
    for (let i = 0; i < done; i++) {
      sides[1].readMessage(sides[0].writeMessage(Buffer.from(`payload ${i}`)));
      sides = [sides[1], sides[0]];
    }
    return sides;
  }

  #side(initiator: boolean, s: X25519KeyPair, rs: { rs?: Buffer }): HandshakeState {
    const { protocol, psks } = this;
    return new HandshakeState({ crypto, protocol, initiator, prologue: PROLOGUE, s, psks, ...rs });
  }
}
