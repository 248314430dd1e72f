/**
 * Why a handshake failed. All of them end the connection; what can be done about them:
 *
 * - before any byte: `aborted` (by the caller's signal), `connect-failed`, `connect-timeout`, `local-identity-expired`
 * - refused unread: `rate-limited`, `overloaded`, `half-open-evicted`, `shutting-down`
 * - time: `first-frame-timeout`, `handshake-timeout`
 * - not our protocol, or not the same version of it: `not-hauberk`, `bad-hello`, `unknown-version`, `mode-refused`,
 *   `bad-retry`, `peer-alert`, `bad-frame`, `unexpected-frame`, `unexpected-bytes`, `message-too-large`
 * - cryptography: `message-too-short`, `decrypt-failed`, `weak-key`, `reflected-key`
 * - identity: `bad-identity-payload`, `no-certificate`, `untrusted-peer` (the cause is an IdentityError), `bad-signature`,
 *   `wrong-peer` (initiator: the responder is someone else), `misdirected` (responder: someone else was wanted)
 * - `peer-blocked`: it is who it says, and an operator has blocked it
 * - `not-confirmed`: the other end closed or broke the connection before its first record; it may have refused us
 * - `connection-lost`: it ended earlier than that
 * - `internal-error`: a bug here; fails closed
 */
export const HANDSHAKE_ERROR_CODES = [
  'aborted',
  'connect-failed',
  'connect-timeout',
  'local-identity-expired',
  'rate-limited',
  'overloaded',
  'half-open-evicted',
  'shutting-down',
  'first-frame-timeout',
  'handshake-timeout',
  'not-hauberk',
  'bad-hello',
  'unknown-version',
  'mode-refused',
  'bad-retry',
  'peer-alert',
  'bad-frame',
  'unexpected-frame',
  'unexpected-bytes',
  'message-too-large',
  'message-too-short',
  'decrypt-failed',
  'weak-key',
  'reflected-key',
  'bad-identity-payload',
  'no-certificate',
  'untrusted-peer',
  'bad-signature',
  'wrong-peer',
  'misdirected',
  'peer-blocked',
  'internal-error',
  'not-confirmed',
  'connection-lost',
] as const;
export type HandshakeErrorCode = (typeof HANDSHAKE_ERROR_CODES)[number];

/** Fatal to its connection, to nothing else. The message is for the audit log; none of it goes on the wire. */
export class HandshakeError extends Error {
  override readonly name = 'HandshakeError';
  readonly code: HandshakeErrorCode;
  /** The other end's SPIFFE ID, once its chain and signature have been verified. */
  readonly peer: string | undefined;
  /** The only bytes that a failure may still send. */
  readonly alert: Buffer | undefined;

  constructor(
    code: HandshakeErrorCode,
    message: string,
    options: { cause?: unknown; peer?: string | undefined; alert?: Buffer } = {},
  ) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.peer = options.peer;
    this.alert = options.alert;
  }
}

/**
 * Why an open channel ended. The first group is the transport's own; the second is for owners that destroy a
 * channel (design section 6).
 *
 * - `peer-closed`, `local-closed`: an authenticated CLOSE, from there or from here and answered
 * - `close-timeout`: ours was not answered in time
 * - `truncated`: FIN without CLOSE; data may be missing
 * - `bad-record`: a tag, length or padding that does not verify
 * - `record-timeout`: a record began and did not complete in time
 * - `heartbeat-timeout`: nothing came after a PING of ours: the peer, or the way to it, is gone
 * - `key-exhausted`: the peer sealed more records under a key than the protocol allows, or this end would have
 * - `protocol-error`: an authentic record that means nothing here
 * - `flood`: too many records, or too many KEY_UPDATE or PING or records that carry nothing, or more to send than a peer that does not read may have us keep
 * - `peer-alert`: an ALERT record
 * - `socket-error`: the operating system said so
 * - `internal-error`: an owner's callback threw
 */
export const CLOSE_REASONS = [
  'peer-closed',
  'local-closed',
  'close-timeout',
  'truncated',
  'bad-record',
  'record-timeout',
  'heartbeat-timeout',
  'key-exhausted',
  'protocol-error',
  'flood',
  'peer-alert',
  'socket-error',
  'internal-error',
  // an owner's
  'idle',
  'expired',
  'evicted',
  'revoked',
  'refused',
  'identity-expired',
  'identity-rotated',
  'identity-untrusted',
  'shutdown',
] as const;
export type CloseReason = (typeof CLOSE_REASONS)[number];

/**
 * Limits against abuse below HTTP/2: records of any kind; PINGs; records that carry nothing (empty DATA, PONG, ignorable
 * types); KEY_UPDATEs; and what a peer that does not read may have us keep.
 */
export const RECORD_FLOODS = ['records', 'record-ping', 'record-idle', 'key-update', 'backlog'] as const;
export type RecordFlood = (typeof RECORD_FLOODS)[number];

/** A record that ends its connection: silently on the wire, with this reason in the audit log. */
export class RecordError extends Error {
  override readonly name = 'RecordError';
  readonly reason: CloseReason;
  /** Which limit was crossed, if the reason is `flood`. */
  readonly flood: RecordFlood | undefined;

  constructor(reason: CloseReason, message: string, options?: { cause?: unknown; flood?: RecordFlood }) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.reason = reason;
    this.flood = options?.flood;
  }
}

/** A bug here: a connection was to take a step that its table does not have. Its state stays as it was. */
export class ConnectionStateError extends Error {
  override readonly name = 'ConnectionStateError';
  readonly code = 'illegal-transition';
}

/** A bug of the caller of SecureChannel.write: nothing was sent, the channel stays usable. */
export class ChannelUseError extends Error {
  override readonly name = 'ChannelUseError';
  readonly code = 'bad-write-range';
}
