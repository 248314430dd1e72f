import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as tlsConnect } from 'node:tls';
import { fileURLToPath } from 'node:url';
import * as grpc from '@grpc/grpc-js';
import { beforeAll, describe, expect, it } from 'vitest';
import { RELAY_ERRORS } from '../../src/relay/errors.ts';
import type { TestClient } from '../harness/greeter-client.ts';
import { Echo, HealthCheck, SayHello, SERVICES, ServerReflection } from '../harness/greeter-methods.ts';
import { ingressTo, type Pair, SERVICE, type SidecarProcess, startPair, World } from '../harness/sidecars.ts';

/** Which app answered, or the error code of the sidecar that did. */
async function whoAnswers(client: TestClient, authority: string): Promise<string> {
  const answer = await client.unary(SayHello, { name: 'x' }, { options: { host: authority } });
  return answer.message?.message.replace(/^.*from /, '') ?? answer.hauberkError ?? answer.details;
}

describe('by :authority', () => {
  let client: TestClient;
  beforeAll(async () => {
    const world = await World.make();
    const names = ['greeter', 'billing', 'stock', 'any'];
    const apps = await Promise.all(names.map((name) => world.app({ name })));
    const [greeter, billing, stock, any] = apps;
    const ingress = await world.sidecar('greeter', {
      policy: 'open',
      ingress: {
        apps: [
          { service: 'greeter.shop', address: greeter?.address },
          { service: 'billing.shop', address: billing?.address },
          { service: 'stock.warehouse', address: stock?.address },
          { service: 'any.shop', address: any?.address },
        ],
      },
    });
    const common = { endpoints: [ingress.ingress], peer: world.spiffeId('greeter') };
    const web = await world.sidecar('web', {
      egress: {
        routes: [
          { service: 'greeter.shop', authorities: ['hello.example:8080'], ...common },
          { service: 'billing.shop', authorities: ['*.pay.example', 'hello.example'], ...common },
          {
            service: 'stock.warehouse',
            authorities: ['one.pay.example', '*.eu.pay.example', '*.example:99'],
            ...common,
          },
          { service: 'any.shop', authorities: ['*.example'], ...common },
        ],
      },
    });
    client = world.client(web.egress);
  });

  it.each([
    ['greeter.shop', 'greeter', 'the canonical name'],
    ['GREETER.Shop', 'greeter', 'in any case'],
    ['greeter.shop:50051', 'greeter', 'with a port'],
    ['greeter.shop.', 'greeter', 'with the root’s dot'],
    ['greeter', 'greeter', 'the short name'],
    ['greeter:80', 'greeter', 'the short name with a port'],
    ['greeter.shop.svc', 'greeter', 'Kubernetes’ forms'],
    ['greeter.shop.svc.cluster.local', 'greeter', 'Kubernetes’ forms'],
    ['greeter.shop.svc.cluster.local:50051', 'greeter', 'Kubernetes’ forms with a port'],
    ['stock.warehouse.svc', 'stock', 'another namespace'],
    ['hello.example:8080', 'greeter', 'an alias with its port'],
    ['hello.example', 'billing', 'the same alias without one'],
    ['hello.example:8081', 'billing', 'and with another'],
    ['two.pay.example', 'billing', 'a wildcard'],
    ['Two.Pay.EXAMPLE:7', 'billing', 'a wildcard in any case, with a port'],
    ['one.pay.example', 'stock', 'an exact name before a wildcard'],
    ['x.eu.pay.example', 'stock', 'a longer wildcard before a shorter'],
    ['other.example', 'any', 'the shortest wildcard'],
    ['other.example:99', 'stock', 'a wildcard with its port before one without'],
  ])('%s goes to %s: %s', async (authority, app) => {
    expect(await whoAnswers(client, authority)).toBe(app);
  });

  it.each([
    'example',
    'nobody.shop',
    'greeter.elsewhere',
    'greeter.shop:0',
    'greeter.shop:99999',
    '127.0.0.1:80',
  ])('%s is no route', async (authority) => expect(await whoAnswers(client, authority)).toBe('no-route'));
});

describe('by a listener of its own', () => {
  it('a port takes every call, whatever :authority says', async () => {
    const { world, web, app } = await startPair({ route: { listen: '127.0.0.1:0' } });
    const client = world.client(web.ready.routes[SERVICE] as string);
    expect(await whoAnswers(client, 'localhost')).toBe('greeter');
    expect(await whoAnswers(client, 'nobody.example:1')).toBe('greeter');
    expect(app.calls('SayHello')).toBe(2);
  });

  it('a Unix socket takes every call', async () => {
    const world = await World.make();
    const path = join(world.dir, 'up.sock');
    const { web } = await startPair({ world, route: { listen: `unix:${path}` } });
    expect(web.ready.routes[SERVICE]).toBe(`unix:${path}`);
    expect(await whoAnswers(world.client(`unix:${path}`), 'localhost')).toBe('greeter');
  });

  it('egress itself may be a Unix socket', async () => {
    const world = await World.make();
    const path = join(world.dir, 'egress.sock');
    await startPair({ world, web: { egress: { listen: `unix:${path}` } } });
    const client = world.client(`unix:${path}`);
    expect(await whoAnswers(client, SERVICE)).toBe('greeter');
    expect(await whoAnswers(client, 'localhost')).toBe('no-route');
  });
});

describe('by the port that was asked for', () => {
  it('a redirect’s port stands for the one that :authority leaves out, and ingress delivers by it', async () => {
    const world = await World.make();
    const [one, two] = await Promise.all(['one', 'two'].map((name) => world.app({ name })));
    const portOf = (address: string | undefined): number => Number(address?.split(':')[1]);
    const ports = [portOf(one?.address), portOf(two?.address)];
    const ingress = await world.sidecar('greeter', {
      policy: 'open',
      ingress: { apps: [one, two].map((app) => ({ service: '*', address: app?.address })) },
    });
    const route = { service: SERVICE, endpoints: [ingress.ingress], peer: world.spiffeId('greeter') };
    const redirects = ports.map((port) => ({ port, listen: 'localhost:0' }));
    const web = await world.sidecar('web', { egress: { routes: [route], redirects } });
    const through = (port: number | undefined): TestClient =>
      world.client(web.ready.redirects[port as number]?.[0] as string);
    expect(await whoAnswers(through(ports[0]), SERVICE)).toBe('one');
    expect(await whoAnswers(through(ports[1]), SERVICE)).toBe('two');
    expect(await whoAnswers(through(ports[1]), `${SERVICE}:${ports[0]}`)).toBe('one');
    expect(await whoAnswers(through(ports[1]), 'nobody.shop')).toBe('no-route');
    const wrong = await through(ports[0]).unary(
      SayHello,
      { name: 'x' },
      { options: { host: `${SERVICE}:9` } },
    );
    expect(wrong.hauberkError).toBe('no-app');
    expect(wrong.details).toContain(
      `it takes any name with port ${ports.sort((a, b) => Number(a) - Number(b)).join(', ')}`,
    );
  });
});

describe('by HTTP/1.1 CONNECT', () => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await startPair({ route: { listen: '127.0.0.1:0' } });
  });

  /** Sends a request and returns what comes until the other end closes, or until `until` is in it. */
  async function exchange(
    address: string,
    request: string,
    until?: string,
  ): Promise<{ socket: Socket; got: string }> {
    const [host, port] = address.split(':');
    const socket = connect({ host: host as string, port: Number(port) });
    socket.on('error', () => {});
    socket.write(request);
    let got = '';
    for await (const octets of socket.iterator({ destroyOnReturn: false })) {
      got += (octets as Buffer).toString('latin1');
      if (until !== undefined && got.includes(until)) break;
    }
    return { socket, got };
  }

  it('a route is connected to, and speaks HTTP/2 from there on', async () => {
    const { socket, got } = await exchange(
      pair.web.egress,
      `CONNECT ${SERVICE}:50051 HTTP/1.1\r\nHost: x\r\n\r\n`,
      '\r\n\r\n',
    );
    expect(got).toBe('HTTP/1.1 200 Connection established\r\n\r\n');
    socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0');
    const [settings] = (await once(socket, 'data')) as [Buffer];
    expect(settings[3]).toBe(4); // a SETTINGS frame
    socket.destroy();
  });

  it.each([
    ['no route', 'CONNECT nobody.example:443 HTTP/1.1\r\n\r\n', '404', 'no-route'],
    ['an address', 'CONNECT 127.0.0.1:22 HTTP/1.1\r\n\r\n', '404', 'no-route'],
    ['malformed', 'CONNECT  HTTP/1.1\r\n\r\n', '400', 'bad-connect'],
    ['too large', `CONNECT ${SERVICE}:1 HTTP/1.1\r\nx: ${'y'.repeat(9000)}`, '431', 'bad-connect'],
    ['another method', 'GET http://greeter.shop/ HTTP/1.1\r\n\r\n', '505', 'not-http2'],
    [
      'a second CONNECT',
      `CONNECT ${SERVICE} HTTP/1.1\r\n\r\nCONNECT ${SERVICE} HTTP/1.1\r\n\r\n`,
      '505',
      'not-http2',
    ],
  ])('%s is refused, with an event', async (_what, request, status, reason) => {
    const after = await pair.web.audit.mark();
    const { got } = await exchange(pair.web.egress, request);
    expect(got).toContain(`HTTP/1.1 ${status} `);
    const event = await pair.web.audit.event('connection.refused', (e) => e.reason === reason, after);
    expect(event.listener).toBe(pair.web.egress);
  });

  it('a route’s own listener takes no CONNECT', async () => {
    const { got } = await exchange(
      pair.web.ready.routes[SERVICE] as string,
      `CONNECT ${SERVICE}:1 HTTP/1.1\r\n\r\n`,
    );
    expect(got).toContain('505');
  });

  it('grpc-js goes through it by grpc_proxy alone', async () => {
    const child = spawn(
      process.execPath,
      [
        '--import',
        'tsx',
        fileURLToPath(new URL('../harness/proxied-client.ts', import.meta.url)),
        `${SERVICE}:50051`,
      ],
      {
        env: { PATH: process.env.PATH, grpc_proxy: `http://${pair.web.egress}` },
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    let out = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text;
    });
    const [code] = await once(child, 'close');
    expect(JSON.parse(out), out).toMatchObject({
      code: 0,
      message: { message: 'Hello proxy, from greeter' },
    });
    expect(code).toBe(0);
  });
});

describe('what else comes to egress', () => {
  it('TLS: the connection is closed and the event tells the cure', async () => {
    const { web, client } = await startPair();
    const [host, port] = web.egress.split(':');
    const socket = tlsConnect({
      host: host as string,
      port: Number(port),
      rejectUnauthorized: false,
      servername: 'greeter',
    });
    const [error] = (await once(socket, 'error').catch((e) => [e])) as [Error];
    expect(error).toBeInstanceOf(Error);
    const event = await web.audit.event('tls.detected');
    expect(event).toMatchObject({ listener: web.egress });
    expect(event.cure).toContain('plaintext');
    expect(await web.metric('hauberk_connections_refused_total', { reason: 'tls' })).toBe(1);
    const secure = new grpc.Client(web.egress, grpc.credentials.createSsl(), {
      'grpc.ssl_target_name_override': 'greeter',
    });
    const deadline = Date.now() + 10_000;
    await new Promise<void>((resolve) => {
      secure.makeUnaryRequest(
        SayHello.path,
        SayHello.requestSerialize,
        SayHello.responseDeserialize,
        { name: 'x' },
        { deadline },
        () => resolve(),
      );
    });
    secure.close();
    expect((await client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
  });
});

describe('endpoints', () => {
  it('may be a DNS name', async () => {
    const world = await World.make();
    const app = await world.app();
    // `localhost` may stand for both loopback addresses; only one of them has a listener.
    const greeter = await world.sidecar('greeter', ingressTo(world, app.address));
    const port = greeter.ingress.split(':').at(-1);
    const { client } = await startPair({ world, route: { endpoints: [`localhost:${port}`] } });
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => client.unary(SayHello, { name: 'Ada' })),
    );
    expect(answers.map(({ details }) => details)).toEqual(Array(20).fill('OK'));
  });

  it('share the calls; when one dies the others take all', async () => {
    const world = await World.make();
    const ends: SidecarProcess[] = [];
    const apps = [
      await world.app({ name: 'one' }),
      await world.app({ name: 'two' }),
      await world.app({ name: 'three' }),
    ];
    for (const app of apps) ends.push(await world.sidecar('greeter', ingressTo(world, app.address)));
    const { client, web } = await startPair({
      world,
      route: { endpoints: ends.map(({ ingress }) => ingress) },
    });
    const call = () => client.unary(SayHello, { name: 'Ada' });
    expect((await Promise.all(Array.from({ length: 60 }, call))).every(({ code }) => code === 0)).toBe(true);
    expect(apps.map((app) => app.calls() > 0)).toEqual([true, true, true]);
    await ends[0]?.kill();
    await web.audit.event('connection.closed', ({ side }) => side === 'peer');
    const before = apps.map((app) => app.calls());
    expect((await Promise.all(Array.from({ length: 60 }, call))).every(({ code }) => code === 0)).toBe(true);
    expect(apps[0]?.calls()).toBe(before[0]);
    expect(apps[1]?.calls()).toBeGreaterThan(before[1] as number);
    expect(apps[2]?.calls()).toBeGreaterThan(before[2] as number);
  });

  it('that are all dead fail the call with the last one’s reason', async () => {
    const { client } = await startPair({ route: { endpoints: ['127.0.0.1:1', '127.0.0.1:2'] } });
    const answer = await client.unary(SayHello, { name: 'Ada' });
    expect(answer).toMatchObject({
      hauberkError: 'peer-unreachable',
      code: RELAY_ERRORS['peer-unreachable'].grpc,
    });
  });
});

describe('at ingress', () => {
  it('several apps, on TCP and Unix sockets, each get their own calls', async () => {
    const world = await World.make();
    const tcp = await world.app({ name: 'tcp' });
    const unix = await world.app({ name: 'unix', listen: `unix:${join(world.dir, 'app.sock')}` });
    const greeter = await world.sidecar('greeter', {
      policy: 'open',
      ingress: {
        apps: [
          { service: SERVICE, address: tcp.address },
          { service: 'other.shop', address: unix.address },
        ],
      },
    });
    const common = { endpoints: [greeter.ingress], peer: world.spiffeId('greeter') };
    const web = await world.sidecar('web', {
      egress: { routes: [SERVICE, 'other.shop'].map((service) => ({ service, ...common })) },
    });
    const client = world.client(web.egress);
    expect(await whoAnswers(client, SERVICE)).toBe('tcp');
    expect(await whoAnswers(client, 'other.shop')).toBe('unix');
    expect([tcp.calls(), unix.calls()]).toEqual([1, 1]);
  });

  it('an app on a Unix socket is served like any other', async () => {
    const world = await World.make();
    const { client, app } = await startPair({
      world,
      app: { listen: `unix:${join(world.dir, 'app.sock')}` },
    });
    const { code, message } = await client.unary(Echo, { data: Buffer.alloc(200_000, 1) });
    expect([code, message?.data.length, app.calls()]).toEqual([0, 200_000, 1]);
  });

  it('the app’s own health and reflection pass through', async () => {
    const { client, app } = await startPair();
    expect((await client.unary(HealthCheck, { service: '' })).message).toMatchObject({ status: 'SERVING' });
    app.setHealth('', 'NOT_SERVING');
    expect((await client.unary(HealthCheck, { service: '' })).message).toMatchObject({
      status: 'NOT_SERVING',
    });
    const { call, answer } = client.bidi(ServerReflection);
    call.write({ listServices: '' });
    call.write({ fileContainingSymbol: SERVICES.greeter });
    call.end();
    const { code, messages } = await answer;
    expect(code).toBe(0);
    expect(messages[0]?.listServicesResponse?.service.map(({ name }) => name)).toContain(SERVICES.greeter);
    expect(messages[1]?.fileDescriptorResponse?.fileDescriptorProto.length).toBeGreaterThan(0);
  });
});
