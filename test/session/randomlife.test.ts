import fc from 'fast-check';
import { expect, it } from 'vitest';
import { REST, type SessionEvent, type SessionReason } from '../../src/session/event.ts';
import { SESSION_TRANSITIONS, type SessionState } from '../../src/session/lifecycle.ts';
import { CLOSE_REASONS } from '../../src/transport/errors.ts';
import { MINUTE, SECOND, setUp } from './sessions.ts';

// Those after which a session may rest come more often, and what nothing follows comes rarely.
const RESTFUL = Object.keys(REST) as SessionReason[];
const reason = fc.oneof(
  { arbitrary: fc.constantFrom(...RESTFUL), weight: 4 },
  { arbitrary: fc.constantFrom(...CLOSE_REASONS), weight: 1 },
);
const step = (...names: string[]) => fc.record({ do: fc.constantFrom(...names) });
const act = fc.oneof(
  { arbitrary: step('attach', 'callStarted', 'callEnded', 'keep', 'idle'), weight: 15 },
  { arbitrary: step('connecting', 'touch', 'lose'), weight: 3 },
  { arbitrary: fc.record({ do: fc.constantFrom('detach', 'connectFailed'), reason }), weight: 6 },
  { arbitrary: fc.record({ do: fc.constantFrom('drain', 'announced', 'end'), reason }), weight: 1 },
  { arbitrary: step('bar', 'finishEnd'), weight: 1 },
  {
    arbitrary: fc.record({ do: fc.constant('pass'), ms: fc.integer({ min: 1, max: 5 * SECOND }) }),
    weight: 5,
  },
  {
    arbitrary: fc.record({ do: fc.constant('pass'), ms: fc.integer({ min: 1, max: 2 * MINUTE }) }),
    weight: 1,
  },
);
type Act = { do: string; reason?: SessionReason; ms?: number };

const UP: ReadonlySet<SessionState> = new Set(['connecting', 'connected', 'active', 'idle']);
const LEGAL_REFUSALS =
  /^(disposed|illegal-transition|unbalanced-call|unbalanced-detach|too-many-connections)$/;

it('whatever happens to a session, its states follow the table and are all told', () => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(fc.array(act, { minLength: 10, maxLength: 60, size: 'max' }), (acts: Act[]) => {
      const { clock, manager, init, events } = setUp({ idleMs: MINUTE, absoluteMs: 8 * MINUTE });
      const session = manager.create(init());
      const trail = () => events.filter(isChange);
      for (const { do: what, reason: why = 'truncated', ms = 0 } of acts) {
        const before = session.state;
        const told = trail().length;
        try {
          if (what === 'pass') clock.advance(ms);
          else if (what === 'idle') {
            session.callStarted();
            while (session.openCalls > 0) session.callEnded();
            clock.advance(3 * SECOND);
          } else if (what === 'keep' || what === 'lose') session.resumable = what === 'keep';
          else if (what === 'detach' || what === 'connectFailed') session[what](why);
          else if (what === 'drain' || what === 'announced') session[what](why);
          else if (what === 'end') session.end(why);
          else if (what === 'bar') session.bar(true);
          else session[what as 'attach']();
        } catch (error) {
          // A refusal has no effect.
          expect((error as { code: string }).code).toMatch(LEGAL_REFUSALS);
          expect([session.state, trail().length]).toEqual([before, told]);
        }
        const { state } = session;
        if (session.isDisposed && state !== 'disposed') {
          // Barred: nothing but the second half of its end changes its state.
          if (what !== 'bar') expect(state).toBe(before);
          expect(session.revocation).toEqual({ mayReturn: true });
          expect([session.takesCalls, session.joinable, session.sessionKey.wiped]).toEqual([
            false,
            false,
            true,
          ]);
          expect(manager.peek(session.id)).toBeUndefined();
          continue;
        }
        if (session.connections > 0 && !session.isDisposed) expect(UP.has(state)).toBe(true);
        if (['connected', 'active', 'idle'].includes(state)) expect(session.connections).toBeGreaterThan(0);
        expect(session.isDisposed).toBe(state === 'disposed');
        expect(session.sessionKey.wiped).toBe(session.isDisposed);
        expect(manager.peek(session.id)).toBe(session.isDisposed ? undefined : session);
      }
      let at: SessionState = 'created';
      for (const { from, to, reason: why } of trail()) {
        expect(from).toBe(at);
        expect(SESSION_TRANSITIONS[from]).toContain(to);
        expect(why !== undefined).toBe(!UP.has(to));
        seen.add(`${from} ${to}`);
        at = to;
      }
      expect(session.state).toBe(at);
      const count = (type: SessionEvent['type']) => events.filter((event) => event.type === type).length;
      const entered = (state: SessionState) => trail().filter(({ to }) => to === state).length;
      for (const type of ['connected', 'disconnected', 'error', 'disposed'] as const) {
        expect([type, count(type)]).toEqual([type, entered(type)]);
      }
    }),
    { numRuns: 300 },
  );
  // The walk has been everywhere.
  const all = Object.entries(SESSION_TRANSITIONS).flatMap(([from, tos]) => tos.map((to) => `${from} ${to}`));
  expect([...seen].sort()).toEqual(all.sort());
});

type Change = Extract<SessionEvent, { type: 'stateChanged' }>;
function isChange(event: SessionEvent): event is Change {
  return event.type === 'stateChanged';
}
