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

  /** The entry does not fire any more. */
  remove(entry: WheelEntry): void {
    if (entry.wheelSlot === undefined) return;
    takeOut(entry);
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
      const slot = this.#slots[this.#at] as WheelEntry[];
      for (let i = slot.length - 1; i >= 0; i--) {
        const entry = slot[i] as WheelEntry;
        if (entry.wheelTurns > 0) {
          entry.wheelTurns--;
          continue;
        }
        takeOut(entry);
        entry.wheelSlot = due;
        entry.wheelIndex = due.push(entry) - 1;
      }
    }
    // What fires may remove what is due with it.
    for (let entry = due.at(-1); entry !== undefined; entry = due.at(-1)) {
      this.remove(entry);
      entry.onTimeout();
    }
  }
}

/** Takes the entry out of its slot, whose last entry fills the gap. */
function takeOut(entry: WheelEntry): void {
  const slot = entry.wheelSlot as WheelEntry[];
  const last = slot.pop() as WheelEntry;
  if (last === entry) return;
  slot[entry.wheelIndex] = last;
  last.wheelIndex = entry.wheelIndex;
}
