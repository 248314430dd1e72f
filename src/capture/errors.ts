/** What can go wrong with a capture. Stable. */
export type CaptureErrorCode =
  | 'bad-input'
  | 'no-iptables'
  | 'not-permitted'
  | 'no-kernel-support'
  | 'locked'
  | 'changed-meanwhile'
  | 'failed'
  | 'not-verified';

/** A capture that could not be installed, removed or shown. The message says what, where and the cure. */
export class CaptureError extends Error {
  override readonly name = 'CaptureError';
  readonly code: CaptureErrorCode;

  constructor(code: CaptureErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}
