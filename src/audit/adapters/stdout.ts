import type { Writable } from 'node:stream';
import type { AuditLineAdapter } from '../adapter.ts';
import { AuditError } from '../errors.ts';

/**
 * JSON lines to a stream, such as the standard output, which stays open. A batch counts as written when the stream has
 * handed it to the kernel. While it has not, the next is refused: a stream buffers without bound when its reader
 * stalls, so the events wait in the recorder's queue, which has one.
 */
export class StdoutAdapter implements AuditLineAdapter {
  readonly name: string;
  readonly #stream: Writable;
  #writing: Promise<void> | undefined;

  constructor(stream: Writable, name = 'stdout') {
    this.name = name;
    this.#stream = stream;
    // Without a listener a closed pipe (EPIPE) would end the process; the failure reaches the write's own callback.
    stream.on('error', () => {});
  }

  writeLines(lines: Buffer): Promise<void> {
    if (this.#writing !== undefined) {
      return Promise.reject(
        new AuditError(
          'output-blocked',
          `${this.name} has not taken the lines before; its reader is stalled`,
        ),
      );
    }
    const written = new Promise<void>((resolve, reject) => {
      this.#stream.write(lines, (error) => {
        this.#writing = undefined;
        if (error) reject(this.#failure(error));
        else resolve();
      });
    });
    this.#writing = written;
    return written;
  }

  /** Resolves when the stream has taken everything; the stream itself stays open. */
  async flush(): Promise<void> {
    await this.#writing;
  }

  #failure(cause: Error): AuditError {
    return new AuditError('output-failed', `${this.name} is closed or broken: ${cause.message}`, { cause });
  }
}
