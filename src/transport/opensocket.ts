import { connect, type NetConnectOpts, type Socket } from 'node:net';

/**
 * What every socket that we open reads into. One buffer serves all, because whoever hears of octets here uses or
 * copies them before it returns. Left to itself node allocates 64 KiB for each read, and the garbage collector then
 * takes a third of the CPU of a relay of 10 KiB messages.
 */
const READ_BUFFER = Buffer.allocUnsafeSlow(65_536);

/** Connects a socket whose 'data' events carry octets that are valid only until the listener returns. */
export function openSocket(options: NetConnectOpts): Socket {
  const socket: Socket = connect({
    ...options,
    onread: {
      buffer: READ_BUFFER,
      callback: (length, buffer) => {
        socket.emit('data', (buffer as Buffer).subarray(0, length));
        return true;
      },
    },
  });
  return socket;
}
