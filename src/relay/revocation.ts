/**
 * What an operator does to sessions and peers that must go: `revoke` cuts sessions, `block` keeps a peer out until
 * `allow` lets it in again. The admin API, the command line and embedding programs all come through here.
 *
 * All sessions of a command are shut off before it returns its promise: no call begins in them, nothing of their peers is
 * opened. Then each is cut: calls under way answered, GOAWAY with the reason, an authenticated CLOSE, tickets deleted, keys
 * wiped. That is done in slices, so that a thousand sessions do not stop the calls of others; the promise waits for it,
 * and for the file of blocked peers.
 */
import type { BlockedPeer } from '../session/blockfile.ts';
import { wrongReason } from '../session/blockfile.ts';
import type { Blocks, Hold } from '../session/blocks.ts';
import { BlockError, SessionError } from '../session/errors.ts';
import { fitsAll, matching, type SessionFilter } from '../session/filter.ts';
import type { Session } from '../session/session.ts';
import { inSlices } from '../session/slices.ts';
import type { RelayContext } from './context.ts';
import type { PeerConnection } from './peerconnections.ts';
import type { CutConnection, PeerSessions } from './sessions.ts';

/** Which sessions: by their ids, by what they are, or by a predicate over all that are live. */
/** Which sessions: those of these ids, those that a filter or function accepts, or all. */
export type RevokeSelection =
  | { readonly ids: readonly string[] }
  | {
      /** The sessions that it accepts. */
      readonly where: SessionFilter | ((session: Session) => boolean);
    }
  | { readonly all: true };

/** How sessions are revoked. */
export interface RevokeOptions {
  /** False blocks the sessions' peers as well, which cuts all other sessions of theirs. Default true. */
  readonly mayReturn?: boolean;
  /** Why, for the audit: 1 to 256 characters. The peer is told only that it was revoked. */
  readonly reason: string;
}

/** One session that was cut. */
export interface SessionReceipt {
  readonly sessionId: string;
  readonly peer: string;
  readonly direction: 'inbound' | 'outbound';
  readonly serviceId: string | undefined;
  /** Whether the peer may come back with a new handshake. */
  readonly mayReturn: boolean;
  /** Records of the peer that were accepted in the session's life, on all of its connections. */
  readonly recordsAccepted: number;
  /** Those that were open: nothing after `lastRecord` was or will be opened. */
  readonly connections: readonly CutConnection[];
  /** Calls that were under way. */
  readonly callsCut: number;
  /** From the command until this session was cut. */
  readonly cutMicros: number;
}

/** What a revocation has done. */
export interface RevocationReceipt {
  readonly reason: string;
  readonly sessions: readonly SessionReceipt[];
  /** Ids that were given and that no live session has. */
  readonly unknown: readonly string[];
  /** From the command until the last session was cut. */
  readonly cutMicros: number;
  /** Peers that this command has blocked. */
  readonly blocked: readonly BlockedPeer[];
  /** How long those blocks hold; undefined if there are none. */
  readonly hold: Hold | undefined;
}

/** What letting a peer in again has done. */
export interface AllowReceipt {
  /** Its SPIFFE ID. */
  readonly peer: string;
  /** The block that is over; undefined if the peer was not blocked. */
  readonly was: BlockedPeer | undefined;
}

/** Cuts sessions and blocks peers: docs/revocation.md. */
export class Revocation {
  readonly #context: RelayContext;
  readonly #sessions: PeerSessions;
  readonly #blocks: Blocks;
  readonly #onAllowed: (peer: string) => void;

  /** `onAllowed` is told who may come, and be dialled, again. */
  constructor(
    context: RelayContext,
    sessions: PeerSessions,
    blocks: Blocks,
    onAllowed: (peer: string) => void = () => undefined,
  ) {
    this.#context = context;
    this.#sessions = sessions;
    this.#blocks = blocks;
    this.#onAllowed = onAllowed;
  }

  /**
   * Cuts sessions. Throws SessionError `bad-option` for a filter that names nothing (`{ all: true }` says so by name),
   * BlockError `bad-reason` or `too-many`; nothing has changed then.
   */
  revoke(which: RevokeSelection, options: RevokeOptions): Promise<RevocationReceipt> {
    const { mayReturn = true, reason } = options;
    const began = this.#context.monotonic();
    checkReason(reason);
    const { sessions, unknown } = this.#select(which);
    if (mayReturn) return this.#cut(sessions, { began, reason, unknown });
    return this.#block([...new Set(sessions.map(({ peer }) => peer))], { began, reason, unknown });
  }

  /**
   * Keeps a peer out: cuts its sessions and refuses its handshakes, and calls to it, until `allow`. Throws BlockError
   * `bad-peer`, `bad-reason` or `too-many`; nothing has changed then.
   */
  block(peer: string, reason: string): Promise<RevocationReceipt> {
    return this.#block([peer], { began: this.#context.monotonic(), reason, unknown: [] });
  }

  /** Lets a peer in again. Rejects with BlockError `not-written`: the peer is still blocked. */
  async allow(peer: string): Promise<AllowReceipt> {
    const was = await this.#blocks.allow(peer);
    if (was !== undefined) {
      this.#context.recorder.record({ type: 'peer.allowed', peer, blockedSince: was.since });
      this.#context.log.info({ peer, blockedSince: was.since }, 'peer allowed');
      this.#onAllowed(peer);
    }
    return { peer, was };
  }

  /** The peers that are blocked, the longest blocked first. */
  blocked(): readonly BlockedPeer[] {
    return this.#blocks.list();
  }

  #select(which: RevokeSelection): { sessions: Session[]; unknown: string[] } {
    const { manager } = this.#sessions;
    if ('all' in which) return { sessions: manager.getSessionsByLastUsed(), unknown: [] };
    if ('ids' in which) {
      const ids = [...new Set(which.ids)];
      const found = new Map(ids.map((id) => [id, manager.peek(id)] as const));
      return {
        sessions: [...found.values()].filter((session) => session !== undefined),
        unknown: ids.filter((id) => found.get(id) === undefined),
      };
    }
    const { where } = which;
    if (typeof where !== 'function' && fitsAll(where)) {
      throw new SessionError('bad-option', 'The filter fits every session; { all: true } says that by name');
    }
    const fits = typeof where === 'function' ? where : matching(where, this.#context.clock.now());
    return { sessions: manager.getSessionsByLastUsed(fits), unknown: [] };
  }

  async #block(peers: readonly string[], command: Command): Promise<RevocationReceipt> {
    const { recorder, log } = this.#context;
    const { reason } = command;
    // First, so that no handshake can bring a session between the cut and the block.
    const { blocked, held } = this.#blocks.block(peers, reason);
    const theirs = this.#sessions.manager.getSessionsByLastUsed(({ peer }) => this.#blocks.has(peer));
    const receipt = await this.#cut(theirs, command);
    const hold = blocked.length === 0 ? undefined : await held;
    for (const { peer, since } of blocked) {
      const holdsUntil = hold?.until ?? 'restart';
      const detail = hold?.until === 'restart' ? hold.why : undefined;
      const sessions = receipt.sessions.filter((session) => session.peer === peer).length;
      recorder.record({ type: 'peer.blocked', peer, since, reason, sessions, holdsUntil, detail });
      log.warn({ peer, reason, sessions, holdsUntil, detail }, 'peer blocked');
    }
    return { ...receipt, blocked, hold };
  }

  /** All of them are shut off before this returns; then they are cut in slices. */
  #cut(sessions: readonly Session[], { began, reason, unknown }: Command): Promise<RevocationReceipt> {
    const barred = sessions.map((session) => {
      const mayReturn = !this.#blocks.has(session.peer);
      return { session, mayReturn, connections: this.#sessions.bar(session, mayReturn) };
    });
    const receipts: SessionReceipt[] = [];
    return new Promise((resolve) => {
      inSlices(
        this.#context.clock,
        barred,
        (each) => receipts.push(this.#cutOne(each, began, reason)),
        () =>
          resolve({
            reason,
            sessions: receipts,
            unknown,
            cutMicros: this.#microsSince(began),
            blocked: [],
            hold: undefined,
          }),
      );
    });
  }

  #cutOne({ session, mayReturn, connections: open }: Barred, began: number, reason: string): SessionReceipt {
    const { id: sessionId, peer, direction, serviceId, openCalls, counters } = session;
    const connections = this.#sessions.cut(session, open, reason);
    const receipt = {
      sessionId,
      peer,
      direction,
      serviceId,
      mayReturn,
      recordsAccepted: counters.recordsIn,
      connections,
      callsCut: openCalls,
      cutMicros: this.#microsSince(began),
    };
    this.#context.recorder.record({
      type: 'session.revoked',
      sessionId,
      peer,
      direction,
      reason,
      mayReturn,
      calls: counters.calls,
      callsCut: openCalls,
      bytesIn: counters.bytesIn,
      bytesOut: counters.bytesOut,
      recordsAccepted: receipt.recordsAccepted,
      lastRecords: connections.map(({ remote, lastRecord }) => `${remote} ${lastRecord}`),
      cutMicros: receipt.cutMicros,
    });
    this.#context.log.warn({ sessionId, peer, reason, mayReturn }, 'session revoked');
    return receipt;
  }

  #microsSince(began: number): number {
    return Math.ceil((this.#context.monotonic() - began) * 1000);
  }
}

/** A session that is shut off, and the connections that it had open then. */
interface Barred {
  readonly session: Session;
  readonly mayReturn: boolean;
  readonly connections: readonly PeerConnection[];
}

interface Command {
  /** Monotonic milliseconds. */
  readonly began: number;
  readonly reason: string;
  readonly unknown: readonly string[];
}

function checkReason(reason: string): void {
  const wrong = wrongReason(reason);
  if (wrong !== undefined) throw new BlockError('bad-reason', wrong);
}
