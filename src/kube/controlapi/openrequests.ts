import type { ServerHttp2Stream } from 'node:http2';
import { constants } from 'node:http2';
import type { Clock, TimerHandle } from '../../clock/clock.ts';

/** A request of HTTP/2, as far as it is looked at. */
export type RequestStream = Pick<ServerHttp2Stream, 'on' | 'once' | 'close'>;

export interface OpenRequestsOptions {
  readonly clock: Clock;
  /** Of one address. */
  readonly maxPerAddress: number;
  readonly max: number;
  /** Told why a request was ended. */
  readonly onRefused: (reason: 'unfinished' | 'too-many-unfinished') => void;
}

/** A request is a few KiB, and is sent at once. */
const WHOLE_MS = 5_000;
/** Pieces of a request, each of which may keep in memory what it came with. */
const MAX_PIECES = 16;

interface Open {
  readonly stream: RequestStream;
  readonly timer: TimerHandle;
}

/**
 * Requests of which the end has not come. Whoever sent them holds memory of ours, without having shown who it is; so they have
 * little time, and are bounded for each address and in all. When there are too many in all, the oldest of the address that
 * has most goes.
 */
export class OpenRequests {
  readonly #options: OpenRequestsOptions;
  readonly #byAddress = new Map<string, Set<Open>>();
  #open = 0;

  constructor(options: OpenRequestsOptions) {
    this.#options = options;
  }

  get open(): number {
    return this.#open;
  }

  /** A request has begun. One that is over the bound of its address is closed, as one that may be sent again. */
  add(stream: RequestStream, address: string): void {
    const { clock, max, maxPerAddress, onRefused } = this.#options;
    const own = this.#byAddress.get(address) ?? new Set();
    if (own.size >= maxPerAddress) {
      onRefused('too-many-unfinished');
      stream.close(constants.NGHTTP2_REFUSED_STREAM);
      return;
    }
    if (this.#open >= max) this.#makeRoom();
    const open: Open = { stream, timer: clock.after(WHOLE_MS, () => this.#end(address, open, 'unfinished')) };
    own.add(open);
    this.#byAddress.set(address, own);
    this.#open++;
    let pieces = 0;
    // grpc-js has paused the stream: this does not make it flow.
    stream.on('data', () => {
      if (++pieces > MAX_PIECES) this.#end(address, open, 'unfinished');
    });
    const whole = (): void => void this.#remove(address, open);
    stream.once('end', whole);
    stream.once('close', whole);
  }

  #makeRoom(): void {
    let most: [string, Set<Open>] | undefined;
    for (const entry of this.#byAddress) if (entry[1].size > (most?.[1].size ?? 0)) most = entry;
    const [oldest] = most?.[1] ?? [];
    if (most !== undefined && oldest !== undefined) this.#end(most[0], oldest, 'too-many-unfinished');
  }

  /** By a reset: after a status alone the stream, and what has come of it, would stay for as long as the other side likes. */
  #end(address: string, open: Open, reason: 'unfinished' | 'too-many-unfinished'): void {
    if (!this.#remove(address, open)) return;
    this.#options.onRefused(reason);
    open.stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }

  #remove(address: string, open: Open): boolean {
    const own = this.#byAddress.get(address);
    if (own?.delete(open) !== true) return false;
    this.#options.clock.clear(open.timer);
    this.#open--;
    if (own.size === 0) this.#byAddress.delete(address);
    return true;
  }
}
