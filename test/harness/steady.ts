import { setTimeout as pause } from 'node:timers/promises';
import { expect } from 'vitest';
import type { TestClient } from './greeter-client.ts';
import { SayHello } from './greeter-methods.ts';
import { atEnd, type SidecarProcess } from './sidecars.ts';

/** Calls at the same time. */
const AT_ONCE = 3;
const PATIENCE_MS = 20_000;

/** A well-behaved grpc-js client that calls all the time, to see whether others' misdeeds are felt. */
export class Steady {
  ok = 0;
  readonly failed: string[] = [];
  readonly #client: TestClient;
  #running = true;

  private constructor(client: TestClient) {
    this.#client = client;
  }

  static async start(client: TestClient): Promise<Steady> {
    const steady = new Steady(client);
    for (let i = 0; i < AT_ONCE; i++) void steady.#run();
    atEnd(() => steady.stop());
    await steady.more(10);
    return steady;
  }

  async #run(): Promise<void> {
    while (this.#running) {
      const { code, details } = await this.#client.unary(SayHello, { name: 'Ada' }, { deadlineMs: 30_000 });
      if (!this.#running) return;
      if (code === 0) this.ok++;
      else this.failed.push(`${code} ${details}`);
      // Not as fast as it can: the attackers live in the same process.
      await pause(2);
    }
  }

  stop(): void {
    this.#running = false;
  }

  /** Waits for `n` more calls that succeed; no call may have failed since it began. */
  async more(n: number): Promise<void> {
    const wanted = this.ok + n;
    const deadline = performance.now() + PATIENCE_MS;
    while (this.ok < wanted && this.failed.length === 0 && performance.now() < deadline) await pause(5);
    expect(this.failed).toEqual([]);
    expect(this.ok).toBeGreaterThanOrEqual(wanted);
  }
}

/** Arguments for node with which a sidecar collects its garbage when it gets SIGUSR2. */
export const COLLECTS = [
  '--expose-gc',
  '--import',
  'data:text/javascript,process.on("SIGUSR2",()=>gc())',
] as const;

/** Octets in use, on the heap and in buffers, when the garbage has been collected; the sidecar runs with COLLECTS. */
export async function inUse(sidecar: SidecarProcess): Promise<number> {
  sidecar.signal('SIGUSR2');
  await sidecar.probe('/livez'); // the signal is taken before a connection that comes later is
  sidecar.signal('SIGUSR2');
  await sidecar.probe('/livez');
  const [heap, buffers] = await Promise.all([
    sidecar.metric('nodejs_heap_size_used_bytes'),
    sidecar.metric('nodejs_external_memory_bytes'),
  ]);
  return heap + buffers;
}
