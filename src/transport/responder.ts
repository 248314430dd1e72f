import { HandshakeState } from '../noise/handshakestate.ts';
import { type ClientHello, decodeClientHello } from './clienthello.ts';
import { HandshakeError } from './errors.ts';
import { decodeFrame, encodeFrame, MESSAGE, retryFrame } from './frame.ts';
import {
  asHandshakeError,
  assertCurrent,
  conclude,
  type HandshakeMachine,
  type HandshakeOptions,
  type HandshakeStep,
} from './handshake.ts';
import { proveIdentity, verifyIdentity } from './identityproof.ts';
import { Inbox } from './inbox.ts';
import { findMode, type Mode } from './mode.ts';
import { prologue } from './prologue.ts';

export interface ResponderOptions extends HandshakeOptions {
  /** Whether a peer that has proven this SPIFFE ID is refused all the same. */
  readonly isBlocked?: ((spiffeId: string) => boolean) | undefined;
  /** Whether this process is too busy for another full handshake; asked before any key is computed. */
  readonly overloaded?: (() => boolean) | undefined;
}

/** The responder's side of a full handshake, a pure state machine. */
export class Responder implements HandshakeMachine {
  readonly #options: ResponderOptions;
  readonly #inbox = new Inbox();
  #mode: Mode | undefined;
  #noise: HandshakeState | undefined;
  /** What RETRY asked for, and SHA-256 of everything up to it. */
  #retry: { mode: Mode; offered: number; earlierHash: Buffer } | undefined;

  /** Throws HandshakeError `local-identity-expired`. */
  constructor(options: ResponderOptions) {
    assertCurrent(options.identity, options.now());
    this.#options = options;
  }

  start(): undefined {
    return undefined;
  }

  receive(chunk: Uint8Array): HandshakeStep | undefined {
    try {
      this.#inbox.push(chunk);
      return this.#noise === undefined ? this.#opening() : this.#message3(this.#noise);
    } catch (cause) {
      this.abort();
      throw asHandshakeError(cause);
    }
  }

  abort(): void {
    this.#noise?.wipe();
  }

  /** CLIENT_HELLO and message 1. */
  #opening(): HandshakeStep | undefined {
    const { limits, overloaded } = this.#options;
    const hello = decodeClientHello(this.#inbox.bytes);
    if (hello === undefined) return undefined;
    const wanted = this.#wanted(hello);
    const frame = decodeFrame(this.#inbox.bytes, hello.length, [MESSAGE], limits.maxFirstMessageSize);
    if (frame === undefined) return undefined;
    const length = hello.length + frame.length;
    const extra = this.#inbox.bytes.length - length;
    if (extra > 0) throw new HandshakeError('unexpected-bytes', `${extra} bytes came after message 1`);
    if (overloaded?.() === true) {
      throw new HandshakeError('overloaded', 'The event loop lags: full handshakes are refused');
    }
    const bytes = this.#inbox.take(length);
    const send =
      wanted.id === hello.mode
        ? this.#answer(wanted, bytes.subarray(0, hello.length), bytes.subarray(length - frame.body.length))
        : this.#askAgain(wanted, hello, bytes);
    return { send, established: undefined, rest: undefined };
  }

  /** The mode to go on with: the hello's own, or the one to name in a RETRY. */
  #wanted(hello: ClientHello): Mode {
    const retry = this.#retry;
    if (retry !== undefined && (hello.mode !== retry.mode.id || hello.offered !== retry.offered)) {
      throw new HandshakeError(
        'bad-retry',
        `The CLIENT_HELLO after RETRY to mode ${retry.mode.id} is not what was asked for`,
      );
    }
    const { modes } = this.#options;
    const mode =
      findMode(modes, hello.mode) ?? modes.find(({ id }) => id !== 2 && (hello.offered & (1 << id)) !== 0);
    if (mode !== undefined) return mode;
    throw new HandshakeError(
      'mode-refused',
      `The peer offers modes with bits 0x${hello.offered.toString(16)}; none of them is allowed here`,
    );
  }

  #askAgain(mode: Mode, hello: ClientHello, bytes: Buffer): Buffer {
    const frame = retryFrame(mode.id);
    this.#retry = { mode, offered: hello.offered, earlierHash: this.#options.crypto.sha256(bytes, frame) };
    return frame;
  }

  #answer(mode: Mode, hello: Buffer, message1: Buffer): Buffer {
    const { crypto, identity, staticKey, maxRecord, instance } = this.#options;
    this.#mode = mode;
    const noise = new HandshakeState({
      crypto,
      protocol: mode.protocol,
      initiator: false,
      prologue: prologue(mode.protocol, hello, this.#retry?.earlierHash),
      s: staticKey,
    });
    this.#noise = noise;
    const { payload } = noise.readMessage(message1);
    if (payload.length > 0) {
      throw new HandshakeError('unexpected-bytes', `Message 1 has a payload of ${payload.length} bytes`);
    }
    const announcement = { expectedPeer: undefined, maxRecord, instance };
    const message2 = noise.writeMessage((h) =>
      proveIdentity(crypto, 'responder', identity, h, staticKey.publicKey, announcement),
    );
    return encodeFrame(MESSAGE, message2);
  }

  #message3(noise: HandshakeState): HandshakeStep | undefined {
    const { crypto, identity, bundle, now, limits, isBlocked } = this.#options;
    const frame = decodeFrame(this.#inbox.bytes, 0, [MESSAGE], limits.maxMessageSize);
    if (frame === undefined) return undefined;
    const bytes = this.#inbox.take(frame.length);
    const rest = this.#inbox.take(this.#inbox.bytes.length);
    const { payload, payloadHash } = noise.readMessage(bytes.subarray(bytes.length - frame.body.length));
    const remoteStatic = noise.remoteStatic as Buffer;
    const proven = verifyIdentity(crypto, 'initiator', payload, payloadHash, remoteStatic, bundle, now());
    const { expectedPeer } = proven.payload;
    if (expectedPeer !== identity.spiffeId) {
      throw new HandshakeError(
        'misdirected',
        `${proven.peer.spiffeId} looked for ${JSON.stringify(expectedPeer)}; this is ${identity.spiffeId}: its route or endpoint is wrong`,
        { peer: proven.peer.spiffeId },
      );
    }
    const { spiffeId } = proven.peer;
    if (isBlocked?.(spiffeId) === true) {
      throw new HandshakeError('peer-blocked', `${spiffeId} is blocked by an operator`, { peer: spiffeId });
    }
    return {
      send: undefined,
      established: conclude(crypto, 'responder', this.#mode as Mode, noise, proven),
      rest,
    };
  }
}
