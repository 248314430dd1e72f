/**
 * What can go wrong with sessions. None of them harms another session.
 *
 * - `duplicate-id`, `capacity`, `already-expired`, `manager-shut-down`: create() refused; the handshake's
 *   connection is to be destroyed, and the key that was given is wiped already
 * - `disposed`: the session has ended; its owner was told through onDisposed
 * - `too-many-connections`: attach() refused this connection, the session lives on
 * - `bad-option`: configuration that cannot work
 * - `illegal-transition`, `unbalanced-call`, `unbalanced-detach`: bugs of the caller
 */
export type SessionErrorCode =
  | 'duplicate-id'
  | 'capacity'
  | 'already-expired'
  | 'manager-shut-down'
  | 'disposed'
  | 'too-many-connections'
  | 'bad-option'
  | 'illegal-transition'
  | 'unbalanced-call'
  | 'unbalanced-detach';

export class SessionError extends Error {
  override readonly name = 'SessionError';
  readonly code: SessionErrorCode;

  constructor(code: SessionErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
