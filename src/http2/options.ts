import type { HeaderList } from '../hpack/headerlist.ts';
import type { Connection } from './connection.ts';
import type { ConnectionError, StreamError } from './errors.ts';
import type { GuardLimits } from './guard.ts';
import type { Message } from './message.ts';
import type { ResetPace } from './resetpacer.ts';
import type { Settings } from './settings.ts';
import type { ByteSink } from './sink.ts';
import type { Stream } from './stream.ts';

export type Role = 'client' | 'server';

/** What the owner of a connection hears of it. It may use the connection and its streams while it does. */
export interface ConnectionHandler {
  /** Server role: a request. The owner sets `stream.handler` before it returns, or resets the stream. */
  onRequest(stream: Stream, list: HeaderList, message: Message, fin: boolean): void;
  /** Server role: a request whose header list crossed our limit. The owner answers or resets the stream. */
  onOversizeRequest(stream: Stream, fin: boolean): void;
  /** The peer's first SETTINGS have come: client role may open streams. */
  onReady(): void;
  /** Client role: `canOpen` may have become true. */
  onRoom(): void;
  /** The peer will take no stream above `lastStreamId`. `debug` is printable ASCII, at most 128 characters. */
  onGoaway(lastStreamId: number, code: number, debug: string): void;
  /** A stream broke a rule, or stalled; only that stream ended. */
  onStreamError(streamId: number, error: StreamError): void;
  /**
   * The connection is over and everything is written: the owner closes the transport. Exactly once, and last.
   * `error.side` is `local` if a handler threw: its `cause` is that error, and a bug.
   */
  onEnd(error: ConnectionError | undefined): void;
}

/** Hears what frames go by: their headers, never what they carry. Must not throw. */
export interface FrameLog {
  /** `length` is the payload's, octets. */
  frame(direction: 'in' | 'out', type: number, flags: number, streamId: number, length: number): void;
}

/** Limits of one connection; sizes in octets, times in ms. */
export interface ConnectionLimits extends GuardLimits {
  /** Frames of one header block. */
  continuationFrames: number;
  /** Octets of one header block as sent. */
  headerBlockBytes: number;
  /** Header fields of one list. */
  headerFields: number;
  /** 1xx responses of one stream. */
  interimResponses: number;
  /** Entries of one SETTINGS frame. */
  settingsEntries: number;
  /**
   * Octets queued for the peer, or received and not passed on, above which the connection counts as full: stalled
   * streams are reset. Stream windows grow within it; octets received stop at four times as many.
   */
  queueBytes: number;
  /** How long a stream may have octets queued without progress while the queue is full. */
  stallMs: number;
  prefaceMs: number;
  settingsMs: number;
  headerBlockMs: number;
  /** Client role: how fast we may reset streams. */
  ownResets: ResetPace;
  /** What a stream's window may grow to. */
  maxStreamWindow: number;
}

export interface ConnectionOptions {
  role: Role;
  sink: ByteSink;
  handler: ConnectionHandler;
  monotonic: () => number;
  /** Asks the owner to call `flush` before this turn of the event loop ends. */
  schedule: (connection: Connection) => void;
  /** Our settings, where they differ from the RFC's initial values. */
  settings: Partial<Settings>;
  /** The connection's receive window. */
  window: number;
  limits: ConnectionLimits;
  /** Client role: the identifier of its first stream, 1 by default. */
  firstStreamId?: number | undefined;
}
