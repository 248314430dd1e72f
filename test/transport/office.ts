import { IssuedTickets } from '../../src/transport/issuedtickets.ts';
import type { TicketOffice } from '../../src/transport/responder.ts';
import type { Resumable, Ticket } from '../../src/transport/ticket.ts';
import { crypto } from './world.ts';

/** What a responder keeps of its sessions. */
export class Office implements TicketOffice {
  readonly tickets = new IssuedTickets<{ readonly id: string; readonly resumable: Resumable }>(crypto);
  readonly refusals: string[] = [];

  /** A ticket for the session, as the other end gets it. */
  issue(here: Resumable, there: Resumable): Ticket {
    return { id: this.tickets.issue({ id: here.session.id, resumable: here }), resumable: there };
  }

  find(id: Buffer): Resumable | undefined {
    return this.tickets.find(id)?.resumable;
  }

  redeem(id: Buffer): void {
    this.tickets.delete(id);
  }

  refused(_id: Buffer, reason: string): void {
    this.refusals.push(reason);
  }
}
