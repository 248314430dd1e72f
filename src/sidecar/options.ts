import type { Writable } from 'node:stream';
import type { MonitoringAdapter } from '../audit/adapter.ts';
import type { Clock } from '../clock/clock.ts';
import type { SidecarConfig } from '../config/config.ts';
import type { LimitStatus } from '../limit/ratelimits.ts';
import type { Wire } from '../relay/wire.ts';
import type { SessionManager } from '../session/manager.ts';
import type { Session } from '../session/session.ts';
import type { Logger } from '../telemetry/log.ts';

/** What a `Sidecar` is started with. */
export interface SidecarOptions {
  /** As `loadConfig` gives it. */
  readonly config: SidecarConfig;
  /**
   * The file that the configuration came from, for the audit and for paths of adapter modules; a bare name, as that of a
   * variable, stands for the working directory.
   */
  readonly configFile: string;
  /** SHA-256 of its text, in hex. */
  readonly configSha256: string;
  readonly version: string;
  /** Takes the lines of `stdout` adapters. */
  readonly stdout: Writable;
  /** Adapters of the program's own, besides those of the configuration. */
  readonly adapters?: readonly MonitoringAdapter[];
  readonly log?: Logger;
  readonly clock?: Clock;
  /**
   * Apps in this process, by service, besides those of `ingress.apps`: called whenever ingress wants a connection, which
   * ends with the sidecar.
   * @internal
   */
  readonly localApps?: ReadonlyMap<string, LocalApp>;
}

/** What an app in this process is told of the sidecar that calls it. */
export interface LocalAppHost {
  readonly clock: Clock;
  readonly log: Logger;
  readonly sessions: SessionManager;
  /** What the limits leave to a session and its peer. */
  limitsOf(session: Session): LimitStatus[];
}

/** Makes a connection to an app in this process: returns one end of a wire, and has the other served. */
export type LocalApp = (host: LocalAppHost) => Wire;
