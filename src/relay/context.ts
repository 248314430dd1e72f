import type { Recorder } from '../audit/recorder.ts';
import type { Clock } from '../clock/clock.ts';
import { Wheel } from '../clock/wheel.ts';
import type { Http2Config } from '../config/config.ts';
import type { ConnectionLimits } from '../http2/connection.ts';
import type { Settings } from '../http2/settings.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Tracing } from '../telemetry/tracing.ts';
import { FrameLogging } from './framelogging.ts';
import type { ListenError } from './listener.ts';
import { ReplayLog } from './replaylog.ts';
import { Turn } from './turn.ts';

export interface RelayContextOptions {
  clock: Clock;
  recorder: Recorder;
  metrics: Metrics;
  log: Logger;
  http2: Http2Config;
  tracing: Tracing;
  /** Which calls get a `call.completed` event. */
  auditCalls: 'all' | 'failed' | 'none';
}

/** Octets that a session's or an app's connection may have under way: its connection window. */
const APP_WINDOW = 4 * 1024 * 1024;
const SESSION_WINDOW = 16 * 1024 * 1024;

/** The pace of our resets inside a session, as a share of what the peer bears: its clock is not ours. */
const BELOW_LIMIT = 0.8;
/** Resets that may wait on a connection. */
const APP_LATE_RESETS = 256;
const SESSION_LATE_RESETS = 2048;

/** What everything in the relay shares. */
export class RelayContext {
  readonly clock: Clock;
  readonly recorder: Recorder;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly http2: Http2Config;
  readonly tracing: Tracing;
  readonly wheel: Wheel;
  readonly turn = new Turn(() => this.calls);
  readonly replays = new ReplayLog();
  readonly monotonic: () => number;
  readonly frameLogging: FrameLogging;
  readonly #auditCalls: 'all' | 'failed' | 'none';
  readonly #calls = { egress: 0, ingress: 0 };

  constructor(options: RelayContextOptions) {
    this.clock = options.clock;
    this.recorder = options.recorder;
    this.metrics = options.metrics;
    this.log = options.log;
    this.http2 = options.http2;
    this.tracing = options.tracing;
    this.#auditCalls = options.auditCalls;
    this.wheel = new Wheel(options.clock);
    this.monotonic = () => options.clock.monotonic();
    this.frameLogging = new FrameLogging(options.log, this.monotonic);
  }

  /** Calls under way. */
  get calls(): number {
    return this.#calls.egress + this.#calls.ingress;
  }

  callsOpen(direction: 'egress' | 'ingress'): number {
    return this.#calls[direction];
  }

  callStarted(direction: 'egress' | 'ingress'): void {
    this.#calls[direction]++;
  }

  callEnded(direction: 'egress' | 'ingress'): void {
    this.#calls[direction]--;
  }

  /** A listener whose address family this machine lacks. */
  readonly skipped = (error: ListenError): void => {
    this.log.warn({ error: error.message }, 'left out a listener: this machine has no such address');
  };

  auditsCall(grpcStatus: number): boolean {
    if (this.#auditCalls === 'none' || !this.recorder.active) return false;
    return this.#auditCalls === 'all' || grpcStatus !== 0;
  }

  /** Settings, window and limits of a connection with an app, or inside a session. */
  http2For(kind: 'app' | 'session', role: 'client' | 'server') {
    const config = this.http2;
    const app = kind === 'app';
    const settings: Partial<Settings> = {
      headerTableSize: app ? config.appHeaderTableSize : config.sessionHeaderTableSize,
      initialWindowSize: config.initialWindow,
      maxHeaderListSize: config.headerListSize,
    };
    if (role === 'client') settings.enablePush = false;
    else settings.maxConcurrentStreams = app ? config.appStreams : config.sessionStreams;
    const limits: ConnectionLimits = {
      framesPerSecond: config.maxFramesPerSecond,
      floodFrames: config.floodFrames,
      floodWindowMs: config.floodWindowMs,
      resetBurst: app ? config.appResetBurst : config.sessionResetBurst,
      resets: app ? { maxRatio: config.appResetRatio } : { perSecond: config.sessionResetsPerSecond },
      ownResets: app
        ? { burst: config.appCancelBurst, perSecond: config.appCancelsPerSecond, waiting: APP_LATE_RESETS }
        : {
            burst: config.sessionResetBurst * BELOW_LIMIT,
            perSecond: config.sessionResetsPerSecond * BELOW_LIMIT,
            waiting: SESSION_LATE_RESETS,
          },
      controlQueue: config.queuedControlFrames,
      continuationFrames: config.continuationFrames,
      headerBlockBytes: config.headerBlockSize,
      headerFields: config.headerFields,
      interimResponses: config.interimResponses,
      settingsEntries: config.settingsEntries,
      queueBytes: config.queuedBytes,
      stallMs: config.stallTimeoutMs,
      prefaceMs: config.prefaceTimeoutMs,
      settingsMs: config.settingsTimeoutMs,
      headerBlockMs: config.headersTimeoutMs,
      maxStreamWindow: config.maxWindow,
    };
    return { settings, limits, window: app ? APP_WINDOW : SESSION_WINDOW };
  }
}
