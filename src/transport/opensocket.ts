import { connect, type NetConnectOpts, type OnReadOpts, Socket } from 'node:net';

/**
 * What our sockets read into. One buffer serves all, because whoever hears of octets here uses or copies them before
 * it returns. Left to itself node allocates 64 KiB for each read, and the garbage collector then takes a third of the
 * CPU of a relay of 10 KiB messages.
 */
const READ_BUFFER = Buffer.allocUnsafeSlow(65_536);

/** Connects a socket whose 'data' events carry octets that are valid only until the listener returns. */
export function openSocket(options: NetConnectOpts): Socket {
  const socket: Socket = connect({ ...options, onread: sharedReads(() => socket) });
  return socket;
}

/** What node's socket has and its types do not: the handle of libuv, and the server that counts it. */
interface Handled {
  _handle?: { useUserBuffer?: unknown; reading?: boolean } | null;
}

/**
 * Makes of a socket that a server has accepted, with `pauseOnConnect`, one whose 'data' events carry octets that are
 * valid only until the listener returns. `createServer` has no `onread`, so a second socket takes over the handle of the
 * first, as node's own tls and cluster do. On a runtime where that cannot be, the socket itself is returned: slower, not
 * wrong.
 */
export function adoptSocket(accepted: Socket): Socket {
  const handle = (accepted as Handled)._handle;
  if (typeof handle?.useUserBuffer !== 'function') {
    accepted.resume();
    return accepted;
  }
  const options = { handle, allowHalfOpen: accepted.allowHalfOpen, onread: sharedReads(() => socket) };
  const socket: Socket = new Socket(options);
  (accepted as Handled)._handle = null;
  accepted.destroy(); // without its handle it only tells its server that it is gone
  return socket;
}

function sharedReads(socket: () => Socket): OnReadOpts {
  return {
    buffer: READ_BUFFER,
    callback: (length, buffer) => {
      socket().emit('data', (buffer as Buffer).subarray(0, length));
      return true;
    },
  };
}
