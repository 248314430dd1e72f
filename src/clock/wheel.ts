import type { Clock, TimerHandle } from './clock.ts';

/** Something with a time limit; the fields are the wheel's. */
export interface WheelEntry {
  onTimeout(): void;
  wheelSlot: WheelEntry[] | undefined;
  wheelIndex: number;
  /** Turns of the wheel still to go. */
  wheelTurns: number;
}

/**
 * A hashed timing wheel: one timer for all deadlines, constant cost to set and clear one. Coarse: an entry
 * fires up to one tick late and never early. The timer runs only while there are entries.
 */
export class Wheel {
  readonly #clock: Clock;
  readonly #tickMs: number;
  readonly #slots: WheelEntry[][];
  #at = 0;
  #lastTick = 0;
  #size = 0;
  #timer: TimerHandle | undefined;

  constructor(clock: Clock, tickMs = 10, slots = 512) {
    this.#clock = clock;
    this.#tickMs = tickMs;
    this.#slots = Array.from({ length: slots }, () => []);
  }

  get size(): number {
    return this.#size;
  }

  add(entry: WheelEntry, ms: number): void {
    if (this.#timer === undefined) {
      this.#lastTick = this.#clock.monotonic();
      this.#timer = this.#clock.every(this.#tickMs, () => this.#tick());
    }
    // The tick under way is partly over, so one more is needed not to fire early.
    const late = this.#clock.monotonic() - this.#lastTick;
    const ticks = Math.max(1, Math.ceil((Math.max(ms, 0) + late) / this.#tickMs));
    const slots = this.#slots.length;
    const slot = this.#slots[(this.#at + ticks) % slots] as WheelEntry[];
    entry.wheelTurns = Math.floor((ticks - 1) / slots);
    entry.wheelSlot = slot;
    entry.wheelIndex = slot.push(entry) - 1;
    this.#size++;
  }

  remove(entry: WheelEntry): void {
    const slot = entry.wheelSlot;
    if (slot === undefined) return;
    const last = slot.pop() as WheelEntry;
    if (last !== entry) {
      slot[entry.wheelIndex] = last;
      last.wheelIndex = entry.wheelIndex;
    }
    entry.wheelSlot = undefined;
    if (--this.#size === 0) {
      this.#clock.clear(this.#timer);
      this.#timer = undefined;
    }
  }

  #tick(): void {
    const due: WheelEntry[] = [];
    const now = this.#clock.monotonic();
    while (now - this.#lastTick >= this.#tickMs) {
      this.#lastTick += this.#tickMs;
      this.#at = (this.#at + 1) % this.#slots.length;
      for (const entry of this.#slots[this.#at] as WheelEntry[]) {
        if (entry.wheelTurns === 0) due.push(entry);
        else entry.wheelTurns--;
      }
    }
    for (const entry of due) this.remove(entry);
    for (const entry of due) entry.onTimeout();
  }
}
