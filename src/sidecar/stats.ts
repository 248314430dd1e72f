import type { RateLimits } from '../limit/ratelimits.ts';
import type { RelayContext } from '../relay/context.ts';
import type { SessionManager, SessionStats } from '../session/manager.ts';
import type { IdentityStatus } from './identitywatch.ts';

/** Calls of one direction since the start. */
export interface CallStats {
  /** Under way now. */
  readonly open: number;
  /** That have ended, however. */
  readonly ended: number;
  /** That have ended with another status than OK. */
  readonly failed: number;
}

/** What a sidecar has done since its start, and what it holds now. */
export interface SidecarStats {
  /** Who it is, until when, and how often that was renewed. */
  readonly identity: IdentityStatus;
  readonly sessions: SessionStats;
  readonly calls: {
    /** That the app of this sidecar made. */
    readonly outgoing: CallStats;
    /** That peers made. */
    readonly incoming: CallStats;
  };
  readonly limits: {
    /** Calls that a limit refused. */
    readonly limited: number;
    /** Calls that authorization refused. */
    readonly denied: number;
    /** Sessions and peers whose use is being counted. */
    readonly sessions: number;
    readonly peers: number;
  };
}

/** The figures of a sidecar made of these parts. */
export function sidecarStats(
  context: RelayContext,
  sessions: SessionManager,
  limits: RateLimits,
  identity: IdentityStatus,
): SidecarStats {
  const { metrics } = context;
  return {
    identity,
    sessions: sessions.getStats(),
    calls: {
      outgoing: { open: context.callsOpen('egress'), ...metrics.callTotals('egress') },
      incoming: { open: context.callsOpen('ingress'), ...metrics.callTotals('ingress') },
    },
    limits: { limited: sumOf(metrics.limited), denied: sumOf(metrics.denied), ...limits.stats() },
  };
}

function sumOf(family: { samples(): readonly { readonly value: number }[] }): number {
  return family.samples().reduce((sum, { value }) => sum + value, 0);
}
