/** Why an identity, a certificate chain or a key file was refused. Stable: audit events and tests name them. */
export type IdentityErrorCode =
  // files
  | 'missing-file'
  | 'unreadable-file'
  | 'not-a-file'
  | 'file-too-large'
  | 'empty-file'
  | 'not-pem'
  | 'unexpected-pem-block'
  | 'wrong-owner'
  | 'writable-by-others'
  | 'already-exists'
  | 'bad-token'
  | 'files-changing'
  | 'other-identity'
  | 'ca-ending'
  | 'write-failed'
  // the controller
  | 'controller-unreachable'
  | 'controller-untrusted'
  | 'controller-refuses'
  | 'bad-answer'
  // keys
  | 'key-readable-by-others'
  | 'no-private-key'
  | 'several-keys'
  | 'encrypted-key'
  | 'unsupported-key'
  | 'key-mismatch'
  // names and parameters
  | 'invalid-spiffe-id'
  | 'invalid-trust-domain'
  | 'invalid-name'
  | 'invalid-ttl'
  // one certificate
  | 'malformed-certificate'
  | 'duplicate-extension'
  | 'unknown-critical-extension'
  | 'bad-request'
  | 'unsupported-algorithm'
  | 'expired'
  | 'not-yet-valid'
  | 'no-uri-san'
  | 'several-uri-sans'
  | 'wrong-trust-domain'
  | 'leaf-is-ca'
  | 'key-usage'
  // a chain
  | 'bad-bundle'
  | 'empty-chain'
  | 'chain-too-long'
  | 'chain-too-large'
  | 'chain-invalid'
  | 'not-a-ca'
  | 'path-too-long'
  | 'name-constraint'
  | 'untrusted-issuer'
  | 'bad-signature';

export interface IdentityErrorDetails {
  /** The file at fault, as the configuration names it. */
  file?: string | undefined;
  /** What the operator can do about it, as an imperative. */
  cure?: string | undefined;
  /** When whoever refused wants to be asked again, in milliseconds. */
  retryAfterMs?: number | undefined;
  cause?: unknown;
}

/**
 * A refused identity. The message reads `FILE: what is wrong; what to do`, with whichever parts are known.
 * Text taken from a certificate is quoted and bounded, never key material.
 */
export class IdentityError extends Error {
  override readonly name = 'IdentityError';
  readonly code: IdentityErrorCode;
  /** What is wrong, without the file and the cure. */
  readonly what: string;
  readonly file: string | undefined;
  readonly cure: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(code: IdentityErrorCode, what: string, details: IdentityErrorDetails = {}) {
    const { file, cure, retryAfterMs, cause } = details;
    super(
      (file === undefined ? '' : `${file}: `) + what + (cure === undefined ? '' : `; ${cure}`),
      cause === undefined ? undefined : { cause },
    );
    this.code = code;
    this.what = what;
    this.file = file;
    this.cure = cure;
    this.retryAfterMs = retryAfterMs;
  }

  /** The same refusal, with the place where it was found in front of `what`. */
  at(place: string): IdentityError {
    return new IdentityError(this.code, `${place}: ${this.what}`, {
      file: this.file,
      cure: this.cure,
      cause: this.cause,
    });
  }

  /** The same refusal, blamed on a file. A cure that is already known stays. */
  inFile(file: string, cure?: string): IdentityError {
    return new IdentityError(this.code, this.what, {
      file: this.file ?? file,
      cure: this.cure ?? cure,
      cause: this.cause,
    });
  }
}

const QUOTED_MAX = 128; // characters of untrusted text in a message

/** Untrusted text for a message: bounded, in quotes, everything outside printable ASCII escaped. */
export function quoted(text: string): string {
  const cut = text.length > QUOTED_MAX ? `${text.slice(0, QUOTED_MAX)}...` : text;
  return JSON.stringify(cut).replace(
    /[^\x20-\x7e]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
