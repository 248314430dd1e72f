/**
 * Issues certificates to pods. In the order of what it costs: how often the address comes, the request and its signature,
 * a turn, the token (a TokenReview), how often the pod comes, the certificate.
 */
import { createHash } from 'node:crypto';
import type { Recorder } from '../../audit/recorder.ts';
import type { Clock } from '../../clock/clock.ts';
import type { ControllerConfig } from '../../config/controllerconfig.ts';
import type { CertifyRequest, CertifyResponse } from '../../control/messages.ts';
import type { CertifiedKey } from '../../identity/certificateauthority.ts';
import { type CertificateRequest, readCertificateRequest } from '../../identity/csr.ts';
import { IdentityError } from '../../identity/errors.ts';
import { parseSpiffeId } from '../../identity/spiffeid.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import { RefusalTally } from '../../transport/refusaltally.ts';
import { Allowance } from '../allowance.ts';
import { callerOf } from '../callerof.ts';
import type { TokenReviewer } from '../tokenreview.ts';
import { Turns } from '../turns.ts';
import type { CaPair } from './capair.ts';
import { CertifyRefusal, type RefusalCode } from './errors.ts';
import { proofOf } from './proof.ts';

export interface IssuerOptions {
  readonly config: Pick<ControllerConfig, 'issuer' | 'trustDomain'>;
  readonly ca: () => CaPair;
  readonly tokens: TokenReviewer;
  readonly clock: Clock;
  readonly recorder: Recorder;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** Who asks. */
export interface CertifyCaller {
  /** Address and port. */
  readonly remote: string;
  /** Aborted when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
}

/** What is known of a request when it is refused. */
interface Known {
  spiffeId?: string;
  pod?: string;
  podUid?: string;
}

const MINUTE_MS = 60_000;
const POD_PERIOD_MS = 5 * MINUTE_MS;
const BUSY_RETRY_MS = 2_000;

export class Issuer {
  readonly #options: IssuerOptions;
  readonly #turns: Turns;
  readonly #addresses: Allowance;
  readonly #pods: Allowance;
  readonly #tally: RefusalTally;
  #closed = false;

  constructor(options: IssuerOptions) {
    this.#options = options;
    const { clock } = options;
    const { maxConcurrent, maxPerSecond, maxWaiting, maxPerAddress, maxPerPod } = options.config.issuer;
    this.#turns = new Turns({ clock, maxConcurrent, maxPerSecond, maxWaiting });
    this.#addresses = new Allowance(clock, maxPerAddress, MINUTE_MS);
    this.#pods = new Allowance(clock, maxPerPod, POD_PERIOD_MS);
    this.#tally = new RefusalTally(clock);
  }

  /** Requests that wait for their turn. */
  get waiting(): number {
    return this.#turns.waiting;
  }

  /** Requests that are being worked at. */
  get running(): number {
    return this.#turns.running;
  }

  /** Rejects with CertifyRefusal, and nothing else. What comes of it is in the audit and the metrics. */
  async certify(request: CertifyRequest, caller: CertifyCaller): Promise<CertifyResponse> {
    const { clock, metrics } = this.#options;
    const begun = clock.monotonic();
    const known: Known = {};
    try {
      const response = await this.#certify(request, caller, known);
      metrics.certifyDuration.of('issued').observe((clock.monotonic() - begun) / 1000);
      return response;
    } catch (error) {
      metrics.certifyDuration.of('refused').observe((clock.monotonic() - begun) / 1000);
      throw this.#refused(error, caller, known);
    }
  }

  /** Requests that wait are refused; those that are being worked at finish. */
  close(): void {
    this.#closed = true;
    this.#turns.close();
  }

  async #certify(request: CertifyRequest, caller: CertifyCaller, known: Known): Promise<CertifyResponse> {
    if (this.#closed) throw stopping();
    const key = callerOf(caller.remote);
    const waitMs = this.#addresses.use(key);
    if (waitMs > 0) {
      throw new CertifyRefusal(
        'address-limit',
        'too many requests from this address (issuer.maxPerAddress of the controller): come again later',
        { retryMs: waitMs },
      );
    }
    const asked = readCertificateRequest(request.csr);
    const token = tokenOf(request);
    const turn = await this.#turns.take(key, caller.signal);
    if (turn === undefined) throw this.#turnedAway();
    try {
      return await this.#issue(asked, token, caller, known);
    } finally {
      turn.done();
    }
  }

  #turnedAway(): CertifyRefusal {
    if (this.#closed) return stopping();
    return new CertifyRefusal(
      'busy',
      'the controller has more requests than it can serve; the SVID at hand stays good: come again later',
      { retryMs: BUSY_RETRY_MS },
    );
  }

  async #issue(
    asked: CertificateRequest,
    token: string,
    { remote }: CertifyCaller,
    known: Known,
  ): Promise<CertifyResponse> {
    const { config, clock, ca, tokens } = this.#options;
    const proof = await proofOf(tokens, token, callerOf(remote));
    const { namespace, serviceAccount } = proof;
    const spiffeId = parseSpiffeId(`spiffe://${config.trustDomain}/ns/${namespace}/sa/${serviceAccount}`);
    known.spiffeId = spiffeId.id;
    known.pod = `${proof.namespace}/${proof.pod.name}`;
    known.podUid = proof.pod.uid;
    const waitMs = this.#pods.use(proof.pod.uid);
    if (waitMs > 0) {
      throw new CertifyRefusal(
        'pod-limit',
        'this pod has been given enough certificates (issuer.maxPerPod of the controller): use the one at hand, and come again later',
        { retryMs: waitMs },
      );
    }
    const pair = ca();
    const issued = await pair.authority.certify({
      spiffeId,
      spki: asked.spki,
      nowMs: clock.now(),
      ttlMs: config.issuer.svidTtlMs,
    });
    this.record(issued, pair, asked.keyType, { remote, pod: known.pod, podUid: known.podUid });
    return {
      chain: issued.chain,
      bundle: pair.certificates,
      spiffeId: issued.spiffeId,
      notAfterMs: issued.notAfter,
    };
  }

  /** Puts a certificate that was issued into the audit and the metrics. */
  record(
    issued: CertifiedKey,
    { authority }: CaPair,
    keyType: 'p256' | 'ed25519',
    to: { remote?: string; pod?: string; podUid?: string },
  ): void {
    const { recorder, metrics } = this.#options;
    metrics.svidsIssued.of(keyType).inc();
    recorder.record({
      type: 'svid.issued',
      spiffeId: issued.spiffeId,
      pod: to.pod,
      podUid: to.podUid,
      remote: to.remote,
      keyType,
      leafSha256: sha256(issued.chain[0] as Buffer),
      caSha256: sha256(authority.certificate.der),
      notAfter: new Date(issued.notAfter).toISOString(),
    });
  }

  #refused(error: unknown, { remote }: CertifyCaller, known: Known): CertifyRefusal {
    const { recorder, metrics, log } = this.#options;
    const refusal = asRefusal(error);
    const { code: reason, message: detail } = refusal;
    if (reason === 'internal') log.error({ error }, 'a certificate could not be issued');
    metrics.svidsRefused.of(reason).inc();
    // Of a pod that is known, whatever address it comes from; else of whoever comes from there.
    const whose = known.podUid ?? callerOf(remote);
    this.#tally.add(`${reason} ${whose}`, (count) =>
      recorder.record({
        type: 'svid.refused',
        reason,
        detail,
        remote,
        spiffeId: known.spiffeId,
        pod: known.pod,
        count,
      }),
    );
    return refusal;
  }
}

const stopping = (): CertifyRefusal =>
  new CertifyRefusal('stopping', 'this controller is stopping: ask another one', { retryMs: 0 });

function tokenOf({ proof, serviceAccountToken: token = '' }: CertifyRequest): string {
  if (proof !== 'serviceAccountToken' || token === '') {
    throw new CertifyRefusal('no-proof', 'the request has no proof: send a service account token');
  }
  return token;
}

const OF_REQUESTS: ReadonlyArray<RefusalCode> = ['bad-request', 'unsupported-key', 'bad-signature'];

function asRefusal(error: unknown): CertifyRefusal {
  if (error instanceof CertifyRefusal) return error;
  if (error instanceof IdentityError) {
    const code = OF_REQUESTS.find((one) => one === error.code);
    if (code !== undefined) return new CertifyRefusal(code, error.message);
    if (error.code === 'expired' || error.code === 'not-yet-valid') {
      return new CertifyRefusal(
        'ca-ended',
        'the CA of this mesh is not valid now, so that nothing can be issued: whoever runs the controller has to replace it',
        { cause: error },
      );
    }
  }
  return new CertifyRefusal('internal', "a bug of Hauberk; the controller's log has it", { cause: error });
}

const sha256 = (der: Buffer): string => createHash('sha256').update(der).digest('hex');
