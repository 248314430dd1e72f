import type { Socket } from 'node:net';
import type { Clock } from '../clock/clock.ts';
import type { CryptoProvider } from '../crypto/provider.ts';
import type { LocalIdentity } from '../identity/local.ts';
import { Admission, addressKey, type HalfOpen } from './admission.ts';
import type { SecureChannel } from './channel.ts';
import { HandshakeDriver } from './driver.ts';
import { HandshakeError, type HandshakeErrorCode } from './errors.ts';
import { asHandshakeError } from './handshake.ts';
import type { ChainVerifier } from './identityproof.ts';
import { type LimitOverrides, type TransportLimits, transportLimits } from './limits.ts';
import { MODES, type Mode } from './mode.ts';
import { Responder } from './responder.ts';
import type { StaticKey } from './statickey.ts';

/** A connection that did not become a channel. */
export interface Refusal {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly reason: HandshakeErrorCode;
  readonly detail: string;
  /** The SPIFFE ID of the other end, if it was proven. */
  readonly peer: string | undefined;
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
  /** How late the event loop is, in milliseconds; above the limit full handshakes are refused. */
  readonly lagMs?: () => number;
  /** The channel is up: set `onClose`, `onDrain` and, last, `onData`. */
  readonly onChannel: (channel: SecureChannel) => void;
  readonly onRefused: (refusal: Refusal) => void;
}

/** Takes the mesh port's connections and hands out those that are peers. */
export class Acceptor {
  readonly #options: AcceptorOptions;
  readonly #limits: TransportLimits;
  readonly #admission: Admission;
  readonly #drivers = new Set<HandshakeDriver>();
  #closed = false;

  constructor(options: AcceptorOptions) {
    this.#options = options;
    this.#limits = transportLimits(options.limits);
    this.#admission = new Admission(this.#limits.handshake, options.clock);
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
    const refused = (error: HandshakeError): void => {
      this.#options.onRefused({
        remoteAddress,
        remotePort,
        reason: error.code,
        detail: error.message,
        peer: error.peer,
      });
    };
    const address = addressKey(remoteAddress);
    try {
      if (this.#closed) throw new HandshakeError('shutting-down', 'This sidecar takes no more connections');
      this.#assertRate(address);
      this.#handshake(socket, address, refused);
    } catch (cause) {
      socket.on('error', ignore);
      socket.destroy();
      refused(asHandshakeError(cause));
    }
  }

  /** Refuses what is half-open and everything that comes; channels that are up live on. */
  close(): void {
    this.#closed = true;
    for (const driver of [...this.#drivers]) {
      driver.abort(new HandshakeError('shutting-down', 'This sidecar shuts down'));
    }
  }

  #assertRate(address: string): void {
    if (this.#admission.take(address)) return;
    const { ratePerAddress, burstPerAddress } = this.#limits.handshake;
    throw new HandshakeError(
      'rate-limited',
      `More than ${ratePerAddress} handshakes a second (burst ${burstPerAddress}) from ${address}`,
    );
  }

  #handshake(socket: Socket, address: string, refused: (error: HandshakeError) => void): void {
    const { clock, onChannel } = this.#options;
    const over = (): void => {
      this.#drivers.delete(driver);
      this.#admission.leave(halfOpen);
    };
    const driver: HandshakeDriver = new HandshakeDriver({
      socket,
      machine: this.#responder(),
      clock,
      limits: this.#limits,
      firstFrame: true,
      onChannel: (channel) => {
        over();
        onChannel(channel);
      },
      onFailed: (error) => {
        over();
        refused(error);
      },
    });
    const halfOpen: HalfOpen = {
      address,
      evict: () =>
        driver.abort(
          new HandshakeError('half-open-evicted', 'Too many unfinished handshakes: the oldest gave way'),
        ),
    };
    this.#drivers.add(driver);
    this.#admission.enter(halfOpen);
  }

  #responder(): Responder {
    const { crypto, staticKey, identity, bundle, clock, modes, instance, lagMs } = this.#options;
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
      overloaded: lagMs === undefined ? undefined : () => lagMs() > handshake.maxEventLoopLagMs,
    });
  }
}

function ignore(): void {}
