/**
 * What can go wrong with sessions. None of it harms another session.
 *
 * - `duplicate-id` (DuplicateSessionError), `capacity`, `already-expired`, `manager-shut-down` (ManagerShutDownError):
 *   no session was created; the handshake's connection is to be destroyed, and the key that was given is wiped already
 * - `disposed` (SessionDisposedError): the session has ended; its owner was told
 * - `unknown-session`: there is none of this id, or not any more
 * - `too-many-connections`: attach() refused this connection, the session lives on
 * - `bad-option`: an option or argument that cannot work
 * - `illegal-transition`, `unbalanced-call`, `unbalanced-detach`: bugs of the caller
 */
export type SessionErrorCode =
  | 'duplicate-id'
  | 'capacity'
  | 'already-expired'
  | 'manager-shut-down'
  | 'disposed'
  | 'unknown-session'
  | 'too-many-connections'
  | 'bad-option'
  | 'illegal-transition'
  | 'unbalanced-call'
  | 'unbalanced-detach';

/** A mistake in the use of sessions, or a session that cannot be had; `code` says which. */
export class SessionError extends Error {
  override readonly name: string = 'SessionError';
  /** What went wrong. */
  readonly code: SessionErrorCode;

  constructor(code: SessionErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** A session of this id lives already. */
export class DuplicateSessionError extends SessionError {
  override readonly name = 'DuplicateSessionError';

  constructor(message: string) {
    super('duplicate-id', message);
  }
}

/** A session was used after its end. */
export class SessionDisposedError extends SessionError {
  override readonly name = 'SessionDisposedError';

  constructor(message: string) {
    super('disposed', message);
  }
}

/** A manager was used after its shutdown had begun. */
export class ManagerShutDownError extends SessionError {
  override readonly name = 'ManagerShutDownError';

  constructor(message: string) {
    super('manager-shut-down', message);
  }
}

/**
 * What can go wrong with blocks of peers.
 *
 * - `bad-peer`, `bad-reason`, `too-many`: the command was refused, nothing has changed
 * - `not-written`: the file could not be written. A peer that was to be allowed stays blocked
 * - `file-unreadable`, `file-damaged`: the sidecar does not start, since it would not know whom to refuse
 */
export type BlockErrorCode =
  | 'bad-peer'
  | 'bad-reason'
  | 'too-many'
  | 'not-written'
  | 'file-unreadable'
  | 'file-damaged';

/** A peer that cannot be blocked or let in again, or a file of blocked peers that cannot be used; `code` says which. */
export class BlockError extends Error {
  override readonly name = 'BlockError';
  /** What went wrong. */
  readonly code: BlockErrorCode;

  constructor(code: BlockErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
