import { type NewTicket, TICKETS_A_SESSION } from './ticket.ts';

interface HeldTicket {
  /** As Latin-1 text: a small buffer would pin the pool that it is cut from. */
  readonly id: string;
  readonly idleMs: number;
  /** Monotonic clock. */
  readonly endsAt: number;
}

/** What a ticket's use depends on. */
export interface TicketedSession {
  readonly id: string;
  readonly openCalls: number;
  /** Whether it was last used before a moment of the monotonic clock. */
  usedBefore(moment: number): boolean;
}

/** The tickets that this sidecar has been given as an initiator, by session. In memory only. */
export class HeldTickets {
  /** By session id, the oldest first. */
  readonly #bySession = new Map<string, HeldTicket[]>();

  /** Keeps a ticket that has come `now`; the session's oldest gives way if it has as many as it may. */
  keep(sessionId: string, ticket: NewTicket, now: number): void {
    const held = this.#bySession.get(sessionId) ?? [];
    if (held.length >= TICKETS_A_SESSION) held.shift();
    const { idleSeconds, absoluteSeconds } = ticket;
    const id = ticket.id.toString('latin1');
    held.push({ id, idleMs: idleSeconds * 1000, endsAt: now + absoluteSeconds * 1000 });
    this.#bySession.set(sessionId, held);
  }

  /**
   * Takes out the newest ticket that the responder still honours, by its own word: a ticket is deleted before it is sent.
   * `now` is of the monotonic clock, in milliseconds.
   */
  take(session: TicketedSession, now: number): Buffer | undefined {
    const held = this.#bySession.get(session.id);
    for (let ticket = held?.pop(); ticket !== undefined; ticket = held?.pop()) {
      if (held?.length === 0) this.#bySession.delete(session.id);
      const idle = session.openCalls === 0 && session.usedBefore(now - ticket.idleMs);
      if (now < ticket.endsAt && !idle) return Buffer.from(ticket.id, 'latin1');
    }
    return undefined;
  }

  count(sessionId: string): number {
    return this.#bySession.get(sessionId)?.length ?? 0;
  }

  forget(sessionId: string): void {
    this.#bySession.delete(sessionId);
  }
}
