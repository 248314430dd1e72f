import { Secret } from '../../src/crypto/secret.ts';
import type { SessionEvent } from '../../src/session/event.ts';
import { SessionManager } from '../../src/session/manager.ts';
import { cleanupInterval, type SessionManagerOptions } from '../../src/session/options.ts';
import type { SessionInit } from '../../src/session/sessionowner.ts';
import { FakeClock } from '../harness/fake-clock.ts';

export const SECOND = 1_000;
export const MINUTE = 60_000;
export const HOUR = 3_600_000;
export const DAY = 24 * HOUR;

export const WEB = 'spiffe://shop.example/ns/shop/sa/web';

let ids = 0;

/** A manager on a clock that stands still, with everything it says written down. */
export function setUp(options: Partial<SessionManagerOptions> = {}) {
  const clock = new FakeClock();
  const events: SessionEvent[] = [];
  const manager = new SessionManager({
    clock,
    // As the relay does it.
    cleanupIntervalMs: cleanupInterval(SECOND, options.idleMs ?? HOUR),
    onEvent: (event) => events.push(event),
    ...options,
  });
  const init = (more: Partial<SessionInit> = {}): SessionInit => ({
    id: `session-${++ids}`,
    sessionKey: Secret.copyOf(Buffer.alloc(32, 7)),
    peer: WEB,
    direction: 'inbound',
    postQuantum: false,
    notAfter: clock.now() + 30 * DAY,
    ...more,
  });
  /** As the relay does it: a session with one connection. */
  const open = (more: Partial<SessionInit> = {}) => {
    const session = manager.create(init(more));
    session.attach();
    return session;
  };
  const said = (type: SessionEvent['type']) => events.filter((event) => event.type === type);
  const ends = () => events.flatMap((event) => (event.type === 'disposed' ? [event] : []));
  return { clock, manager, events, init, open, said, ends };
}
