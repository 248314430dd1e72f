import type { AuditAdapter } from '../../src/audit/adapter.ts';
import type { AuditEvent, AuditEventInput } from '../../src/audit/event.ts';
import { Recorder, type RecorderOptions } from '../../src/audit/recorder.ts';
import { FakeClock } from '../harness/fake-clock.ts';

export const SOURCE = { instance: 'run-1', spiffeId: 'spiffe://shop.example/ns/shop/sa/web' };

/** Lets promises and setImmediate callbacks run. */
export async function turns(count = 8): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** An adapter that keeps what it is given, and behaves as `behave` says for each write. */
export class Collector implements AuditAdapter {
  readonly name: string;
  readonly events: AuditEvent[] = [];
  writes = 0;
  calls: string[] = [];
  behave: (events: readonly AuditEvent[], write: number) => void | PromiseLike<void> = () => {};

  constructor(name: string, behave?: Collector['behave']) {
    this.name = name;
    if (behave !== undefined) this.behave = behave;
  }

  write(events: readonly AuditEvent[]): void | PromiseLike<void> {
    const result = this.behave(events, ++this.writes);
    if (result === undefined) {
      this.events.push(...events);
      return;
    }
    return result.then(() => {
      this.events.push(...events);
    });
  }

  flush(): void {
    this.calls.push('flush');
  }

  reopen(): void {
    this.calls.push('reopen');
  }

  close(): void {
    this.calls.push('close');
  }

  types(): string[] {
    return this.events.map((event) => event.type);
  }
}

export function recorderOf(
  adapters: RecorderOptions['adapters'],
  options: Partial<RecorderOptions> = {},
): { recorder: Recorder; clock: FakeClock; tick: (ms?: number) => Promise<void> } {
  const clock = new FakeClock();
  const recorder = new Recorder({ clock, source: SOURCE, adapters, ...options });
  const tick = async (ms = 20): Promise<void> => {
    clock.advance(ms);
    await turns();
  };
  return { recorder, clock, tick };
}

export const ready = (n = 0): AuditEventInput => ({ type: 'sidecar.ready', listeners: [`n=${n}`] });

export const call = (fields: Record<string, unknown> = {}): AuditEventInput =>
  ({
    type: 'call.completed',
    direction: 'egress',
    sessionId: '018f3c1e-1234-8abc-9def-001122334455',
    peer: 'spiffe://shop.example/ns/shop/sa/greeter',
    service: 'greeter.shop',
    method: '/shop.Greeter/SayHello',
    grpcStatus: 0,
    durationMs: 1.25,
    requestBytes: 100,
    responseBytes: 200,
    ...fields,
  }) as AuditEventInput;
