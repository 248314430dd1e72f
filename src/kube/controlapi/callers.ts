import type { Socket } from 'node:net';
import { callerAddress } from '../callerof.ts';

/**
 * Connections by address, bounded for each and in all. When there are too many in all, the oldest of the address that has
 * most of them goes, unless the newcomer's address would have as many: then that is refused, for those that are up do no harm.
 */
export class Callers {
  readonly #max: number;
  readonly #maxPerAddress: number;
  readonly #byAddress = new Map<string, Set<Socket>>();
  #open = 0;

  readonly #onEnded: () => void;

  /** `onEnded` is called for each connection that is ended for another. */
  constructor(max: number, maxPerAddress: number, onEnded: () => void) {
    this.#onEnded = onEnded;
    this.#max = max;
    this.#maxPerAddress = maxPerAddress;
  }

  get open(): number {
    return this.#open;
  }

  /** Why the connection is not to be, and is not counted; undefined: it is. */
  add(socket: Socket): 'address-limit' | 'full' | undefined {
    const key = callerAddress(socket.remoteAddress ?? '');
    const own = this.#byAddress.get(key) ?? new Set();
    if (own.size >= this.#maxPerAddress) return 'address-limit';
    if (this.#open >= this.#max && !this.#makeRoom(own.size + 1)) return 'full';
    own.add(socket);
    this.#byAddress.set(key, own);
    this.#open++;
    socket.once('close', () => this.#remove(key, socket));
    return undefined;
  }

  #remove(key: string, socket: Socket): void {
    const own = this.#byAddress.get(key);
    if (own?.delete(socket) !== true) return;
    this.#open--;
    if (own.size === 0) this.#byAddress.delete(key);
  }

  /** For one of an address that will have `count`. */
  #makeRoom(count: number): boolean {
    let most: [string, Set<Socket>] | undefined;
    for (const entry of this.#byAddress) if (entry[1].size > (most?.[1].size ?? 0)) most = entry;
    const [oldest] = most?.[1] ?? [];
    if (most === undefined || oldest === undefined || most[1].size <= count) return false;
    this.#remove(most[0], oldest);
    oldest.destroy();
    this.#onEnded();
    return true;
  }

  destroy(): void {
    for (const own of [...this.#byAddress.values()]) for (const socket of [...own]) socket.destroy();
  }
}
