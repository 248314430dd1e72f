/** Why the webhook cannot go on: `bad-certificate` is one that it cannot show. */
export type WebhookErrorCode = 'bad-certificate' | 'file-unreadable';

/** The message says what, where, and what to do. */
export class WebhookError extends Error {
  override readonly name = 'WebhookError';
  readonly code: WebhookErrorCode;

  constructor(code: WebhookErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}
