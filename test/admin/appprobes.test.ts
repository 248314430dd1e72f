import { createServer as createHttp, type IncomingMessage } from 'node:http';
import { createServer as createHttp2 } from 'node:http2';
import { createServer as createHttps } from 'node:https';
import { type AddressInfo, createServer as createTcp, type Server } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { AppProbes } from '../../src/admin/appprobes.ts';
import { systemClock } from '../../src/clock/clock.ts';
import type { AppProbeConfig } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { makeServerCertificate } from '../harness/kubetls.ts';

const open: Array<{ close(): unknown }> = [];
afterEach(() => {
  for (const server of open.splice(0)) server.close();
});

async function listen(server: Server): Promise<number> {
  open.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

const probeOf = (probe: Partial<AppProbeConfig> & Pick<AppProbeConfig, 'kind' | 'port'>): AppProbeConfig => ({
  name: 'app/readyz',
  timeoutMs: 2000,
  scheme: 'http',
  headers: [],
  ...probe,
});
const run = (probe: Parameters<typeof probeOf>[0]) =>
  new AppProbes([probeOf(probe)], systemClock).run('app/readyz');
const OK = { good: true, detail: 'ok' };

/** A port where nothing listens. */
async function freePort(): Promise<number> {
  const server = createTcp();
  const port = await listen(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

it('only what is configured is asked for', () => {
  const probes = new AppProbes([probeOf({ kind: 'tcp', port: 1 })], systemClock);
  for (const name of [
    '',
    'app',
    'app/livez',
    'app/readyz/',
    'app/readyz?port=22',
    '__proto__',
    '../readyz',
  ]) {
    expect(probes.run(name)).toBeUndefined();
  }
});

it('TCP: a port that takes connections is well', async () => {
  const port = await listen(createTcp((socket) => socket.destroy()));
  expect(await run({ kind: 'tcp', port })).toEqual(OK);
  const closed = await freePort();
  expect(await run({ kind: 'tcp', port: closed })).toEqual({
    good: false,
    detail: `tcp probe of port ${closed}: ECONNREFUSED`,
  });
});

it('HTTP: 200 to 399 is well, and path, query and headers are those that are configured', async () => {
  let status = 200;
  const asked: IncomingMessage[] = [];
  const port = await listen(
    createHttp((request, response) => {
      asked.push(request);
      response.writeHead(status, { location: 'http://elsewhere.example/' }).end('x'.repeat(100_000));
    }),
  );
  const probe = {
    kind: 'http' as const,
    port,
    path: '/healthz?full=1',
    headers: [
      { name: 'Host', value: 'app.example' },
      { name: 'x-a', value: '1' },
      { name: 'X-A', value: '2' },
    ],
  };
  expect(await run(probe)).toEqual(OK);
  expect([asked[0]?.method, asked[0]?.url, asked[0]?.headers.host, asked[0]?.headers['x-a']]).toEqual([
    'GET',
    '/healthz?full=1',
    'app.example',
    '1, 2',
  ]);
  status = 302;
  expect(await run(probe)).toEqual(OK);
  for (status of [400, 500]) {
    expect(await run(probe)).toEqual({ good: false, detail: `http probe of port ${port}: status ${status}` });
  }
});

it('HTTP: a redirect to the same host is followed, on any port and by either scheme, and the last answer counts', async () => {
  const { cert, key } = await makeServerCertificate(['elsewhere.example']);
  const asked: Array<[path: string | undefined, host: string | undefined, own: unknown]> = [];
  const secure = await listen(
    createHttps({ cert, key }, (request, response) => {
      asked.push([request.url, request.headers.host, request.headers['x-a']]);
      response.writeHead(503).end();
    }),
  );
  const answers: Record<string, [status: number, location?: string]> = {
    '/a/start': [302, 'next?b=1'],
    '/a/next?b=1': [307, '/health'],
    '/health': [204],
    '/fails': [301, '/down'],
    '/down': [503],
    '/secure': [308, `https://127.0.0.1:${secure}/s`],
    '/nowhere': [302],
    '/blank': [303, ''],
    '/no-redirect': [304, '/down'],
    '/broken': [302, 'http://['],
    '/scheme': [302, 'ftp://127.0.0.1/'],
    '/elsewhere': [302, 'http://elsewhere.example/down'],
    '/name': [302, '//localhost/down'],
  };
  const port = await listen(
    createHttp((request, response) => {
      asked.push([request.url, request.headers.host, request.headers['x-a']]);
      const [status, location] = answers[request.url as string] ?? [404];
      response.writeHead(status, location === undefined ? {} : { location }).end('x'.repeat(50_000));
    }),
  );
  const headers = [
    { name: 'Host', value: 'app.example' },
    { name: 'x-a', value: '1' },
  ];
  const ask = async (path: string) => (await run({ kind: 'http', port, path, headers }))?.detail;
  expect(await ask('/a/start')).toBe('ok');
  expect(asked.splice(0)).toEqual([
    ['/a/start', 'app.example', '1'],
    ['/a/next?b=1', 'app.example', '1'],
    ['/health', 'app.example', '1'],
  ]);
  const probe = `http probe of port ${port}`;
  expect(await ask('/fails')).toBe(`${probe}: status 503, where its redirects led: "/down"`);
  asked.splice(0);
  expect(await ask('/secure')).toBe(`${probe}: status 503, where its redirects led: "/s"`);
  expect(asked.splice(0)).toEqual([
    ['/secure', 'app.example', '1'],
    ['/s', `127.0.0.1:${secure}`, '1'],
  ]);
  for (const path of ['/nowhere', '/blank', '/no-redirect', '/elsewhere', '/name']) {
    expect([path, await ask(path)]).toEqual([path, 'ok']);
  }
  expect(await ask('/broken')).toBe(`${probe}: it redirects to "http://[", which is not an address`);
  expect(await ask('/scheme')).toBe(
    `${probe}: it redirects to "ftp://127.0.0.1/", which is neither http nor https`,
  );
});

it('HTTP: an app that redirects for ever is asked ten times, and is not well', async () => {
  let asked = 0;
  let last = Number.POSITIVE_INFINITY;
  const port = await listen(
    createHttp((_request, response) => {
      asked++;
      response.writeHead(asked < last ? 302 : 200, { location: `/${asked}` }).end();
    }),
  );
  expect(await run({ kind: 'http', port })).toEqual({
    good: false,
    detail: `http probe of port ${port}: it redirects 10 times, the last time to "/10"`,
  });
  expect(asked).toBe(10);
  asked = 0;
  last = 10;
  expect(await run({ kind: 'http', port })).toEqual(OK);
});

it('HTTPS: any certificate will do', async () => {
  const { cert, key } = await makeServerCertificate(['elsewhere.example']);
  const port = await listen(createHttps({ cert, key }, (_request, response) => void response.end()));
  expect(await run({ kind: 'http', scheme: 'https', port })).toEqual(OK);
});

it('gRPC: SERVING is well, and the service is the one that is configured', async () => {
  let answer = { status: '0', message: Buffer.from([0, 0, 0, 0, 2, 8, 1]) };
  const asked: Array<{ path: unknown; body: Buffer }> = [];
  const server = createHttp2();
  server.on('stream', (stream, headers) => {
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => {
      asked.push({ path: headers[':path'], body: Buffer.concat(chunks) });
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': answer.status }));
      stream.end(answer.message);
    });
  });
  const port = await listen(server);
  expect(await run({ kind: 'grpc', port, service: 'shop.Greeter' })).toEqual(OK);
  expect(asked).toEqual([
    { path: '/grpc.health.v1.Health/Check', body: Buffer.from('\0\0\0\0\x0e\x0a\x0cshop.Greeter', 'latin1') },
  ]);
  expect(await run({ kind: 'grpc', port, service: 'x'.repeat(255) })).toEqual(OK);
  expect(asked[1]?.body.subarray(0, 8)).toEqual(Buffer.from([0, 0, 0, 1, 2, 0x0a, 0xff, 1]));
  answer = { status: '0', message: Buffer.from([0, 0, 0, 0, 2, 8, 2]) };
  expect(await run({ kind: 'grpc', port })).toMatchObject({
    detail: `grpc probe of port ${port}: it does not say SERVING`,
  });
  answer = { status: '5', message: Buffer.alloc(0) };
  expect(await run({ kind: 'grpc', port })).toMatchObject({
    good: false,
    detail: expect.stringContaining('gRPC status 5'),
  });
});

it('gRPC: what is no gRPC server is not well', async () => {
  const http1 = await listen(createHttp((_request, response) => void response.end()));
  expect(await run({ kind: 'grpc', port: http1 })).toMatchObject({ good: false });
  const plain = createHttp2((_request, response) => void response.end('hello'));
  expect(await run({ kind: 'grpc', port: await listen(plain) })).toMatchObject({
    good: false,
    detail: expect.stringContaining('it does not speak gRPC'),
  });
  expect(await run({ kind: 'grpc', port: await freePort() })).toMatchObject({
    detail: expect.stringContaining('ECONNREFUSED'),
  });
});

it.each(['http', 'grpc'] as const)(
  '%s: an app that says nothing is not well by the timeout',
  async (kind) => {
    let closed = 0;
    const port = await listen(
      createTcp((socket) => {
        socket.on('error', () => undefined);
        socket.on('close', () => closed++);
        socket.resume();
      }),
    );
    expect(await run({ kind, port, timeoutMs: 100 })).toEqual({
      good: false,
      detail: `${kind} probe of port ${port}: no answer within 100 ms`,
    });
    await expect.poll(() => closed).toBe(1);
  },
);

it('who asks while a probe is under way gets its result', async () => {
  let connections = 0;
  const port = await listen(
    createHttp((_request, response) => {
      connections++;
      setTimeout(() => response.end(), 50);
    }),
  );
  const probes = new AppProbes([probeOf({ kind: 'http', port })], systemClock);
  const results = await Promise.all(Array.from({ length: 50 }, () => probes.run('app/readyz')));
  expect(new Set(results)).toEqual(new Set([OK]));
  expect(connections).toBe(1);
  await probes.run('app/readyz');
  expect(connections).toBe(2);
});

it('probes that cannot be meant are refused when the configuration is read', () => {
  const faults = (apps: string) => {
    const text = `trustDomain: a.example\nidentity: { svid: a, key: b, bundle: c }\nprobes: { apps: [${apps}] }`;
    try {
      parseConfig(text, { file: 'f' });
      return [];
    } catch (error) {
      return String((error as Error).message).split('\n');
    }
  };
  const probe = (more: string) => `{ name: app/livez, kind: http, port: 80${more} }`;
  expect(faults(probe(', path: "/a?b=c", headers: [{ name: x-a, value: "b c" }], scheme: https'))).toEqual(
    [],
  );
  expect(faults('{ name: app, kind: tcp, port: 1 }')).toEqual([
    expect.stringContaining(
      'probes.apps[0].name: "app" is not the name of a probe: a container, and livez, readyz or startupz',
    ),
  ]);
  expect(faults(probe(', path: a'))).toEqual([expect.stringContaining('"a" is not a path')]);
  expect(faults(probe(', headers: [{ name: "a b", value: "\\n" }]'))).toEqual([
    expect.stringContaining('is not the name of a header field'),
    expect.stringContaining('is not the value of a header field'),
  ]);
  expect(faults(probe(', service: a'))).toEqual([
    expect.stringContaining('only a probe of the kind grpc has it: remove it'),
  ]);
  expect(faults('{ name: app/livez, kind: grpc, port: 1, path: /a }')).toEqual([
    expect.stringContaining('only a probe of the kind http has it'),
  ]);
  expect(faults(`${probe('')}, ${probe('')}`)).toEqual([
    expect.stringContaining('there is a probe app/livez already (line 3): keep one'),
  ]);
});
