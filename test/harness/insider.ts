/** A sidecar's process that collects garbage when it is told to, and says what memory is in use then. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { SidecarProcess, StartOptions, World } from './sidecars.ts';

const INSIDER = fileURLToPath(new URL('insider.mjs', import.meta.url));
const LOOK_MS = 20;
const HEADER = 3; // kind u8, length u16
const PKCS8 = 1;

export class Insider {
  readonly #file: string;

  constructor(world: World, name: string) {
    this.#file = join(world.dir, `${name}.insider`);
  }

  /** What to start the sidecar with. */
  get start(): StartOptions {
    return { nodeArgs: ['--expose-gc', '--import', INSIDER], env: { TEST_INSIDER_FILE: this.#file } };
  }

  /** Has the garbage collected. Octets in use afterwards: V8's heap, and what it holds outside of it, ArrayBuffers too. */
  async collect(sidecar: SidecarProcess): Promise<number> {
    const before = await this.#lines();
    sidecar.signal('SIGUSR2');
    for (;;) {
      const lines = await this.#lines();
      if (lines.length > before.length) {
        const { heapUsed, external } = JSON.parse(lines.at(-1) as string) as NodeJS.MemoryUsage;
        return heapUsed + external;
      }
      await pause(LOOK_MS);
    }
  }

  /** Node's diagnostic reports, one for each collection, if the process was started with TEST_INSIDER_REPORT. */
  reports(): Promise<string> {
    return readFile(`${this.#file}.report`, 'utf8');
  }

  /** Private keys that the process has made, PKCS #8 in DER, and what JavaScript has drawn of random bytes, in order. */
  async keys(): Promise<Array<{ kind: 'key' | 'random'; bytes: Buffer }>> {
    const told = await readFile(`${this.#file}.keys`);
    const keys: Array<{ kind: 'key' | 'random'; bytes: Buffer }> = [];
    for (let at = 0; at < told.length; ) {
      const end = at + HEADER + told.readUInt16BE(at + 1);
      keys.push({ kind: told[at] === PKCS8 ? 'key' : 'random', bytes: told.subarray(at + HEADER, end) });
      at = end;
    }
    return keys;
  }

  async #lines(): Promise<string[]> {
    const text = await readFile(this.#file, 'utf8').catch(() => '');
    return text.split('\n').slice(0, -1);
  }
}
