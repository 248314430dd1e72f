import { open } from 'node:fs/promises';
import type { Clock } from '../../clock/clock.ts';
import type { KubeAccess } from '../../config/incluster.ts';
import { Secret } from '../../crypto/secret.ts';
import { KubeError } from './errors.ts';

/** Kubernetes replaces a token when four fifths of its life are over, so a minute is soon enough. */
const READ_AGAIN_MS = 60_000;
const MAX_TOKEN_BYTES = 16 << 10;
const MAX_CA_BYTES = 1 << 20;

/** What a connection and a request need. Held no longer than it takes to send them. */
export interface Proof {
  /** Value of the field `authorization`. */
  readonly authorization: string;
  /** PEM. */
  readonly ca: string;
}

/**
 * The token and the CA of the API server, from files that are replaced while the program runs: read again once a
 * minute, and at once when the server refused the token. Files that cannot be read any more leave what was in them.
 */
export class Credentials {
  readonly #access: Pick<KubeAccess, 'ca' | 'token'>;
  readonly #clock: Clock;
  #token: Secret | undefined;
  #ca = '';
  #readAt = 0;
  #reading: Promise<void> | undefined;

  constructor(access: Pick<KubeAccess, 'ca' | 'token'>, clock: Clock) {
    this.#access = access;
    this.#clock = clock;
  }

  /** Throws KubeError `NoCredentials` while the files have never been read. */
  async current(): Promise<Proof> {
    if (this.#token === undefined || this.#clock.monotonic() - this.#readAt >= READ_AGAIN_MS) {
      await this.#read();
    }
    return { authorization: `Bearer ${(this.#token as Secret).bytes.toString('latin1')}`, ca: this.#ca };
  }

  /** Reads the files now; undefined if they still hold what was refused. */
  async after(refused: Proof): Promise<Proof | undefined> {
    await this.#read();
    const now = await this.current();
    return now.authorization === refused.authorization && now.ca === refused.ca ? undefined : now;
  }

  /** Wipes the token. */
  wipe(): void {
    this.#token?.wipe();
    this.#token = undefined;
  }

  #read(): Promise<void> {
    this.#reading ??= this.#readFiles().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #readFiles(): Promise<void> {
    const isFirst = this.#token === undefined;
    // Each for itself: a token ends within the hour, whatever keeps the other file from being read.
    const [ca, token] = await Promise.allSettled([
      readBounded(this.#access.ca, MAX_CA_BYTES, 'the CA of the API server'),
      readToken(this.#access.token),
    ]);
    if (isFirst && (ca.status === 'rejected' || token.status === 'rejected')) {
      if (token.status === 'fulfilled') token.value.wipe();
      throw ca.status === 'rejected' ? ca.reason : (token as PromiseRejectedResult).reason;
    }
    if (ca.status === 'fulfilled') this.#ca = ca.value.toString('latin1');
    if (token.status === 'fulfilled') {
      this.#token?.wipe();
      this.#token = token.value;
    }
    this.#readAt = this.#clock.monotonic();
  }
}

async function readToken(path: string): Promise<Secret> {
  const file = await readBounded(path, MAX_TOKEN_BYTES, 'the service account token');
  try {
    let end = file.length;
    while (end > 0 && (file[end - 1] as number) <= 0x20) end--;
    const token = file.subarray(0, end);
    if (token.length === 0 || token.some((octet) => octet <= 0x20 || octet >= 0x7f)) {
      throw unusable(path, 'the service account token', 'does not hold a token in one line');
    }
    return Secret.copyOf(token);
  } finally {
    file.fill(0);
  }
}

async function readBounded(path: string, maxBytes: number, what: string): Promise<Buffer> {
  try {
    const file = await open(path);
    try {
      const bytes = Buffer.from(new ArrayBuffer(maxBytes + 1));
      let length = 0;
      while (length < bytes.length) {
        const { bytesRead } = await file.read(bytes, length, bytes.length - length, null);
        if (bytesRead === 0) break;
        length += bytesRead;
      }
      if (length > maxBytes) throw unusable(path, what, `is larger than ${maxBytes} bytes`);
      return bytes.subarray(0, length);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof KubeError) throw error;
    throw unusable(path, what, `cannot be read (${(error as NodeJS.ErrnoException).code})`, error);
  }
}

const unusable = (path: string, what: string, how: string, cause?: unknown): KubeError =>
  new KubeError(
    `${path}, ${what}, ${how}; in a pod it is mounted unless automountServiceAccountToken is false, elsewhere name the files under \`kubernetes\``,
    { reason: 'NoCredentials', cause },
  );
