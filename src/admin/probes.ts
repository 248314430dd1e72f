/**
 * HTTP for kubelets and Prometheus: /livez, /readyz, /startupz, /metrics, /app-probe/... . No secrets, no control. node:http is
 * loaded by the first connection, and not by `import`: on Node 24 that loads node's WebSocket client too, 9 MiB.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { AppProbes } from './appprobes.ts';
import { ConnectionCap } from './connectioncap.ts';
import type { Readiness } from './readiness.ts';

export interface ProbesOptions {
  readonly readiness: Readiness;
  readonly metrics: Metrics;
  readonly log: Logger;
  /** Probes of the app that are made for others; none without it. */
  readonly apps?: AppProbes | undefined;
}

const APP_PROBE = '/app-probe/';

const MAX_CONNECTIONS = 256;
const MAX_HEADER = 8192; // octets
/** Without an octet for so long a connection ends, whether it waits between two requests or within one. */
const KEEP_ALIVE_MS = 5000;
const SILENCE_MS = 10_000;

/** Answers probes on connections that `accept` is given. */
export class Probes {
  readonly #options: ProbesOptions;
  readonly #connections = new ConnectionCap(MAX_CONNECTIONS);
  #server: Server | undefined;

  constructor(options: ProbesOptions) {
    this.#options = options;
  }

  #load(): Server {
    const { createServer } = process.getBuiltinModule('node:http');
    const server = createServer(
      { maxHeaderSize: MAX_HEADER, keepAliveTimeout: KEEP_ALIVE_MS },
      (request, response) => {
        this.#answer(request, response).catch((error) => {
          this.#options.log.error({ error: String(error) }, 'a probe failed');
          response.destroy();
        });
      },
    );
    // The server's other time limits begin with `listen`, which is not called here.
    server.timeout = SILENCE_MS;
    return server;
  }

  /** Takes over a connection that has just been accepted. */
  accept(socket: Socket): void {
    this.#connections.add(socket);
    this.#server ??= this.#load();
    this.#server.emit('connection', socket);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      send(response, 405, 'only GET and HEAD\n');
      return;
    }
    const { readiness, metrics, apps } = this.#options;
    const path = (request.url ?? '').split('?', 1)[0] as string;
    if (path.startsWith(APP_PROBE)) {
      const result = await apps?.run(path.slice(APP_PROBE.length));
      if (result === undefined) send(response, 404, 'probes.apps has no such probe\n');
      else send(response, result.good ? 200 : 503, `${result.detail}\n`);
      return;
    }
    switch (path) {
      case '/livez':
        // That it answers is what it says: the one event loop still turns.
        send(response, 200, 'ok\n');
        return;
      case '/readyz':
        sendPending(response, readiness.ready, readiness.pending);
        return;
      case '/startupz':
        sendPending(response, readiness.started, readiness.starting);
        return;
      case '/metrics': {
        const { contentType, body } = await metrics.render();
        send(response, 200, body, contentType);
        return;
      }
      default:
        send(response, 404, 'there are /livez, /readyz, /startupz and /metrics\n');
    }
  }

  close(): void {
    this.#connections.destroy();
  }
}

function sendPending(response: ServerResponse, good: boolean, pending: readonly string[]): void {
  if (good) send(response, 200, 'ok\n');
  else send(response, 503, `waiting for:\n${pending.map((name) => `  ${name}\n`).join('')}`);
}

function send(
  response: ServerResponse,
  status: number,
  body: string,
  type = 'text/plain; charset=utf-8',
): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  response.end(body);
}
