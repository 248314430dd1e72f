/** hauberk.control.v1.Exposure: what sidecars see of apps in plaintext becomes events of Kubernetes, each at its pod. */
import type { ServerUnaryCall, sendUnaryData } from '@grpc/grpc-js';
import type { Recorder } from '../../audit/recorder.ts';
import type { Clock } from '../../clock/clock.ts';
import { EXPOSURE_CURE, MAX_REPORTED_PORTS } from '../../control/exposure.ts';
import type { ReportRequest } from '../../control/messages.ts';
import type { Logger } from '../../telemetry/log.ts';
import { RefusalTally } from '../../transport/refusaltally.ts';
import { Allowance } from '../allowance.ts';
import { bearerOf, type CallRefusal, statusOf } from '../bearer.ts';
import type { EventRecorder, Happening } from '../eventrecorder.ts';
import type { TokenOwner, TokenReviewer } from '../tokenreview.ts';

export interface ExposureServerOptions {
  readonly tokens: Pick<TokenReviewer, 'review'>;
  readonly events: Pick<EventRecorder, 'record'>;
  readonly clock: Clock;
  readonly recorder: Recorder;
  readonly log: Logger;
  readonly grpc: Pick<typeof import('@grpc/grpc-js'), 'Metadata' | 'status'>;
}

/** Reports of a pod: all at once, or one in five minutes. A sidecar looks that often, and when its app comes up. */
const REPORTS = 6;
const PERIOD_MS = 30 * 60_000;
const BUSY_RETRY_MS = 60_000;

type ReportCall = ServerUnaryCall<ReportRequest, object>;
type Pod = NonNullable<TokenOwner['pod']> & { readonly namespace: string };

export class ExposureServer {
  readonly #options: ExposureServerOptions;
  readonly #pods: Allowance;
  readonly #refusals: RefusalTally;

  constructor(options: ExposureServerOptions) {
    this.#options = options;
    this.#pods = new Allowance(options.clock, REPORTS, PERIOD_MS);
    this.#refusals = new RefusalTally(options.clock);
  }

  get handlers(): { readonly Report: (call: ReportCall, answer: sendUnaryData<object>) => void } {
    return { Report: (call, answer) => this.#report(call, answer) };
  }

  #report(call: ReportCall, answer: sendUnaryData<object>): void {
    const { grpc, log } = this.#options;
    this.#take(call).then(
      (refusal) => {
        if (refusal === undefined) answer(null, {});
        else answer(statusOf(refusal, grpc));
      },
      (error) => {
        log.error({ error: String(error) }, 'a report of plaintext failed');
        answer({ code: grpc.status.INTERNAL, details: "a bug of Hauberk; the controller's log has it" });
      },
    );
  }

  /** Resolves with why it was not taken. */
  async #take(call: ReportCall): Promise<CallRefusal | undefined> {
    const fault = faultOf(call.request);
    if (fault !== undefined) {
      return this.#refused(call, { status: 'INVALID_ARGUMENT', reason: 'bad-request', detail: fault });
    }
    const found = await bearerOf(call, this.#options.tokens);
    if (!('accepted' in found)) return this.#refused(call, found);
    const { pod: bound, namespace } = found;
    if (bound === undefined) return this.#refused(call, NOT_BOUND);
    const pod: Pod = { ...bound, namespace };
    const waitMs = this.#pods.use(pod.uid);
    if (waitMs > 0) return this.#refused(call, { ...POD_LIMIT, retryMs: waitMs }, pod);
    const { exposed, closed } = call.request;
    const taken = [
      exposed.length === 0 || this.#options.events.record(exposure(pod, exposed)),
      closed.length === 0 || this.#options.events.record(closing(pod, closed)),
    ];
    return taken.includes(false) ? this.#refused(call, BUSY, pod) : undefined;
  }

  #refused(call: ReportCall, refusal: CallRefusal, known?: Pod): CallRefusal {
    const { status, reason, detail } = refusal;
    if (status === 'UNAVAILABLE') return refusal; // nobody's fault who asks
    const pod = known === undefined ? undefined : `${known.namespace}/${known.name}`;
    const remote = call.getPeer();
    this.#refusals.add(`${reason} ${pod ?? ''}`, (count) =>
      this.#options.recorder.record({ type: 'exposure.refused', reason, detail, remote, pod, count }),
    );
    return refusal;
  }
}

function faultOf({ exposed, closed }: ReportRequest): string | undefined {
  const all = [...exposed, ...closed];
  if (all.length === 0) return 'a report names at least one port';
  if (Math.max(exposed.length, closed.length) > MAX_REPORTED_PORTS) {
    return `a report names at most ${MAX_REPORTED_PORTS} ports that are exposed, and as many that are closed`;
  }
  const bad = all.find((port) => port < 1 || port > 65_535);
  if (bad !== undefined) return `${bad} is no port`;
  return new Set(all).size === all.length ? undefined : 'a report names each port once';
}

/** What the pod is told by is a number and nothing else, so that nobody can make the controller say what they please. */
const exposure = (pod: Pod, ports: readonly number[]): Happening => ({
  regarding: referenceTo(pod),
  type: 'Warning',
  reason: 'PlaintextExposed',
  action: 'CheckExposure',
  note: `the app answers in plaintext at ${portsOf(ports)} of the pod's addresses, past its sidecar, where callers need no identity: ${EXPOSURE_CURE}`,
});

const closing = (pod: Pod, ports: readonly number[]): Happening => ({
  regarding: referenceTo(pod),
  type: 'Normal',
  reason: 'PlaintextClosed',
  action: 'CheckExposure',
  note: `the app no longer answers in plaintext at ${portsOf(ports)} of the pod's addresses`,
});

const referenceTo = ({ namespace, name, uid }: Pod): Happening['regarding'] => ({
  apiVersion: 'v1',
  kind: 'Pod',
  namespace,
  name,
  uid,
});

const portsOf = (ports: readonly number[]): string =>
  `${ports.length === 1 ? 'port' : 'ports'} ${ports.toSorted((a, b) => a - b).join(', ')}`;

const NOT_BOUND: CallRefusal = {
  status: 'PERMISSION_DENIED',
  reason: 'not-bound',
  detail: 'the token is not bound to a pod: send one that was mounted by a projected volume',
};

const POD_LIMIT = {
  status: 'RESOURCE_EXHAUSTED',
  reason: 'pod-limit',
  detail: 'this pod has reported plaintext often enough: report what has changed later',
} as const;

const BUSY: CallRefusal = {
  status: 'RESOURCE_EXHAUSTED',
  reason: 'busy',
  detail: 'more events wait for the API server than may: report it later',
  retryMs: BUSY_RETRY_MS,
};
