import { readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import type { AuditEvent, AuditEventOf, AuditEventType } from '../../src/audit/event.ts';

const POLL_MS = 10;
const PATIENCE_MS = 20_000;

/** The audit of a sidecar, as its file adapter writes it. */
export class AuditFile {
  readonly path: string;
  readonly #name: string;

  constructor(path: string, name: string) {
    this.path = path;
    this.#name = name;
  }

  /** All events until now; a line that is still being written is left out. */
  async all(): Promise<AuditEvent[]> {
    const text = await readFile(this.path, 'utf8').catch(() => '');
    const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n');
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as AuditEvent);
  }

  /** All events of a type until now. */
  async of<T extends AuditEventType>(type: T): Promise<AuditEventOf<T>[]> {
    return (await this.all()).filter((event) => event.type === type) as unknown as AuditEventOf<T>[];
  }

  /** The first event of a type, that `fits` and has a higher `seq` than `after`: waits for it if need be. */
  async event<T extends AuditEventType>(
    type: T,
    fits: (event: AuditEventOf<T>) => boolean = () => true,
    after = 0,
  ): Promise<AuditEventOf<T>> {
    const [first] = await this.events(type, 1, fits, after);
    return first as AuditEventOf<T>;
  }

  /** The first `count` such events. */
  async events<T extends AuditEventType>(
    type: T,
    count: number,
    fits: (event: AuditEventOf<T>) => boolean = () => true,
    after = 0,
  ): Promise<AuditEventOf<T>[]> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const found = (await this.of(type)).filter((event) => event.seq > after && fits(event));
      if (found.length >= count) return found.slice(0, count);
      if (performance.now() > deadline) {
        const seen = (await this.all()).slice(-30).map((event) => JSON.stringify(event));
        throw new Error(
          `${this.#name} has ${found.length} of ${count} such ${type} events; the last of all:\n${seen.join('\n')}`,
        );
      }
      await pause(POLL_MS);
    }
  }

  /** `seq` of the last event until now: a mark for `after`. */
  async mark(): Promise<number> {
    return (await this.all()).at(-1)?.seq ?? 0;
  }
}
