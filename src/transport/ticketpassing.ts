import { RecordError } from './errors.ts';
import type { Established } from './handshake.ts';
import { decodeTicket, type NewTicket, TICKETS_A_HANDSHAKE } from './ticket.ts';

/** The tickets that a responder sends to its initiator: its first records, and no later one. */
export class TicketPassing {
  readonly #role: Established['role'];
  /** How many may still come or go. */
  #due: number;
  #onTicket: ((ticket: NewTicket) => void) | undefined;
  /** The first, if it came before onTicket was set. */
  #early: NewTicket | undefined;

  constructor(role: Established['role'], wanted: boolean) {
    this.#role = role;
    this.#due = wanted ? TICKETS_A_HANDSHAKE : 0;
  }

  set onTicket(listener: (ticket: NewTicket) => void) {
    this.#onTicket = listener;
    const early = this.#early;
    this.#early = undefined;
    if (early !== undefined) listener(early);
  }

  /** How many a responder may send now. */
  get due(): number {
    return this.#role === 'responder' ? this.#due : 0;
  }

  /** A responder is about to send one; false if none is due. */
  take(): boolean {
    if (this.due === 0) return false;
    this.#due--;
    return true;
  }

  /** The payload of a NEW_TICKET has come. Throws RecordError. */
  came(payload: Buffer): void {
    const ticket = decodeTicket(payload);
    if (this.#role === 'responder' || this.#due === 0 || ticket === undefined) {
      throw new RecordError('protocol-error', `A NEW_TICKET of ${payload.length} bytes where none is due`);
    }
    this.#due--;
    if (this.#onTicket === undefined) this.#early = ticket;
    else this.#onTicket(ticket);
  }

  /** Something else has come: no more are due. */
  over(): void {
    this.#due = 0;
  }

  /** The channel has closed. */
  forget(): void {
    this.#early = undefined;
  }
}
