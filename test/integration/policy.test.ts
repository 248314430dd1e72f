import { beforeAll, describe, expect, it } from 'vitest';
import type { Greeter } from '../harness/greeter.ts';
import type { TestClient } from '../harness/greeter-client.ts';
import { Echo, ListFeatures, SayHello } from '../harness/greeter-methods.ts';
import { SERVICE, type SidecarProcess, World } from '../harness/sidecars.ts';

const EMPTY = { data: Buffer.alloc(0) };
const EVERYWHERE = { lo: { latitude: -9e8, longitude: -18e8 }, hi: { latitude: 9e8, longitude: 18e8 } };

/** One called sidecar with rules; callers by the names of their identities. */
interface Setting {
  readonly app: Greeter;
  readonly greeter: SidecarProcess;
  caller(name: string): Promise<{ client: TestClient; sidecar: SidecarProcess }>;
}

async function setting(ingress: object, more: object = {}): Promise<Setting> {
  const world = await World.make();
  const app = await world.app();
  const greeter = await world.sidecar('greeter', {
    ...more,
    ingress: { apps: [{ service: SERVICE, address: app.address }], ...ingress },
  });
  return {
    app,
    greeter,
    caller: async (name) => {
      const route = { service: SERVICE, endpoints: [greeter.ingress], peer: world.spiffeId('greeter') };
      const sidecar = await world.sidecar(
        name.replace('/', '-'),
        { egress: { routes: [route] } },
        { identity: name },
      );
      return { client: world.client(sidecar.egress, { authority: SERVICE }), sidecar };
    },
  };
}

describe('rules', () => {
  let at: Setting;
  beforeAll(async () => {
    at = await setting({
      allow: [
        { peer: 'spiffe://shop.example/ns/*/sa/web', methods: ['/hauberk.demo.v1.Greeter/*'] },
        {
          peer: 'spiffe://shop.example/ns/default/sa/web',
          methods: ['/hauberk.test.v1.Hooks/*'],
          action: 'audit',
        },
        { peer: 'spiffe://shop.example/ns/ops/sa/*', methods: ['/*/*'] },
        { peer: 'spiffe://shop.example/ns/ops/sa/intern', methods: ['/*/ListFeatures'], action: 'deny' },
      ],
    });
  });

  it('allow what they name, and deny what no rule names', async () => {
    const { client } = await at.caller('web');
    expect((await client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
    const { answer } = client.serverStream(ListFeatures, EVERYWHERE);
    expect(await answer).toMatchObject({ code: 7, hauberkError: 'denied', messages: [] });
    expect(at.app.calls('ListFeatures')).toBe(0);
  });

  it('with action audit let calls pass, and say that only they did', async () => {
    const { client, sidecar } = await at.caller('web');
    expect((await client.unary(Echo, EMPTY)).code).toBe(0);
    const event = await at.greeter.audit.event('call.denied', ({ auditOnly }) => auditOnly === true);
    expect(event).toMatchObject({ peer: sidecar.ready.spiffeId, method: Echo.path, rule: 1 });
    expect(await at.greeter.metric('hauberk_calls_denied_total')).toBeLessThan(2);
  });

  it('globs do not cross a slash', async () => {
    const { client } = await at.caller('other/web');
    expect((await client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
    expect(await client.unary(Echo, EMPTY)).toMatchObject({ code: 7, hauberkError: 'denied' });
  });

  it('that deny beat rules that allow', async () => {
    const { client, sidecar } = await at.caller('ops/intern');
    expect((await client.unary(Echo, EMPTY)).code).toBe(0);
    expect((await client.serverStream(ListFeatures, EVERYWHERE).answer).code).toBe(7);
    const event = await at.greeter.audit.event('call.denied', ({ peer }) => peer === sidecar.ready.spiffeId);
    expect(event).toMatchObject({ rule: 3, method: ListFeatures.path });
    expect(event.auditOnly).toBeUndefined();
  });

  it('deny a stranger everything, without telling whether there is such a service', async () => {
    const { client } = await at.caller('stranger');
    const known = await client.unary(SayHello, { name: 'Eve' });
    expect(known).toMatchObject({ code: 7, hauberkError: 'denied' });
    expect(known.details).not.toContain('127.0.0.1');
    expect(
      at.app.sightings.every(({ metadata }) => !String(metadata.get('hauberk-peer')).includes('stranger')),
    ).toBe(true);
  });
});

describe('policy: open', () => {
  it('lets everyone of the trust domain in, says so at the start, and rules that deny still hold', async () => {
    const at = await setting(
      { allow: [{ peer: 'spiffe://shop.example/ns/default/sa/*', methods: [Echo.path], action: 'deny' }] },
      { policy: 'open' },
    );
    expect(await at.greeter.audit.event('config.loaded')).toMatchObject({ policy: 'open' });
    const { client } = await at.caller('anyone');
    expect((await client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
    expect(await client.unary(Echo, EMPTY)).toMatchObject({ code: 7, hauberkError: 'denied' });
    expect(at.greeter.log).toContain('policy is open');
  });
});
