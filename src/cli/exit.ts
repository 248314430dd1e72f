import { AuditError } from '../audit/errors.ts';
import { ConfigError } from '../config/errors.ts';
import { IdentityError } from '../identity/errors.ts';
import { LimitError } from '../limit/errors.ts';
import { ListenError } from '../relay/listener.ts';

/** Exit codes, as docs/cli.md lists them. A signal that ends the process at once gives 128 plus its number. */
export const Exit = {
  OK: 0,
  FAILED: 1,
  USAGE: 2,
  CONFIG: 3,
  IDENTITY: 4,
  LISTEN: 5,
  MONITORING: 6,
  CALLS_CUT: 7,
} as const;

/** Which exit code an error that ends a command stands for. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof ConfigError) return Exit.CONFIG;
  if (error instanceof IdentityError) return Exit.IDENTITY;
  if (error instanceof ListenError) return Exit.LISTEN;
  if (error instanceof AuditError || error instanceof LimitError) return Exit.MONITORING;
  return Exit.FAILED;
}
