/**
 * What a change of identity does to the sessions that live, none of whose calls is lost by it.
 *
 * A renewed SVID: each session whose handshake was with the one before gets a successor by a full handshake, which goes
 * the way of every succession: it is opened, new calls go there, the old session finishes what it has. Those that we opened
 * we replace; of those that peers opened we ask the peers for it, and who has not done so in time is told to go. All in the
 * course of a while, at random, so that neither we nor our peers have all those handshakes at once.
 *
 * Another bundle: the chain of each session's peer is verified once more, and who is trusted no longer is cut.
 */
import type { TimerHandle } from '../clock/clock.ts';
import { IdentityError } from '../identity/errors.ts';
import type { IdentityChange } from '../identity/keeper.ts';
import type { LocalIdentity } from '../identity/local.ts';
import type { TrustBundle } from '../identity/trustbundle.ts';
import type { Session } from '../session/session.ts';
import { inSlices } from '../session/slices.ts';
import type { RelayContext } from './context.ts';
import type { Founded } from './resumption.ts';
import type { PeerSessions } from './sessions.ts';

export interface RotationOptions {
  readonly sessions: PeerSessions;
  readonly identity: () => LocalIdentity;
  readonly bundle: () => TrustBundle;
  /** How long a handshake may take from its very beginning, in milliseconds. */
  readonly handshakeMs: number;
  /** In [0, 1). */
  readonly random?: () => number;
}

const REASON = 'identity-rotated';
/** A session is asked for its successor at random within this, and the share of each session besides. */
const SPREAD_MS = 5_000;
const SPREAD_A_SESSION_MS = 10;
/** How long a peer has to open a successor that it was asked for. */
const PATIENCE_MS = 30_000;
/** All of that is over before the SVID that is replaced ends: in these shares of what is left of it. */
const SPREAD_SHARE = 1 / 2;
const PATIENCE_SHARE = 1 / 4;

/** A session's successor is to be asked for; or the session told to go, if its peer has had its time. */
interface Due {
  /** Monotonic. */
  readonly at: number;
  readonly session: Session;
  readonly step: 'ask' | 'go';
}

export class Rotation {
  readonly #context: RelayContext;
  readonly #options: RotationOptions;
  /** The first to come is the last. */
  #due: Due[] = [];
  readonly #asked = new WeakSet<Session>();
  #timer: TimerHandle;
  #straddlers: TimerHandle;

  constructor(context: RelayContext, options: RotationOptions) {
    this.#context = context;
    this.#options = options;
  }

  /** How many sessions live. */
  get sessions(): number {
    return this.#options.sessions.founded.length;
  }

  /** Sessions whose handshake was with an SVID that has been replaced. */
  outdated(): { readonly inbound: number; readonly outbound: number } {
    const counts = { inbound: 0, outbound: 0 };
    for (const { session } of this.#outdated()) counts[session.direction]++;
    return counts;
  }

  #outdated(): readonly Founded[] {
    const { sessions, identity } = this.#options;
    const current = identity();
    return sessions.founded.filter(({ resumable }) => resumable.identity !== current);
  }

  /** The identity is another one now. */
  changed({ svid, bundle, previous, current }: IdentityChange): void {
    if (bundle) this.#verifyAgain(current.bundle);
    if (!svid) return;
    const { notAfter } = previous.identity;
    this.#replace(notAfter);
    // Handshakes that are under way now are with the one before.
    const { clock } = this.#context;
    clock.clear(this.#straddlers);
    this.#straddlers = clock.after(this.#options.handshakeMs, () => this.#replace(notAfter));
  }

  /** Nothing more is asked for. */
  close(): void {
    this.#context.clock.clear(this.#timer);
    this.#context.clock.clear(this.#straddlers);
    this.#due = [];
  }

  #verifyAgain(bundle: TrustBundle): void {
    const { clock, log } = this.#context;
    let cut = 0;
    const verify = (founded: Founded): void => {
      // A bundle that came after this one has begun anew.
      if (founded.session.isDisposed || this.#options.bundle() !== bundle) return;
      if (!this.#verify(founded, bundle)) cut++;
    };
    const all = this.#options.sessions.founded;
    inSlices(clock, all, verify, () => {
      log.info({ sessions: all.length, cut }, 'sessions verified again with the changed trust bundle');
    });
  }

  #verify(founded: Founded, bundle: TrustBundle): boolean {
    const { session, resumable } = founded;
    try {
      const { notAfter } = bundle.verifyChain(resumable.peer.chain, this.#context.clock.now());
      founded.bundleGeneration = bundle.generation;
      // The CA's certificate is another one, and ends sooner.
      if (notAfter < session.notAfter) this.#ask(session);
      return true;
    } catch (error) {
      if (!(error instanceof IdentityError)) throw error;
      const { id: sessionId, peer } = session;
      this.#options.sessions.distrust(session, `${error.code}: ${error.message}`);
      this.#context.log.warn(
        { sessionId, peer, reason: error.code, detail: error.message },
        'session cut: the trust bundle does not vouch for its peer any more',
      );
      return false;
    }
  }

  #replace(notAfter: number): void {
    const { clock } = this.#context;
    const { random = Math.random } = this.#options;
    const sessions = this.#outdated()
      .map(({ session }) => session)
      .filter((session) => !this.#asked.has(session));
    const left = Math.max(0, notAfter - clock.now());
    const spread = Math.min(SPREAD_MS + sessions.length * SPREAD_A_SESSION_MS, left * SPREAD_SHARE);
    const patience = Math.min(PATIENCE_MS, left * PATIENCE_SHARE);
    const now = clock.monotonic();
    for (const session of sessions) {
      this.#asked.add(session);
      const at = now + random() * spread;
      this.#due.push({ at, session, step: 'ask' });
      if (session.direction === 'inbound') this.#due.push({ at: at + patience, session, step: 'go' });
    }
    this.#due.sort((one, other) => other.at - one.at);
    this.#wait();
  }

  #wait(): void {
    const { clock } = this.#context;
    clock.clear(this.#timer);
    const next = this.#due.at(-1);
    if (next !== undefined) this.#timer = clock.after(next.at - clock.monotonic(), this.#take);
  }

  readonly #take = (): void => {
    const now = this.#context.clock.monotonic();
    for (let next = this.#due.at(-1); next !== undefined && next.at <= now; next = this.#due.at(-1)) {
      this.#due.pop();
      if (next.session.isDisposed) continue;
      if (next.step === 'ask') this.#ask(next.session);
      else next.session.drain(REASON);
    }
    this.#wait();
  };

  #ask(session: Session): void {
    const { sessions } = this.#options;
    // One that rests could only be resumed, which it cannot any more.
    if (session.connections === 0) session.end(REASON);
    else if (session.direction === 'outbound') sessions.replace(session);
    else for (const { channel } of sessions.connectionsOf(session)) channel.askForSuccessor();
  }
}
