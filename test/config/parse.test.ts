import { expect, it } from 'vitest';
import { parseConfig } from '../../src/config/parse.ts';
import { COMPLETE, LEAST } from './samples.ts';

const parse = (text: string) => parseConfig(text, { file: '/etc/hauberk/sidecar.yaml' });

it('the complete file of the design loads', () => {
  expect(parse(COMPLETE)).toMatchObject({
    trustDomain: 'shop.example',
    identity: {
      svid: '/etc/hauberk/keys/web.pem',
      key: '/etc/hauberk/keys/web.key',
      bundle: '/etc/hauberk/keys/bundle.pem',
    },
    egress: {
      listen: [{ kind: 'tcp', host: '127.0.0.1', port: 15001 }],
      routes: [
        {
          service: 'greeter.shop',
          authorities: ['greeter', 'greeter.shop.svc.cluster.local:50051'],
          endpoints: [
            { host: '10.1.2.3', port: 15008 },
            { host: 'greeter-mesh.shop', port: 15008 },
          ],
          peer: 'spiffe://shop.example/ns/shop/sa/greeter',
          listen: { kind: 'tcp', host: '127.0.0.1', port: 50061 },
        },
      ],
    },
    ingress: {
      listen: [{ kind: 'tcp', host: '0.0.0.0', port: 15008 }],
      apps: [{ service: 'web.shop', address: { kind: 'tcp', host: '127.0.0.1', port: 50051 } }],
      allow: [{ peer: 'spiffe://shop.example/ns/shop/sa/*', methods: ['/shop.Greeter/*'], action: 'allow' }],
    },
    session: { idleMs: 3_600_000, absoluteMs: 28_800_000, max: 10_000 },
    limits: [
      { scope: 'session', maxRequests: 1000, windowMs: 60_000 },
      { scope: 'peer', maxRequests: 5000, windowMs: 60_000 },
    ],
    monitoring: { adapters: [{ type: 'stdout' }, { type: 'file', path: '/etc/hauberk/audit.jsonl' }] },
  });
});

const NO_ROUTES = { routes: [], discovered: [], discovery: false, namespace: undefined, redirects: [] };

it('a file with only the required keys has the defaults of the design', () => {
  const tcp = (port: number, ...hosts: string[]) => hosts.map((host) => ({ kind: 'tcp', host, port }));
  expect(parse(LEAST)).toEqual({
    trustDomain: 'shop.example',
    identity: {
      svid: '/etc/hauberk/keys/web.pem',
      key: '/etc/hauberk/keys/web.key',
      bundle: '/etc/hauberk/keys/bundle.pem',
      reloadMs: 30_000,
      renew: false,
      issuer: 'files',
    },
    controller: undefined,
    egress: { listen: tcp(15001, '127.0.0.1', '::1'), maxConnections: 4096, ...NO_ROUTES }, // section 2
    ingress: { listen: tcp(15008, '0.0.0.0', '::'), podAddresses: [], apps: [], allow: [] }, // section 2
    policy: 'enforce', // section 8
    session: { idleMs: 3_600_000, absoluteMs: 28_800_000, max: 10_000, maxPerPeer: 64, graceMs: 30_000 }, // 6
    revocation: { file: undefined },
    admin: { listen: [], groupAccess: false },
    limits: [],
    limitStore: { type: 'memory' }, // section 9
    monitoring: { adapters: [], calls: 'all', queue: 10_000 },
    probes: { http: tcp(15020, '0.0.0.0', '::'), grpc: tcp(15021, '0.0.0.0', '::'), apps: [] }, // section 2
    http2: {
      appStreams: 1_024,
      sessionStreams: 4_096,
      queuedCalls: 1_024,
      appResetBurst: 1_000,
      appResetRatio: 0.5,
      appCancelBurst: 800,
      appCancelsPerSecond: 30,
      sessionResetBurst: 1_000,
      sessionResetsPerSecond: 500,
      continuationFrames: 8,
      headerBlockSize: 65_536,
      headerListSize: 65_536,
      headerFields: 128,
      interimResponses: 16,
      appHeaderTableSize: 4_096,
      sessionHeaderTableSize: 65_536,
      floodFrames: 200,
      floodWindowMs: 10_000,
      maxFramesPerSecond: 5_000_000,
      queuedControlFrames: 1_000,
      settingsEntries: 32,
      stallTimeoutMs: 60_000,
      queuedBytes: 16_777_216,
      peerBytes: 256 * 1024 * 1024,
      prefaceTimeoutMs: 5_000,
      settingsTimeoutMs: 5_000,
      headersTimeoutMs: 10_000,
      initialWindow: 65_536,
      maxWindow: 4_194_304,
    }, // section 7
    handshake: {
      connectTimeoutMs: 5_000,
      firstFrameTimeoutMs: 2_000,
      timeoutMs: 5_000,
      maxFirstMessageSize: 1_536,
      maxMessageSize: 16_384,
      maxHalfOpen: 256,
      maxHalfOpenPerAddress: 16,
      ratePerAddress: 50,
      burstPerAddress: 100,
      maxEventLoopLagMs: 50,
      staticKeyLifetimeMs: 86_400_000,
    }, // section 5
    records: {
      timeoutMs: 10_000,
      closeTimeoutMs: 5_000,
      heartbeatMs: 15_000,
      heartbeatTimeoutMs: 10_000,
      rekeyRecords: 2 ** 20,
      rekeyBytes: 32 * 2 ** 30,
      rekeyAfterMs: 3_600_000,
      maxRecordsPerSecond: 200_000,
    }, // section 5
    pool: {
      size: 8,
      backoffMs: 200,
      maxBackoffMs: 10_000,
      maxReconnectAttempts: 10,
      healthCheckMs: 10_000,
      waitTimeoutMs: 30_000,
      maxConcurrentSessions: 1_024,
    }, // section 6
    crypto: { provider: 'native', postQuantum: 'preferred' }, // sections 4 and 5
    log: { level: 'info' },
    drain: { deadlineMs: 30_000 },
  });
});

it('two parsed files share no objects', () => {
  const [one, two] = [parse(LEAST), parse(LEAST)];
  expect(one.egress.listen[0]).not.toBe(two.egress.listen[0]);
  expect(one.ingress.allow).not.toBe(two.ingress.allow);
});

it('each form of an adapter is understood', () => {
  const config = parse(`${LEAST}monitoring:
  adapters:
    - stdout
    - stdout: {}
    - file: { path: /var/log/audit.jsonl }
    - module: ./my-adapter.mjs
    - module: "@acme/adapter"
      options: { endpoint: "https://siem.example", deep: { list: [1, two, null] } }
    - module: file:///opt/adapter.mjs
`);
  expect(config.monitoring.adapters).toEqual([
    { type: 'stdout' },
    { type: 'stdout' },
    { type: 'file', path: '/var/log/audit.jsonl' },
    { type: 'module', module: '/etc/hauberk/my-adapter.mjs', options: {} },
    {
      type: 'module',
      module: '@acme/adapter',
      options: { endpoint: 'https://siem.example', deep: { list: [1, 'two', null] } },
    },
    { type: 'module', module: '/opt/adapter.mjs', options: {} },
  ]);
});

it('listeners may be one string, a list, a Unix socket or off', () => {
  const config = parse(`${LEAST}egress: { listen: ["unix:run/egress.sock", "localhost:0"] }
ingress: { listen: "off", apps: [{ service: web, address: "unix:/run/web.sock" }] }
probes: { http: ["127.0.0.1:0", "[::1]:0"], grpc: off }
`);
  expect(config.egress.listen).toEqual([
    { kind: 'unix', path: '/etc/hauberk/run/egress.sock' },
    { kind: 'tcp', host: '127.0.0.1', port: 0 },
    { kind: 'tcp', host: '::1', port: 0 },
  ]);
  expect(config.ingress.listen).toEqual([]);
  expect(config.ingress.apps[0].address).toEqual({ kind: 'unix', path: '/run/web.sock' });
  expect(config.probes).toEqual({
    http: [
      { kind: 'tcp', host: '127.0.0.1', port: 0 },
      { kind: 'tcp', host: '::1', port: 0 },
    ],
    grpc: [],
    apps: [],
  });
});

it('a catch-all route, wildcards and a single endpoint are allowed', () => {
  const config = parse(`${LEAST}egress:
  routes:
    - { service: A, authorities: ["*"], endpoints: "a:1", peer: "spiffe://shop.example/a", timeout: 15s }
    - { service: b, authorities: ["*.Shop.svc.cluster.local", "*.shop:99", "[::1]:5", 10.0.0.1], endpoints: ["[::2]:1"], peer: "spiffe://shop.example/b" }
`);
  expect(config.egress.routes).toEqual([
    {
      service: 'a',
      authorities: ['*'],
      endpoints: [{ host: 'a', port: 1 }],
      peer: 'spiffe://shop.example/a',
      timeoutMs: 15_000,
    },
    {
      service: 'b',
      authorities: ['*.shop.svc.cluster.local', '*.shop:99', '[::1]:5', '10.0.0.1'],
      endpoints: [{ host: '::2', port: 1 }],
      peer: 'spiffe://shop.example/b',
    },
  ]);
});

it('a Redis store keeps its URL and has a deadline', () => {
  const config = parse(`${LEAST}limitStore: { type: redis, url: "rediss://:secret@redis.shop:6380/2" }\n`);
  expect(config.limitStore).toEqual({
    type: 'redis',
    url: 'rediss://:secret@redis.shop:6380/2',
    timeoutMs: 200,
  });
});

it('aliases repeat what they name', () => {
  const config = parse(`${LEAST}ingress:
  allow:
    - { peer: "spiffe://shop.example/a", methods: &all ["/*/*"] }
    - { peer: "spiffe://shop.example/b", methods: *all, action: deny }
`);
  expect(config.ingress.allow.map((rule) => rule.methods)).toEqual([['/*/*'], ['/*/*']]);
});

it('the controller is known by a file or by text', () => {
  const given = 'address: "c.example:15010", token: t, peer: "spiffe://shop.example/c"';
  const at = {
    address: { host: 'c.example', port: 15010 },
    token: '/etc/hauberk/t',
    peer: 'spiffe://shop.example/c',
  };
  expect(parse(`${LEAST}controller: { ${given}, bundle: b.pem }`).controller).toEqual({
    ...at,
    bundle: { file: '/etc/hauberk/b.pem' },
  });
  const pem = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
  expect(parse(`${LEAST}controller: { ${given}, bundlePem: ${JSON.stringify(pem)} }`).controller).toEqual({
    ...at,
    bundle: { pem },
  });
});

it('routes whose endpoints the controller tells are apart from those that have theirs', () => {
  const { egress } = parse(`${LEAST}
controller: { address: "c:15010", peer: "spiffe://shop.example/c", token: /t, bundle: /b }
egress:
  discovery: true
  namespace: shop
  routes:
    - { service: Greeter.shop:50051, discovery: true, listen: 127.0.0.1:50061, timeout: 5s }
    - { service: billing.shop, endpoints: 10.0.0.1:15008, peer: spiffe://shop.example/billing }
`);
  expect(egress).toMatchObject({ discovery: true, namespace: 'shop' });
  expect(egress.routes.map(({ service }) => service)).toEqual(['billing.shop']);
  expect(egress.discovered).toEqual([
    {
      service: 'greeter.shop:50051',
      authorities: [],
      timeoutMs: 5000,
      listen: { kind: 'tcp', host: '127.0.0.1', port: 50061 },
    },
  ]);
});
