import { CryptoError } from '../crypto/errors.ts';
import type { CryptoProvider, X25519KeyPair } from '../crypto/provider.ts';
import type { LocalIdentity } from '../identity/local.ts';
import type { CipherState } from '../noise/cipherstate.ts';
import { NoiseError } from '../noise/errors.ts';
import type { HandshakeState } from '../noise/handshakestate.ts';
import { HandshakeError, type HandshakeErrorCode } from './errors.ts';
import type { ChainVerifier, ProvenPeer } from './identityproof.ts';
import { deriveSession } from './keyschedule.ts';
import type { HandshakeLimits } from './limits.ts';
import { findMode, type Mode, RESUMPTION } from './mode.ts';
import { MAX_LENGTH } from './record.ts';
import { type Resumable, resumableOf } from './ticket.ts';

/*
 * A handshake is a pure state machine, Initiator or Responder: bytes go in, steps come out, a HandshakeError ends
 * it. It knows no sockets and no timers; driver.ts connects it to both.
 *
 *     Initiator                                   Responder
 *     CLIENT_HELLO, message 1      ------>
 *                                  <------        RETRY (at most once; then CLIENT_HELLO, message 1 again)
 *                                  <------        message 2: identity
 *     checks it, then message 3    ------>        checks it
 *     first record (PING)          ------>        up
 *     up                           <------        first records: two tickets, if the initiator takes them; PONG
 *
 * With a ticket (mode 2) message 2 is the last, and carries no identity: both are known from the session.
 */

/** What both roles need. Nothing of it is changed, wiped or kept after the handshake. */
export interface HandshakeOptions {
  readonly crypto: CryptoProvider;
  /** The modes that policy allows, the most preferred first. */
  readonly modes: readonly Mode[];
  readonly staticKey: X25519KeyPair;
  readonly identity: LocalIdentity;
  readonly bundle: ChainVerifier;
  /** Milliseconds since the epoch, for certificates. */
  readonly now: () => number;
  readonly limits: HandshakeLimits;
  /** The largest record length field that we accept. */
  readonly maxRecord: number;
  /** 8 bytes that name this process, if peers shall know it. */
  readonly instance: Buffer | undefined;
}

/**
 * What a finished handshake yields. The receiver owns and wipes the cipher states; the session key too if the
 * handshake founded the session, but not if it resumed one (mode 2).
 */
export interface Established extends Resumable {
  readonly role: 'initiator' | 'responder';
  readonly mode: Mode;
  /** Whether the responder may send tickets: the initiator offered mode 2. */
  readonly tickets: boolean;
  readonly send: CipherState;
  readonly receive: CipherState;
}

/** What a machine wants done, in this order. */
export interface HandshakeStep {
  /** Bytes to write. */
  readonly send: Buffer | undefined;
  /** The handshake is over and the keys are there. */
  readonly established: Established | undefined;
  /** With `established`: bytes that came after the last handshake message. They belong to the records. */
  readonly rest: Buffer | undefined;
}

/** One role of a handshake. After a throw it is dead and its keys are wiped. */
export interface HandshakeMachine {
  /** What to write before anything comes. */
  start(): Buffer | undefined;
  /** Takes bytes as they come; undefined means that more are needed. Throws HandshakeError. */
  receive(chunk: Uint8Array): HandshakeStep | undefined;
  /** Ends it from outside. */
  abort(): void;
}

/** Refuses to begin with an identity that no peer would accept. */
export function assertCurrent(identity: LocalIdentity, now: number): void {
  if (identity.notAfter > now) return;
  throw new HandshakeError(
    'local-identity-expired',
    `Our own certificate (${identity.spiffeId}) expired at ${new Date(identity.notAfter).toISOString()}: issue a new one with \`hauberk issue NAME\``,
  );
}

/** Turns a finished full handshake into keys, and founds a session. */
export function conclude(
  { crypto, identity, bundle }: HandshakeOptions,
  role: Established['role'],
  mode: Mode,
  noise: HandshakeState,
  { peer, payload }: ProvenPeer,
  tickets: boolean,
): Established {
  const { send, receive, handshakeHash, exporter } = noise.split();
  return {
    role,
    mode,
    tickets,
    send,
    receive,
    session: deriveSession(crypto, exporter, handshakeHash),
    peer,
    identity,
    bundleGeneration: bundle.generation,
    foundedIn: mode,
    peerMaxRecord: payload.maxRecord ?? MAX_LENGTH,
    peerInstance: payload.instance?.toString('hex'), // a view would keep the whole payload, chain and all
  };
}

/** Turns a finished handshake in mode 2 into keys, and joins the session that it resumes. */
export function concludeResumed(
  role: Established['role'],
  noise: HandshakeState,
  resumable: Resumable,
): Established {
  const { send, receive, exporter } = noise.split();
  exporter.wipe();
  return { role, mode: RESUMPTION, tickets: true, send, receive, ...resumableOf(resumable) };
}

/** Whether a session may still be resumed, as far as its founding handshake goes: policy, certificates, key. */
export function mayBeResumed(
  { session, peer, foundedIn }: Resumable,
  modes: readonly Mode[],
  now: number,
): boolean {
  return findMode(modes, foundedIn.id) !== undefined && peer.notAfter > now && !session.key.wiped;
}

const NOISE_CODES: Readonly<Record<string, HandshakeErrorCode>> = {
  'authentication-failed': 'decrypt-failed',
  'weak-public-key': 'weak-key',
  'own-public-key': 'reflected-key',
  'message-too-short': 'message-too-short',
  'message-too-long': 'message-too-large',
};

/** Every failure of a handshake as a HandshakeError. */
export function asHandshakeError(cause: unknown): HandshakeError {
  if (cause instanceof HandshakeError) return cause;
  const known =
    cause instanceof NoiseError || cause instanceof CryptoError ? NOISE_CODES[cause.code] : undefined;
  const what = cause instanceof Error ? cause.message : String(cause);
  return new HandshakeError(known ?? 'internal-error', what, { cause });
}
