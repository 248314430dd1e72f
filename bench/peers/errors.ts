export type BenchErrorCode =
  | 'bad-option'
  | 'missing-tool'
  | 'process-ended'
  | 'not-ready'
  | 'not-encrypted'
  | 'wrong-answer'
  | 'not-recorded'
  | 'generator-failed';

/** Ends the run. The message says what failed and what to do. */
export class BenchError extends Error {
  readonly code: BenchErrorCode;

  constructor(code: BenchErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'BenchError';
    this.code = code;
  }
}
