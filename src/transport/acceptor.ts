import type { Socket } from 'node:net';
import type { Clock } from '../clock/clock.ts';
import type { CryptoProvider } from '../crypto/provider.ts';
import type { LocalIdentity } from '../identity/local.ts';
import { Roster } from '../lifecycle/roster.ts';
import { Admission, addressKey, type HalfOpen } from './admission.ts';
import type { SecureChannel } from './channel.ts';
import { ConnectionLife, type ConnectionListener } from './connectionlife.ts';
import { HandshakeDriver } from './driver.ts';
import { HandshakeError, type HandshakeErrorCode } from './errors.ts';
import { asHandshakeError } from './handshake.ts';
import type { ChainVerifier } from './identityproof.ts';
import { type LimitOverrides, type TransportLimits, transportLimits } from './limits.ts';
import { MODES, type Mode } from './mode.ts';
import { RefusalTally } from './refusaltally.ts';
import { Responder, type TicketOffice } from './responder.ts';
import type { StaticKey } from './statickey.ts';
import { Turnstile } from './turnstile.ts';

/** A resumption costs a fifth of a full handshake, and belongs to a peer that is known: it is refused last. */
const LAG_FACTORS = { full: 1, resumption: 4 } as const;

/** Why handshakes fail that their peers are not to blame for. */
const OURS: ReadonlySet<HandshakeErrorCode> = new Set(['overloaded', 'shutting-down']);

/** A connection that did not become a channel, or several of one address that came too often. */
export interface Refusal {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly reason: HandshakeErrorCode;
  readonly detail: string;
  /** The SPIFFE ID of the other end, if it was proven. */
  readonly peer: string | undefined;
  /** Whether its handshake had begun; what comes too often, or at the end, is not looked at. */
  readonly handshaking: boolean;
  /** How many connections this stands for. */
  readonly count: number;
}

export interface AcceptorOptions {
  /** Who we are, now: asked for each connection, so that rotation needs no restart. */
  readonly identity: () => LocalIdentity;
  /** Whom to believe, now: a TrustBundle. */
  readonly bundle: () => ChainVerifier;
  readonly staticKey: StaticKey;
  readonly crypto: CryptoProvider;
  readonly clock: Clock;
  readonly limits?: LimitOverrides;
  readonly modes?: readonly Mode[];
  /** 8 bytes that name this process to its peers. */
  readonly instance?: Buffer;
  /** How late the event loop is, in milliseconds; above the limit full handshakes are refused, far above it all. */
  readonly lagMs?: () => number;
  /** Whether the peer with this SPIFFE ID is to be refused, whatever it can prove. */
  readonly isBlocked?: (spiffeId: string) => boolean;
  /** Knows the tickets that were issued; without it none may be. */
  readonly tickets?: TicketOffice;
  /** The channel is up: set `onClose`, `onDrain` and, last, `onData`. */
  readonly onChannel: (channel: SecureChannel) => void;
  readonly onRefused: (refusal: Refusal) => void;
  /** Hears of every step of the life of each connection whose handshake begins. */
  readonly onTransition?: ConnectionListener;
}

/** Takes the mesh port's connections and hands out those that are peers. */
export class Acceptor {
  readonly #options: AcceptorOptions;
  readonly #limits: TransportLimits;
  readonly #admission: Admission;
  readonly #tooOften: RefusalTally;
  readonly #noPlace: RefusalTally;
  readonly #turnstile = new Turnstile();
  readonly #drivers = new Roster<HandshakeDriver>();
  #closed = false;

  constructor(options: AcceptorOptions) {
    this.#options = options;
    this.#limits = transportLimits(options.limits);
    this.#admission = new Admission(this.#limits.handshake, options.clock);
    this.#tooOften = new RefusalTally(options.clock);
    this.#noPlace = new RefusalTally(options.clock);
  }

  /** Handshakes that are not finished. */
  get halfOpen(): number {
    return this.#admission.halfOpen;
  }

  /** Takes over a connection that has just been accepted; nothing has been read from it. */
  accept(socket: Socket): void {
    const remoteAddress = socket.remoteAddress;
    const remotePort = socket.remotePort ?? 0;
    if (remoteAddress === undefined) {
      socket.destroy(); // it is gone already
      return;
    }
    const refused = ({ code, message, peer }: HandshakeError, handshaking: boolean, count = 1): void => {
      const refusal = { remoteAddress, remotePort, reason: code, detail: message };
      this.#options.onRefused({ ...refusal, peer, handshaking, count });
    };
    const address = addressKey(remoteAddress);
    try {
      if (this.#closed) throw new HandshakeError('shutting-down', 'This sidecar takes no more connections');
      if (this.#admission.take(address)) {
        this.#handshake(socket, address, refused);
        return;
      }
      drop(socket);
      this.#tooOften.add(address, (count) => refused(this.#rateLimited(address, count), false, count));
    } catch (cause) {
      drop(socket);
      refused(asHandshakeError(cause), false);
    }
  }

  /** Refuses what is half-open and everything that comes; channels that are up live on. */
  close(): void {
    this.#closed = true;
    for (const driver of this.#drivers) {
      driver.abort(new HandshakeError('shutting-down', 'This sidecar shuts down'));
    }
  }

  #rateLimited(address: string, count: number): HandshakeError {
    const { ratePerAddress, burstPerAddress } = this.#limits.handshake;
    const times = count === 1 ? '' : `; ${count} connections were refused since this was said last`;
    return new HandshakeError(
      'rate-limited',
      `More than ${ratePerAddress} handshakes a second (burst ${burstPerAddress}) from ${address}${times}`,
    );
  }

  #handshake(
    socket: Socket,
    address: string,
    refused: (error: HandshakeError, handshaking: boolean, count?: number) => void,
  ): void {
    const { clock, onChannel, onTransition } = this.#options;
    const machine = this.#responder();
    const halfOpen = new Entrant(address);
    if (!this.#admission.enter(halfOpen)) {
      drop(socket);
      this.#noPlace.add('', (count) => refused(noPlace(count), false, count));
      return;
    }
    const life = new ConnectionLife({
      direction: 'inbound',
      remoteAddress: socket.remoteAddress ?? '',
      remotePort: socket.remotePort ?? 0,
      clock,
      listener: onTransition,
    });
    const over = (wasted: boolean): void => {
      if (halfOpen.driver !== undefined) this.#drivers.delete(halfOpen.driver);
      this.#admission.leave(halfOpen, wasted);
    };
    const driver = new HandshakeDriver({
      socket,
      life,
      machine,
      clock,
      limits: this.#limits,
      firstFrame: true,
      turnstile: this.#turnstile,
      onChannel: (channel) => {
        over(false);
        onChannel(channel);
      },
      onFailed: (error) => {
        over(!OURS.has(error.code));
        refused(error, true);
      },
    });
    halfOpen.driver = driver;
    this.#drivers.add(driver);
  }

  #responder(): Responder {
    const { crypto, staticKey, identity, bundle, clock, modes, instance, lagMs, isBlocked, tickets } =
      this.#options;
    const { handshake, records } = this.#limits;
    return new Responder({
      crypto,
      modes: modes ?? MODES,
      staticKey: staticKey.current,
      identity: identity(),
      bundle: bundle(),
      now: () => clock.now(),
      limits: handshake,
      maxRecord: records.maxLength,
      instance,
      isBlocked,
      overloaded: lagMs && ((kind) => lagMs() > handshake.maxEventLoopLagMs * LAG_FACTORS[kind]),
      tickets,
    });
  }
}

/** A connection that has a place among those whose handshakes are not finished. */
class Entrant implements HalfOpen {
  readonly address: string;
  driver: HandshakeDriver | undefined;

  constructor(address: string) {
    this.address = address;
  }

  get busy(): boolean {
    return this.driver?.busy === true;
  }

  evict(): void {
    this.driver?.abort(
      new HandshakeError('half-open-evicted', 'Too many unfinished handshakes: it gave way to another'),
    );
  }
}

function noPlace(count: number): HandshakeError {
  const times = count === 1 ? '' : `; ${count} connections were refused since this was said last`;
  return new HandshakeError(
    'overloaded',
    `All unfinished handshakes that there may be are under way${times}`,
  );
}

function drop(socket: Socket): void {
  socket.on('error', ignore);
  socket.destroy();
}

function ignore(): void {}
