import { connect } from 'node:net';
import type { Clock } from '../clock/clock.ts';
import { FrameType, PREFACE } from '../http2/frame.ts';

const TIMEOUT_MS = 2_000;
const FRAME_HEADER = 9; // octets
const SETTINGS_ENTRY = 6; // octets
const MAX_SETTINGS = 1024; // octets
/** An empty SETTINGS frame. */
const SETTINGS = Buffer.of(0, 0, 0, FrameType.SETTINGS, 0, 0, 0, 0, 0);
const HTTP1 = Buffer.from('HTTP/1.');

/** Of a port: HTTP without TLS, another protocol, nobody there, or nothing that says which of these. */
export type Dialled = 'plaintext' | 'other' | 'refused' | 'unknown';

/**
 * Whether somebody there speaks HTTP without TLS: answers the preface of HTTP/2 in kind, or by HTTP/1. Who closes
 * the connection without a word speaks another protocol, as TLS; silence and a reset may be of an app that hangs or ends. Never
 * rejects.
 */
export function dialPlaintext(host: string, port: number, clock: Clock): Promise<Dialled> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const timer = clock.after(TIMEOUT_MS, () => end('unknown'));
    let got: Buffer = Buffer.alloc(0);
    const end = (answer: Dialled): void => {
      clock.clear(timer);
      socket.destroy();
      resolve(answer);
    };
    socket.on('connect', () => socket.write(Buffer.concat([PREFACE, SETTINGS])));
    socket.on('data', (chunk) => {
      got = Buffer.concat([got, chunk]);
      if (got.length >= FRAME_HEADER) end(isHttp(got) ? 'plaintext' : 'other');
    });
    socket.on('end', () => end('other'));
    socket.on('error', ({ code }: NodeJS.ErrnoException) => {
      end(code === 'ECONNREFUSED' ? 'refused' : got.length > 0 ? 'other' : 'unknown');
    });
  });
}

function isHttp(first: Buffer): boolean {
  if (first.subarray(0, HTTP1.length).equals(HTTP1)) return true;
  const length = first.readUIntBE(0, 3);
  const isSettings = first[3] === FrameType.SETTINGS && first.readUInt32BE(5) === 0;
  return isSettings && length % SETTINGS_ENTRY === 0 && length <= MAX_SETTINGS;
}
