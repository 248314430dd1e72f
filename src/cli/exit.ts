import { AuditError } from '../audit/errors.ts';
import { CaptureError } from '../capture/errors.ts';
import { ConfigError } from '../config/errors.ts';
import { IdentityError } from '../identity/errors.ts';
import { KubeError } from '../kube/client/errors.ts';
import { WebhookError } from '../kube/webhook/errors.ts';
import { LimitError } from '../limit/errors.ts';
import { ListenError } from '../relay/listener.ts';
import { BlockError } from '../session/errors.ts';
import { AdminCallError } from './admin/errors.ts';

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
  STATE: 8,
  ADMIN: 9,
  CAPTURE: 10,
  KUBERNETES: 11,
} as const;

/** Which exit code an error that ends a command stands for. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof ConfigError) return Exit.CONFIG;
  if (error instanceof IdentityError || error instanceof WebhookError) return Exit.IDENTITY;
  if (error instanceof ListenError) return Exit.LISTEN;
  if (error instanceof BlockError) return Exit.STATE;
  if (error instanceof AdminCallError) return Exit.ADMIN;
  if (error instanceof CaptureError) return error.code === 'bad-input' ? Exit.USAGE : Exit.CAPTURE;
  if (error instanceof KubeError) return Exit.KUBERNETES;
  if (error instanceof AuditError || error instanceof LimitError) return Exit.MONITORING;
  return Exit.FAILED;
}

/**
 * What a user is told. An error that we foresaw, or that the operating system gave a code, says by itself what is
 * wrong; anything else is a mistake of ours, and its stack is what a report of it needs.
 */
export function complaintOf(error: unknown): string {
  if (exitCodeOf(error) !== Exit.FAILED) return prefixed((error as Error).message);
  if (!(error instanceof Error)) return `hauberk: ${String(error)}`;
  const foreseen = typeof (error as NodeJS.ErrnoException).code === 'string';
  if (foreseen) return `hauberk: ${error.message}`;
  return `hauberk: this is a bug of Hauberk, please report it\n${error.stack ?? error.message}`;
}

/** A configuration's mistakes are a line each. */
function prefixed(message: string): string {
  return message.replaceAll(/^/gm, 'hauberk: ');
}
