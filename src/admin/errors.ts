/** A gRPC status that the admin API answers with on purpose. */
export type AdminStatus =
  | 'INVALID_ARGUMENT'
  | 'NOT_FOUND'
  | 'FAILED_PRECONDITION'
  | 'RESOURCE_EXHAUSTED'
  | 'UNAUTHENTICATED';

/** The caller's mistake or the sidecar's state; nothing was done. The message says what to do and goes to the caller. */
export class AdminError extends Error {
  override readonly name = 'AdminError';
  readonly code: AdminStatus;

  constructor(code: AdminStatus, message: string) {
    super(message);
    this.code = code;
  }
}
