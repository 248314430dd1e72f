import { once } from 'node:events';
import { Agent, type IncomingMessage, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { beforeAll, describe, expect, it } from 'vitest';
import { SayHello } from '../harness/greeter-methods.ts';
import { HealthClient } from '../harness/health-client.ts';
import { atEnd, type Pair, type SidecarProcess, startPair } from '../harness/sidecars.ts';
import { parseExposition } from '../telemetry/exposition.ts';

let pair: Pair;
let host: string;
let port: number;
beforeAll(async () => {
  pair = await startPair();
  [host, port] = split(pair.greeter.ready.probes.http[0] as string);
});

function split(address: string): [host: string, port: number] {
  const at = address.lastIndexOf(':');
  return [address.slice(0, at), Number(address.slice(at + 1))];
}

/** The answer, and the port that the question came from. */
async function ask(
  method: string,
  path: string,
  agent?: Agent,
): Promise<IncomingMessage & { body: string; from: number | undefined }> {
  const outgoing = request({ host, port, method, path, ...(agent !== undefined && { agent }) }).end();
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  const from = outgoing.socket?.localPort;
  let body = '';
  for await (const text of response.setEncoding('utf8')) body += text;
  return Object.assign(response, { body, from });
}

async function open(to = port): Promise<Socket> {
  const socket = connect(to, host);
  socket.on('error', () => {}); // being cut is what some are for
  atEnd(() => {
    socket.destroy();
  });
  await once(socket, 'connect');
  return socket.resume();
}

describe('HTTP', () => {
  it('HEAD has the answer’s head alone', async () => {
    const { statusCode, headers, body } = await ask('HEAD', '/livez');
    expect([statusCode, headers['content-length'], body]).toEqual([200, '3', '']);
  });

  it('other methods are 405, other paths 404 that says which there are', async () => {
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
      const { statusCode, headers } = await ask(method, '/readyz');
      expect([statusCode, headers.allow]).toEqual([405, 'GET, HEAD']);
    }
    for (const path of ['/', '/readyz/', '/../etc/passwd', '/metrics2', '//livez']) {
      const { statusCode, body } = await ask('GET', path);
      expect([path, statusCode, body]).toEqual([path, 404, expect.stringContaining('/readyz')]);
    }
  });

  it('a query changes nothing, and answers are not to be kept', async () => {
    const { statusCode, headers } = await ask('GET', '/livez?verbose');
    expect([statusCode, headers['cache-control']]).toEqual([200, 'no-store']);
  });

  it('a connection serves many requests', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const ports = new Set<number | undefined>();
    for (let i = 0; i < 5; i++) {
      ports.add((await ask('GET', '/readyz', agent)).from);
    }
    agent.destroy();
    expect(ports.size).toBe(1);
  });

  it('headers above 8 KiB are refused', async () => {
    const socket = await open();
    socket.write(`GET /livez HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(9000)}\r\n\r\n`);
    const [answer] = await once(socket, 'data');
    expect(String(answer)).toMatch(/^HTTP\/1\.1 431 /);
  });

  it('300 idle connections keep no probe out: the oldest go', async () => {
    const idle = await Promise.all(Array.from({ length: 300 }, () => open()));
    expect((await ask('GET', '/livez')).statusCode).toBe(200);
    const oldest = idle.slice(0, 300 - 256);
    await Promise.all(oldest.map((socket) => socket.closed || once(socket, 'close')));
    for (const socket of idle) socket.destroy();
  });
});

describe('gRPC', () => {
  it('100 idle connections keep no probe out', async () => {
    const [, grpcPort] = split(pair.greeter.ready.probes.grpc[0] as string);
    const idle = await Promise.all(Array.from({ length: 100 }, () => open(grpcPort)));
    const client = new HealthClient(`${host}:${grpcPort}`);
    expect(await client.check()).toBe('SERVING');
    client.close();
    for (const socket of idle) socket.destroy();
  });

  it('what is not HTTP/2 there harms nothing', async () => {
    const [, grpcPort] = split(pair.greeter.ready.probes.grpc[0] as string);
    const socket = await open(grpcPort);
    socket.end('GET / HTTP/1.1\r\n\r\n');
    await once(socket.resume(), 'close');
    expect((await ask('GET', '/livez')).statusCode).toBe(200);
  });
});

/** Reads a sidecar's metrics, which must be in the Prometheus text format. */
async function scrape(sidecar: SidecarProcess) {
  const { body } = await sidecar.probe('/metrics');
  const metrics = parseExposition(body);
  /** The sum over all series with these labels; undefined if there is none. */
  const value = (
    sample: string,
    labels: Readonly<Record<string, string>> = {},
    name = sample,
  ): number | undefined => {
    const found = (metrics.get(name)?.samples ?? [])
      .filter((one) => one.name === sample)
      .filter((one) => Object.entries(labels).every(([key, wanted]) => one.labels.get(key) === wanted));
    return found.length === 0 ? undefined : found.reduce((sum, one) => sum + one.value, 0);
  };
  return { body, value };
}

describe('/metrics', () => {
  it('counts calls, sessions and octets at both ends', async () => {
    const { client, web, greeter } = pair;
    for (let i = 0; i < 3; i++) await client.unary(SayHello, { name: 'Ada' });
    for (const sidecar of [web, greeter]) {
      await sidecar.audit.events('call.completed', 3);
      // It is in the file before it is said to be.
      const waiting = () => sidecar.metric('hauberk_audit_queued');
      await expect.poll(waiting, { timeout: 10_000 }).toBe(0);
    }
    for (const [sidecar, direction, dialled] of [
      [web, 'egress', 'outbound'],
      [greeter, 'ingress', 'inbound'],
    ] as const) {
      const { body, value } = await scrape(sidecar);
      const method = '/hauberk.demo.v1.Greeter/SayHello';
      expect(value('hauberk_calls_total', { direction, method, grpc_status: 'OK' })).toBe(3);
      const duration = 'hauberk_call_duration_seconds';
      expect(value(`${duration}_count`, { direction, method }, duration)).toBe(3);
      expect(value(`${duration}_bucket`, { method, le: '+Inf' }, duration)).toBe(3);
      expect(value(`${duration}_sum`, { method }, duration)).toBeGreaterThan(0);
      expect(value('hauberk_calls_open')).toBe(0);
      expect(value('hauberk_sessions_open', { direction: dialled })).toBe(1);
      expect(value('hauberk_sessions_created_total', { direction: dialled })).toBe(1);
      expect(value('hauberk_handshakes_total', { direction: dialled, result: 'ok' })).toBe(1);
      expect(value('hauberk_connections_open', { side: 'peer' })).toBe(1);
      for (const flow of ['in', 'out']) {
        expect(value('hauberk_bytes_total', { side: 'peer', flow })).toBeGreaterThan(100);
        expect(value('hauberk_records_total', { flow })).toBeGreaterThan(0);
      }
      expect(value('hauberk_audit_recorded_total')).toBeGreaterThan(5);
      expect(value('hauberk_audit_delivered_total')).toBeGreaterThan(5);
      expect(value('hauberk_audit_dropped_total')).toBe(0);
      expect(value('hauberk_audit_queued')).toBeGreaterThanOrEqual(0);
      expect(value('hauberk_event_loop_lag_worst_seconds')).toBeGreaterThanOrEqual(0);
      expect(body).not.toMatch(/spiffe:|sessionId/);
    }
  });

  it('counts calls that are denied under one method, whatever names a peer invents', async () => {
    const { client, greeter } = await startPair({ greeter: { ingress: { allow: [] } } });
    for (let i = 0; i < 3; i++) await client.unary(SayHello, { name: 'Ada' });
    const { value } = await scrape(greeter);
    const denied = { direction: 'ingress', grpc_status: 'PERMISSION_DENIED' };
    expect(value('hauberk_calls_total', { ...denied, method: 'unknown' })).toBe(3);
    expect(value('hauberk_calls_total', { ...denied, method: SayHello.path })).toBe(undefined);
    expect(value('hauberk_calls_denied_total')).toBe(3);
  });

  it('counts limits, refusals and failed handshakes', async () => {
    const { client, web, greeter } = await startPair({
      greeter: { limits: [{ scope: 'session', maxRequests: 3, window: '1h' }] },
    });
    for (let i = 0; i < 5; i++) await client.unary(SayHello, { name: 'Ada' });
    const [, egress] = split(web.egress);
    const [, ingress] = split(greeter.ingress);
    const tls = await open(egress);
    tls.write(Buffer.from([0x16, 3, 1, 0, 200, 1]));
    await once(tls, 'close');
    const noise = await open(ingress);
    noise.write('GET / HTTP/1.1\r\n\r\n');
    await once(noise, 'close');
    await greeter.audit.event('handshake.failed');

    const called = await scrape(greeter);
    expect(called.value('hauberk_calls_limited_total', { scope: 'session' })).toBe(2);
    expect(called.value('hauberk_errors_total', { code: 'limited' })).toBe(2);
    expect(called.value('hauberk_calls_total', { grpc_status: 'RESOURCE_EXHAUSTED' })).toBe(2);
    const handshakes = called.value('hauberk_handshakes_total', { direction: 'inbound' });
    expect([handshakes, called.value('hauberk_handshakes_total', { result: 'ok' })]).toEqual([2, 1]);
    const calling = await scrape(web);
    expect(calling.value('hauberk_connections_refused_total', { listener: 'egress', reason: 'tls' })).toBe(1);
  });
});
