import type { Clock, TimerHandle } from '../../clock/clock.ts';
import type { IssuedSvid } from '../../identity/certificateauthority.ts';
import { toPem } from '../../identity/pem.ts';
import { parseSpiffeId } from '../../identity/spiffeid.ts';
import type { TlsIdentity } from '../controlapi/controlserver.ts';
import type { CaPair } from './capair.ts';

export interface OwnIdentityOptions {
  readonly spiffeId: string;
  readonly ca: () => CaPair;
  readonly ttlMs: number;
  readonly clock: Clock;
  /** It has been issued, and is to be shown from now on. */
  readonly onIssued: (svid: IssuedSvid, tls: TlsIdentity) => void;
  readonly onFailed: (error: unknown) => void;
}

/** The wall clock may be set, and a machine may sleep. */
const LOOK_MS = 60_000;
const RETRY_MS = 10_000;

/** The controller's own SVID, which it issues itself: anew when half of its life is over, and when there is another CA. */
export class OwnIdentity {
  readonly #options: OwnIdentityOptions;
  #issuedBy: CaPair | undefined;
  #renewAt = 0;
  #timer: TimerHandle;
  #issuing: Promise<void> | undefined;
  #closed = false;

  constructor(options: OwnIdentityOptions) {
    this.#options = options;
  }

  /** Issues the first. Rejects with IdentityError. */
  async open(): Promise<void> {
    await this.#issue();
    this.#wait(LOOK_MS);
  }

  /** Another CA is in force. */
  caChanged(): void {
    void this.#look();
  }

  close(): void {
    this.#closed = true;
    this.#options.clock.clear(this.#timer);
  }

  #wait(ms: number): void {
    const { clock } = this.#options;
    clock.clear(this.#timer);
    if (!this.#closed) this.#timer = clock.after(ms, () => void this.#look());
  }

  async #look(): Promise<void> {
    const { clock, ca, onFailed } = this.#options;
    try {
      await this.#issuing;
      if (!this.#closed && (this.#issuedBy !== ca() || clock.now() >= this.#renewAt)) await this.#issue();
      this.#wait(LOOK_MS);
    } catch (error) {
      onFailed(error);
      this.#wait(RETRY_MS);
    }
  }

  #issue(): Promise<void> {
    this.#issuing ??= this.#issueNow().finally(() => {
      this.#issuing = undefined;
    });
    return this.#issuing;
  }

  async #issueNow(): Promise<void> {
    const { spiffeId, ca, ttlMs, clock, onIssued } = this.#options;
    const pair = ca();
    const nowMs = clock.now();
    const svid = await pair.authority.issue({ spiffeId: parseSpiffeId(spiffeId), nowMs, ttlMs });
    this.#issuedBy = pair;
    this.#renewAt = nowMs + (svid.notAfter - nowMs) / 2;
    onIssued(svid, {
      cert: svid.chain.map((der) => toPem('CERTIFICATE', der)).join(''),
      key: svid.key.export({ type: 'pkcs8', format: 'pem' }) as string,
    });
  }
}
