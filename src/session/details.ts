import { Secret } from '../crypto/secret.ts';
import type { Session } from './session.ts';

/** What createSession need not be told. */
export interface SessionDetails {
  /** A UUID; a random one by default. */
  readonly id?: string;
  /** Who is at the other end, for the limit of sessions a peer; the service by default. */
  readonly peer?: string;
  /** Default `outbound`. */
  readonly direction?: Session['direction'];
  readonly postQuantum?: boolean;
  /** Milliseconds since the epoch, when the first certificate ends; never by default. */
  readonly notAfter?: number;
}

export const SESSION_KEY_LENGTH = 32;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** What createSession cannot work with; its caller need not be checked by a compiler. */
export function wrongArgument(
  serviceId: unknown,
  sessionKey: unknown,
  id: unknown,
  notAfter: unknown,
): string | undefined {
  if (typeof serviceId !== 'string' || serviceId === '') return 'serviceId is the name of a service';
  if (!(sessionKey instanceof Secret || sessionKey instanceof Uint8Array)) {
    return `sessionKey is ${SESSION_KEY_LENGTH} bytes, or a Secret`;
  }
  if (typeof id !== 'string' || !UUID.test(id)) return 'id is a UUID in lower case';
  if (notAfter === undefined || (typeof notAfter === 'number' && !Number.isNaN(notAfter))) return undefined;
  return 'notAfter is a number of milliseconds since the epoch';
}
