/** A command that needs the admin API could not reach it, or was refused. The message says what to do. */
export class AdminCallError extends Error {
  override readonly name = 'AdminCallError';
}
