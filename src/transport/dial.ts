import { isIP } from 'node:net';
import type { Clock } from '../clock/clock.ts';
import type { CryptoProvider } from '../crypto/provider.ts';
import type { LocalIdentity } from '../identity/local.ts';
import type { SecureChannel } from './channel.ts';
import { ConnectionLife, type ConnectionListener } from './connectionlife.ts';
import { HandshakeDriver } from './driver.ts';
import { HandshakeError } from './errors.ts';
import type { ChainVerifier } from './identityproof.ts';
import { Initiator } from './initiator.ts';
import { type LimitOverrides, transportLimits } from './limits.ts';
import { MODES, type Mode } from './mode.ts';
import { openSocket } from './opensocket.ts';
import type { StaticKey } from './statickey.ts';
import type { Ticket } from './ticket.ts';

export interface DialOptions {
  /** An IP address, or a name that the operating system resolves. */
  readonly host: string;
  readonly port: number;
  /** Where the connection shall come from. */
  readonly localAddress?: string;
  /** Who we are. */
  readonly identity: LocalIdentity;
  /** Whom to believe: a TrustBundle. */
  readonly bundle: ChainVerifier;
  /** The SPIFFE ID that the other end must prove. */
  readonly expectedPeer: string;
  readonly staticKey: StaticKey;
  readonly crypto: CryptoProvider;
  readonly clock: Clock;
  readonly limits?: LimitOverrides;
  /** The modes that policy allows, the most preferred first. */
  readonly modes?: readonly Mode[];
  /** 8 bytes that name this process to its peers. */
  readonly instance?: Buffer;
  /** Whether the channel's onTicket shall get tickets. */
  readonly tickets?: boolean;
  /** Takes a ticket to try first: asked once the TCP connection is there. Implies `tickets`. */
  readonly takeTicket?: () => Ticket | undefined;
  readonly signal?: AbortSignal;
  /** Hears of every step of the connection's life. */
  readonly onTransition?: ConnectionListener;
}

/**
 * Connects to a peer. Resolves once the peer has confirmed the handshake with a record of its own; then set `onClose`,
 * `onDrain` and, last, `onData`; with `tickets` also `onTicket`. Rejects with HandshakeError, nothing being left of the
 * attempt.
 */
export function dial(options: DialOptions): Promise<SecureChannel> {
  return new Promise((resolve, reject) => {
    const { host, port, localAddress, clock, signal, staticKey } = options;
    const limits = transportLimits(options.limits);
    const where = `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
    if (signal?.aborted === true) throw aborted(where, signal.reason);
    const machine = new Initiator({
      crypto: options.crypto,
      modes: options.modes ?? MODES,
      staticKey: staticKey.current,
      identity: options.identity,
      bundle: options.bundle,
      now: () => clock.now(),
      limits: limits.handshake,
      maxRecord: limits.records.maxLength,
      instance: options.instance,
      expectedPeer: options.expectedPeer,
      tickets: options.tickets,
      takeTicket: options.takeTicket,
    });
    const life = new ConnectionLife({
      direction: 'outbound',
      remoteAddress: host,
      remotePort: port,
      clock,
      listener: options.onTransition,
    });
    const socket = openSocket({
      host,
      port,
      ...(localAddress === undefined ? {} : { localAddress }),
      ...(isIP(host) === 0 ? {} : { autoSelectFamily: false }),
    });
    let driver: HandshakeDriver | undefined;
    const settled = (): void => {
      clock.clear(timer);
      socket.off('error', unreachable);
      signal?.removeEventListener('abort', onAbort);
    };
    const fail = (error: HandshakeError): void => {
      settled();
      socket.on('error', ignore);
      socket.destroy();
      life.closed(error.code);
      reject(error);
    };
    const unreachable = (cause: Error): void => {
      fail(new HandshakeError('connect-failed', `No connection to ${where}: ${cause.message}`, { cause }));
    };
    const onAbort = (): void => {
      const error = aborted(where, signal?.reason);
      if (driver === undefined) fail(error);
      else driver.abort(error);
    };
    const { connectTimeoutMs } = limits.handshake;
    const timer = clock.after(connectTimeoutMs, () =>
      fail(new HandshakeError('connect-timeout', `No connection to ${where} within ${connectTimeoutMs} ms`)),
    );
    socket.once('error', unreachable);
    signal?.addEventListener('abort', onAbort);
    socket.once('connect', () => {
      clock.clear(timer);
      socket.off('error', unreachable);
      life.connected();
      driver = new HandshakeDriver({
        socket,
        life,
        machine,
        clock,
        limits,
        firstFrame: false,
        onChannel: (channel) => {
          settled();
          resolve(channel);
        },
        onFailed: (error) => {
          settled();
          reject(error);
        },
      });
    });
  });
}

function aborted(where: string, cause: unknown): HandshakeError {
  return new HandshakeError('aborted', `The connection to ${where} was given up from here`, { cause });
}

function ignore(): void {}
