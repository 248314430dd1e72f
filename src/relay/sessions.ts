/**
 * Sessions with peers: made of channels whose handshake is done, for both directions. The lives of a session
 * and its connections are tied together here, and the audit and the metrics hear of them.
 */
import type { AuditEventFields } from '../audit/event.ts';
import type { HandshakeConfig, PostQuantumPolicy, RecordsConfig } from '../config/config.ts';
import type { CryptoProvider } from '../crypto/provider.ts';
import type { LocalIdentity } from '../identity/local.ts';
import type { PeerIdentity } from '../identity/peer.ts';
import type { TrustBundle } from '../identity/trustbundle.ts';
import type { Blocks } from '../session/blocks.ts';
import { SessionError } from '../session/errors.ts';
import type { SessionEvent } from '../session/event.ts';
import { SessionManager } from '../session/manager.ts';
import { cleanupInterval } from '../session/options.ts';
import type { Session } from '../session/session.ts';
import { Acceptor } from '../transport/acceptor.ts';
import type { SecureChannel } from '../transport/channel.ts';
import type { ConnectionState } from '../transport/connectionlife.ts';
import { dial } from '../transport/dial.ts';
import { type CloseReason, HandshakeError } from '../transport/errors.ts';
import { verifiedChain } from '../transport/identityproof.ts';
import { modesOf, RESUMPTION, XXHFS } from '../transport/mode.ts';
import type { RekeyCause } from '../transport/recordoutput.ts';
import { StaticKey } from '../transport/statickey.ts';
import type { Ticket } from '../transport/ticket.ts';
import type { RelayContext } from './context.ts';
import { RelayError } from './errors.ts';
import { type PeerConnection, PeerConnections } from './peerconnections.ts';
import { type Founded, Resumption, type TakenTicket } from './resumption.ts';
import { blockedError } from './revokederror.ts';
import type { Dialled } from './upstreamconnection.ts';
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
  /** Counts the changes of policy: a session that was founded under another is not resumed. */
  readonly policyGeneration?: () => number;
  /** What else forbids a session to be resumed. */
  readonly mayResume?: (session: Session) => boolean;
  /** A session has ended: what was kept for it can go. */
  readonly onSessionEnded: (sessionId: string) => void;
}

/** How late the end of a session may be noticed. */
const SWEEP_MS = 1000;

/** What was cut with a session. */
export interface CutConnection {
  readonly remote: string;
  /** Records of every type that were accepted. */
  readonly records: number;
  /** The number of the last of them on this connection, the first being 0. */
  readonly lastRecord: number;
}

/** Whom to connect to. */
interface Destination {
  readonly service: string;
  readonly host: string;
  readonly port: number;
  readonly expectedPeer: string;
}

const CLOSED_IN_ORDER: readonly CloseReason[] = ['peer-closed', 'local-closed', 'close-timeout'];

export class PeerSessions {
  readonly manager: SessionManager;
  readonly #context: RelayContext;
  readonly #options: PeerSessionsOptions;
  readonly #staticKey: StaticKey;
  readonly #resumption: Resumption;
  readonly #dialling = new AbortController();
  readonly #connections: PeerConnections;

  constructor(context: RelayContext, options: PeerSessionsOptions) {
    this.#context = context;
    this.#options = options;
    this.#connections = new PeerConnections(context);
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
    const { crypto, session, identity, bundle, blocks, policyGeneration, mayResume } = options;
    this.#resumption = new Resumption({
      crypto,
      clock: context.clock,
      manager: this.manager,
      metrics: context.metrics,
      session,
      circumstances: () => ({
        identity: identity(),
        bundleGeneration: bundle().generation,
        policyGeneration: policyGeneration?.() ?? 0,
      }),
      mayResume: (each) => !blocks.has(each.peer) && mayResume?.(each) !== false,
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
      tickets: this.#resumption,
      onChannel: (channel) => {
        const peer = this.#admit(channel);
        if (peer !== undefined) onPeer(peer);
      },
      onRefused: ({ remoteAddress, remotePort, reason, detail, peer, handshaking, count }) => {
        const remote = remoteOf({ remoteAddress, remotePort });
        const state = handshaking ? 'handshaking' : undefined;
        this.#handshakeFailed({ direction: 'inbound', remote, state, reason, detail, peer }, count);
      },
      onTransition: this.#connections.changed,
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
      if (!(error instanceof SessionError) && !(error instanceof HandshakeError)) throw error;
      discard(channel, error.message);
      const { code: reason, message: detail } = error;
      const remote = remoteOf(channel);
      this.#handshakeFailed({ direction: 'inbound', remote, state: 'open', reason, detail, peer: spiffeId });
      return undefined;
    }
  }

  #refuseBlocked(channel: SecureChannel, direction: 'inbound' | 'outbound', peer: string): RelayError {
    const error = blockedError(peer);
    discard(channel, error.message);
    const remote = remoteOf(channel);
    const reason = 'peer-blocked';
    this.#handshakeFailed({ direction, remote, state: 'open', reason, detail: error.message, peer });
    return error;
  }

  /**
   * Connects to the peer at an address: joins the session that there is with it, if it may be resumed, or else opens one.
   * Rejects with RelayError.
   */
  async dial(service: string, host: string, port: number, expectedPeer: string): Promise<Dialled> {
    const to: Destination = { service, host, port, expectedPeer };
    const spot = `${service} ${host} ${port} ${expectedPeer}`;
    let taken: TakenTicket | undefined;
    const takeTicket = (): Ticket | undefined => {
      taken = this.#resumption.take(spot);
      return taken?.ticket;
    };
    let dialled: Dialled;
    try {
      dialled = await this.#dial(to, spot, takeTicket);
    } catch (error) {
      // The session may have ended, here or there, while it was being resumed: that shall cost nobody a call.
      if (taken === undefined || !endedMeanwhile(error)) throw error;
      dialled = await this.#dial(to, spot, takeTicket);
    }
    if (taken !== undefined && dialled.session !== taken.session) this.#resumption.declined(taken);
    return dialled;
  }

  async #dial(to: Destination, spot: string, takeTicket: () => Ticket | undefined): Promise<Dialled> {
    const { service, host, port, expectedPeer } = to;
    const { identity, bundle, crypto, handshake, records, postQuantum, instance, blocks } = this.#options;
    if (blocks.has(expectedPeer)) throw blockedError(expectedPeer);
    const where = remoteOf({ remoteAddress: host, remotePort: port });
    const startedAt = this.#context.clock.monotonic();
    let channel: SecureChannel;
    let failedIn: ConnectionState | undefined;
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
        takeTicket,
        signal: this.#dialling.signal,
        onTransition: (change) => {
          failedIn = change.from;
          this.#connections.changed(change);
        },
      });
    } catch (error) {
      throw this.#dialError(service, where, expectedPeer, failedIn, error);
    }
    const seconds = (this.#context.clock.monotonic() - startedAt) / 1000;
    this.#context.metrics.handshakeDuration.of('outbound').observe(seconds);
    if (blocks.has(expectedPeer)) throw this.#refuseBlocked(channel, 'outbound', expectedPeer);
    try {
      const peer = this.#begin(channel, 'outbound', service, spot);
      return { wire: channel, session: peer.session, remote: peer.remote };
    } catch (cause) {
      discard(channel, '');
      if (cause instanceof HandshakeError) throw this.#dialError(service, where, expectedPeer, 'open', cause);
      throw new RelayError('sessions-full', `no session with ${service} could be opened: ${String(cause)}`, {
        cause,
      });
    }
  }

  #dialError(
    service: string,
    where: string,
    expectedPeer: string,
    state: ConnectionState | undefined,
    error: unknown,
  ): RelayError {
    if (!(error instanceof HandshakeError)) throw error;
    const { code: reason, message: detail, peer = expectedPeer } = error;
    this.#handshakeFailed({ direction: 'outbound', remote: where, state, reason, detail, peer });
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

  #handshakeFailed(failure: AuditEventFields['handshake.failed'], count = 1): void {
    this.#context.metrics.handshakes.of(failure.direction, failure.reason).inc(count);
    this.#context.recorder.record({ type: 'handshake.failed', ...failure });
    this.#context.log.warn(failure, 'handshake failed');
  }

  /**
   * Puts a channel that is up on its session. Throws SessionError, or HandshakeError if its peer is not to be believed any
   * more; the channel is then still the caller's.
   */
  #begin(
    channel: SecureChannel,
    direction: 'inbound' | 'outbound',
    serviceId: string | undefined,
    spot?: string,
  ): PeerConnection {
    const { recorder, metrics } = this.#context;
    const resumes = channel.session.mode === RESUMPTION.id;
    const session = resumes ? this.#resumption.join(channel) : this.#found(channel, direction, serviceId);
    session.attach();
    if (!resumes) this.#resumption.founded(channel, session, spot);
    this.#resumption.exchange(channel, session);
    channel.tally = session.counters;
    const remote = remoteOf(channel);
    const connection = { channel, session, remote };
    const { id } = session;
    metrics.handshakes.of(direction, 'ok').inc();
    metrics.handshakeModes.of(direction, `${channel.session.mode}`).inc();
    if (resumes) {
      session.resumed();
      metrics.sessionsResumed.of(direction).inc();
      recorder.record({
        type: 'session.resumed',
        sessionId: id,
        peer: session.peer,
        direction,
        connections: session.connections,
        expiresAt: new Date(session.expiresAt).toISOString(),
      });
    } else {
      recorder.record({
        type: 'session.created',
        sessionId: id,
        peer: session.peer,
        direction,
        mode: channel.session.mode,
        expiresAt: new Date(session.expiresAt).toISOString(),
      });
    }
    this.#connections.joined(connection);
    const onRekey = (way: 'send' | 'receive', cause: RekeyCause): void => {
      metrics.rekeys.of(way === 'send' ? 'out' : 'in').inc();
      recorder.record({ type: 'session.rekeyed', sessionId: id, direction: way, cause });
    };
    channel.onRekey = onRekey;
    const onSuccessorDue = (): void => this.replace(session);
    channel.onSuccessorDue = onSuccessorDue;
    return connection;
  }

  #found(channel: SecureChannel, direction: 'inbound' | 'outbound', serviceId: string | undefined): Session {
    const { id, key, mode } = channel.session;
    const peer = this.#believed(channel);
    return this.manager.create({
      id,
      sessionKey: key,
      peer: peer.spiffeId,
      address: channel.remoteAddress,
      serviceId,
      direction,
      postQuantum: mode === XXHFS.id,
      notAfter: Math.min(peer.notAfter, channel.resumable.identity.notAfter),
    });
  }

  /** The peer of a full handshake, as it is seen now: the trust bundle may have changed since its chain was verified. */
  #believed({ peer, resumable }: SecureChannel): PeerIdentity {
    const bundle = this.#options.bundle();
    if (bundle.generation === resumable.bundleGeneration) return peer;
    return verifiedChain(peer.chain, bundle, this.#context.clock.now());
  }

  /** Every session that lives, with the handshake that it came of. */
  get founded(): readonly Founded[] {
    return this.#resumption.all;
  }

  /** Has a session that we opened replaced, because an identity has changed: by a full handshake, before it ends. */
  replace(session: Session): void {
    session.age('identity-rotated');
    // One that was never used needs no successor until there is a call.
    if (session.counters.calls === 0) session.drain('identity-rotated');
  }

  /** Ends a session now, in order on the wire. When this returns, no record of its peer will be opened any more. */
  distrust(session: Session, why: string): void {
    const connections = this.#connections.of(session.id);
    for (const { channel } of connections) channel.deafen();
    // Its connections say goodbye: they listen for its end.
    session.end('identity-untrusted');
    for (const { channel } of connections) channel.cut('identity-untrusted', why);
  }

  /** The connections of a session. */
  connectionsOf(session: Session): readonly PeerConnection[] {
    return this.#connections.of(session.id);
  }

  /**
   * Shuts a session off, whatever its connections are doing: when this returns, no record of its peer will be opened any
   * more, no call begins in it, and no ticket resumes it. `cut` comes after, with what is returned.
   */
  bar(session: Session, mayReturn: boolean): readonly PeerConnection[] {
    const connections = this.#connections.of(session.id);
    session.bar(mayReturn);
    for (const { channel } of connections) channel.deafen();
    return connections;
  }

  /** Ends a barred session: its calls, then its connections. What it had open, as it was left. */
  cut(session: Session, connections: readonly PeerConnection[], why: string): CutConnection[] {
    // Its connections say goodbye: they listen for its end.
    session.finishEnd();
    return connections.map(({ channel, remote }) => {
      channel.cut('revoked', why);
      return { remote, records: channel.received, lastRecord: channel.received - 1 };
    });
  }

  /**
   * A connection of a session has closed. If it was the last, the session rests and may be resumed; but it ends if both
   * sides have agreed to close: then neither keeps it.
   */
  closed(session: Session, remote: string, reason: CloseReason, detail: string): void {
    this.#connections.closed(session, remote, reason, detail);
    if (session.connections === 1 && CLOSED_IN_ORDER.includes(reason)) session.resumable = false;
    session.detach(reason);
  }

  #onEvent(event: SessionEvent): void {
    const { metrics, recorder } = this.#context;
    if (event.type === 'created') {
      metrics.sessionsCreated.of(event.session.direction).inc();
    } else if (event.type === 'disposed') {
      const { session, reason, outcome, counters } = event;
      metrics.sessionsClosed.of(reason).inc();
      this.#resumption.ended(session.id);
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

/** Ends a channel that got no session; the key of one that it would have joined is not its own. */
function discard(channel: SecureChannel, detail: string): void {
  if (channel.session.mode !== RESUMPTION.id) channel.session.key.wipe();
  channel.destroy('refused', detail);
}

/** Whether a handshake was good and its connection got no session all the same. */
function endedMeanwhile(error: unknown): boolean {
  const cause = error instanceof RelayError ? error.cause : undefined;
  return cause instanceof SessionError || (cause instanceof HandshakeError && cause.code === 'not-confirmed');
}
