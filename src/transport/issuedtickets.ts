import type { CryptoProvider } from '../crypto/provider.ts';
import { TICKET_ID_LENGTH, TICKETS_A_SESSION } from './ticket.ts';

/** The tickets that this sidecar has handed out as a responder, each for a session `S`. In memory only. */
export class IssuedTickets<S extends { readonly id: string }> {
  readonly #crypto: CryptoProvider;
  /** By ticket id, as Latin-1 text. */
  readonly #sessions = new Map<string, S>();
  /** By session id: its tickets, the oldest first. */
  readonly #bySession = new Map<string, string[]>();

  constructor(crypto: CryptoProvider) {
    this.#crypto = crypto;
  }

  get size(): number {
    return this.#sessions.size;
  }

  /** A new ticket's id. The session's oldest gives way if it has as many as it may. */
  issue(session: S): Buffer {
    const id = this.#crypto.randomBytes(TICKET_ID_LENGTH);
    const key = id.toString('latin1');
    let held = this.#bySession.get(session.id);
    if (held === undefined) {
      held = [];
      this.#bySession.set(session.id, held);
    }
    if (held.length >= TICKETS_A_SESSION) this.#sessions.delete(held.shift() as string);
    held.push(key);
    this.#sessions.set(key, session);
    return id;
  }

  /** The session of a ticket, which stays valid. */
  find(id: Buffer): S | undefined {
    return this.#sessions.get(id.toString('latin1'));
  }

  /** The ticket has been used. */
  delete(id: Buffer): void {
    const key = id.toString('latin1');
    const session = this.#sessions.get(key);
    if (session === undefined) return;
    this.#sessions.delete(key);
    const left = this.#bySession.get(session.id)?.filter((each) => each !== key) ?? [];
    if (left.length > 0) this.#bySession.set(session.id, left);
    else this.#bySession.delete(session.id);
  }

  /** Deletes all of a session. */
  forget(sessionId: string): void {
    for (const key of this.#bySession.get(sessionId) ?? []) this.#sessions.delete(key);
    this.#bySession.delete(sessionId);
  }
}
