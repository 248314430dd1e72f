/*
 * The folder, in reading order: definition.ts and messages.ts (what is spoken, proto/hauberk/control/v1), channel.ts (the way
 * to the controller) with controllertls.ts (who it must be) and token.ts (who we are), then the clients: certify.ts, discovery.
 */
import type { CallOptions, Client, ClientReadableStream, Metadata, ServiceError } from '@grpc/grpc-js';
import type { MethodDefinition } from '@grpc/proto-loader';
import type { Clock } from '../clock/clock.ts';
import { formatAddress } from '../config/address.ts';
import type { Endpoint } from '../config/config.ts';
import type { TrustBundle } from '../identity/trustbundle.ts';
import { controllerRefusal, controllerTls } from './controllertls.ts';
import { ControlError, type ControlErrorCode } from './errors.ts';
import { readToken } from './token.ts';

export interface ControlChannelOptions {
  readonly address: Endpoint;
  /** The SPIFFE ID that the controller must prove. */
  readonly peer: string;
  /** File of the service account token. */
  readonly token: string;
  /** Whom to trust now. */
  readonly bundle: () => TrustBundle;
  readonly clock: Clock;
}

/** A method of a service, as proto-loader gives it: `(await loadIdentityDefinition()).Certify`. */
export type ControlMethod = MethodDefinition<object, object>;

export interface ControlCallOptions {
  /** Sends the service account token, read anew, as `authorization: Bearer`. */
  readonly authorize?: boolean;
  /** Ends the call. */
  readonly signal?: AbortSignal;
}

const OPTIONS = {
  'grpc.enable_http_proxy': 0,
  'grpc.enable_retries': 0,
  'grpc.use_local_subchannel_pool': 1,
  // One connection, to any replica; to another one when it is lost. Names are looked up again for that.
  'grpc.service_config': JSON.stringify({
    loadBalancingConfig: [{ pick_first: { shuffleAddressList: true } }],
  }),
  'grpc.dns_min_time_between_resolutions_ms': 2_000,
  'grpc.initial_reconnect_backoff_ms': 500,
  'grpc.max_reconnect_backoff_ms': 10_000,
  // A controller whose machine has gone is noticed; a connection that nobody uses is closed.
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.keepalive_permit_without_calls': 0,
  'grpc.client_idle_timeout_ms': 60_000,
  'grpc.max_receive_message_length': 4 * 1024 * 1024,
  // Not an IP address, which is no server name in TLS.
  'grpc.ssl_target_name_override': 'hauberk-controller',
};

/** A connection under one bundle. */
interface Line {
  readonly client: Client;
  readonly bundle: TrustBundle;
  /** Why the last server that was met there is not the controller. */
  readonly refused: { reason: string | undefined };
  /** Ends the streams on it. */
  readonly ended: AbortController;
}

/**
 * The way to the controller: gRPC over TLS 1.3, connected at the first call and whenever it is needed. Whoever answers must
 * prove `peer` by a chain that the bundle of the moment verifies; with another bundle, calls go over a new connection and
 * streams end. grpc-js is loaded by the first call.
 */
export class ControlChannel {
  readonly #options: ControlChannelOptions;
  #line: Line | undefined;
  #closed = false;

  constructor(options: ControlChannelOptions) {
    this.#options = options;
  }

  /** As it is configured, for messages. */
  get address(): string {
    return formatAddress({ kind: 'tcp', ...this.#options.address });
  }

  /** Calls a method that has one answer. Rejects with ControlError, also after `deadlineMs`. */
  async call<Response>(
    method: ControlMethod,
    request: object,
    deadlineMs: number,
    options: ControlCallOptions = {},
  ): Promise<Response> {
    const { grpc, line, metadata } = await this.#prepare(options);
    const { clock } = this.#options;
    return await new Promise<Response>((resolve, reject) => {
      let late = false;
      const call = line.client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        metadata,
        {},
        (error, response) => {
          clock.clear(timer);
          options.signal?.removeEventListener('abort', cancel);
          if (error === null) resolve(response as Response);
          else if (late) reject(this.#late(deadlineMs, error));
          else reject(this.#complaint(grpc, line, error));
        },
      );
      const cancel = (): void => call.cancel();
      const timer = clock.after(deadlineMs, () => {
        late = true;
        call.cancel();
      });
      options.signal?.addEventListener('abort', cancel, { once: true });
      if (options.signal?.aborted === true) cancel();
    });
  }

  /**
   * The messages of a method that streams them, until the controller ends it (then it returns), `signal` does, or it breaks
   * (then it throws ControlError): also when the channel is closed or another bundle holds. It has no deadline.
   */
  async *stream<Response>(
    method: ControlMethod,
    request: object,
    options: ControlCallOptions = {},
  ): AsyncGenerator<Response, void, undefined> {
    const { grpc, line, metadata } = await this.#prepare(options);
    const call: ClientReadableStream<object> = line.client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      metadata,
      {} as CallOptions,
    );
    const cancel = (): void => call.cancel();
    const ends = [line.ended.signal, ...(options.signal === undefined ? [] : [options.signal])];
    for (const signal of ends) signal.addEventListener('abort', cancel, { once: true });
    if (ends.some(({ aborted }) => aborted)) cancel();
    try {
      for await (const message of call) yield message as Response;
    } catch (error) {
      if (options.signal?.aborted === true) return;
      throw this.#complaint(grpc, line, error as ServiceError);
    } finally {
      for (const signal of ends) signal.removeEventListener('abort', cancel);
      call.cancel();
    }
  }

  /** Has what is open end if another bundle holds now: nobody is trusted for longer than the bundle says. */
  refresh(): void {
    if (this.#line !== undefined && this.#line.bundle !== this.#options.bundle()) this.#drop();
  }

  /** Ends every call and stream. */
  close(): void {
    this.#closed = true;
    this.#drop();
  }

  #drop(): void {
    this.#line?.ended.abort();
    this.#line?.client.close();
    this.#line = undefined;
  }

  async #prepare({ authorize }: ControlCallOptions): Promise<{
    grpc: typeof import('@grpc/grpc-js');
    line: Line;
    metadata: Metadata;
  }> {
    const grpc = await import('@grpc/grpc-js');
    const metadata = new grpc.Metadata();
    if (authorize === true) {
      metadata.set('authorization', `Bearer ${await readToken(this.#options.token)}`);
    }
    if (this.#closed) throw new ControlError('CANCELLED', 'the sidecar is ending');
    this.refresh();
    this.#line ??= this.#open(grpc);
    return { grpc, line: this.#line, metadata };
  }

  #open(grpc: typeof import('@grpc/grpc-js')): Line {
    const { peer, clock } = this.#options;
    const bundle = this.#options.bundle();
    const refused: Line['refused'] = { reason: undefined };
    const credentials = grpc.credentials.createFromSecureContext(controllerTls(bundle), {
      checkServerIdentity: (_name, certificate) => {
        const refusal = controllerRefusal(certificate, bundle, peer, clock.now());
        refused.reason = refusal?.message;
        return refusal;
      },
    });
    const client = new grpc.Client(`dns:${this.address}`, credentials, OPTIONS);
    return { client, bundle, refused, ended: new AbortController() };
  }

  #late(deadlineMs: number, cause: unknown): ControlError {
    const what = `the controller at ${this.address} has not answered within ${deadlineMs / 1000} s`;
    return new ControlError('DEADLINE_EXCEEDED', what, { cause });
  }

  #untrusted(reason: string, cause: unknown): ControlError {
    const what = `what answers at ${this.address} is not the controller: ${reason}`;
    return new ControlError('untrusted-controller', what, { cause });
  }

  #complaint(grpc: typeof import('@grpc/grpc-js'), line: Line, error: ServiceError): ControlError {
    const at = this.address;
    const { reason } = line.refused;
    if (line.ended.signal.aborted) {
      return new ControlError('CANCELLED', `the connection to the controller at ${at} was given up`, {
        cause: error,
      });
    }
    const details = error.details ?? error.message;
    if (error.code === grpc.status.UNAVAILABLE) {
      // What answered there before may have been somebody else.
      if (reason !== undefined && details.includes(reason)) return this.#untrusted(reason, error);
      const verification = VERIFICATION.exec(details)?.[0];
      if (verification !== undefined) {
        return this.#untrusted(
          `no CA of the trust bundle vouches for its certificate (${verification})`,
          error,
        );
      }
      return new ControlError('UNAVAILABLE', `the controller at ${at} cannot be reached: ${details}`, {
        cause: error,
        retryAfterMs: pushbackOf(error),
      });
    }
    const code = (grpc.status[error.code] ?? 'INTERNAL') as ControlErrorCode;
    return new ControlError(code, `the controller at ${at} refuses: ${details} (${code})`, {
      cause: error,
      retryAfterMs: pushbackOf(error),
    });
  }
}

/** What OpenSSL says of a chain that it does not verify. */
const VERIFICATION =
  /unable to (?:get (?:local )?issuer certificate|verify the first certificate)|self[- ]signed certificate(?: in certificate chain)?|certificate (?:has expired|is not yet valid|signature failure)|invalid CA certificate|unsuitable certificate purpose|permitted subtree violation/i;

function pushbackOf({ metadata }: ServiceError): number | undefined {
  const given = metadata?.get('grpc-retry-pushback-ms')[0];
  return typeof given === 'string' && /^[0-9]{1,9}$/.test(given) ? Number(given) : undefined;
}
