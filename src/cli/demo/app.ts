/**
 * `hauberk demo-app`: the demo's server and client as programs of their own, for pods and compose files. They know nothing of
 * Hauberk; what the server tells its callers about them comes from its sidecar.
 */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { print, printError } from '../terminal.ts';
import { DemoClient } from './client.ts';
import { startServer } from './server.ts';

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** Aborted by the first signal that ends a program. */
function ended(): AbortSignal {
  const end = new AbortController();
  for (const signal of SIGNALS) process.once(signal, () => end.abort());
  return end.signal;
}

/** Serves until a signal. `listen` is `host:port`. */
export async function serveDemo(listen: string): Promise<void> {
  const end = ended();
  const server = await startServer(listen);
  print(`serving plaintext gRPC on ${listen.replace(/:\d+$/, '')}:${server.port}`);
  if (!end.aborted) await once(end, 'abort');
  server.close();
}

export interface DemoCalls {
  /** `host:port`, as any client would have it. */
  readonly target: string;
  readonly name: string;
  /** Between two calls, in ms. */
  readonly every: number;
  /** 0 for as many as there is time for. */
  readonly count: number;
}

/** Calls until a signal, or so many times. Resolves with whether every call was answered by an app that knows who called. */
export async function callDemo({ target, name, every, count }: DemoCalls): Promise<boolean> {
  const end = ended();
  const client = new DemoClient(target);
  let good = true;
  for (let i = 1; !end.aborted && (count === 0 || i <= count); i += 1) {
    try {
      const { message, peer, session } = await client.hello(name);
      const proven = peer !== '';
      good &&= proven;
      print(
        `${message}  ${proven ? `I am ${peer}, by session ${session}` : 'NOT ENCRYPTED: nobody has proved who calls'}`,
      );
    } catch (error) {
      good = false;
      printError(error instanceof Error ? error.message : String(error));
    }
    if (i !== count) await delay(every, undefined, { signal: end }).catch(() => {});
  }
  client.close();
  return good;
}
