/** All of the identity issuer: the CA and its Secret, the certificates of pods, and that of the controller itself. */
import { createHash } from 'node:crypto';
import type { Recorder } from '../../audit/recorder.ts';
import type { Clock } from '../../clock/clock.ts';
import type { ControllerConfig } from '../../config/controllerconfig.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import type { KubeClient } from '../client/client.ts';
import type { TlsIdentity } from '../controlapi/controlserver.ts';
import type { TokenReviewer } from '../tokenreview.ts';
import { CaKeeper, type CaListener } from './cakeeper.ts';
import type { CaPair } from './capair.ts';
import { Issuer } from './issuer.ts';
import { OwnIdentity } from './ownidentity.ts';

export interface IssuanceOptions {
  readonly config: ControllerConfig;
  readonly namespace: string;
  readonly spiffeId: string;
  readonly client: KubeClient;
  readonly tokens: TokenReviewer;
  readonly clock: Clock;
  readonly recorder: Recorder;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** Of a CA that ends within this time the log tells whenever it is taken, and once a day. */
const ENDING_MS = 30 * 86_400_000;
const DAY_MS = 86_400_000;

export class Issuance {
  readonly issuer: Issuer;
  readonly #options: IssuanceOptions;
  readonly #keeper: CaKeeper;
  readonly #own: OwnIdentity;
  readonly #caListeners: Array<() => void> = [];
  #tls: TlsIdentity | undefined;
  #onTls: ((tls: TlsIdentity) => void) | undefined;
  /** The CA certificate that signed before, and what it was trusted with. */
  #previous: CaPair | undefined;
  #daily: unknown;

  constructor(options: IssuanceOptions) {
    this.#options = options;
    const { config, client, clock, namespace, spiffeId, log, metrics } = options;
    this.#keeper = new CaKeeper({
      client,
      clock,
      namespace,
      secret: config.issuer.caSecret,
      trustDomain: config.trustDomain,
      ttlMs: config.issuer.caTtlMs,
      listener: this.#caListener(),
    });
    this.issuer = new Issuer({ ...options, ca: () => this.ca });
    this.#own = new OwnIdentity({
      spiffeId,
      ca: () => this.ca,
      ttlMs: config.issuer.svidTtlMs,
      clock,
      onIssued: (svid, tls) => {
        this.issuer.record(svid, this.ca, 'p256', {});
        this.#tls = tls;
        this.#onTls?.(tls);
      },
      onFailed: (error) => log.error({ error }, "the controller's own certificate could not be renewed"),
    });
    metrics.observe({
      certifyWaiting: () => this.issuer.waiting,
      caRemainingSeconds: () =>
        this.#ifOpen(({ authority }) => (authority.certificate.notAfter - clock.now()) / 1000),
      caCertificates: () => this.#ifOpen(({ certificates }) => certificates.length),
    });
  }

  /** The CA that is in force. Throws before `open` has resolved. */
  get ca(): CaPair {
    return this.#keeper.current;
  }

  /** Calls `listener` whenever another CA is in force. */
  onCa(listener: () => void): void {
    this.#caListeners.push(listener);
  }

  /**
   * Finds or makes the CA, and issues the controller's own certificate. Waits for an API server that is away. Resolves with
   * false if it was closed meanwhile; rejects with IdentityError or KubeError.
   */
  async open(): Promise<boolean> {
    if (!(await this.#keeper.open())) return false;
    await this.#own.open();
    this.#daily = this.#options.clock.every(DAY_MS, () => this.#warnOfEnd());
    return true;
  }

  /** Looks at the Secret of the CA now. Rejects with KubeError. */
  look(): Promise<void> {
    return this.#keeper.look();
  }

  /** What the controller shows, and `listener` is given whatever takes its place. */
  tls(listener: (tls: TlsIdentity) => void): TlsIdentity {
    this.#onTls = listener;
    return this.#tls as TlsIdentity;
  }

  close(): void {
    this.#options.clock.clear(this.#daily);
    this.#keeper.close();
    this.#own.close();
    this.issuer.close();
  }

  #ifOpen(read: (pair: CaPair) => number): number | undefined {
    return this.#keeper.isOpen ? read(this.ca) : undefined;
  }

  #caListener(): CaListener {
    const { config, namespace, recorder, log } = this.#options;
    const secret = `${namespace}/${config.issuer.caSecret}`;
    return {
      onTaken: (pair, cause) => {
        const { authority, certificates } = pair;
        const before = this.#previous?.authority.certificate.der;
        const overlaps = before === undefined || certificates.some((der) => der.equals(before));
        this.#previous = pair;
        const notAfter = new Date(authority.certificate.notAfter).toISOString();
        const caSha256 = createHash('sha256').update(authority.certificate.der).digest('hex');
        recorder.record({
          type: 'ca.taken',
          secret,
          cause,
          caSha256,
          notAfter,
          certificates: certificates.length,
          overlaps,
        });
        log.info({ secret, cause, notAfter, certificates: certificates.length }, 'the CA is in force');
        if (!overlaps) {
          log.warn(
            { secret },
            'the new CA does not overlap with the one before: pods that have not renewed since trust none of the new certificates until they are restarted',
          );
        }
        this.#warnOfEnd();
        if (cause !== 'replaced') return;
        this.#own.caChanged();
        for (const listener of this.#caListeners) listener();
      },
      onRefused: ({ code, message }) => {
        recorder.record({ type: 'ca.refused', secret, reason: code, detail: message });
        log.error({ error: message }, 'the Secret of the CA cannot be used; the CA that was in force stays');
      },
      onUnreachable: ({ message }) => log.warn({ error: message }, 'the Secret of the CA cannot be read'),
    };
  }

  #warnOfEnd(): void {
    const { clock, log } = this.#options;
    const { notAfter } = this.#previous?.authority.certificate ?? { notAfter: Number.POSITIVE_INFINITY };
    if (notAfter - clock.now() > ENDING_MS) return;
    log.warn(
      { notAfter: new Date(notAfter).toISOString() },
      'the CA ends soon, and no certificate outlives it: replace it, as docs/kubernetes-controller.md shows',
    );
  }
}
