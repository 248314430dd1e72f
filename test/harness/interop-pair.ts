/** Two sidecars between the clients and the servers of the interop cases. */
import { expect } from 'vitest';
import type { AuditEvent } from '../../src/audit/event.ts';
import { TestClient } from './greeter-client.ts';
import type { InteropClient } from './interop-cases.ts';
import { atEnd, type ConfigFile, type SidecarProcess, World } from './sidecars.ts';

/** A service behind the called sidecar. */
export interface InteropService {
  /** Where its app listens. */
  readonly app: string;
  /** Names besides the service's own. */
  readonly authorities?: readonly string[];
}

export class InteropPair {
  readonly calling: SidecarProcess;
  readonly called: SidecarProcess;

  readonly #services: number;

  private constructor(calling: SidecarProcess, called: SidecarProcess, services: number) {
    this.#services = services;
    this.calling = calling;
    this.called = called;
  }

  static async start(services: Readonly<Record<string, InteropService>>): Promise<InteropPair> {
    const world = await World.make();
    // Thousands of calls: what each was is not asked.
    const monitoring: ConfigFile = { calls: 'none' };
    const called = await world.sidecar('called', {
      monitoring,
      ingress: {
        apps: Object.entries(services).map(([service, { app }]) => ({ service, address: app })),
        allow: [{ peer: world.spiffeId('*'), methods: ['/*/*'] }],
      },
    });
    const calling = await world.sidecar('calling', {
      monitoring,
      egress: {
        routes: Object.entries(services).map(([service, { authorities }]) => ({
          service,
          ...(authorities === undefined ? {} : { authorities }),
          endpoints: [called.ingress],
          peer: world.spiffeId('called'),
          listen: '127.0.0.1:0',
        })),
      },
    });
    return new InteropPair(calling, called, Object.keys(services).length);
  }

  /** The upstream listener of a service: it ignores `:authority`. */
  upstream(service: string): string {
    return this.calling.ready.routes[service] as string;
  }

  /** A grpc-js client by the egress listener, which goes by `:authority`. */
  byAuthority(service: string): InteropClient {
    return channels(() => new TestClient(this.calling.egress, { authority: service }));
  }

  /** A grpc-js client by the service's own listener. */
  byUpstream(service: string): InteropClient {
    return channels(() => new TestClient(this.upstream(service)));
  }

  /**
   * Asserts that what went on met no limit and broke nothing: no flood, no breach, and of each service the first
   * session lives; or, without `sameSession`, the sessions that ended did so in order.
   */
  async expectCalm({ sameSession = true } = {}): Promise<void> {
    for (const sidecar of [this.calling, this.called]) {
      const events = await sidecar.audit.all();
      const ended = (event: AuditEvent): boolean =>
        event.type === 'session.closed' && (sameSession || !IN_ORDER.has(event.reason ?? ''));
      const alarming = events.filter((event) => isAlarming(event) || ended(event));
      expect({ of: sidecar.name, alarming }).toEqual({ of: sidecar.name, alarming: [] });
      const sessions = events.filter(({ type }) => type === 'session.created').length;
      expect(sessions).toBeGreaterThan(0);
      if (sameSession) expect(sessions).toBeLessThanOrEqual(this.#services);
      expect(await sidecar.metric('hauberk_floods_total')).toBe(0);
    }
  }
}

const IN_ORDER = new Set(['local-closed', 'peer-closed']);
const ALARMING = new Set(['flood.detected', 'call.limited', 'session.expired', 'session.evicted']);

function isAlarming(event: AuditEvent): boolean {
  if (ALARMING.has(event.type)) return true;
  return event.type === 'connection.closed' && ['flood', 'protocol-error'].includes(event.reason ?? '');
}

function channels(make: () => TestClient): InteropClient {
  const newClient = (): TestClient => {
    const client = make();
    atEnd(() => client.close());
    return client;
  };
  return { client: newClient(), newClient };
}
