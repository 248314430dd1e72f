import type { Connection, FrameLog } from '../http2/connection.ts';
import { frameName } from '../http2/frame.ts';
import type { Session } from '../session/session.ts';
import type { Logger } from '../telemetry/log.ts';

/** Lines a second, of all sessions together: whoever looks at one call wants all of them, and a log is no capture. */
const LINES_A_SECOND = 1000;

/**
 * The log of frames, switched on and off session by session while the sidecar runs: type, flags, stream and length of
 * every HTTP/2 frame on the session's connections, also on those that join later. Never what a frame carries. While
 * it is off for a session, a frame costs one comparison with undefined.
 */
export class FrameLogging {
  readonly #log: Logger;
  readonly #monotonic: () => number;
  /** The connections of every session that has any. */
  readonly #connections = new Map<Session, Set<Connection>>();
  readonly #on = new Map<Session, { readonly log: FrameLog; readonly forget: () => void }>();
  #second = Number.NEGATIVE_INFINITY;
  #lines = 0;
  #leftOut = 0;

  constructor(log: Logger, monotonic: () => number) {
    this.#log = log;
    this.#monotonic = monotonic;
  }

  /** A connection has joined a session. Returns what to call once it has closed. */
  join(session: Session, connection: Connection): () => void {
    let joined = this.#connections.get(session);
    if (joined === undefined) {
      joined = new Set();
      this.#connections.set(session, joined);
    }
    joined.add(connection);
    connection.frameLog = this.#on.get(session)?.log;
    return () => {
      joined.delete(connection);
      connection.frameLog = undefined;
      if (joined.size === 0) this.#connections.delete(session);
    };
  }

  isOn(session: Session): boolean {
    return this.#on.has(session);
  }

  /** False if it was so already. A session's log ends with the session. */
  set(session: Session, on: boolean): boolean {
    const was = this.#on.get(session);
    if ((was !== undefined) === on || (on && session.isDisposed)) return false;
    let log: FrameLog | undefined;
    if (was === undefined) {
      log = this.#logOf(session.id);
      this.#on.set(session, { log, forget: session.onDisposed(() => this.set(session, false)) });
    } else {
      was.forget();
      this.#on.delete(session);
      this.#tellLeftOut();
    }
    for (const connection of this.#connections.get(session) ?? []) connection.frameLog = log;
    return true;
  }

  #logOf(sessionId: string): FrameLog {
    return {
      frame: (direction, type, flags, streamId, length) => {
        if (!this.#mayWrite()) return;
        const fields = { sessionId, direction, frame: frameName(type), flags, streamId, length };
        this.#log.info(fields, 'frame');
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
