import type { IdentityError } from '../identity/errors.ts';
import { type FileKind, readChecked } from '../identity/files.ts';
import { ControlError } from './errors.ts';

/** The kubelet mounts it for the group of the pod or for all, and replaces it before it expires. */
const TOKEN_FILE: FileKind = {
  what: 'a service account token',
  maxBytes: 64 * 1024,
  secret: false,
  guarded: false,
  cure: 'mount a projected service account token with the audience of the controller there',
};

/** The token that is there now. Rejects with ControlError `UNAUTHENTICATED`. */
export async function readToken(path: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readChecked(path, TOKEN_FILE);
  } catch (cause) {
    throw new ControlError('UNAUTHENTICATED', `the token ${(cause as IdentityError).message}`, { cause });
  }
  const token = bytes.toString('latin1').trim();
  bytes.fill(0);
  // It becomes a header field.
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  const what = token === '' ? 'is empty' : 'is not one line of printable characters';
  throw new ControlError('UNAUTHENTICATED', `the token ${path}: it ${what}; ${TOKEN_FILE.cure}`);
}
