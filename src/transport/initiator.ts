import { HandshakeState } from '../noise/handshakestate.ts';
import { encodeClientHello } from './clienthello.ts';
import { HandshakeError } from './errors.ts';
import { ALERT, decodeFrame, describeAlert, encodeFrame, MESSAGE, RETRY } from './frame.ts';
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
import type { Ticket } from './ticket.ts';

/** RETRY never names a mode above this one: it leads to a full handshake. */
const MAX_RETRY_MODE = 1;

export interface InitiatorOptions extends HandshakeOptions {
  /** The SPIFFE ID that the responder must prove. */
  readonly expectedPeer: string;
  /** Whether to offer mode 2, so that the responder sends tickets. */
  readonly tickets?: boolean | undefined;
  /** Takes a ticket to begin with, just before it is sent; implies `tickets`. */
  readonly takeTicket?: (() => Ticket | undefined) | undefined;
}

/** The initiator's side of a handshake, a pure state machine. */
export class Initiator implements HandshakeMachine {
  readonly #options: InitiatorOptions;
  readonly #inbox = new Inbox();
  readonly #offered: number;
  /** What the current attempt resumes. */
  #ticket: Ticket | undefined;
  #mode: Mode;
  #noise: HandshakeState | undefined;
  /** CLIENT_HELLO and message 1 of the first attempt, until an answer to it has come. */
  #first: Buffer | undefined;
  #retried = false;

  /** Throws HandshakeError `local-identity-expired` or `mode-refused`. */
  constructor(options: InitiatorOptions) {
    assertCurrent(options.identity, options.now());
    const mode = options.modes[0];
    if (mode === undefined) throw new HandshakeError('mode-refused', 'Policy allows no mode of HBK/1');
    const { modes, takeTicket, tickets = takeTicket !== undefined } = options;
    this.#options = options;
    this.#offered = offeredModes(tickets ? [...modes, RESUMPTION] : modes);
    this.#mode = mode;
  }

  start(): Buffer {
    const { modes, takeTicket, expectedPeer, now } = this.#options;
    const ticket = takeTicket?.();
    const fits =
      ticket?.resumable.peer.spiffeId === expectedPeer && mayBeResumed(ticket.resumable, modes, now());
    this.#ticket = fits ? ticket : undefined;
    this.#first = this.#attempt(fits ? RESUMPTION : this.#mode);
    return this.#first;
  }

  receive(chunk: Uint8Array): HandshakeStep | undefined {
    try {
      this.#inbox.push(chunk);
      return this.#step();
    } catch (cause) {
      this.abort();
      throw asHandshakeError(cause);
    }
  }

  abort(): void {
    this.#noise?.wipe();
  }

  /** CLIENT_HELLO and message 1, to be sent in one write. */
  #attempt(mode: Mode, earlierHash?: Buffer): Buffer {
    const { crypto, staticKey } = this.#options;
    const ticket = this.#ticket;
    const hello = encodeClientHello(mode.id, this.#offered, ticket?.id);
    const psk = ticket && resumptionPsk(crypto, ticket.resumable.session.key, ticket.id);
    this.#mode = mode;
    this.#noise = new HandshakeState({
      crypto,
      protocol: mode.protocol,
      initiator: true,
      prologue: prologue(mode.protocol, hello, earlierHash),
      ...(psk === undefined ? { s: staticKey } : { psks: [psk.bytes] }),
    });
    psk?.wipe();
    return Buffer.concat([hello, encodeFrame(MESSAGE, this.#noise.writeMessage())]);
  }

  #step(): HandshakeStep | undefined {
    const { limits } = this.#options;
    const frame = decodeFrame(this.#inbox.bytes, 0, [MESSAGE, RETRY, ALERT], limits.maxMessageSize);
    if (frame === undefined) return undefined;
    const extra = this.#inbox.bytes.length - frame.length;
    if (extra > 0) {
      throw new HandshakeError(
        'unexpected-bytes',
        `${extra} bytes came before it was the responder's turn again`,
      );
    }
    if (frame.type === ALERT) throw new HandshakeError('peer-alert', describeAlert(frame.body));
    const bytes = this.#inbox.take(frame.length);
    const body = bytes.subarray(bytes.length - frame.body.length);
    const send = frame.type === RETRY ? this.#retry(bytes, body[0] as number) : undefined;
    if (send !== undefined) return { send, established: undefined, rest: undefined };
    return this.#ticket === undefined ? this.#message2(body) : this.#resumed(body, this.#ticket);
  }

  #retry(frame: Buffer, id: number): Buffer {
    const { crypto, modes } = this.#options;
    const first = this.#first as Buffer;
    const mode = id <= MAX_RETRY_MODE && id !== this.#mode.id ? findMode(modes, id) : undefined;
    if (this.#retried || mode === undefined) {
      throw new HandshakeError(
        'bad-retry',
        this.#retried
          ? 'A second RETRY on one connection'
          : `A RETRY to mode ${id}, which was not offered or just tried`,
      );
    }
    this.#retried = true;
    this.#ticket = undefined;
    this.#noise?.wipe();
    return this.#attempt(mode, crypto.sha256(first, frame));
  }

  #message2(message: Buffer): HandshakeStep {
    const { crypto, identity, bundle, now, staticKey, expectedPeer, maxRecord, instance } = this.#options;
    const noise = this.#noise as HandshakeState;
    const { payload, payloadHash } = noise.readMessage(message);
    const remoteStatic = noise.remoteStatic as Buffer;
    const proven = verifyIdentity(crypto, 'responder', payload, payloadHash, remoteStatic, bundle, now());
    const found = proven.peer.spiffeId;
    if (found !== expectedPeer) {
      throw new HandshakeError(
        'wrong-peer',
        `The peer is ${found}, the route expects ${expectedPeer}: correct peer or endpoints of the route`,
        { peer: found },
      );
    }
    const message3 = noise.writeMessage((h) =>
      proveIdentity(crypto, 'initiator', identity, h, staticKey.publicKey, {
        expectedPeer,
        maxRecord,
        instance,
      }),
    );
    return {
      send: encodeFrame(MESSAGE, message3),
      established: conclude(this.#options, 'initiator', this.#mode, noise, proven, this.#offersTickets),
      rest: undefined,
    };
  }

  /** Message 2 of mode 2: whoever made it knows the session key. */
  #resumed(message: Buffer, { resumable }: Ticket): HandshakeStep {
    const noise = this.#noise as HandshakeState;
    const { payload } = noise.readMessage(message);
    if (payload.length > 0) {
      throw new HandshakeError(
        'unexpected-bytes',
        `Message 2 of mode 2 has a payload of ${payload.length} bytes`,
      );
    }
    return { send: undefined, established: concludeResumed('initiator', noise, resumable), rest: undefined };
  }

  get #offersTickets(): boolean {
    return (this.#offered & offeredModes([RESUMPTION])) !== 0;
  }
}
