import { KEY_LENGTH } from '../crypto/lengths.ts';
import { Secret } from '../crypto/secret.ts';
import { NoiseError } from '../noise/errors.ts';
import { HandshakeState } from '../noise/handshakestate.ts';
import { type ClientHello, decodeClientHello } from './clienthello.ts';
import { HandshakeError } from './errors.ts';
import { decodeFrame, encodeFrame, MESSAGE, retryFrame } from './frame.ts';
import {
  asHandshakeError,
  assertCurrent,
  conclude,
  concludeResumed,
  type HandshakeMachine,
  type HandshakeOptions,
  type HandshakeStep,
  mayBeResumed,
} from './handshake.ts';
import { proveIdentity, verifyIdentity } from './identityproof.ts';
import { Inbox } from './inbox.ts';
import { resumptionPsk } from './keyschedule.ts';
import { findMode, type Mode, offeredModes, RESUMPTION } from './mode.ts';
import { prologue } from './prologue.ts';
import { type Resumable, TICKET_ID_LENGTH } from './ticket.ts';

/** Who knows the tickets that this sidecar has issued, and whether their sessions may be resumed now. */
export interface TicketOffice {
  /** The session that a ticket resumes, if it may; the ticket stays where it is. */
  find(id: Buffer): Resumable | undefined;
  /** The ticket's holder has proven itself: nobody may use it again. */
  redeem(id: Buffer): void;
  /** A ticket that find() had was refused: its founding handshake does not do any more, or message 1 is not by its holder. */
  refused(id: Buffer, reason: 'policy' | 'forged'): void;
}

export interface ResponderOptions extends HandshakeOptions {
  /** Whether a peer that has proven this SPIFFE ID is refused all the same. */
  readonly isBlocked?: ((spiffeId: string) => boolean) | undefined;
  /** Whether this process is too busy for another handshake of this kind; asked before any key is computed. */
  readonly overloaded?: ((kind: 'full' | 'resumption') => boolean) | undefined;
  /** Without one every ticket is refused, and none is sent. */
  readonly tickets?: TicketOffice | undefined;
}

/** The responder's side of a handshake, a pure state machine. */
export class Responder implements HandshakeMachine {
  readonly #options: ResponderOptions;
  readonly #inbox = new Inbox();
  #mode: Mode | undefined;
  #offered = 0;
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
    const { limits } = this.#options;
    const hello = decodeClientHello(this.#inbox.bytes);
    if (hello === undefined) return undefined;
    const wanted = this.#wanted(hello);
    this.#offered = hello.offered;
    const frame = decodeFrame(this.#inbox.bytes, hello.length, [MESSAGE], limits.maxFirstMessageSize);
    if (frame === undefined) return undefined;
    const length = hello.length + frame.length;
    const extra = this.#inbox.bytes.length - length;
    if (extra > 0) throw new HandshakeError('unexpected-bytes', `${extra} bytes came after message 1`);
    const bytes = this.#inbox.take(length);
    if (hello.ticket !== undefined) {
      this.#assertRoom('resumption');
      const resumed = this.#resume(
        bytes.subarray(0, hello.length),
        bytes.subarray(length - frame.body.length),
      );
      if (resumed !== undefined) return resumed;
    }
    this.#assertRoom('full');
    const send =
      wanted.id === hello.mode
        ? this.#answer(wanted, bytes.subarray(0, hello.length), bytes.subarray(length - frame.body.length))
        : this.#askAgain(wanted, hello, bytes);
    return { send, established: undefined, rest: undefined };
  }

  #assertRoom(kind: 'full' | 'resumption'): void {
    if (this.#options.overloaded?.(kind) !== true) return;
    const what = kind === 'full' ? 'full handshakes' : 'even resumptions';
    throw new HandshakeError('overloaded', `The event loop lags: ${what} are refused`);
  }

  /**
   * Mode 2: message 2 and the keys, or undefined, if the ticket is refused or message 1 is not by its holder. A ticket
   * that is refused gets a random key, so that whatever the reason, the time it takes tells little of it.
   */
  #resume(hello: Buffer, message1: Buffer): HandshakeStep | undefined {
    const { crypto, modes, tickets, now } = this.#options;
    const id = hello.subarray(-TICKET_ID_LENGTH);
    const found = tickets?.find(id);
    const resumable = found !== undefined && mayBeResumed(found, modes, now()) ? found : undefined;
    if (found !== undefined && resumable === undefined) tickets?.refused(id, 'policy');
    const psk =
      resumable === undefined
        ? new Secret(crypto.randomBytes(KEY_LENGTH))
        : resumptionPsk(crypto, resumable.session.key, id);
    const noise = new HandshakeState({
      crypto,
      protocol: RESUMPTION.protocol,
      initiator: false,
      prologue: prologue(RESUMPTION.protocol, hello),
      psks: [psk.bytes],
    });
    psk.wipe();
    const payload = payloadOf(noise, message1);
    if (resumable === undefined) return undefined;
    if (payload === undefined) {
      tickets?.refused(id, 'forged');
      return undefined;
    }
    tickets?.redeem(id);
    this.#noise = noise;
    if (payload.length > 0) throw hasPayload(payload);
    const send = encodeFrame(MESSAGE, noise.writeMessage());
    return { send, established: concludeResumed('responder', noise, resumable), rest: undefined };
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
      `The peer offers modes with bits 0x${hello.offered.toString(16)}; none of them is allowed here: crypto.postQuantum must leave both sidecars one in common`,
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
    if (payload.length > 0) throw hasPayload(payload);
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
      established: conclude(
        this.#options,
        'responder',
        this.#mode as Mode,
        noise,
        proven,
        this.#takesTickets,
      ),
      rest,
    };
  }

  get #takesTickets(): boolean {
    return this.#options.tickets !== undefined && (this.#offered & offeredModes([RESUMPTION])) !== 0;
  }
}

/** Undefined if message 1 does not authenticate; the handshake is dead then. */
function payloadOf(noise: HandshakeState, message1: Buffer): Buffer | undefined {
  try {
    return noise.readMessage(message1).payload;
  } catch (cause) {
    if (cause instanceof NoiseError) return undefined;
    throw cause;
  }
}

function hasPayload(payload: Buffer): HandshakeError {
  return new HandshakeError('unexpected-bytes', `Message 1 has a payload of ${payload.length} bytes`);
}
