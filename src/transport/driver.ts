import type { Socket } from 'node:net';
import type { Clock, TimerHandle } from '../clock/clock.ts';
import { type CloseListener, SecureChannel } from './channel.ts';
import type { ConnectionLife } from './connectionlife.ts';
import { HandshakeError, type HandshakeErrorCode } from './errors.ts';
import { asHandshakeError, type Established, type HandshakeMachine } from './handshake.ts';
import type { TransportLimits } from './limits.ts';
import type { Turnstile } from './turnstile.ts';

/** How long a peer whose turn it is may take until its handshake gives way to others. */
const ANSWER_MS = 500;
/** How long a socket may take to send an alert and go. */
const ALERT_LINGER_MS = 1_000;

export interface DriverOptions {
  /** Connected. Belongs to the driver, then to the channel. */
  readonly socket: Socket;
  /** In its state `handshaking`. */
  readonly life: ConnectionLife;
  readonly machine: HandshakeMachine;
  readonly clock: Clock;
  readonly limits: TransportLimits;
  /** Whether the first frame has a deadline of its own. */
  readonly firstFrame: boolean;
  /** Shared with other handshakes: what comes waits there for its turn, and nothing more is read meanwhile. */
  readonly turnstile?: Turnstile;
  /** The channel is up. The listener sets its callbacks before it returns, or soon after. */
  readonly onChannel: (channel: SecureChannel) => void;
  /** Called once if the handshake fails; the socket is gone then. */
  readonly onFailed: (error: HandshakeError) => void;
}

/** Connects a handshake machine with a socket and the clock, until there is a channel or a failure. */
export class HandshakeDriver {
  readonly #options: DriverOptions;
  #over = false;
  /** Something of the peer's waits for its turn. */
  #queued: (() => void) | undefined;
  /** When it became the peer's turn. */
  #peersTurnAt: number;
  /** What the peer has sent since was less than a message. */
  #dribbles = false;
  #channel: SecureChannel | undefined;
  readonly #deadline: TimerHandle;
  #firstDeadline: TimerHandle;

  constructor(options: DriverOptions) {
    this.#options = options;
    const { socket, machine, clock, limits, firstFrame } = options;
    const { timeoutMs, firstFrameTimeoutMs } = limits.handshake;
    this.#deadline = clock.after(timeoutMs, () =>
      this.#late('handshake-timeout', `The handshake was not over after ${timeoutMs} ms`),
    );
    if (firstFrame) {
      this.#firstDeadline = clock.after(firstFrameTimeoutMs, () =>
        this.#late(
          'first-frame-timeout',
          `CLIENT_HELLO and message 1 did not come within ${firstFrameTimeoutMs} ms`,
        ),
      );
    }
    this.#peersTurnAt = clock.monotonic();
    socket.setNoDelay(true);
    socket.on('data', this.#data);
    socket.on('end', this.#ended);
    socket.on('error', this.#errored);
    socket.on('close', this.#ended);
    try {
      const opening = machine.start();
      if (opening !== undefined) socket.write(opening);
    } catch (cause) {
      this.#fail(asHandshakeError(cause));
    }
  }

  /**
   * The peer waits for us, or it has been its turn for a moment only. Not one that sends its message piecemeal: else single
   * octets, again and again, would keep a place that costs others a handshake.
   */
  get busy(): boolean {
    if (this.#dribbles) return false;
    if (this.#queued !== undefined) return true;
    return this.#options.clock.monotonic() - this.#peersTurnAt < ANSWER_MS;
  }

  /** Ends the handshake, if it is not over. */
  abort(error: HandshakeError): void {
    this.#fail(error);
  }

  readonly #data = (chunk: Buffer): void => {
    const { turnstile, socket } = this.#options;
    if (turnstile === undefined) {
      this.#step(chunk);
      return;
    }
    const own = Buffer.from(chunk); // the chunk is the socket's
    socket.pause();
    const step = (): void => {
      this.#queued = undefined;
      this.#step(own);
      if (!this.#over) socket.resume();
    };
    this.#queued = step;
    turnstile.pass(step);
  };

  #step(chunk: Buffer): void {
    const { machine, clock, socket } = this.#options;
    try {
      const step = machine.receive(chunk);
      this.#dribbles = step === undefined;
      if (step === undefined) return;
      clock.clear(this.#firstDeadline);
      this.#peersTurnAt = clock.monotonic();
      if (step.established !== undefined) this.#establish(step.established, step.send, step.rest);
      else if (step.send !== undefined) socket.write(step.send);
    } catch (cause) {
      this.#fail(asHandshakeError(cause));
    }
  }

  readonly #ended = (): void => {
    this.#fail(new HandshakeError('connection-lost', 'The peer closed the connection during the handshake'));
  };

  readonly #errored = (cause: Error): void => {
    this.#fail(new HandshakeError('connection-lost', cause.message, { cause }));
  };

  #late(code: HandshakeErrorCode, message: string): void {
    this.#fail(new HandshakeError(code, message, { peer: this.#channel?.peer.spiffeId }));
  }

  /** The handshake messages are done; what is missing is the peer's first record. */
  #establish(established: Established, send: Buffer | undefined, rest: Buffer | undefined): void {
    const { socket, life, clock, limits } = this.#options;
    this.#detach();
    const channel = new SecureChannel(socket, life, established, clock, limits.records, () => this.#up());
    this.#channel = channel;
    const onClose: CloseListener = (reason, detail) => {
      const hint =
        established.role === 'initiator' && reason === 'truncated'
          ? ': it may have refused our identity'
          : '';
      this.#fail(
        new HandshakeError('not-confirmed', `Before the peer's first record, ${reason}: ${detail}${hint}`, {
          peer: channel.peer.spiffeId,
        }),
      );
    };
    channel.onClose = onClose;
    if (established.role === 'initiator') {
      socket.cork();
      if (send !== undefined) socket.write(send);
      channel.greet();
      socket.uncork();
    } else {
      if (send !== undefined) socket.write(send);
      if (rest !== undefined) channel.feed(rest);
    }
  }

  #up(): void {
    if (this.#over) return;
    this.#over = true;
    this.#clearTimers();
    this.#options.onChannel(this.#channel as SecureChannel);
  }

  #fail(error: HandshakeError): void {
    if (this.#over) return;
    this.#over = true;
    this.#clearTimers();
    this.#detach();
    if (this.#queued !== undefined) this.#options.turnstile?.leave(this.#queued);
    this.#queued = undefined;
    this.#options.machine.abort();
    if (this.#channel !== undefined) this.#channel.destroy('refused', error.message);
    else this.#dismiss(error.alert);
    this.#options.life.closed(error.code);
    this.#options.onFailed(error);
  }

  #dismiss(alert: Buffer | undefined): void {
    const { socket, clock } = this.#options;
    socket.on('error', ignore);
    if (alert === undefined) {
      socket.destroy();
      return;
    }
    // Unread bytes would turn the close into a reset, which may overtake the alert.
    socket.resume();
    socket.end(alert);
    const timer = clock.after(ALERT_LINGER_MS, () => socket.destroy());
    socket.once('close', () => clock.clear(timer));
  }

  #detach(): void {
    const { socket } = this.#options;
    socket.off('data', this.#data);
    socket.off('end', this.#ended);
    socket.off('error', this.#errored);
    socket.off('close', this.#ended);
  }

  #clearTimers(): void {
    this.#options.clock.clear(this.#deadline);
    this.#options.clock.clear(this.#firstDeadline);
  }
}

function ignore(): void {}
