/**
 * Which session a new connection may join: the tickets of both sides, and the checks of everything that may have
 * changed since the session was founded. State is in memory only.
 */
import type { Clock } from '../clock/clock.ts';
import type { CryptoProvider } from '../crypto/provider.ts';
import type { LocalIdentity } from '../identity/local.ts';
import { SessionError } from '../session/errors.ts';
import type { SessionManager } from '../session/manager.ts';
import type { Session } from '../session/session.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { SecureChannel } from '../transport/channel.ts';
import { HeldTickets } from '../transport/heldtickets.ts';
import { IssuedTickets } from '../transport/issuedtickets.ts';
import type { TicketOffice } from '../transport/responder.ts';
import type { NewTicket, Resumable, Ticket } from '../transport/ticket.ts';

/** What must be the same as in the handshake that founded the session; otherwise a full one is due. */
export interface Circumstances {
  readonly identity: LocalIdentity;
  readonly bundleGeneration: number;
  readonly policyGeneration: number;
}

export interface ResumptionOptions {
  readonly crypto: CryptoProvider;
  readonly clock: Clock;
  readonly manager: SessionManager;
  readonly metrics: Metrics;
  readonly session: { readonly idleMs: number; readonly absoluteMs: number };
  /** As they are now. */
  readonly circumstances: () => Circumstances;
  /** Whether nobody has anything against it: the peer is not blocked, ... */
  readonly mayResume: (session: Session) => boolean;
}

/** A session, and the handshake that it came of. */
export interface Founded {
  readonly id: string;
  /** Of the trust bundle that has verified its peer's chain last. */
  bundleGeneration: number;
  readonly policyGeneration: number;
  readonly session: Session;
  readonly resumable: Resumable;
  /** Of a session that we opened: where its tickets are good. */
  readonly spot: string | undefined;
}

/** A ticket that is on its way, and its session. */
export interface TakenTicket {
  readonly ticket: Ticket;
  readonly session: Session;
}

export class Resumption implements TicketOffice {
  readonly #options: ResumptionOptions;
  readonly #issued: IssuedTickets<Founded>;
  readonly #held = new HeldTickets();
  readonly #founded = new Map<string, Founded>();
  /** The session that was founded last at each spot. */
  readonly #atSpot = new Map<string, Founded>();

  constructor(options: ResumptionOptions) {
    this.#options = options;
    this.#issued = new IssuedTickets(options.crypto);
  }

  /** A full handshake has founded a session; a `spot` is given for one that we opened. */
  founded({ resumable }: SecureChannel, session: Session, spot: string | undefined): void {
    if (session.isDisposed) return; // a listener has ended it: ended() has been
    const { policyGeneration } = this.#options.circumstances();
    const { bundleGeneration } = resumable;
    const founded = { id: session.id, bundleGeneration, policyGeneration, session, resumable, spot };
    this.#founded.set(session.id, founded);
    if (spot !== undefined) this.#atSpot.set(spot, founded);
  }

  /** Every session that lives. */
  get all(): readonly Founded[] {
    return [...this.#founded.values()];
  }

  /**
   * The session that a channel resumes, all being checked again now that the peer's first record has come. Throws
   * SessionError `disposed` if it may not.
   */
  join(channel: SecureChannel): Session {
    const founded = this.#founded.get(channel.session.id);
    if (founded !== undefined && this.#allowed(founded)) return founded.session;
    throw new SessionError(
      'disposed',
      `Session ${channel.session.id} with ${channel.peer.spiffeId} has ended, or may not be resumed any more`,
    );
  }

  /** Tickets go to the peer that dialled, or come from the one that we have dialled. Before anything else is sent. */
  exchange(channel: SecureChannel, session: Session): void {
    if (channel.role === 'responder') this.#send(channel, session);
    else {
      const onTicket = (ticket: NewTicket): void => {
        if (session.isDisposed) return;
        this.#held.keep(session.id, ticket, this.#options.clock.monotonic());
        session.resumable = true;
      };
      channel.onTicket = onTicket;
    }
  }

  #send(channel: SecureChannel, session: Session): void {
    const founded = this.#founded.get(session.id);
    if (founded === undefined || channel.ticketsDue === 0) return;
    const { clock, session: terms } = this.#options;
    const now = clock.now();
    const end = Math.min(session.createdAt + terms.absoluteMs, session.notAfter);
    const usedAt = session.openCalls > 0 ? now : session.lastActivity;
    while (channel.ticketsDue > 0) {
      channel.sendTicket({
        id: this.#issued.issue(founded),
        idleSeconds: (usedAt + terms.idleMs - now) / 1000,
        absoluteSeconds: (end - now) / 1000,
      });
    }
    session.resumable = true;
  }

  /** Takes a ticket for another connection to a spot. A session that rests and can never be resumed ends here. */
  take(spot: string): TakenTicket | undefined {
    const founded = this.#atSpot.get(spot);
    if (founded === undefined) return undefined;
    const { session, resumable } = founded;
    const id = this.#allowed(founded) ? this.#held.take(session, this.#options.clock.monotonic()) : undefined;
    if (id !== undefined) return { ticket: { id, resumable }, session };
    if (session.connections === 0) session.resumable = false;
    return undefined;
  }

  /** The peer does not know the ticket's session any more: a full handshake has founded another. */
  declined({ session }: TakenTicket): void {
    this.#options.metrics.ticketsRefused.of('outbound', 'declined').inc();
    if (session.connections > 0) return;
    this.#held.forget(session.id);
    session.resumable = false;
  }

  find(id: Buffer): Resumable | undefined {
    const founded = this.#issued.find(id);
    if (founded !== undefined && this.#allowed(founded)) return founded.resumable;
    this.refused(id, founded === undefined ? 'unknown' : 'policy');
    return undefined;
  }

  redeem(id: Buffer): void {
    this.#issued.delete(id);
  }

  refused(_id: Buffer, reason: 'unknown' | 'policy' | 'forged'): void {
    this.#options.metrics.ticketsRefused.of('inbound', reason).inc();
  }

  /** The session has ended, and its tickets with it. */
  ended(sessionId: string): void {
    const founded = this.#founded.get(sessionId);
    if (founded === undefined) return;
    this.#founded.delete(sessionId);
    this.#issued.forget(sessionId);
    this.#held.forget(sessionId);
    const { spot } = founded;
    if (spot !== undefined && this.#atSpot.get(spot) === founded) this.#atSpot.delete(spot);
  }

  #allowed({ session, resumable, bundleGeneration, policyGeneration }: Founded): boolean {
    const { identity } = resumable;
    const { manager, circumstances, mayResume } = this.#options;
    const now = circumstances();
    return (
      manager.peek(session.id) === session &&
      session.joinable &&
      identity === now.identity &&
      bundleGeneration === now.bundleGeneration &&
      policyGeneration === now.policyGeneration &&
      mayResume(session)
    );
  }
}
