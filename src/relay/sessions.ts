/**
 * Sessions with peers: made of channels whose handshake is done, for both directions. The lives of a session
 * and its connections are tied together here, and the audit and the metrics hear of them.
 */
import type { HandshakeConfig, PostQuantumPolicy, RecordsConfig } from '../config/config.ts';
import type { CryptoProvider } from '../crypto/provider.ts';
import type { LocalIdentity } from '../identity/local.ts';
import type { TrustBundle } from '../identity/trustbundle.ts';
import type { Blocks } from '../session/blocks.ts';
import { SessionError } from '../session/errors.ts';
import type { SessionEvent } from '../session/event.ts';
import { SessionManager } from '../session/manager.ts';
import { cleanupInterval } from '../session/options.ts';
import type { Session } from '../session/session.ts';
import { Acceptor } from '../transport/acceptor.ts';
import type { SecureChannel } from '../transport/channel.ts';
import { dial } from '../transport/dial.ts';
import { type CloseReason, HandshakeError } from '../transport/errors.ts';
import { modesOf, XXHFS } from '../transport/mode.ts';
import { StaticKey } from '../transport/statickey.ts';
import type { RelayContext } from './context.ts';
import { RelayError } from './errors.ts';
import { blockedError } from './revokederror.ts';
import type { Dialled } from './upstream.ts';
import { remoteOf } from './wire.ts';

export interface PeerSessionsOptions {
  readonly crypto: CryptoProvider;
  readonly identity: () => LocalIdentity;
  readonly bundle: () => TrustBundle;
  readonly handshake: HandshakeConfig;
  readonly records: RecordsConfig;
  /** Unless `off`, `crypto` has been loaded with ML-KEM. */
  readonly postQuantum: PostQuantumPolicy;
  readonly session: {
    readonly idleMs: number;
    readonly absoluteMs: number;
    readonly graceMs: number;
    readonly max: number;
    readonly maxPerPeer: number;
  };
  /** 8 bytes that name this process to its peers. */
  readonly instance: Buffer;
  readonly lagMs: () => number;
  /** Peers with whom there is no session. */
  readonly blocks: Blocks;
  /** A session has ended: what was kept for it can go. */
  readonly onSessionEnded: (sessionId: string) => void;
}

/** How late the end of a session may be noticed. */
const SWEEP_MS = 1000;

/** A peer's channel and the session on it. Whoever gets it ends the channel when the session drains or is disposed. */
export interface PeerConnection {
  readonly channel: SecureChannel;
  readonly session: Session;
  readonly remote: string;
}

/** What was cut with a session. */
export interface CutConnection {
  readonly remote: string;
  /** Records of every type that were accepted. */
  readonly records: number;
  /** The number of the last of them on this connection, the first being 0. */
  readonly lastRecord: number;
}

export class PeerSessions {
  readonly manager: SessionManager;
  readonly #context: RelayContext;
  readonly #options: PeerSessionsOptions;
  readonly #staticKey: StaticKey;
  readonly #dialling = new AbortController();
  /** The open connections of each session, by its id. */
  readonly #connections = new Map<string, Set<PeerConnection>>();

  constructor(context: RelayContext, options: PeerSessionsOptions) {
    this.#context = context;
    this.#options = options;
    const { staticKeyLifetimeMs, connectTimeoutMs, timeoutMs } = options.handshake;
    // A dial takes the key before it connects.
    const graceMs = connectTimeoutMs + timeoutMs;
    this.#staticKey = new StaticKey(options.crypto, context.clock, staticKeyLifetimeMs, graceMs);
    const { idleMs, absoluteMs } = options.session;
    this.manager = new SessionManager({
      clock: context.clock,
      ...options.session,
      cleanupIntervalMs: cleanupInterval(SWEEP_MS, idleMs, absoluteMs),
      onEvent: (event) => this.#onEvent(event),
      onListenerError: (error) => context.log.error({ error: String(error) }, 'a session listener failed'),
    });
  }

  /** Takes connections from peers; `onPeer` gets those whose handshake and session are good. */
  acceptor(onPeer: (peer: PeerConnection) => void): Acceptor {
    const { identity, bundle, crypto, handshake, records, postQuantum, instance, lagMs } = this.#options;
    return new Acceptor({
      identity,
      bundle,
      crypto,
      staticKey: this.#staticKey,
      clock: this.#context.clock,
      limits: { handshake, records },
      modes: modesOf(postQuantum),
      instance,
      lagMs,
      isBlocked: (peer) => this.#options.blocks.has(peer),
      onChannel: (channel) => {
        const peer = this.#admit(channel);
        if (peer !== undefined) onPeer(peer);
      },
      onRefused: ({ remoteAddress, remotePort, reason, detail, peer, count }) => {
        this.#handshakeFailed(
          'inbound',
          remoteOf({ remoteAddress, remotePort }),
          reason,
          detail,
          peer,
          count,
        );
      },
    });
  }

  #admit(channel: SecureChannel): PeerConnection | undefined {
    const { spiffeId } = channel.peer;
    if (this.#options.blocks.has(spiffeId)) {
      // Blocked between its last message and its first record.
      this.#refuseBlocked(channel, 'inbound', spiffeId);
      return undefined;
    }
    try {
      return this.#begin(channel, 'inbound', undefined);
    } catch (error) {
      if (!(error instanceof SessionError)) throw error;
      channel.session.key.wipe();
      channel.destroy('refused', error.message);
      this.#handshakeFailed('inbound', remoteOf(channel), error.code, error.message, spiffeId);
      return undefined;
    }
  }

  #refuseBlocked(channel: SecureChannel, direction: 'inbound' | 'outbound', peer: string): RelayError {
    const error = blockedError(peer);
    channel.session.key.wipe();
    channel.destroy('refused', error.message);
    this.#handshakeFailed(direction, remoteOf(channel), 'peer-blocked', error.message, peer);
    return error;
  }

  /** Opens a session with the peer at an address. Rejects with RelayError. */
  async dial(service: string, host: string, port: number, expectedPeer: string): Promise<Dialled> {
    const { identity, bundle, crypto, handshake, records, postQuantum, instance, blocks } = this.#options;
    if (blocks.has(expectedPeer)) throw blockedError(expectedPeer);
    const where = remoteOf({ remoteAddress: host, remotePort: port });
    const startedAt = this.#context.clock.monotonic();
    let channel: SecureChannel;
    try {
      channel = await dial({
        host,
        port,
        identity: identity(),
        bundle: bundle(),
        expectedPeer,
        staticKey: this.#staticKey,
        crypto,
        clock: this.#context.clock,
        limits: { handshake, records },
        modes: modesOf(postQuantum),
        instance,
        signal: this.#dialling.signal,
      });
    } catch (error) {
      throw this.#dialError(service, where, expectedPeer, error);
    }
    const seconds = (this.#context.clock.monotonic() - startedAt) / 1000;
    this.#context.metrics.handshakeDuration.of('outbound').observe(seconds);
    if (blocks.has(expectedPeer)) throw this.#refuseBlocked(channel, 'outbound', expectedPeer);
    try {
      const peer = this.#begin(channel, 'outbound', service);
      return { wire: channel, session: peer.session, remote: peer.remote };
    } catch (cause) {
      channel.session.key.wipe();
      channel.destroy('refused');
      throw new RelayError('sessions-full', `no session with ${service} could be opened: ${String(cause)}`, {
        cause,
      });
    }
  }

  #dialError(service: string, where: string, expectedPeer: string, error: unknown): RelayError {
    if (!(error instanceof HandshakeError)) throw error;
    this.#handshakeFailed('outbound', where, error.code, error.message, error.peer ?? expectedPeer);
    const cause = { cause: error };
    if (error.code === 'connect-failed' || error.code === 'connect-timeout') {
      return new RelayError(
        'peer-unreachable',
        `${service} at ${where}: ${error.message}. Is the peer's sidecar running there?`,
        cause,
      );
    }
    if (error.code === 'aborted') return new RelayError('draining', 'this sidecar is shutting down', cause);
    const message = `the handshake with ${service} at ${where} failed (${error.code}): ${error.message}`;
    return new RelayError('handshake-refused', message, cause);
  }

  #handshakeFailed(
    direction: 'inbound' | 'outbound',
    remote: string,
    reason: string,
    detail: string,
    peer?: string,
    count = 1,
  ): void {
    this.#context.metrics.handshakes.of(direction, reason).inc(count);
    this.#context.recorder.record({ type: 'handshake.failed', direction, remote, reason, detail, peer });
    this.#context.log.warn({ direction, remote, reason, detail, peer }, 'handshake failed');
  }

  /** Makes the session of a channel that is up. Throws SessionError; the channel is then still the caller's. */
  #begin(
    channel: SecureChannel,
    direction: 'inbound' | 'outbound',
    serviceId: string | undefined,
  ): PeerConnection {
    const { recorder, metrics } = this.#context;
    const { id, key, mode } = channel.session;
    const session = this.manager.create({
      id,
      sessionKey: key,
      peer: channel.peer.spiffeId,
      serviceId,
      direction,
      postQuantum: mode === XXHFS.id,
      notAfter: Math.min(channel.peer.notAfter, this.#options.identity().notAfter),
    });
    session.attach();
    channel.tally = session.counters;
    const remote = remoteOf(channel);
    const connection = { channel, session, remote };
    const connections = this.#connections.get(id);
    if (connections === undefined) this.#connections.set(id, new Set([connection]));
    else connections.add(connection);
    metrics.handshakes.of(direction, 'ok').inc();
    metrics.handshakeModes.of(direction, `${mode}`).inc();
    metrics.connections.of('peer').inc();
    metrics.connectionsOpen.of('peer').inc();
    recorder.record({
      type: 'session.created',
      sessionId: id,
      peer: session.peer,
      direction,
      mode,
      expiresAt: new Date(session.expiresAt).toISOString(),
    });
    recorder.record({ type: 'connection.opened', side: 'peer', remote, sessionId: id });
    channel.onRekey = (way, cause) => {
      metrics.rekeys.of(way === 'send' ? 'out' : 'in').inc();
      recorder.record({ type: 'session.rekeyed', sessionId: id, direction: way, cause });
    };
    return connection;
  }

  /**
   * Cuts a session, whatever its connections are doing: when this returns, no record of its peer will be opened any
   * more. What it had open, as it was left.
   */
  cut(session: Session, mayReturn: boolean, why: string): CutConnection[] {
    const connections = [...(this.#connections.get(session.id) ?? [])];
    // Its connections say goodbye: they hear of the end by onDisposed.
    session.revoke(mayReturn);
    return connections.map(({ channel, remote }) => {
      channel.cut('revoked', why);
      return { remote, records: channel.received, lastRecord: channel.received - 1 };
    });
  }

  /** A connection of a session has closed; the session ends with its last. */
  closed(session: Session, remote: string, reason: CloseReason, detail: string): void {
    this.#context.metrics.connectionsOpen.of('peer').dec();
    this.#context.metrics.connectionsClosed.of('peer', reason).inc();
    this.#context.recorder.record({
      type: 'connection.closed',
      side: 'peer',
      remote,
      sessionId: session.id,
      reason,
      detail,
    });
    this.#forgetClosed(session.id);
    session.detach(reason);
  }

  #forgetClosed(sessionId: string): void {
    const connections = this.#connections.get(sessionId);
    for (const connection of connections ?? []) {
      if (connection.channel.closed) connections?.delete(connection);
    }
    if (connections?.size === 0) this.#connections.delete(sessionId);
  }

  #onEvent(event: SessionEvent): void {
    const { metrics, recorder } = this.#context;
    if (event.type === 'created') {
      metrics.sessionsCreated.of(event.session.direction).inc();
    } else if (event.type === 'disposed') {
      const { session, reason, outcome, counters } = event;
      metrics.sessionsClosed.of(reason).inc();
      this.#options.onSessionEnded(session.id);
      // Whoever revoked it records that, with the receipt.
      if (session.revocation !== undefined) return;
      recorder.record({
        type: outcome === 'revoked' ? 'session.closed' : `session.${outcome}`,
        sessionId: session.id,
        peer: session.peer,
        direction: session.direction,
        reason,
        calls: counters.calls,
        bytesIn: counters.bytesIn,
        bytesOut: counters.bytesOut,
      });
    }
  }

  /** Gives up dialling. */
  stopDialling(): void {
    this.#dialling.abort();
  }

  /** Drains the sessions that peers have opened; ours are needed for the calls that were taken. */
  drainInbound(deadlineMs: number): void {
    this.manager.drain(deadlineMs, ({ direction }) => direction === 'inbound');
  }

  /** Drains every session, ends it at the deadline, calls `beforeWipe`, then wipes their keys and ours. */
  async close(deadlineMs: number, beforeWipe: () => Promise<void>): Promise<void> {
    this.stopDialling();
    try {
      await this.manager.shutdown(deadlineMs, beforeWipe);
    } finally {
      this.#staticKey.close();
    }
  }
}
