import type { Readiness } from '../admin/readiness.ts';
import type { Recorder } from '../audit/recorder.ts';
import type { Clock } from '../clock/clock.ts';
import type { ControllerConfig } from '../config/controllerconfig.ts';
import type { ListenError } from '../relay/listener.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { KubeClient } from './client/client.ts';
import type { ControlService } from './controlapi/controlserver.ts';
import type { CaPair } from './issuer/capair.ts';
import type { TokenReviewer } from './tokenreview.ts';

/** What the parts of a controller share. */
export interface ControllerContext {
  readonly config: ControllerConfig;
  /** The controller's own. */
  readonly namespace: string;
  /** Who the controller is. */
  readonly spiffeId: string;
  readonly version: string;
  /** Names this run. */
  readonly instance: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly recorder: Recorder;
  readonly metrics: Metrics;
  readonly readiness: Readiness;
  readonly client: KubeClient;
  /** The CA that is in force: there is one before any part is made. */
  readonly ca: () => CaPair;
  /** Calls `listener` whenever another CA is in force. */
  readonly onCa: (listener: () => void) => void;
  /** Whether this replica is the one that does what must be done once, at this moment. */
  readonly isLeader: () => boolean;
  /** Tells whose the token of a caller is. */
  readonly tokens: TokenReviewer;
  /** Told of an address whose family the machine lacks, where another address is bound. */
  readonly skipped: (error: ListenError) => void;
}

/** A part of a controller, such as discovery or the webhook. */
export interface ControllerPart {
  /** What it serves at `control.listen`. */
  readonly services?: readonly ControlService[];
  /**
   * Begins its work; opens its own listeners, and resolves with what was bound, by their names, or with undefined if it was
   * closed meanwhile.
   */
  open?(): Promise<Readonly<Record<string, readonly string[]>> | undefined>;
  /** Takes nothing new, and ends what would not end by itself, such as streams. By `deadlineMs` it has resolved. */
  drain?(deadlineMs: number): void | Promise<void>;
  /** Ends everything. Never rejects. */
  close(): Promise<void>;
}

/** Makes a part; it begins nothing before `open`. */
export type MakePart = (context: ControllerContext) => Promise<ControllerPart>;
