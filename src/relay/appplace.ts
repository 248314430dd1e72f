import type { Socket } from 'node:net';
import { formatAddress } from '../config/address.ts';
import type { AppConfig, ListenAddress } from '../config/config.ts';
import { openSocket } from '../transport/opensocket.ts';
import { SocketWire, type Wire } from './wire.ts';

const CONNECT_TIMEOUT_MS = 5000;

/** Where the calls for a service are delivered. */
export interface AppPlace {
  /** For an app of any name, `*:` and its port. */
  readonly service: string;
  /** It takes calls for any name with this port; undefined: for its service only. */
  readonly anyNameOn: number | undefined;
  /** For the audit and the log; never told to a peer. */
  readonly remote: string;
  /** What to look at if it cannot be connected to; a peer may hear it. */
  readonly advice: string;
  /** A new connection, on which it takes calls. */
  connect(): Promise<Wire>;
  /** Rejects if it would take none. */
  probe(): Promise<void>;
}

/** An app at an address of this machine. */
export function appAt({ service, address }: AppConfig): AppPlace {
  const remote = formatAddress(address);
  const anyNameOn = service === '*' && address.kind === 'tcp' ? address.port : undefined;
  return {
    service: anyNameOn === undefined ? service : `*:${anyNameOn}`,
    anyNameOn,
    remote,
    advice: 'is it running, and is ingress.apps right?',
    connect: async () => new SocketWire(await connectTo(address, CONNECT_TIMEOUT_MS), remote),
    probe: async () => void (await connectTo(address, CONNECT_TIMEOUT_MS)).destroy(),
  };
}

/** An app in this process: `dial` makes a wire whose other end it serves. It takes calls from the start. */
export function appInProcess(service: string, dial: () => Wire): AppPlace {
  return {
    service,
    anyNameOn: undefined,
    remote: 'in-process',
    advice: 'has its server been shut down?',
    connect: async () => dial(),
    probe: () => Promise.resolve(),
  };
}

function connectTo(address: ListenAddress, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket =
      address.kind === 'unix'
        ? openSocket({ path: address.path })
        : openSocket({ host: address.host, port: address.port });
    socket.setTimeout(timeoutMs, () => socket.destroy(new Error(`no connection within ${timeoutMs} ms`)));
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.setTimeout(0);
      socket.removeListener('error', reject);
      resolve(socket);
    });
  });
}
