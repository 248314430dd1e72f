import type { IncomingMessage } from 'node:http';
import { Agent, request } from 'node:https';
import type { Clock } from '../../clock/clock.ts';
import { version } from '../../telemetry/version.ts';
import type { Proof } from './credentials.ts';
import { connectionError, type KubeError, localError } from './errors.ts';
import type { Action } from './resource.ts';

/** Requests at a time; watches are not counted. */
const MAX_SOCKETS = 32;
/** Below the 90 s after which servers written in Go close a connection that is not used. */
const IDLE_MS = 60_000;

export interface Question {
  readonly action: Action;
  readonly method: string;
  /** With the query. */
  readonly path: string;
  readonly body?: Buffer | undefined;
  readonly contentType?: string | undefined;
  /** It has its own connection. */
  readonly watching?: boolean;
  readonly proof: Proof;
  /** Until the answer begins; with `answer`, until it is whole. */
  readonly deadlineMs: number;
  readonly signal?: AbortSignal | undefined;
}

export interface Answer {
  readonly status: number;
  /** Field `retry-after`. */
  readonly retryAfter: string | undefined;
  readonly body: string;
}

/** An answer that broke off on a connection that had been kept: it may be asked again on a new one. */
export class StaleConnection extends Error {
  override readonly name = 'StaleConnection';
}

/** HTTPS to one server. The certificate is always verified, by the CA of each question's proof. */
export class Exchange {
  readonly #url: URL;
  readonly #clock: Clock;
  readonly #maxBytes: number;
  #ca: string | undefined;
  #agents: { requests: Agent; watches: Agent } | undefined;
  readonly #open = new Set<IncomingMessage>();
  #closed = false;

  constructor(url: URL, clock: Clock, maxBytes: number) {
    this.#url = url;
    this.#clock = clock;
    this.#maxBytes = maxBytes;
  }

  /** The whole answer. */
  async ask(question: Question): Promise<Answer> {
    const endsAt = this.#clock.monotonic() + question.deadlineMs;
    const message = await this.begin(question);
    return this.rest({ ...question, deadlineMs: endsAt - this.#clock.monotonic() }, message);
  }

  /** The rest of an answer that has begun, within the question's deadline. */
  async rest(question: Question, message: IncomingMessage): Promise<Answer> {
    const body = await this.#whole(question, message, question.deadlineMs);
    return { status: message.statusCode ?? 0, retryAfter: message.headers['retry-after'], body };
  }

  /** The answer's head; whoever reads its body bounds it, and destroys it if not read to its end. */
  begin(question: Question): Promise<IncomingMessage> {
    const { action, signal, body } = question;
    const late = () =>
      localError(
        action,
        this.#url.host,
        'DeadlineExceeded',
        `no answer in ${Math.round(question.deadlineMs)} ms`,
      );
    return new Promise((resolve, reject) => {
      if (signal?.aborted || this.#closed) return reject(this.#aborted(action));
      const agents = this.#agentsFor(question.proof.ca);
      const sent = request(this.#url, {
        method: question.method,
        path: `${this.#url.pathname.replace(/\/$/, '')}${question.path}`,
        agent: question.watching ? agents.watches : agents.requests,
        headers: {
          authorization: question.proof.authorization,
          accept: 'application/json',
          'user-agent': `hauberk/${version()}`,
          ...(body !== undefined && {
            'content-type': question.contentType ?? 'application/json',
            'content-length': body.length,
          }),
        },
      });
      const settle = (outcome: () => void): void => {
        this.#clock.clear(timer);
        signal?.removeEventListener('abort', abort);
        outcome();
      };
      const fail = (error: Error): void => {
        settle(() => reject(error));
        sent.destroy();
      };
      const abort = (): void => fail(this.#aborted(action));
      const timer = this.#clock.after(question.deadlineMs, () => fail(late()));
      signal?.addEventListener('abort', abort);
      sent.on('error', (error) =>
        settle(() => {
          const cut = (error as NodeJS.ErrnoException).code === 'ECONNRESET';
          const failure = this.#closed
            ? this.#aborted(action)
            : connectionError(action, this.#url.host, error);
          reject(
            cut && sent.reusedSocket ? new StaleConnection('kept connection', { cause: failure }) : failure,
          );
        }),
      );
      sent.on('response', (message) =>
        settle(() => {
          this.#open.add(message);
          message.on('close', () => this.#open.delete(message));
          resolve(message);
        }),
      );
      sent.end(body);
    });
  }

  close(): void {
    this.#closed = true;
    this.#agents?.requests.destroy();
    this.#agents?.watches.destroy();
    for (const message of this.#open) message.destroy();
  }

  #whole({ action, signal }: Question, message: IncomingMessage, deadlineMs: number): Promise<string> {
    const host = this.#url.host;
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let length = 0;
      const finish = (error?: KubeError): void => {
        this.#clock.clear(timer);
        signal?.removeEventListener('abort', abort);
        if (error === undefined) {
          resolve(Buffer.concat(chunks).toString('utf8'));
          return;
        }
        reject(error);
        message.destroy();
      };
      const abort = (): void => finish(this.#aborted(action));
      const timer = this.#clock.after(deadlineMs, () =>
        finish(localError(action, host, 'DeadlineExceeded', 'the answer began, but did not end in time')),
      );
      signal?.addEventListener('abort', abort);
      message.on('data', (chunk: Buffer) => {
        length += chunk.length;
        if (length <= this.#maxBytes) chunks.push(chunk);
        else
          finish(localError(action, host, 'TooLarge', `the answer is larger than ${this.#maxBytes} bytes`));
      });
      message.on('end', () => finish());
      message.on('error', (error) => finish(connectionError(action, host, error)));
      message.on('close', () => {
        if (!message.complete) finish(this.#closed ? this.#aborted(action) : this.#brokenOff(action));
      });
    });
  }

  #brokenOff(action: Action): KubeError {
    return connectionError(action, this.#url.host, new Error('the answer broke off'));
  }

  #aborted(action: Action): KubeError {
    return localError(action, this.#url.host, 'Aborted', 'given up, for nobody waits for it any more');
  }

  /** New connections trust the newest CA; open ones stay, but are not used again. */
  #agentsFor(ca: string): { requests: Agent; watches: Agent } {
    if (this.#agents !== undefined && this.#ca === ca) return this.#agents;
    const old = this.#agents?.requests;
    if (old !== undefined) {
      old.maxFreeSockets = 0;
      for (const sockets of Object.values(old.freeSockets))
        for (const socket of sockets ?? []) socket.destroy();
    }
    const trust = { ca, rejectUnauthorized: true, minVersion: 'TLSv1.2' } as const;
    this.#ca = ca;
    this.#agents = {
      requests: new Agent({
        ...trust,
        keepAlive: true,
        maxSockets: MAX_SOCKETS,
        maxFreeSockets: 4,
        timeout: IDLE_MS,
      }),
      watches: new Agent({ ...trust, keepAlive: false }),
    };
    return this.#agents;
  }
}
