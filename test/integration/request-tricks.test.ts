import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import { type LoadedIdentity, loadIdentity } from '../../src/identity/load.ts';
import { E, type Fields } from '../harness/http2-peer.ts';
import { RawApp, type RawRequest } from '../harness/rawh2.ts';
import { type Outcome, RawSession } from '../harness/rawsession.ts';
import { type Pair, SERVICE, startPair, World } from '../harness/sidecars.ts';

const METHOD = '/shop.Raw/Call';

let pair: Pair;
let app: RawApp;
let self: LoadedIdentity;
/** A peer with a good identity and no good will. */
let peer: RawSession;
let answer: (request: RawRequest) => void;

beforeAll(async () => {
  const world = await World.make();
  app = await RawApp.start();
  pair = await startPair({
    world,
    greeter: {
      ingress: {
        apps: [{ service: SERVICE, address: app.address }],
        allow: [
          { peer: world.spiffeId('web'), methods: ['/shop.Raw/*', '/shop.Open/*'] },
          { peer: world.spiffeId('web'), methods: ['/shop.Raw/Secret'], action: 'deny' },
        ],
      },
      log: { level: 'debug' },
    },
    web: { log: { level: 'debug' } },
  });
  const files = await world.identityFiles('web');
  self = await loadIdentity({ ...files, trustDomain: 'shop.example' }, systemClock);
});

const newPeer = (): Promise<RawSession> =>
  RawSession.asPeer(self.identity, pair.greeter.ingress, {
    expectedPeer: pair.world.spiffeId('greeter'),
    bundle: self.bundle,
  });

const ok: typeof answer = ({ stream }) =>
  stream.respond(
    { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '0' },
    { endStream: true },
  );

beforeEach(async () => {
  if (peer === undefined || peer.ended) peer = await newPeer();
  app.requests.length = 0;
  answer = ok;
  app.onRequest((request) => answer(request));
});
afterAll(() => peer.close());

const GRPC: Fields = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', METHOD],
  [':authority', SERVICE],
  ['te', 'trailers'],
  ['content-type', 'application/grpc'],
];

/** The fields of a call with some of them replaced, taken away (undefined) or added behind. */
function fields(changes: Readonly<Record<string, string | undefined>>, ...more: Fields): Fields {
  const changed = GRPC.filter(([name]) => !(name in changes) || changes[name] !== undefined).map(
    ([name, value]) => [name, changes[name] ?? value] as const,
  );
  const added = Object.entries(changes).flatMap(([name, value]) =>
    value === undefined || GRPC.some(([known]) => known === name) ? [] : [[name, value] as const],
  );
  return [...changed, ...added, ...more];
}

/** One word for what became of a request. */
function verdict({ fields: got, reset }: Outcome): string {
  if (reset !== undefined) return reset === E.PROTOCOL_ERROR ? 'malformed' : `reset ${reset}`;
  return got.get('hauberk-error') ?? `status ${got.get('grpc-status')}`;
}

const PASSED = 'status 0';
const LONG = 'a'.repeat(60_000);

describe('a peer that names another service than it may', () => {
  it.each<[authority: string | undefined, verdict: string, host?: string]>([
    [SERVICE, PASSED],
    ['GREETER.Shop', PASSED],
    [`${SERVICE}.`, PASSED],
    [`${SERVICE}:443`, PASSED],
    [`${SERVICE}..`, 'no-app'],
    [`${SERVICE}:0`, 'no-app'],
    [`${SERVICE}:99999`, 'no-app'],
    [`${SERVICE}:`, 'no-app'],
    [`${SERVICE}:80:80`, 'no-app'],
    [`.${SERVICE}`, 'no-app'],
    [`x${SERVICE}`, 'no-app'],
    [`${SERVICE}.svc`, 'no-app'],
    ['greeter', 'no-app'],
    ['localhost', 'no-app'],
    ['127.0.0.1:1', 'no-app'],
    ['[::1]', 'no-app'],
    ['[::1]:50051', 'no-app'],
    ['[greeter.shop]', 'no-app'],
    ['[::ffff:127.0.0.1%25lo]', 'no-app'],
    ['greeter%2eshop', 'no-app'],
    ['__proto__', 'no-app'],
    ['constructor', 'no-app'],
    ['*', 'no-app'],
    [LONG, 'no-app'],
    [`user@${SERVICE}`, 'malformed'],
    [`${SERVICE}/..`, 'malformed'],
    [`${SERVICE}\\`, 'malformed'],
    [`${SERVICE} x`, 'malformed'],
    [`${SERVICE}\tx`, 'malformed'],
    [`${SERVICE}\r\nhost: x`, 'malformed'],
    [`${SERVICE}\0`, 'malformed'],
    [`greeter\u00b7shop`, 'malformed'],
    ['', 'malformed'],
    [undefined, 'malformed'],
    [undefined, PASSED, SERVICE],
    [SERVICE, PASSED, 'Greeter.Shop'],
    [SERVICE, 'malformed', 'other.shop'],
    ['other.shop', 'malformed', SERVICE],
    [SERVICE, 'malformed', ''],
    ['', 'malformed', SERVICE],
  ])('%j: %s', async (authority, expected, host) => {
    const more: Fields = host === undefined ? [] : [['host', host]];
    const outcome = await peer.request(fields({ ':authority': authority }, ...more));
    expect(verdict(outcome)).toBe(expected);
    expect(app.requests.length).toBe(expected === PASSED ? 1 : 0);
  });

  it('twice, or in two places', async () => {
    for (const more of [
      [':authority', SERVICE],
      ['host', SERVICE],
    ] as const) {
      const twice = fields({}, more, more);
      expect(verdict(await peer.request(twice))).toBe('malformed');
    }
    expect(app.requests).toEqual([]);
  });
});

describe('a peer that writes a forbidden method in another way', () => {
  it.each([
    '/shop.Raw/Secret',
    '/shop.Raw/Secret?x',
    '/shop.Raw/Secret?',
    '/shop.Raw/Secret#',
    '/shop.Raw/Secret#/shop.Raw/Call',
    '/shop.Raw/Secret/',
    '//shop.Raw/Secret',
    '/shop.Raw//Secret',
    '/./shop.Raw/Secret',
    '/shop.Raw/./Secret',
    '/shop.Raw/../shop.Raw/Secret',
    '/shop.Raw/%53ecret',
    '/shop.Raw/%2553ecret',
    '/shop%2eRaw/Secret',
    '/shop.Raw%2fSecret',
    '/shop.Raw/x/../Secret',
    '/shop.Raw/x%2f..%2fSecret',
    '/shop.Raw\\Secret',
    '/shop.Raw/Secret%3fx',
    '/shop.Raw/Secret%23x',
    '/shop.Open/../shop.Raw/Secret',
    '/shop.Open/..%2fshop.Raw%2fSecret',
    '/shop.Open/%2e%2e/shop.Raw/Secret',
    '/shop.Other/Call',
    '/shop.Raw/Call/More',
    '/shop.Raw',
    '/',
    '/*/*',
    `/shop.Raw/x/${LONG}`,
  ])('%s: denied', async (path) => {
    expect(verdict(await peer.request(fields({ ':path': path })))).toBe('denied');
    expect(app.requests).toEqual([]);
  });

  it.each([
    '',
    'shop.Raw/Call',
    'http://greeter.shop/shop.Raw/Call',
    '*',
    '/shop.Raw/Call x',
    '/shop.Raw/Call HTTP/1.1\r\nhost: x',
    '/shop.Raw/Call\0',
    '/shop.Raw/Call\x7f',
  ])('%j: malformed', async (path) => {
    expect(verdict(await peer.request(fields({ ':path': path })))).toBe('malformed');
    expect(app.requests).toEqual([]);
  });

  it('is judged by every request, not by its first', async () => {
    for (let i = 0; i < 3; i++) {
      expect(verdict(await peer.request(fields({})))).toBe(PASSED);
      expect(verdict(await peer.request(fields({ ':path': '/shop.Raw/Secret' })))).toBe('denied');
    }
    expect(app.requests.length).toBe(3);
  });
});

describe('a peer that wants two ends to see two different messages', () => {
  it.each<[what: string, fields: Fields]>([
    ['te: gzip', fields({ te: 'gzip' })],
    ['transfer-encoding', fields({ 'transfer-encoding': 'chunked' })],
    ['connection', fields({ connection: 'close, hauberk-peer' })],
    ['proxy-connection', fields({ 'proxy-connection': 'keep-alive' })],
    ['keep-alive', fields({ 'keep-alive': 'timeout=5' })],
    ['upgrade', fields({ upgrade: 'h2c' })],
    ['a name in upper case', fields({ 'Hauberk-Peer': 'x' })],
    ['a name with a space', fields({ 'x y': 'z' })],
    ['a name with a colon', fields({ 'x:y': 'z' })],
    ['a name with a line break', fields({ 'x\r\ny': 'z' })],
    ['an empty name', [...GRPC, ['', 'x']]],
    ['a value with a line break', fields({ x: 'y\r\nhauberk-peer: z' })],
    ['a value with NUL', fields({ x: 'y\0' })],
    ['a value that begins with a space', fields({ x: ' y' })],
    ['a pseudo-header at the end', fields({}, [':path', METHOD])],
    ['an unknown pseudo-header', [[':protocol', 'websocket'], ...GRPC]],
    ['a response’s pseudo-header', [[':status', '200'], ...GRPC]],
    ['a method that is none', fields({ ':method': 'PO ST' })],
    ['a method with a line break', fields({ ':method': 'GET / HTTP/1.1\r\nx: y' })],
    ['a scheme that is none', fields({ ':scheme': 'http://x' })],
    ['no path', fields({ ':path': undefined })],
    ['no scheme', fields({ ':scheme': undefined })],
    ['no method', fields({ ':method': undefined })],
    ['CONNECT with a path', fields({ ':method': 'CONNECT' })],
    ['a content-length that is no number', fields({ 'content-length': '+5' })],
    ['two content-lengths', fields({ 'content-length': '0' }, ['content-length', '1'])],
    ['a content-length without a body', fields({ 'content-length': '5' })],
  ])('%s: malformed, and the app sees nothing of it', async (_what, request) => {
    expect(verdict(await peer.request(request))).toBe('malformed');
    expect(app.requests).toEqual([]);
  });

  it.each([
    ['5', 'hello, and more'],
    ['50', 'hello'],
    ['0', 'hello'],
  ])('a content-length of %s with other octets: the app sees no whole request', async (length, body) => {
    const ended: Promise<number>[] = [];
    answer = ({ stream }) => {
      ended.push(new Promise((resolve) => stream.once('close', () => resolve(stream.rstCode))));
      stream.resume();
    };
    expect(verdict(await peer.request(fields({ 'content-length': length }), body))).toBe('malformed');
    for (const code of await Promise.all(ended)) expect(code).not.toBe(0);
  });

  it('trailers with pseudo-headers or connection fields: the app sees no whole request', async () => {
    for (const trailer of [
      [':path', '/shop.Raw/Secret'],
      ['transfer-encoding', 'chunked'],
    ] as const) {
      answer = ({ stream }) => void stream.resume();
      expect(verdict(await peer.request(fields({}), 'x', [trailer]))).toBe('malformed');
    }
    answer = ok;
    // Their headers went on before their trailers came: what the app sees of them it has seen before this one.
    expect(verdict(await peer.request(fields({})))).toBe(PASSED);
  });

  it('CONNECT: denied, wherever to', async () => {
    for (const target of [SERVICE, '127.0.0.1:22', app.address]) {
      const connect: Fields = [
        [':method', 'CONNECT'],
        [':authority', target],
        ['content-type', 'application/grpc'],
      ];
      expect(verdict(await peer.request(connect))).toBe('denied');
    }
    expect(app.requests).toEqual([]);
  });
});

describe('a peer that says that it is somebody else', () => {
  it('is told by its certificate alone', async () => {
    const forged: Fields = [
      ['hauberk-peer', pair.world.spiffeId('admin')],
      ['hauberk-peer', pair.world.spiffeId('root')],
      ['hauberk-session', '00000000-0000-8000-8000-000000000000'],
      ['hauberk_peer', pair.world.spiffeId('admin')],
      ['x-forwarded-client-cert', 'By=spiffe://x'],
    ];
    expect(verdict(await peer.request(fields({}, ...forged), '', [...forged, ['x-trailer', 'y']]))).toBe(
      PASSED,
    );
    const seen = app.requests[0]?.headers ?? [];
    const of = (name: string): string[] => seen.filter(([n]) => n === name).map(([, value]) => value);
    expect(of('hauberk-peer')).toEqual([self.identity.spiffeId]);
    expect(of('hauberk-session').length).toBe(1);
    expect(of('hauberk-session')[0]).not.toContain('00000000-0000');
    expect(of('hauberk_peer')).toEqual([]);
  });
});

describe('an app at egress', () => {
  let egress: RawSession;
  beforeEach(async () => {
    egress = await RawSession.toEgress(pair.web.egress);
  });

  it.each([
    [SERVICE, PASSED],
    ['GREETER.SHOP.SVC.cluster.local.:50051', PASSED],
    ['greeter', PASSED],
    ['greeter.shop.svc.cluster', 'no-route'],
    ['greeter.shop.evil.example', 'no-route'],
    ['169.254.169.254', 'no-route'],
    ['[::1]:15001', 'no-route'],
    ['__proto__', 'no-route'],
    [LONG, 'no-route'],
    [`x@${SERVICE}`, 'malformed'],
    [`${SERVICE}#`, 'malformed'],
  ])('that calls %j: %s', async (authority, expected) => {
    const outcome = await egress.request(fields({ ':authority': authority }));
    expect(verdict(outcome)).toBe(expected);
    expect(app.requests.length).toBe(expected === PASSED ? 1 : 0);
    // Whatever form was asked for, the peer hears the service's own name.
    const forwarded = app.requests[0]?.headers.find(([name]) => name === ':authority')?.[1];
    if (expected === PASSED) expect(forwarded).toMatch(/^greeter\.shop(:50051)?$/);
  });

  it('that puts what it likes into :authority gets it back as text, not as fields or lines', async () => {
    const outcome = await egress.request(fields({ ':authority': 'a%0d%0agrpc-status:%200' }));
    expect(verdict(outcome)).toBe('no-route');
    const message = outcome.fields.get('grpc-message') as string;
    expect(message).toMatch(/^[\x20-\x7e]*$/);
    expect(decodeURIComponent(message)).toContain('"a%0d%0agrpc-status:%200"');
    expect(message.length).toBeLessThan(1_000);
  });

  it('that sends CONNECT in HTTP/2 gets no tunnel', async () => {
    const connect = (authority: string): Fields => [
      [':method', 'CONNECT'],
      [':authority', authority],
    ];
    for (const target of [SERVICE, '127.0.0.1:22']) {
      const { status, fields: got } = await egress.request(connect(target));
      expect([status, got.get('hauberk-error')]).toEqual(['503', 'no-route']);
    }
    expect(app.requests).toEqual([]);
  });
});

describe('what is written down of all this', () => {
  const FORGERY = '","type":"session.created","forged":"';
  /** Without a last one that is still being written. */
  const linesOf = (text: string): string[] =>
    text
      .slice(0, text.lastIndexOf('\n') + 1)
      .split('\n')
      .slice(0, -1);

  it('stays one event a line, whatever stands in it', async () => {
    const marks = { web: await pair.web.audit.mark(), greeter: await pair.greeter.audit.mark() };
    const paths = [
      `/shop.Raw/${FORGERY}`,
      '/shop.Raw/\u0085\u009b31m\u00ad\u00a0',
      '/shop.Raw/\\u0000\\n',
      '/shop.Raw/{{constructor}}%n%s',
      `/shop.Other/${FORGERY}\u009b2J`,
      `/shop.Raw/${LONG}`,
    ];
    const egress = await RawSession.toEgress(pair.web.egress);
    for (const path of paths) await egress.request(fields({ ':path': path }));
    await egress.request(fields({ ':authority': `${'x'.repeat(3_000)}` }));
    for (const [name, sidecar] of [
      ['web', pair.web],
      ['greeter', pair.greeter],
    ] as const) {
      await sidecar.audit.events(
        'call.completed',
        name === 'web' ? paths.length + 1 : paths.length,
        () => true,
        marks[name],
      );
      const text = await readFile(sidecar.audit.path, 'utf8');
      expect(text).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]/);
      for (const line of linesOf(text)) {
        const event = JSON.parse(line) as Record<string, unknown>;
        expect(Object.keys(event).slice(0, 5)).toEqual(['time', 'seq', 'type', 'sidecar', 'instance']);
        expect(event).not.toHaveProperty('forged');
        expect(line.length).toBeLessThan(4_096);
      }
      for (const line of linesOf(sidecar.log)) {
        expect(line).not.toMatch(/[\x00-\x1f\x7f-\x9f]/);
        expect(JSON.parse(line)).toHaveProperty('level');
        expect(line.length).toBeLessThan(16_384);
      }
    }
    expect((await pair.greeter.probe('/metrics')).body.length).toBeLessThan(200_000);
    egress.close();
  });
});
