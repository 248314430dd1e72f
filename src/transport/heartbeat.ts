import type { Socket } from 'node:net';
import type { Clock, TimerHandle } from '../clock/clock.ts';
import type { RecordLimits } from './limits.ts';

/** Values of Heartbeat's `#quiet`. */
const ASKED = 2;
const SILENT = 3;

export interface HeartbeatOptions {
  readonly socket: Socket;
  readonly clock: Clock;
  readonly limits: Pick<RecordLimits, 'heartbeatMs' | 'heartbeatTimeoutMs'>;
  /** Sends a PING. */
  readonly ping: () => void;
  /** The other end has not answered in time. */
  readonly lost: (detail: string) => void;
}

/**
 * Finds out whether the other end is still there: by anything that comes from it, or by what the kernel could send to it
 * while octets wait, else by a PING.
 */
export class Heartbeat {
  readonly #options: HeartbeatOptions;
  /** Beats since something last came: 0 none was due, 1 one is due, 2 a PING is out, 3 and late. */
  #quiet = 0;
  /** What the kernel had taken at the last of them. */
  #takenBefore = 0;
  #timer: TimerHandle;
  #stopped = false;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
  }

  /** Begins, unless heartbeats are switched off or stopped already. */
  start(): void {
    const { heartbeatMs } = this.#options.limits;
    if (heartbeatMs > 0 && !this.#stopped) this.#beatIn(heartbeatMs / 2);
  }

  stop(): void {
    this.#stopped = true;
    this.#options.clock.clear(this.#timer);
  }

  /** Something has come. */
  heard(): void {
    this.#quiet = 0;
  }

  /** The peer owes an answer for longer than half of its time. */
  get silent(): boolean {
    return this.#quiet >= SILENT;
  }

  #beatIn(ms: number): void {
    this.#timer = this.#options.clock.after(ms, this.#beat);
  }

  /** Twice in `heartbeatMs`, so that a PING goes out after that at the latest. */
  readonly #beat = (): void => {
    const { heartbeatMs, heartbeatTimeoutMs } = this.#options.limits;
    if (this.#sending()) this.#quiet = 0;
    switch (this.#quiet) {
      case 0:
        this.#quiet = 1;
        this.#beatIn(heartbeatMs / 2);
        return;
      case SILENT:
        // What has come while this process was busy is read before that.
        setImmediate(() => this.#giveUp());
        return;
      case ASKED:
        this.#quiet = SILENT;
        break;
      default:
        this.#quiet = ASKED;
        this.#options.ping();
    }
    this.#beatIn(heartbeatTimeoutMs / 2);
  };

  #giveUp(): void {
    if (this.#stopped) return;
    const { heartbeatMs, heartbeatTimeoutMs } = this.#options.limits;
    if (this.silent) this.#options.lost(`The peer did not answer a PING within ${heartbeatTimeoutMs} ms`);
    else this.#beatIn(heartbeatMs / 2);
  }

  /** The kernel has sent some of what waits since the last beat. */
  #sending(): boolean {
    const { socket } = this.#options;
    const taken = takenByKernel(socket);
    const moved = taken !== this.#takenBefore;
    this.#takenBefore = taken;
    return moved && socket.writableLength > 0;
  }
}

/** What node's socket has and its types do not: libuv's own count of a write that is partly done. */
interface Handled {
  _handle?: { bytesWritten?: number; writeQueueSize?: number } | null;
}

/** Octets that the kernel has taken; without the handle's counts, as far as whole writes tell. */
function takenByKernel(socket: Socket): number {
  const { bytesWritten, writeQueueSize } = (socket as Handled)._handle ?? {};
  if (bytesWritten === undefined || writeQueueSize === undefined) {
    return socket.bytesWritten - socket.writableLength;
  }
  return bytesWritten - writeQueueSize;
}
