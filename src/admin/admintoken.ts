import { createHash, timingSafeEqual } from 'node:crypto';
import { IdentityError } from '../identity/errors.ts';
import { type FileKind, readChecked } from '../identity/files.ts';

const TOKEN_FILE: FileKind = {
  what: 'an admin token',
  maxBytes: 1024,
  secret: true,
  guarded: true,
  cure: 'make one: (umask 077; head -c 32 /dev/urandom | base64 > FILE)',
};

const TOKEN = /^[\x21-\x7e]{32,512}$/;

/** The token in a file that only its owner may read. Throws IdentityError, which says what to do. */
export async function readAdminToken(path: string): Promise<string> {
  const bytes = await readChecked(path, TOKEN_FILE);
  const token = bytes.toString('latin1').trim();
  bytes.fill(0);
  if (TOKEN.test(token)) return token;
  throw new IdentityError('bad-token', 'a token has 32 to 512 printable characters without spaces', {
    file: path,
    cure: TOKEN_FILE.cure,
  });
}

/** Knows a token without keeping it. */
export class AdminToken {
  readonly #digest: Buffer;

  constructor(token: string) {
    this.#digest = digest(token);
  }

  /** Whether `authorization` is `Bearer` and the token; takes as long whatever it is. */
  admits(authorization: unknown): boolean {
    const given = /^Bearer ([\x21-\x7e]{1,512})$/i.exec(
      typeof authorization === 'string' ? authorization : '',
    );
    return timingSafeEqual(digest(given?.[1] ?? ''), this.#digest);
  }
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
