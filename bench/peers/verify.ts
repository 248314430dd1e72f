import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type ClientHttp2Session, connect as connectHttp2, constants } from 'node:http2';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { awaitRecorded } from './calllog.ts';
import { type Certificates, SECOND_PROXY, TLS } from './certificates.ts';
import { BenchError } from './errors.ts';
import { AUTHORITY, framed, type Load, pathOf } from './load.ts';
import type { RunningPair } from './pairs/pair.ts';

const CALL_MS = 5_000;

interface Answer {
  readonly httpStatus: number;
  readonly contentType: string | undefined;
  readonly grpcStatus: string | undefined;
  readonly grpcMessage: string | undefined;
  readonly body: Buffer;
}

/**
 * Makes one call of each load and compares the whole answer, trailers too; then tries the hop between the proxies
 * as a stranger would. Throws BenchError `wrong-answer`, `not-recorded`
 * or `not-encrypted`.
 */
export async function verifyPair(
  pair: RunningPair,
  loads: readonly Load[],
  certificates: () => Certificates,
): Promise<void> {
  for (const load of loads) await verifyAnswer(pair, load);
  await awaitRecorded(pair.callLogs ?? [], loads.length);
  if (pair.between === undefined) return;

  const { port, protocol } = pair.between;
  if (await serves(() => connectHttp2(`http://127.0.0.1:${port}`), loads[0])) {
    throw stranger(pair, 'serves a plaintext call');
  }
  const anonymous = { rejectUnauthorized: false, servername: SECOND_PROXY };
  if (await serves(() => connectHttp2(`https://127.0.0.1:${port}`, anonymous), loads[0])) {
    throw stranger(pair, 'serves a TLS client without a certificate');
  }
  if (protocol === 'tls') await verifyTls(pair, port, certificates());
}

const stranger = (pair: RunningPair, what: string) =>
  new BenchError(
    'not-encrypted',
    `${pair.name}: the second proxy ${what}; its configuration does not refuse strangers`,
  );

async function verifyAnswer(pair: RunningPair, load: Load): Promise<void> {
  const answer = await callOnce(connectHttp2(`http://127.0.0.1:${pair.port}`), load).catch((error) => {
    throw new BenchError('wrong-answer', `${pair.name}: a call of ${load.name}: ${error.message}`, {
      cause: error,
    });
  });
  const right =
    answer.httpStatus === 200 &&
    answer.contentType === 'application/grpc' &&
    answer.grpcStatus === '0' &&
    answer.body.equals(framed(load.answer));
  if (right) return;
  const { body, ...rest } = answer;
  throw new BenchError(
    'wrong-answer',
    `${pair.name}: a call of ${load.name} got ${body.length} bytes and ${JSON.stringify(rest)}`,
  );
}

/** Whether the app's answer comes; an error page (nginx's 400 to a client without a certificate) is none. */
async function serves(connect: () => ClientHttp2Session, load: Load): Promise<boolean> {
  try {
    return (await callOnce(connect(), load)).body.equals(framed(load.answer));
  } catch {
    return false;
  }
}

/** One POST on a connection of its own. Rejects when connection or stream end in an error, or after 5 s. */
async function callOnce(session: ClientHttp2Session, load: Load): Promise<Answer> {
  try {
    return await new Promise<Answer>((resolve, reject) => {
      session.once('error', reject);
      session.once('close', () => reject(new Error('the connection was closed')));
      const stream = session.request(
        {
          [constants.HTTP2_HEADER_METHOD]: 'POST',
          [constants.HTTP2_HEADER_SCHEME]: 'http',
          [constants.HTTP2_HEADER_AUTHORITY]: AUTHORITY,
          [constants.HTTP2_HEADER_PATH]: pathOf(load),
          [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
          [constants.HTTP2_HEADER_TE]: 'trailers',
        },
        { endStream: false },
      );
      const fields: Record<string, unknown> = {};
      const chunks: Buffer[] = [];
      stream.setTimeout(CALL_MS, () => reject(new Error(`no answer after ${CALL_MS / 1000} s`)));
      stream.once('error', reject);
      stream.once('response', (headers) => Object.assign(fields, headers));
      stream.once('trailers', (trailers) => Object.assign(fields, trailers));
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.once('close', () => {
        // A connection that is refused ends its streams too, without any field.
        if (fields[':status'] === undefined) return reject(new Error('the stream ended without an answer'));
        resolve({
          httpStatus: Number(fields[':status']),
          contentType: fields['content-type'] as string | undefined,
          grpcStatus: fields['grpc-status'] as string | undefined,
          grpcMessage: fields['grpc-message'] as string | undefined,
          body: Buffer.concat(chunks),
        });
      });
      stream.end(framed(load.request));
    });
  } finally {
    session.on('error', () => {}); // the call's outcome is known; what the refused connection still says is not
    session.destroy();
  }
}

/** As the first proxy would: the handshake must give exactly the agreed version, cipher and group. */
async function verifyTls(pair: RunningPair, port: number, { ca, a, b }: Certificates): Promise<void> {
  const socket: TLSSocket = connectTls({
    host: '127.0.0.1',
    port,
    servername: b.name,
    ca: readFileSync(ca),
    cert: readFileSync(a.certificate),
    key: readFileSync(a.key),
    ALPNProtocols: ['h2'],
  });
  try {
    await once(socket, 'secureConnect', { signal: AbortSignal.timeout(CALL_MS) });
    const group = socket.getEphemeralKeyInfo() as { name?: string };
    const got = [socket.getProtocol(), socket.getCipher().name, group.name, socket.alpnProtocol].join(' ');
    const want = [TLS.version, TLS.cipher, TLS.group, 'h2'].join(' ');
    if (got !== want) throw new BenchError('not-encrypted', `${pair.name}: TLS is ${got}, not ${want}`);
  } finally {
    socket.destroy();
  }
}
