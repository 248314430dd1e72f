import type { Recorder } from '../audit/recorder.ts';
import type { FrameLogging } from '../relay/framelogging.ts';
import type { PeerConnection } from '../relay/peerconnections.ts';
import type { Revocation } from '../relay/revocation.ts';
import type { SessionManager } from '../session/manager.ts';
import type { Session } from '../session/session.ts';
import type { StatusMessage } from './messages.ts';

/** What the admin API may see and do; the sidecar gives it. */
export interface AdminControl {
  readonly sessions: SessionManager;
  readonly recorder: Recorder;
  readonly revocation: Revocation;
  readonly frameLogging: FrameLogging;
  /** Why lines of the frame log would be seen by nobody, if so. */
  readonly frameLogHidden: string | undefined;
  readonly callsOpen: number;
  /** The connections of a session with a peer. */
  connectionsOf(session: Session): readonly PeerConnection[];
  /** Milliseconds since the epoch. */
  now(): number;
  status(): StatusMessage;
  /** Begins the graceful end unless it has begun: false then. */
  drain(reason: string, deadlineMs: number | undefined): boolean;
}
