import type { Connection, FrameLog } from '../http2/connection.ts';
import { flagNames, frameName } from '../http2/frame.ts';
import { Roster } from '../lifecycle/roster.ts';
import type { Session } from '../session/session.ts';
import type { Logger } from '../telemetry/log.ts';

/** Lines a second, of all sessions together: whoever looks at one call wants all of them, and a log is no capture. */
const LINES_A_SECOND = 1000;

interface Logged {
  readonly connection: Connection;
  /** The other end. */
  readonly remote: string;
}

/**
 * The log of frames, switched on and off session by session while the sidecar runs: type, flags, stream and length of
 * every HTTP/2 frame on the session's connections, also on those that join later. Never what a frame carries. While
 * it is off for a session, a frame costs one comparison with undefined.
 */
export class FrameLogging {
  readonly #log: Logger;
  readonly #monotonic: () => number;
  /** The connections of every session that has any, and who is at their other ends. */
  readonly #connections = new Map<Session, Roster<Logged>>();
  /** Sessions whose log is on, and what ends that with the session. */
  readonly #on = new Map<Session, () => void>();
  #second = Number.NEGATIVE_INFINITY;
  #lines = 0;
  #leftOut = 0;

  constructor(log: Logger, monotonic: () => number) {
    this.#log = log;
    this.#monotonic = monotonic;
  }

  /** A connection with `remote` has joined a session. Returns what to call once it has closed. */
  join(session: Session, connection: Connection, remote: string): () => void {
    let joined = this.#connections.get(session);
    if (joined === undefined) {
      joined = new Roster();
      this.#connections.set(session, joined);
    }
    const logged = { connection, remote };
    joined.add(logged);
    if (this.#on.has(session)) connection.frameLog = this.#logOf(session.id, remote);
    return () => {
      joined.delete(logged);
      connection.frameLog = undefined;
      if (joined.size === 0) this.#connections.delete(session);
    };
  }

  isOn(session: Session): boolean {
    return this.#on.has(session);
  }

  /** False if it was so already. A session's log ends with the session. */
  set(session: Session, on: boolean): boolean {
    if (this.#on.has(session) === on || (on && session.isDisposed)) return false;
    const connections = [...(this.#connections.get(session) ?? [])];
    for (const { connection, remote } of connections) {
      connection.frameLog = on ? this.#logOf(session.id, remote) : undefined;
    }
    if (on) this.#on.set(session, session.listen({ disposed: () => this.set(session, false) }));
    else {
      this.#on.get(session)?.();
      this.#on.delete(session);
      this.#tellLeftOut();
    }
    const fields = { sessionId: session.id, remotes: connections.map(({ remote }) => remote).join(' ') };
    this.#log.info(fields, on ? 'frames are logged from here on' : 'frames are logged no more');
    return true;
  }

  #logOf(sessionId: string, remote: string): FrameLog {
    return {
      frame: (direction, type, flags, streamId, length) => {
        if (!this.#mayWrite()) return;
        this.#log.info(
          {
            sessionId,
            remote,
            direction,
            frame: frameName(type),
            flags: flagNames(type, flags),
            streamId,
            length,
          },
          'frame',
        );
      },
    };
  }

  #mayWrite(): boolean {
    const now = this.#monotonic();
    if (now - this.#second >= 1000) {
      this.#second = now;
      this.#lines = 0;
      this.#tellLeftOut();
    }
    if (++this.#lines <= LINES_A_SECOND) return true;
    this.#leftOut++;
    return false;
  }

  #tellLeftOut(): void {
    if (this.#leftOut === 0) return;
    this.#log.info(
      { frames: this.#leftOut, linesASecond: LINES_A_SECOND },
      'frames were left out of the log',
    );
    this.#leftOut = 0;
  }
}
