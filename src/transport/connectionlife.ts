import type { Clock } from '../clock/clock.ts';
import { Lifecycle, type Machine, type Transitions } from '../lifecycle/lifecycle.ts';
import { ConnectionStateError } from './errors.ts';

/**
 * The life of a connection between two sidecars (design section 6).
 *
 *     connecting ──▶ handshaking ──▶ open ──▶ draining
 *          │              │            │          │
 *          └──────────────┴────────────┴──────────┴──▶ closed
 *
 * One that we dial begins with `connecting`, until its TCP connection is there; one that comes, with `handshaking`. It is
 * `open` when the other end's first record has opened, and `draining` from the first GOAWAY or CLOSE of either end on, while
 * calls finish.
 */
export type ConnectionState = 'connecting' | 'handshaking' | 'open' | 'draining' | 'closed';

export const CONNECTION_TRANSITIONS: Transitions<ConnectionState> = {
  connecting: ['handshaking', 'closed'],
  handshaking: ['open', 'closed'],
  open: ['draining', 'closed'],
  draining: ['closed'],
  closed: [],
};

export const CONNECTION_MACHINE: Machine<ConnectionState> = {
  transitions: CONNECTION_TRANSITIONS,
  illegal: (message) => new ConnectionStateError(message),
};

/** One step of a connection's life. */
export interface ConnectionChange {
  readonly connection: ConnectionLife;
  /** Undefined where its life begins. */
  readonly from: ConnectionState | undefined;
  readonly to: ConnectionState;
  /** On the way down only: a code of HandshakeError, a CloseReason, or why GOAWAY was sent. */
  readonly reason: string | undefined;
}

export type ConnectionListener = (change: ConnectionChange) => void;

export interface ConnectionLifeOptions {
  /** Who opened it: the peer (inbound) or this sidecar (outbound). */
  readonly direction: 'inbound' | 'outbound';
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly clock: Clock;
  /** Hears of the beginning and of every step; must not throw. */
  readonly listener: ConnectionListener | undefined;
}

/** Where a connection is in its life, and since when. */
export class ConnectionLife {
  readonly direction: 'inbound' | 'outbound';
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** The session that it belongs to, once that is known. */
  sessionId: string | undefined;
  readonly #clock: Clock;
  readonly #listener: ConnectionListener | undefined;
  readonly #lifecycle: Lifecycle<ConnectionState>;
  #since: number;
  #left: ConnectionState | undefined;

  constructor({ direction, remoteAddress, remotePort, clock, listener }: ConnectionLifeOptions) {
    this.direction = direction;
    this.remoteAddress = remoteAddress;
    this.remotePort = remotePort;
    this.#clock = clock;
    this.#listener = listener;
    const initial = direction === 'outbound' ? 'connecting' : 'handshaking';
    this.#lifecycle = new Lifecycle('A connection', CONNECTION_MACHINE, initial);
    this.#since = clock.now();
    listener?.({ connection: this, from: undefined, to: initial, reason: undefined });
  }

  get state(): ConnectionState {
    return this.#lifecycle.state;
  }

  /** The state before this one; undefined in its first. */
  get left(): ConnectionState | undefined {
    return this.#left;
  }

  /** When it came into its state: milliseconds since the epoch. */
  get since(): number {
    return this.#since;
  }

  /** The TCP connection is there. Like the next three, throws ConnectionStateError where the table has no such step. */
  connected(): void {
    this.#to('handshaking', undefined);
  }

  opened(): void {
    this.#to('open', undefined);
  }

  draining(reason: string): void {
    this.#to('draining', reason);
  }

  closed(reason: string): void {
    this.#to('closed', reason);
  }

  #to(next: ConnectionState, reason: string | undefined): void {
    const from = this.#lifecycle.to(next);
    this.#left = from;
    this.#since = this.#clock.now();
    this.#listener?.({ connection: this, from, to: next, reason });
  }
}
