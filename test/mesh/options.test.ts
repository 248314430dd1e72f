import { describe, expect, it } from 'vitest';
import { parseSpiffeId } from '../../src/identity/spiffeid.ts';
import { MeshError } from '../../src/mesh/errors.ts';
import { checkOptions, meshConfig } from '../../src/mesh/meshconfig.ts';
import type { SecureMeshOptions } from '../../src/mesh/options.ts';

const KEYS = { svid: '/keys/web.pem', key: '/keys/web.key', bundle: '/keys/bundle.pem' };
const WEB = parseSpiffeId('spiffe://shop.example/ns/shop/sa/web');

/** What a mesh of these options would run. */
const configured = (options: Partial<SecureMeshOptions>) =>
  meshConfig({ serviceId: 'web', ...options }, KEYS, WEB).config;

/** The lines of what is said of options that cannot work, as a program in JavaScript might give them. */
function refused(options: unknown): string[] {
  try {
    checkOptions(options as SecureMeshOptions);
  } catch (error) {
    expect(error).toBeInstanceOf(MeshError);
    expect((error as MeshError).code).toBe('bad-option');
    return (error as MeshError).message.split('\n');
  }
  return [];
}

describe('what options become', () => {
  it('a mesh that only calls listens nowhere', () => {
    const { ingress, egress, probes, admin } = configured({});
    expect([ingress.listen, egress.listen, probes.http, probes.grpc, admin.listen]).toEqual([
      [],
      [],
      [],
      [],
      [],
    ]);
  });

  it('a port is bound on all addresses of both families, or on the one host that is named', () => {
    const hosts = (options: Partial<SecureMeshOptions>) =>
      configured(options).ingress.listen.map((address) => (address.kind === 'tcp' ? address.host : ''));
    expect(hosts({ port: 0 })).toEqual(['0.0.0.0', '::']);
    expect(hosts({ port: 1, host: '127.0.0.1' })).toEqual(['127.0.0.1']);
    expect(hosts({ port: 1, host: '::1' })).toEqual(['::1']);
  });

  it('a service is expected to prove the SPIFFE ID of its name: in our namespace, in the one that it names, or as given', () => {
    const { routes } = configured({
      services: {
        greeter: '127.0.0.1:1',
        'orders.billing': ['127.0.0.1:2', '[::1]:2'],
        old: { endpoints: ['old.example:3'], peer: 'spiffe://shop.example/legacy', timeout: 1500 },
      },
    }).egress;
    expect(routes.map(({ service, peer, timeoutMs }) => [service, peer, timeoutMs])).toEqual([
      ['greeter', 'spiffe://shop.example/ns/shop/sa/greeter', undefined],
      ['orders.billing', 'spiffe://shop.example/ns/billing/sa/orders', undefined],
      ['old', 'spiffe://shop.example/legacy', 1500],
    ]);
    expect(routes[1]?.endpoints).toEqual([
      { host: '127.0.0.1', port: 2 },
      { host: '::1', port: 2 },
    ]);
  });

  it('without `allow` every identity of the trust domain may call; an empty one is nobody', () => {
    expect(configured({}).policy).toBe('open');
    const { policy, ingress } = configured({ allow: [] });
    expect([policy, ingress.allow]).toEqual(['enforce', []]);
  });

  it('rules name peers by service and own methods by name', () => {
    const { ingress } = configured({
      allow: [
        'admin',
        { peer: 'api/gateway', methods: ['greet', '/shop.Cart/*'] },
        { peer: 'spiffe://shop.example/ns/*/sa/spy', action: 'deny' },
      ],
    });
    expect(ingress.allow).toEqual([
      { peer: 'spiffe://shop.example/ns/shop/sa/admin', methods: ['/*/*'], action: 'allow' },
      {
        peer: 'spiffe://shop.example/ns/api/sa/gateway',
        methods: ['/web/greet', '/shop.Cart/*'],
        action: 'allow',
      },
      { peer: 'spiffe://shop.example/ns/*/sa/spy', methods: ['/*/*'], action: 'deny' },
    ]);
  });

  it('times are milliseconds or durations, and the defaults give way to those that are given', () => {
    const session = (security: SecureMeshOptions['security']) => {
      const { idleMs, absoluteMs, graceMs } = configured({ security: security ?? {} }).session;
      return [idleMs, absoluteMs, graceMs];
    };
    expect(session({})).toEqual([3_600_000, 28_800_000, 30_000]);
    expect(session({ sessionTimeout: '30m', absoluteLifetime: 7_200_000 })).toEqual([
      1_800_000, 7_200_000, 30_000,
    ]);
    expect(session({ sessionTimeout: '2d' })).toEqual([172_800_000, 172_800_000, 30_000]);
    expect(session({ absoluteLifetime: '20m' })).toEqual([1_200_000, 1_200_000, 30_000]);
    expect(session({ sessionTimeout: '2s', absoluteLifetime: '10s' })).toEqual([2000, 10_000, 200]);
  });

  it("the program's own work on the event loop turns no peer away that a sidecar would turn away", () => {
    expect(configured({}).handshake.maxEventLoopLagMs).toBe(500);
  });

  it('one limit or several', () => {
    const limit = { maxRequests: 5, windowMs: 1000 };
    expect(configured({ rateLimit: limit }).limits).toEqual([{ scope: 'session', ...limit }]);
    expect(configured({ rateLimit: [limit, { ...limit, scope: 'peer' }] }).limits).toHaveLength(2);
  });

  it('adapters of the program stay what they are; turned off, there are none and no call is recorded', () => {
    const own = { write: () => {} };
    const adapters = [own, 'stdout', { file: { path: 'a.jsonl' } }] as const;
    const on = meshConfig({ serviceId: 'web', monitoring: { adapters } }, KEYS, WEB);
    expect(on.adapters).toEqual([own]);
    expect(on.config.monitoring.adapters.map(({ type }) => type)).toEqual(['stdout', 'file']);
    const off = meshConfig({ serviceId: 'web', monitoring: { adapters, enabled: false } }, KEYS, WEB);
    expect([off.adapters, off.config.monitoring.adapters, off.config.monitoring.calls]).toEqual([
      [],
      [],
      'none',
    ]);
  });
});

describe('options that cannot work', () => {
  it('says all that is wrong at once, in the names of the options', () => {
    expect(
      refused({
        serviceId: 'web',
        security: { sessionTimeOut: '1h' },
        rateLimit: { maxRequests: '5' },
        sevices: {},
      }),
    ).toEqual([
      'options.security.sessionTimeOut: no such option; did you mean sessionTimeout?',
      'options.rateLimit.windowMs is missing',
      'options.rateLimit.maxRequests: expected a whole number, found a value of type string',
      'options.sevices: no such option; did you mean services?',
    ]);
    expect(refused(undefined)).toEqual(['options: expected an object, found nothing']);
    expect(refused({})).toEqual(['options.serviceId is missing']);
  });

  it.each<[string, object, string]>([
    ['a port', { port: 70_000 }, 'options.port: ":70000" has the port "70000": ports are 0 to 65535'],
    [
      'a duration',
      { security: { sessionTimeout: '30' } },
      'options.security.sessionTimeout: "30" has no unit',
    ],
    [
      'a short time',
      { security: { sessionTimeout: 10 } },
      'options.security.sessionTimeout: expected 1s to 30d, found "10ms"',
    ],
    [
      'times that contradict each other',
      { security: { sessionTimeout: '2h', absoluteLifetime: '1h' } },
      'options.security.sessionTimeout: options.security.sessionTimeout (2h) is more than options.security.absoluteLifetime (1h)',
    ],
    ['an endpoint', { services: { greeter: ['127.0.0.1'] } }, 'options.services.greeter[0]: "127.0.0.1"'],
    ['no endpoints', { services: { greeter: [] } }, 'options.services.greeter'],
    [
      'a peer',
      { services: { a: { endpoints: ['a:1'], peer: 'a' } } },
      'options.services.a.peer: "a" is not a SPIFFE ID',
    ],
    [
      'a name without an ID',
      { services: { 'a.b.c': ['a:1'] } },
      'options.services["a.b.c"]: which SPIFFE ID "a.b.c" has',
    ],
    ['a service name', { serviceId: 'web', services: { 'a b': ['a:1'] } }, 'options.services["a b"]'],
    [
      'a limit',
      { rateLimit: { maxRequests: 0, windowMs: 1000 } },
      'options.rateLimit.maxRequests: expected 1 to',
    ],
    [
      'a window',
      { rateLimit: [{ maxRequests: 1, windowMs: 10 }] },
      'options.rateLimit[0].windowMs: expected 1s to 1d, found "10ms"',
    ],
    ['a Redis', { redis: 'localhost' }, 'options.redis: the value is not a Redis URL'],
    ['a remote app', { app: '10.0.0.1:1' }, 'options.app: 10.0.0.1:1 is not loopback'],
    ['an adapter', { monitoring: { adapters: [{}] } }, "options.monitoring.adapters[0]: expected 'stdout'"],
    ['a rule', { allow: [{ peer: 'a', methods: ['/**'] }] }, 'options.allow[0].methods[0]: "/**" has **'],
    ['a level', { log: 'loud' }, 'options.log: expected one of debug, info, warn, error, silent'],
    ['a logger', { log: {} }, 'options.log: expected a level, or a logger'],
    [
      'a choice',
      { security: { postQuantum: 'yes' } },
      'options.security.postQuantum: expected one of required, preferred, off',
    ],
  ])('%s', (_what, options, said) => {
    const lines = refused({ serviceId: 'web', ...options });
    expect(lines[0]?.slice(0, said.length)).toBe(said);
    expect(lines.join('\n')).not.toMatch(/ingress|egress|session\.|limits\[/);
  });

  it('a trust domain is held against the keys only once they are known', () => {
    const options = {
      serviceId: 'web',
      services: { a: { endpoints: ['a:1'], peer: 'spiffe://other.example/a' } },
    };
    expect(refused(options)).toEqual([]);
    expect(() => meshConfig(options, KEYS, WEB)).toThrow(
      'options.services.a.peer: the peer is in the trust domain other.example',
    );
  });
});
