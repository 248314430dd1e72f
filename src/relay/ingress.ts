/** The ingress side: takes peers' sessions, and delivers their calls to the local apps. */
import type { Socket } from 'node:net';
import type { ListenAddress } from '../config/config.ts';
import type { HeaderField } from '../hpack/field.ts';
import type { HeaderList } from '../hpack/headerlist.ts';
import type { Message } from '../http2/message.ts';
import { Roster } from '../lifecycle/roster.ts';
import type { RateLimits } from '../limit/ratelimits.ts';
import type { AccessPolicy, Decision } from '../policy/accesspolicy.ts';
import type { Session } from '../session/session.ts';
import type { Acceptor } from '../transport/acceptor.ts';
import type { CloseReason } from '../transport/errors.ts';
import { AppTable } from './apptable.ts';
import type { AppTarget } from './apptarget.ts';
import type { CallPlan } from './call.ts';
import { callerFields, withCaller } from './callerfields.ts';
import type { RelayContext } from './context.ts';
import { DownstreamConnection } from './downstream.ts';
import { RelayError } from './errors.ts';
import { Listener } from './listener.ts';
import type { PeerConnection } from './peerconnections.ts';
import { PeerMemory } from './peermemory.ts';
import { isGrpc, methodOf, NOWHERE, type Router } from './router.ts';
import type { PeerSessions } from './sessions.ts';
import { parseTimeout } from './timeout.ts';

export interface IngressOptions {
  readonly sessions: PeerSessions;
  readonly apps: readonly AppTarget[];
  readonly policy: AccessPolicy;
  readonly limits: RateLimits;
}

const SWEEP_MS = 1000;

export class Ingress {
  readonly #context: RelayContext;
  readonly #options: IngressOptions;
  readonly #acceptor: Acceptor;
  readonly #apps: AppTable<AppTarget>;
  readonly #listeners: Listener[] = [];
  readonly #memory: PeerMemory;
  readonly #connections = new Roster<DownstreamConnection>();
  readonly #sweeper: unknown;
  #draining = false;

  constructor(context: RelayContext, options: IngressOptions) {
    this.#context = context;
    this.#options = options;
    this.#memory = new PeerMemory(context.http2.peerBytes);
    this.#apps = new AppTable(options.apps);
    this.#acceptor = options.sessions.acceptor((peer) => this.#serve(peer));
    this.#sweeper = context.clock.every(SWEEP_MS, () => {
      for (const connection of this.#connections) connection.sweep();
    });
  }

  get listeners(): readonly Listener[] {
    return this.#listeners;
  }

  get connections(): number {
    return this.#connections.size;
  }

  get halfOpen(): number {
    return this.#acceptor.halfOpen;
  }

  async listen(addresses: readonly ListenAddress[]): Promise<void> {
    const accept = (socket: Socket): void => this.#acceptor.accept(socket);
    this.#listeners.push(
      ...(await Listener.openAll('ingress.listen', addresses, 'shared', accept, this.#context.skipped)),
    );
  }

  #serve({ channel, session, remote }: PeerConnection): void {
    const connection = new DownstreamConnection(this.#context, {
      wire: channel,
      remote,
      router: new IngressRouter(this.#context, this.#options, this.#apps, session),
      session,
      memory: this.#memory,
      onClosed: (closed, reason, detail) => {
        this.#connections.delete(closed);
        stopListening();
        this.#options.sessions.closed(session, remote, reason as CloseReason, detail);
      },
    });
    this.#connections.add(connection);
    const stopListening = session.listen({
      draining: (reason) => connection.drain(reason),
      disposed: () => connection.end(session.farewell),
    });
    if (this.#draining) connection.drain('shutdown');
  }

  /** Accepts nothing more, tells the peers to go, lets their calls finish until the deadline. */
  drain(deadlineMs: number): void {
    this.#draining = true;
    for (const listener of this.#listeners) listener.close();
    this.#acceptor.close();
    this.#options.sessions.drainInbound(deadlineMs);
  }

  close(): void {
    this.#context.clock.clear(this.#sweeper);
    for (const connection of this.#connections) connection.end();
    for (const app of this.#options.apps) app.upstream.close();
  }

  /** Ends what is still open, after `close` has had its time. */
  destroy(): void {
    for (const listener of this.#listeners) listener.destroy();
  }
}

/** What a plan has in common with those of all calls like it. */
type PlanFacts = Omit<CallPlan, 'source' | 'direction' | 'list' | 'timeoutMs'>;

/** Delivers the calls of one session: authorization and limits hang on its peer. */
class IngressRouter implements Router {
  readonly #context: RelayContext;
  readonly #options: IngressOptions;
  readonly #apps: AppTable<AppTarget>;
  readonly #session: Session;
  readonly #caller: readonly HeaderField[];

  constructor(context: RelayContext, options: IngressOptions, apps: AppTable<AppTarget>, session: Session) {
    this.#context = context;
    this.#options = options;
    this.#apps = apps;
    this.#session = session;
    this.#caller = callerFields(session.peer, session.id);
  }

  plan(list: HeaderList, message: Message): CallPlan {
    const grpc = isGrpc(message.contentType);
    const app = this.#apps.match(message.authority);
    const service = app?.service ?? 'unknown';
    const method = methodOf(message.path);
    const decision = this.#options.policy.check(this.#session.peer, message.path);
    const refusal = this.#refusal(app, message, method, decision);
    const facts: PlanFacts = {
      service,
      method,
      grpc,
      // A method that is refused may be any text: it shall not take the place of one that is not.
      series: this.#context.metrics.calls('ingress', service, refusal === undefined ? method : 'unknown'),
      target: app ?? NOWHERE,
      refusal,
      decision,
    };
    return this.planLike(facts, list, message);
  }

  planLike(facts: PlanFacts, list: HeaderList, message: Message): CallPlan {
    const { service, method, grpc, series, target, refusal, decision } = facts;
    return {
      source: list,
      direction: 'ingress',
      service,
      method,
      list: refusal === undefined ? withCaller(list, this.#caller) : list,
      grpc,
      // For what the call waits here; its deadline is held by the caller's own sidecar.
      timeoutMs: parseTimeout(message.grpcTimeout),
      series,
      target,
      refusal,
      decision,
    };
  }

  #refusal(
    app: AppTarget | undefined,
    message: Message,
    method: string,
    decision: Decision,
  ): RelayError | undefined {
    // Authorization first: whoever may call nothing here does not learn what is here.
    if (!decision.allowed) {
      return new RelayError(
        'denied',
        `${this.#session.peer} may not call ${method}; allow it under ingress.allow of the called service's sidecar, or in options.allow of its program`,
      );
    }
    if (app === undefined || message.method === 'CONNECT') {
      const shown = JSON.stringify(message.authority.slice(0, 128));
      return new RelayError('no-app', `the called sidecar has no app for ${shown}; ${this.#apps.cure}`);
    }
    return undefined;
  }

  admit(plan: CallPlan): Promise<RelayError | undefined> | RelayError | undefined {
    if (plan.decision?.auditOnly === true) this.#recordDenied(plan, true);
    const verdict = this.#options.limits.admit(this.#session.id, this.#session.peer);
    if (verdict instanceof Promise) return verdict.then((later) => this.#judge(plan, later));
    return this.#judge(plan, verdict);
  }

  #judge(plan: CallPlan, verdict: Awaited<ReturnType<RateLimits['admit']>>): RelayError | undefined {
    if (verdict.allowed) return undefined;
    const { scope, limit, windowMs, retryAfterMs } = verdict;
    const { id, peer, counters } = this.#session;
    counters.limited++;
    this.#context.metrics.limited.of(scope).inc();
    this.#context.recorder.record({
      type: 'call.limited',
      direction: 'ingress',
      sessionId: id,
      peer,
      service: plan.service,
      method: plan.method,
      scope,
      limit,
      windowMs,
      retryAfterMs,
    });
    const message = `over the limit of ${limit} requests in ${windowMs / 1000} s for this ${scope}; try again in ${retryAfterMs} ms`;
    return new RelayError('limited', message, { retryAfterMs });
  }

  refused(plan: CallPlan): void {
    if (plan.refusal?.code !== 'denied') return;
    this.#session.counters.denied++;
    this.#context.metrics.denied.of(plan.service).inc();
    this.#recordDenied(plan, undefined);
  }

  #recordDenied(plan: CallPlan, auditOnly: boolean | undefined): void {
    this.#context.recorder.record({
      type: 'call.denied',
      direction: 'ingress',
      sessionId: this.#session.id,
      peer: this.#session.peer,
      service: plan.service,
      method: plan.method,
      rule: plan.decision?.rule,
      auditOnly,
    });
  }
}
