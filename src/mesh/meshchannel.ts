/**
 * A grpc-js channel to a service of the mesh, from inside the program whose sidecar leads there: its calls go to egress
 * over memory, not over a port.
 */
import type { ChannelInterface } from '@grpc/grpc-js';
import type { Clock } from '../clock/clock.ts';
import type { HeaderList } from '../hpack/headerlist.ts';
import type { RelayContext } from '../relay/context.ts';
import type { MemoryWire } from '../relay/memorywire.ts';
import type { Deadline, Grpc, GrpcCall, ParentCall } from './grpctypes.ts';
import { LocalConnection } from './localconnection.ts';
import { type CallHost, MeshCall } from './meshcall.ts';

export interface MeshChannelOptions {
  readonly grpc: Grpc;
  readonly context: RelayContext;
  readonly service: string;
  readonly userAgent: string;
  /** A new wire to the egress of this process; undefined once the mesh has ended. */
  readonly connect: () => MemoryWire | undefined;
  /** Octets of a message, -1 for no limit: as grpc-js has them by default. */
  readonly maxReceive?: number | undefined;
  readonly maxSend?: number | undefined;
  /** Of each connection, 1 by default. */
  readonly firstStreamId?: number;
}

const MAX_RECEIVE = 4 * 1024 * 1024;
const UNLIMITED = -1;
/** How grpc-js's `propagate` flags have it. */
const PROPAGATE_DEADLINE = 1;
const PROPAGATE_CANCELLATION = 8;

const ENDED = 'the mesh of this program has ended, or is ending, and takes no new calls';
const CLOSED = 'the channel was closed before the call began';

type ChannelzRef = ReturnType<ChannelInterface['getChannelzRef']>;

export class MeshChannel implements ChannelInterface, CallHost {
  readonly grpc: Grpc;
  readonly clock: Clock;
  readonly service: string;
  readonly userAgent: string;
  readonly maxReceive: number;
  readonly maxSend: number;
  readonly #options: MeshChannelOptions;
  #connection: LocalConnection | undefined;
  #closed = false;
  #made = 0;
  /** Calls under way. */
  #open = 0;
  #release: (() => void) | undefined;

  constructor(options: MeshChannelOptions) {
    this.#options = options;
    this.grpc = options.grpc;
    this.clock = options.context.clock;
    this.service = options.service;
    this.userAgent = options.userAgent;
    this.maxReceive = options.maxReceive ?? MAX_RECEIVE;
    this.maxSend = options.maxSend ?? UNLIMITED;
  }

  createCall(
    method: string,
    deadline: Deadline,
    _host: string | null | undefined,
    parent: ParentCall,
    propagateFlags: number | null | undefined,
  ): GrpcCall {
    if (this.#closed) throw new Error(`the channel to ${this.service} has been closed`);
    const flags = propagateFlags ?? PROPAGATE_DEADLINE | PROPAGATE_CANCELLATION;
    let at = millis(deadline);
    if (parent && (flags & PROPAGATE_DEADLINE) !== 0) at = Math.min(at, millis(parent.getDeadline()));
    const heeded = parent && (flags & PROPAGATE_CANCELLATION) !== 0 ? parent : null;
    return new MeshCall(this, { path: method, deadline: at, parent: heeded, number: ++this.#made });
  }

  /** A call keeps the process alive, a channel does not. */
  started(): void {
    if (this.#open++ === 0) this.#release = this.clock.hold();
  }

  open(call: MeshCall, list: HeaderList): void {
    if (this.#closed) {
      call.unavailable(CLOSED);
      return;
    }
    if (this.#connection === undefined || this.#connection.over) {
      const { connect, context, firstStreamId } = this.#options;
      const before = this.#connection;
      const wire = connect();
      this.#connection = wire && new LocalConnection(context, wire, firstStreamId);
      before?.drain();
    }
    if (this.#connection === undefined) call.unavailable(ENDED);
    else this.#connection.open(call, list);
  }

  ended(call: MeshCall): void {
    this.#connection?.leave(call);
    if (--this.#open === 0) this.#release?.();
  }

  /** Calls under way go on; no other begins. */
  close(): void {
    this.#closed = true;
    this.#connection?.drain();
  }

  getTarget(): string {
    return `hauberk:${this.service}`;
  }

  /** Egress is in this process: what may fail is the way behind it, of which its calls tell. */
  getConnectivityState(): number {
    const { READY, SHUTDOWN } = this.grpc.connectivityState;
    return this.#closed ? SHUTDOWN : READY;
  }

  watchConnectivityState(current: number, deadline: Deadline, callback: (error?: Error) => void): void {
    if (this.getConnectivityState() !== current) {
      process.nextTick(callback);
      return;
    }
    const left = millis(deadline) - this.clock.now();
    if (left === Number.POSITIVE_INFINITY) return;
    this.clock.after(left, () =>
      callback(
        this.getConnectivityState() === current
          ? new Error('Deadline passed without connectivity state change')
          : undefined,
      ),
    );
  }

  getChannelzRef(): ChannelzRef {
    // Its enum of kinds is not exported.
    return { kind: 'channel', id: 0, name: this.getTarget() } as ChannelzRef;
  }
}

function millis(deadline: Deadline): number {
  return typeof deadline === 'number' ? deadline : deadline.getTime();
}
