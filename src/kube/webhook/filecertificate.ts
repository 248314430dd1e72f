import { readFile } from 'node:fs/promises';
import type { Clock, TimerHandle } from '../../clock/clock.ts';
import { readServing, type ServingCertificate } from './certificates.ts';
import type { CertificateListener, CertificateSource } from './certificatesource.ts';
import { WebhookError } from './errors.ts';

/** Files are small, and a mounted Secret changes by a symbolic link, which not every watcher sees. */
const LOOK_MS = 10_000;

/** A certificate that somebody else writes, cert-manager for one. Both files are taken once they fit each other. */
export class FileCertificate implements CertificateSource {
  readonly #cert: string;
  readonly #key: string;
  readonly #clock: Clock;
  readonly #listener: CertificateListener;
  #current: ServingCertificate | undefined;
  #trouble: string | undefined;
  #timer: TimerHandle;
  #closed = false;

  constructor(
    files: { readonly cert: string; readonly key: string },
    clock: Clock,
    listener: CertificateListener,
  ) {
    this.#cert = files.cert;
    this.#key = files.key;
    this.#clock = clock;
    this.#listener = listener;
  }

  /** Rejects with WebhookError where the files cannot be used. */
  async open(): Promise<boolean> {
    await this.#read();
    this.#again();
    return !this.#closed;
  }

  close(): void {
    this.#closed = true;
    this.#clock.clear(this.#timer);
  }

  #again(): void {
    if (this.#closed) return;
    this.#timer = this.#clock.after(LOOK_MS, () => {
      this.#read()
        .catch((error: Error) => this.#tell(error.message))
        .finally(() => this.#again());
    });
  }

  #tell(message: string): void {
    if (message !== this.#trouble) this.#listener.onTrouble(message);
    this.#trouble = message;
  }

  async #read(): Promise<void> {
    const chain = await this.#text(this.#cert);
    const key = await this.#text(this.#key);
    if (this.#closed || (chain === this.#current?.chain && key === this.#current.key)) return;
    const certificate = readServing(`${this.#cert}, ${this.#key}`, chain, key, this.#clock.now());
    const cause = this.#current === undefined ? 'found' : 'rotated';
    this.#current = certificate;
    this.#trouble = undefined;
    this.#listener.onTaken(certificate, cause);
  }

  async #text(path: string): Promise<string> {
    try {
      return await readFile(path, 'utf8');
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      throw new WebhookError(
        'file-unreadable',
        `${path} cannot be read (${code}): webhook.cert and webhook.key name the files of the webhook's certificate`,
        cause,
      );
    }
  }
}
