/**
 * What can go wrong in src/audit. All of them are local.
 *
 * - `adapter-module-missing`: there is no file or package at the configured place. The sidecar does not start.
 * - `adapter-module-failed`: the module, or the function it exports, threw or did not answer. Does not start.
 * - `adapter-no-default`: the module has no default export, or one that is neither a function nor an object. Does not start.
 * - `adapter-no-write`: what the module gave has no `write` function. Does not start.
 * - `file-unusable`: the audit file cannot be opened. At start fatal, later a failure of the adapter: retried.
 * - `file-write-failed`: the audit file did not take everything, such as on a full disk. Retried.
 * - `output-blocked`: the standard output has not taken the batch before. Retried.
 * - `output-failed`: the standard output is broken or closed. Retried, likely in vain.
 * - `adapter-timeout`: an adapter did not answer in time. Retried.
 */
export type AuditErrorCode =
  | 'adapter-module-missing'
  | 'adapter-module-failed'
  | 'adapter-no-default'
  | 'adapter-no-write'
  | 'file-unusable'
  | 'file-write-failed'
  | 'output-blocked'
  | 'output-failed'
  | 'adapter-timeout';

/** An audit adapter that cannot be made or does not take events; `code` says which. */
export class AuditError extends Error {
  override readonly name = 'AuditError';
  /** What went wrong. */
  readonly code: AuditErrorCode;

  constructor(code: AuditErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** What someone else's code threw, as text; it need not be an Error, nor convert to a string without throwing. */
export function reasonOf(thrown: unknown): string {
  try {
    return thrown instanceof Error ? String(thrown.message) : String(thrown);
  } catch {
    return 'an error that cannot be printed';
  }
}
