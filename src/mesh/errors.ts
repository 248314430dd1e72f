/**
 * What a program does wrong with a mesh, or cannot have. What goes wrong with a call is its status: see CallError.
 *
 * - `bad-option`: options that cannot work; the message lists all that is wrong with them.
 * - `bad-keys`: the identity in the folder of keys cannot be used: it is missing, expired, not this service's.
 * - `bad-handler`: a handler or service that cannot be served: its name is taken or no name, or there is nothing to run.
 * - `port-taken`: a port could not be bound.
 * - `not-started`, `already-started`, `ended`: the mesh was used before `start()`, started twice, used after `cleanup()`.
 * - `unknown-service`: `services` has no such service.
 * - `start-failed`: something else kept the mesh from starting; `cause` has it.
 */
export type MeshErrorCode =
  | 'bad-option'
  | 'bad-keys'
  | 'bad-handler'
  | 'port-taken'
  | 'not-started'
  | 'already-started'
  | 'ended'
  | 'unknown-service'
  | 'start-failed';

/** An error of a mesh in this program; its message says what, where and what to do. */
export class MeshError extends Error {
  override readonly name = 'MeshError';
  /** Stable, for programs. */
  readonly code: MeshErrorCode;

  constructor(code: MeshErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
