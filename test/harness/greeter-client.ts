import type { EventEmitter } from 'node:events';
import * as grpc from '@grpc/grpc-js';

/** How a call ended, and everything that came before the end. */
export interface Answer<Res> {
  readonly code: grpc.status;
  readonly details: string;
  readonly messages: readonly Res[];
  /** The only message of a unary answer. */
  readonly message: Res | undefined;
  /** Initial metadata; undefined if the answer was trailers-only. */
  readonly headers: grpc.Metadata | undefined;
  readonly trailers: grpc.Metadata;
  /** The code of an error that a sidecar made. */
  readonly hauberkError: string | undefined;
}

export interface CallOptions {
  metadata?: grpc.Metadata | Record<string, string | Buffer | readonly (string | Buffer)[]>;
  /** From now. */
  deadlineMs?: number;
  /** Grpc-js' own, e.g. `host` for another `:authority`. */
  options?: grpc.CallOptions;
}

export interface ClientOptions {
  /** What `:authority` says; the address by default. */
  authority?: string;
  options?: grpc.ClientOptions;
}

/**
 * A grpc-js client whose calls never reject: every one resolves to an Answer. It never retries, and never shares
 * a connection with another.
 */
export class TestClient {
  readonly grpc: grpc.Client;

  /** `address` is `host:port` or `unix:/path`. */
  constructor(address: string, { authority, options = {} }: ClientOptions = {}) {
    this.grpc = new grpc.Client(address, grpc.credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
      'grpc.max_send_message_length': -1,
      'grpc.enable_retries': 0,
      'grpc.use_local_subchannel_pool': 1,
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.enable_http_proxy': 0,
      ...(authority === undefined ? {} : { 'grpc.default_authority': authority }),
      ...options,
    });
  }

  unary<Req, Res>(
    method: grpc.MethodDefinition<Req, Res>,
    request: Req,
    options: CallOptions = {},
  ): Promise<Answer<Res>> & { call: grpc.ClientUnaryCall } {
    let last: Res | undefined;
    const call = this.grpc.makeUnaryRequest<Req, Res>(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      metadataOf(options),
      callOptions(options),
      (_error, response) => {
        last = response;
      },
    );
    // The status event comes after the callback.
    const answer = answerOf<Res>(call, () => (last === undefined ? [] : [last]));
    return Object.assign(answer, { call });
  }

  clientStream<Req, Res>(method: grpc.MethodDefinition<Req, Res>, options: CallOptions = {}) {
    let last: Res | undefined;
    const call = this.grpc.makeClientStreamRequest<Req, Res>(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      metadataOf(options),
      callOptions(options),
      (_error, response) => {
        last = response;
      },
    );
    return { call, answer: answerOf<Res>(call, () => (last === undefined ? [] : [last])) };
  }

  /** Reads all messages, unless `paused`: then the test reads them. */
  serverStream<Req, Res>(
    method: grpc.MethodDefinition<Req, Res>,
    request: Req,
    options: CallOptions & { paused?: boolean } = {},
  ) {
    const call = this.grpc.makeServerStreamRequest<Req, Res>(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      metadataOf(options),
      callOptions(options),
    );
    return { call, answer: streamed<Res>(call, options.paused) };
  }

  bidi<Req, Res>(method: grpc.MethodDefinition<Req, Res>, options: CallOptions & { paused?: boolean } = {}) {
    const call = this.grpc.makeBidiStreamRequest<Req, Res>(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      metadataOf(options),
      callOptions(options),
    );
    return { call, answer: streamed<Res>(call, options.paused) };
  }

  close(): void {
    this.grpc.close();
  }
}

function streamed<Res>(call: EventEmitter, paused = false): Promise<Answer<Res>> {
  const messages: Res[] = [];
  if (!paused) call.on('data', (message: Res) => messages.push(message));
  return answerOf(call, () => messages, !paused);
}

/** With `toEnd` a stream's last message has been read, too. */
function answerOf<Res>(
  call: EventEmitter,
  messages: () => readonly Res[],
  toEnd = false,
): Promise<Answer<Res>> {
  let headers: grpc.Metadata | undefined;
  const ended = toEnd ? new Promise((resolve) => call.once('end', resolve)) : undefined;
  call.on('metadata', (metadata: grpc.Metadata) => {
    headers = metadata;
  });
  call.on('error', () => {}); // the status says it
  return new Promise((resolve) => {
    call.on('status', async ({ code, details, metadata }: grpc.StatusObject) => {
      await ended;
      const all = [...messages()];
      const [hauberkError] = metadata.get('hauberk-error');
      resolve({
        code,
        details,
        messages: all,
        message: all[0],
        headers,
        trailers: metadata,
        hauberkError: hauberkError === undefined ? undefined : String(hauberkError),
      });
    });
  });
}

function metadataOf({ metadata = {} }: CallOptions): grpc.Metadata {
  if (metadata instanceof grpc.Metadata) return metadata;
  const made = new grpc.Metadata();
  for (const [key, values] of Object.entries(metadata)) {
    for (const value of Array.isArray(values) ? values : [values]) made.add(key, value);
  }
  return made;
}

function callOptions({ deadlineMs, options = {} }: CallOptions): grpc.CallOptions {
  return deadlineMs === undefined ? options : { ...options, deadline: Date.now() + deadlineMs };
}
