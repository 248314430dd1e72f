/**
 * Probes of the app that kubelet cannot make itself, because the pod's ports are closed to it: made over loopback when
 * somebody asks. Only what is configured is asked for; node's HTTP clients are loaded by the first probe of their kind.
 */
import type { ClientRequest } from 'node:http';
import type { ClientHttp2Session } from 'node:http2';
import { connect } from 'node:net';
import type { Clock } from '../clock/clock.ts';
import type { AppProbeConfig } from '../config/config.ts';
import { quote } from '../config/pointer.ts';

const LOOPBACK = '127.0.0.1';
const AGENT = 'hauberk-probe';
/** The answer to a gRPC health check has two octets. */
const MAX_MESSAGE = 64;
const MAX_HEADER = 16_384;
const SERVING = 1;
/** Answers that say where else to ask. */
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
/** Kubelet gives up at the tenth redirect. */
const MAX_ASKED = 10;

/** `detail` says why not, for kubelet's event. */
export interface ProbeResult {
  readonly good: boolean;
  readonly detail: string;
}

/** Ends what a probe has opened. */
type Abort = () => void;
/** Calls `done` with nothing if the app is well, else with what is wrong. */
type Done = (fault?: string) => void;

export class AppProbes {
  readonly #clock: Clock;
  readonly #probes = new Map<string, AppProbeConfig>();
  /** Whoever asks meanwhile gets the same answer: nobody has the app probed more often by asking more often. */
  readonly #running = new Map<string, Promise<ProbeResult>>();

  constructor(probes: readonly AppProbeConfig[], clock: Clock) {
    this.#clock = clock;
    for (const probe of probes) this.#probes.set(probe.name, probe);
  }

  /** Undefined if there is no such probe. Does not reject, and ends within the probe's timeout. */
  run(name: string): Promise<ProbeResult> | undefined {
    const probe = this.#probes.get(name);
    if (probe === undefined) return undefined;
    let running = this.#running.get(name);
    if (running === undefined) {
      running = this.#begin(probe).finally(() => this.#running.delete(name));
      this.#running.set(name, running);
    }
    return running;
  }

  #begin(probe: AppProbeConfig): Promise<ProbeResult> {
    return new Promise((resolve) => {
      let abort: Abort | undefined;
      let over = false;
      const done: Done = (fault) => {
        if (over) return;
        over = true;
        this.#clock.clear(timer);
        abort?.();
        const where = `${probe.kind} probe of port ${probe.port}`;
        resolve({ good: fault === undefined, detail: fault === undefined ? 'ok' : `${where}: ${fault}` });
      };
      const timer = this.#clock.after(probe.timeoutMs, () => done(`no answer within ${probe.timeoutMs} ms`));
      try {
        abort = KINDS[probe.kind](probe, done);
      } catch (error) {
        done(faultOf(error));
      }
      if (over) abort?.();
    });
  }
}

/** A stream that ends with its session tells why only in its cause. */
function faultOf(error: unknown): string {
  const { code, cause } = error as NodeJS.ErrnoException;
  return (cause as NodeJS.ErrnoException | undefined)?.code ?? code ?? String(error);
}

function probeTcp({ port }: AppProbeConfig, done: Done): Abort {
  const socket = connect({ host: LOOPBACK, port });
  socket.on('error', (error) => done(faultOf(error)));
  socket.once('connect', () => done());
  return () => socket.destroy();
}

/**
 * As kubelet does: 200 to 399 is well, and whose certificate an app shows does not matter. Redirects are followed on the same
 * host; one that leads away from it says that the app is there.
 */
function probeHttp({ port, path = '/', scheme, headers = [] }: AppProbeConfig, done: Done): Abort {
  let sent: ClientRequest | undefined;
  let asked = 0;
  let at = new URL(`${scheme}://${LOOPBACK}:${port}${path}`);
  const fields = fieldsOf(headers);
  const ask = (target: string): void => {
    asked += 1;
    const { request } = process.getBuiltinModule(at.protocol === 'https:' ? 'node:https' : 'node:http');
    const mine = request({
      host: LOOPBACK,
      port: at.port === '' ? undefined : at.port,
      path: target,
      agent: false,
      maxHeaderSize: MAX_HEADER,
      rejectUnauthorized: false,
      headers: fields,
    });
    sent = mine;
    mine.on('error', (error) => {
      if (mine === sent) done(faultOf(error));
    });
    mine.on('response', ({ statusCode = 0, headers: { location } }) => {
      if (mine !== sent) return;
      if (location === undefined || location === '' || !REDIRECTS.has(statusCode)) {
        const where = asked === 1 ? '' : `, where its redirects led: ${quote(target)}`;
        done(statusCode >= 200 && statusCode < 400 ? undefined : `status ${statusCode}${where}`);
        return;
      }
      if (!URL.canParse(location, at.href)) {
        return done(`it redirects to ${quote(location)}, which is not an address`);
      }
      const next = new URL(location, at.href);
      if (next.hostname !== LOOPBACK) return done();
      if (asked === MAX_ASKED)
        return done(`it redirects ${MAX_ASKED} times, the last time to ${quote(location)}`);
      if (next.protocol !== 'http:' && next.protocol !== 'https:') {
        return done(`it redirects to ${quote(location)}, which is neither http nor https`);
      }
      // The name that it was asked by is good for its own redirects, and not for an address that it names.
      if (URL.canParse(location)) delete fields.host;
      at = next;
      ask(next.pathname + next.search);
      mine.destroy();
    });
    mine.end();
  };
  ask(path);
  return () => void sent?.destroy();
}

/** What is configured goes before our own; a name that comes twice has both values. */
function fieldsOf(headers: AppProbeConfig['headers']): Record<string, string | string[]> {
  const fields: Record<string, string | string[]> = { 'user-agent': AGENT, accept: '*/*' };
  for (const name of new Set(headers.map((header) => header.name.toLowerCase()))) {
    const values = headers.filter((header) => header.name.toLowerCase() === name).map(({ value }) => value);
    fields[name] = values.length === 1 ? (values[0] as string) : values;
  }
  return fields;
}

/** grpc.health.v1.Health/Check, as kubelet asks. */
function probeGrpc({ port, service = '', timeoutMs }: AppProbeConfig, done: Done): Abort {
  const { connect: connectHttp2 } = process.getBuiltinModule('node:http2');
  const session: ClientHttp2Session = connectHttp2(`http://${LOOPBACK}:${port}`);
  session.on('error', (error) => done(faultOf(error)));
  session.once('close', () => done('the connection was closed'));
  const stream = session.request({
    ':method': 'POST',
    ':path': '/grpc.health.v1.Health/Check',
    'content-type': 'application/grpc',
    te: 'trailers',
    'user-agent': AGENT,
    'grpc-timeout': `${timeoutMs}m`,
  });
  let received = Buffer.alloc(0);
  let grpcStatus: string | undefined;
  const read = (fields: Readonly<Record<string, unknown>>): void => {
    if (fields['grpc-status'] !== undefined) grpcStatus = String(fields['grpc-status']);
  };
  stream.on('error', (error) => done(faultOf(error)));
  stream.on('response', read);
  stream.on('trailers', read);
  stream.on('data', (chunk: Buffer) => {
    if (received.length < MAX_MESSAGE) received = Buffer.concat([received, chunk]);
  });
  stream.on('end', () => {
    if (grpcStatus !== '0')
      done(grpcStatus === undefined ? 'it does not speak gRPC' : `gRPC status ${grpcStatus}`);
    else done(isServing(received) ? undefined : 'it does not say SERVING');
  });
  stream.end(checkRequest(service));
  return () => void session.destroy();
}

const KINDS = { tcp: probeTcp, http: probeHttp, grpc: probeGrpc } as const;

/** HealthCheckRequest { string service = 1 } in a gRPC frame; names have at most 255 octets. */
function checkRequest(service: string): Buffer {
  const name = Buffer.from(service);
  const length = name.length < 128 ? [name.length] : [(name.length & 0x7f) | 0x80, name.length >> 7];
  const message = name.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, ...length]), name]);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** HealthCheckResponse { ServingStatus status = 1 }. */
function isServing(frame: Buffer): boolean {
  return frame.length >= 7 && frame[0] === 0 && frame[5] === 0x08 && frame[6] === SERVING;
}
