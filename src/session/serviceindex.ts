import type { Session } from './session.ts';

/** Which sessions were opened for which service. */
export class ServiceIndex {
  readonly #byService = new Map<string, Set<Session>>();

  add(session: Session): void {
    const { serviceId } = session;
    if (serviceId === undefined) return;
    const sessions = this.#byService.get(serviceId);
    if (sessions === undefined) this.#byService.set(serviceId, new Set([session]));
    else sessions.add(session);
  }

  delete(session: Session): void {
    const { serviceId } = session;
    if (serviceId === undefined) return;
    const sessions = this.#byService.get(serviceId);
    if (sessions?.delete(session) && sessions.size === 0) this.#byService.delete(serviceId);
  }

  /** The one used last; one that drains only if there is no other. */
  lastUsed(serviceId: string): Session | undefined {
    let best: Session | undefined;
    for (const session of this.#byService.get(serviceId) ?? []) {
      if (best === undefined || isBetter(session, best)) best = session;
    }
    return best;
  }
}

function isBetter(session: Session, than: Session): boolean {
  if (session.isDraining !== than.isDraining) return than.isDraining;
  if (session.lastActivity !== than.lastActivity) return session.lastActivity > than.lastActivity;
  return session.usedAt > than.usedAt;
}
