import { constants } from 'node:fs';
import { type FileHandle, open as openFile, stat } from 'node:fs/promises';
import type { Clock } from '../../clock/clock.ts';
import type { AuditLineAdapter } from '../adapter.ts';
import { AuditError, reasonOf } from '../errors.ts';

const MODE = 0o600;
/** O_NONBLOCK: a named pipe without a reader is an error, not a wait for ever. */
const FLAGS = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK;
/** How often, at most, the path is compared with the open file. */
const ROTATION_CHECK_MS = 1000;
const NEWLINE = 0x0a;
const END_OF_LINE = Buffer.of(NEWLINE);

interface OpenFile {
  readonly handle: FileHandle;
  readonly dev: number;
  readonly ino: number;
  /** The file's last line has no end: a crash or a full disk cut it. The next line begins on a new one. */
  torn: boolean;
}

/**
 * JSON lines appended to a file, which is created for its owner only; an existing file keeps its mode. When the file is
 * moved or removed (log rotation) the next write goes to a new one at the same path. After any failure it is opened
 * anew; a line that was cut stays cut, is ended, and comes again in full. `close` makes everything durable (fsync).
 */
export class FileAdapter implements AuditLineAdapter {
  readonly name: string;
  readonly #path: string;
  readonly #clock: Clock;
  readonly #open: typeof openFile;
  #file: OpenFile | undefined;
  #checkedAt = 0;
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(path: string, clock: Clock, open: typeof openFile) {
    this.name = `file:${path}`;
    this.#path = path;
    this.#clock = clock;
    this.#open = open;
  }

  /** Opens or creates the file. Throws AuditError `file-unusable`. */
  static async open(path: string, clock: Clock, open = openFile): Promise<FileAdapter> {
    const adapter = new FileAdapter(path, clock, open);
    await adapter.#current();
    return adapter;
  }

  writeLines(lines: Buffer): Promise<void> {
    return this.#exclusively(async () => {
      const file = await this.#current();
      try {
        if (file.torn) await append(file.handle, END_OF_LINE);
        await append(file.handle, lines);
        file.torn = false;
      } catch (error) {
        await this.#discard();
        throw new AuditError(
          'file-write-failed',
          `${this.#path} did not take the audit: ${reasonOf(error)}`,
          {
            cause: error,
          },
        );
      }
    });
  }

  flush(): Promise<void> {
    return this.#exclusively(async () => {
      await this.#file?.handle.datasync();
    });
  }

  /** The next write opens the path anew. */
  reopen(): Promise<void> {
    return this.#exclusively(() => this.#release());
  }

  close(): Promise<void> {
    return this.#exclusively(() => this.#release());
  }

  /** One operation after another, whatever became of the one before. */
  #exclusively(run: () => Promise<void>): Promise<void> {
    const done = this.#queue.then(run);
    this.#queue = done.catch(() => {});
    return done;
  }

  /** The open file, which is the one at the path as of the last check. */
  async #current(): Promise<OpenFile> {
    const now = this.#clock.monotonic();
    if (this.#file !== undefined && now - this.#checkedAt >= ROTATION_CHECK_MS) {
      this.#checkedAt = now;
      if (!(await this.#isAtPath(this.#file))) await this.#release();
    }
    if (this.#file === undefined) {
      this.#file = await openForAppend(this.#path, this.#open);
      this.#checkedAt = now;
    }
    return this.#file;
  }

  async #isAtPath(file: OpenFile): Promise<boolean> {
    try {
      const { dev, ino } = await stat(this.#path);
      return dev === file.dev && ino === file.ino;
    } catch {
      return false;
    }
  }

  async #release(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    if (file === undefined) return;
    try {
      await file.handle.sync();
    } finally {
      await file.handle.close();
    }
  }

  async #discard(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.handle.close().catch(() => {});
  }
}

async function openForAppend(path: string, open: typeof openFile): Promise<OpenFile> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, FLAGS, MODE);
    const { dev, ino, size, ...info } = await handle.stat();
    if ((info.mode & constants.S_IFMT) !== constants.S_IFREG) throw new Error('it is not a regular file');
    return { handle, dev, ino, torn: size > 0 && !(await endsInNewline(handle, size)) };
  } catch (error) {
    await handle?.close().catch(() => {});
    throw new AuditError(
      'file-unusable',
      `Cannot write the audit file ${path}: ${reasonOf(error)}. Its folder must exist and be writable for the sidecar's user`,
      { cause: error },
    );
  }
}

async function endsInNewline(handle: FileHandle, size: number): Promise<boolean> {
  const last = Buffer.alloc(1);
  await handle.read(last, 0, 1, size - 1);
  return last[0] === NEWLINE;
}

/** A full disk takes a part and says so, then fails: go on until one or the other has happened to all of it. */
async function append(handle: FileHandle, bytes: Buffer): Promise<void> {
  let written = 0;
  while (written < bytes.length) {
    const { bytesWritten } = await handle.write(bytes, written, bytes.length - written);
    if (bytesWritten === 0) throw new Error('the file took nothing more');
    written += bytesWritten;
  }
}
