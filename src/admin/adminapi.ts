import { type Stats, statSync } from 'node:fs';
import type { Socket } from 'node:net';
import type { Clock } from '../clock/clock.ts';
import type { ListenAddress } from '../config/config.ts';
import { ListenError, Listener, type SocketMode } from '../relay/listener.ts';
import type { Logger } from '../telemetry/log.ts';
import type { AdminControl } from './admincontrol.ts';
import type { AdminService } from './adminservice.ts';
import type { AdminToken } from './admintoken.ts';
import { ConnectionCap } from './connectioncap.ts';
import { checkFolders } from './socketfolder.ts';

export interface AdminApiOptions {
  readonly listen: readonly ListenAddress[];
  readonly groupAccess: boolean;
  readonly token: AdminToken | undefined;
  readonly control: AdminControl;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onSkipped: (error: ListenError) => void;
}

const MAX_CONNECTIONS = 64;
/** How long watchers have to take the last events. */
const LAST_WORDS_MS = 200;

/** The listeners of the admin API. What serves them is loaded by their first connection. */
export class AdminApi {
  readonly #options: AdminApiOptions;
  /** Each listener's own: strangers on loopback do not close connections of the Unix socket. */
  readonly #connections = new Map<Listener, ConnectionCap>();
  readonly #servers = new Map<Listener, Promise<{ inject(socket: Socket): void }>>();
  #listeners: readonly Listener[] = [];
  #service: Promise<AdminService> | undefined;

  private constructor(options: AdminApiOptions) {
    this.#options = options;
  }

  /** Rejects with ListenError. */
  static async open(options: AdminApiOptions): Promise<AdminApi> {
    const api = new AdminApi(options);
    const { listen, groupAccess, onSkipped } = options;
    const mode: SocketMode = groupAccess ? 0o660 : 0o600;
    for (const address of listen) if (address.kind === 'unix') checkFolders(address.path);
    const accept = (socket: Socket, listener: Listener): void => api.#accept(socket, listener);
    const listeners = await Listener.openAll('admin.listen', listen, 'own', accept, onSkipped, mode);
    try {
      for (const { address } of listeners) if (address.kind === 'unix') checkSocket(address.path, mode);
    } catch (error) {
      for (const listener of listeners) listener.destroy();
      throw error;
    }
    api.#listeners = listeners;
    return api;
  }

  get bound(): string[] {
    return this.#listeners.map(({ name }) => name);
  }

  #accept(socket: Socket, listener: Listener): void {
    this.#capOf(listener).add(socket);
    socket.on('error', () => socket.destroy());
    // A FIN ends the connection: Node's HTTP/2 would leave our half of it open for ever.
    socket.allowHalfOpen = false;
    this.#serverOf(listener).then(
      (server) => server.inject(socket),
      (error) => {
        this.#options.log.error({ error }, 'the admin API could not be loaded');
        socket.destroy();
      },
    );
  }

  #capOf(listener: Listener): ConnectionCap {
    let cap = this.#connections.get(listener);
    if (cap === undefined) {
      cap = new ConnectionCap(MAX_CONNECTIONS);
      this.#connections.set(listener, cap);
    }
    return cap;
  }

  #serverOf(listener: Listener): Promise<{ inject(socket: Socket): void }> {
    let server = this.#servers.get(listener);
    if (server === undefined) {
      const { address } = listener;
      this.#service ??= this.#load();
      const cap = this.#capOf(listener);
      server = this.#service.then((service) =>
        service.server(address.kind === 'unix' ? address.path : undefined, (peer) => cap.keep(peer)),
      );
      this.#servers.set(listener, server);
    }
    return server;
  }

  async #load(): Promise<AdminService> {
    const { AdminService } = await import('./adminservice.ts');
    return AdminService.load(this.#options);
  }

  /** Lets watchers have what was recorded last, then ends everything. Never rejects. */
  async close(): Promise<void> {
    const service = await this.#service?.catch(() => undefined);
    const caps = [...this.#connections.values()];
    if (service !== undefined && caps.some(({ open }) => open > 0)) {
      service.endWatches();
      await new Promise<void>((resolve) => this.#options.clock.after(LAST_WORDS_MS, resolve));
    }
    for (const cap of caps) cap.destroy();
    for (const listener of this.#listeners) listener.destroy();
    service?.close();
  }
}

/** Not every file system keeps owner and mode. */
function checkSocket(path: string, mode: SocketMode): void {
  const stats = statsOf(path);
  const own = process.geteuid?.();
  const has = stats.mode & 0o777;
  if (stats.isSocket() && (own === undefined || stats.uid === own) && (has & ~mode) === 0) return;
  throw new ListenError(
    `admin.listen: ${path} has the mode ${has.toString(8)} and the owner ${stats.uid}, so that others could connect; choose a folder of another file system`,
  );
}

function statsOf(path: string): Stats {
  try {
    return statSync(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new ListenError(`admin.listen: ${path} cannot be looked at (${code}): choose another folder`, {
      cause,
    });
  }
}
