import type { AdminControl } from '../admin/admincontrol.ts';
import { type StatusMessage, timestamp } from '../admin/messages.ts';
import type { Readiness } from '../admin/readiness.ts';
import type { Recorder } from '../audit/recorder.ts';
import type { SidecarConfig } from '../config/config.ts';
import type { RelayContext } from '../relay/context.ts';
import type { FrameLogging } from '../relay/framelogging.ts';
import type { PeerConnection } from '../relay/peerconnections.ts';
import type { Revocation } from '../relay/revocation.ts';
import type { PeerSessions } from '../relay/sessions.ts';
import type { SessionManager } from '../session/manager.ts';
import type { Session } from '../session/session.ts';
import type { EventLoopLag } from '../telemetry/eventlooplag.ts';
import type { IdentityStatus } from './identitywatch.ts';
import type { BoundAddresses } from './sidecar.ts';

export interface ControlledSidecar {
  readonly version: string;
  readonly instance: string;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  readonly config: SidecarConfig;
  readonly identity: () => IdentityStatus;
  readonly context: RelayContext;
  readonly sessions: PeerSessions;
  readonly revocation: Revocation;
  readonly readiness: Readiness;
  readonly lag: EventLoopLag;
  readonly bound: () => BoundAddresses;
  readonly draining: () => boolean;
  readonly drain: (reason: string, deadlineMs: number | undefined) => void;
}

/** A sidecar as the admin API sees and steers it. */
export class SidecarControl implements AdminControl {
  readonly sessions: SessionManager;
  readonly recorder: Recorder;
  readonly frameLogging: FrameLogging;
  readonly revocation: Revocation;
  readonly #sidecar: ControlledSidecar;

  constructor(sidecar: ControlledSidecar) {
    this.#sidecar = sidecar;
    this.sessions = sidecar.sessions.manager;
    this.recorder = sidecar.context.recorder;
    this.frameLogging = sidecar.context.frameLogging;
    this.revocation = sidecar.revocation;
  }

  get frameLogHidden(): string | undefined {
    const { level } = this.#sidecar.config.log;
    if (level === 'info' || level === 'debug') return undefined;
    return `frames are logged at the level info, and log.level is ${level}: set it to info and restart the sidecar`;
  }

  get callsOpen(): number {
    return this.#sidecar.context.calls;
  }

  connectionsOf(session: Session): readonly PeerConnection[] {
    return this.#sidecar.sessions.connectionsOf(session);
  }

  now(): number {
    return this.#sidecar.context.clock.now();
  }

  drain(reason: string, deadlineMs: number | undefined): boolean {
    if (this.#sidecar.draining()) return false;
    this.#sidecar.drain(reason, deadlineMs);
    return true;
  }

  status(): StatusMessage {
    const { version, instance, startedAt, identity, context, readiness, lag } = this.#sidecar;
    const { spiffeId, notAfter, rotations, rotatedAt, refusal, renewsAt, renewalFailure } = identity();
    const { activeSessions, maxSessions, peers, created, refused, closed } = this.sessions.getStats();
    const inbound = this.sessions.getSessionsByLastUsed(({ direction }) => direction === 'inbound').length;
    return {
      version,
      pid: process.pid,
      spiffeId,
      instance,
      startedAt: timestamp(startedAt),
      identityExpiresAt: timestamp(notAfter),
      ready: readiness.ready,
      pending: readiness.pending,
      draining: this.#sidecar.draining(),
      listeners: this.#listeners(),
      sessions: {
        active: activeSessions,
        inbound,
        outbound: activeSessions - inbound,
        max: maxSessions,
        peers,
        created,
        refused,
        closed: closed as Record<string, number>,
      },
      callsOpen: { egress: context.callsOpen('egress'), ingress: context.callsOpen('ingress') },
      auditAdapters: this.recorder
        .stats()
        .adapters.map(({ lastError, ...adapter }) => ({ ...adapter, lastError: lastError ?? '' })),
      memoryBytes: process.memoryUsage.rss(),
      eventLoopLagMs: lag.currentMs,
      peersBlocked: this.revocation.blocked().length,
      identityRotations: rotations,
      identityRotatedAt: rotatedAt === undefined ? null : timestamp(rotatedAt),
      identityRefusal: refusal?.message ?? '',
      identityRenewsAt: renewsAt === undefined ? null : timestamp(renewsAt),
      identityRenewalFailure: renewalFailure?.message ?? '',
    };
  }

  #listeners(): StatusMessage['listeners'] {
    const { egress, routes, redirects, ingress, probesHttp, probesGrpc, admin } = this.#sidecar.bound();
    const named = (name: string, addresses: readonly string[]) =>
      addresses.map((address) => ({ name, address }));
    return [
      ...named('egress', egress),
      ...Object.entries(routes).map(([service, address]) => ({ name: `route ${service}`, address })),
      ...Object.entries(redirects).flatMap(([port, bound]) => named(`redirect ${port}`, bound)),
      ...named('ingress', ingress),
      ...named('probes.http', probesHttp),
      ...named('probes.grpc', probesGrpc),
      ...named('admin', admin),
    ];
  }
}
