import { generateKeyPairSync, randomUUID, webcrypto } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import { CONTROLLER_FORM } from '../../src/config/controllerform.ts';
import { parseForm } from '../../src/config/parse.ts';
import { loadX509 } from '../../src/identity/x509.ts';
import type { KubeClient } from '../../src/kube/client/client.ts';
import { Bodies } from '../../src/kube/webhook/bodies.ts';
import { makeServing, pemOf, type ServingCertificate } from '../../src/kube/webhook/certificates.ts';
import { Connections } from '../../src/kube/webhook/connections.ts';
import { Namespaces } from '../../src/kube/webhook/namespaces.ts';
import { WebhookServer } from '../../src/kube/webhook/webhookserver.ts';
import { silentLogger } from '../../src/telemetry/log.ts';

/** A socket of an address, as far as Connections looks at it. */
function socketOf(remoteAddress: string, remotePort: number): Socket {
  const handlers: Array<() => void> = [];
  return {
    remoteAddress,
    remotePort,
    localAddress: '10.0.0.1',
    localPort: 15017,
    destroyed: false,
    once: (_name: string, handler: () => void) => handlers.push(handler),
    on: () => undefined,
    destroy(this: { destroyed: boolean }) {
      this.destroyed = true;
      for (const handler of handlers.splice(0)) handler();
    },
  } as unknown as Socket;
}

describe('connections', () => {
  it('an address has no more than its own, and one that holds most gives way, busy or not', () => {
    const connections = new Connections({ max: 6, maxPerAddress: 4 });
    const flood = [1, 2, 3, 4, 5].map((port) => socketOf('10.1.1.1', port));
    expect(flood.map((socket) => connections.add(socket))).toEqual([true, true, true, true, false]);
    for (const socket of flood) connections.begin(socket);
    const servers = [1, 2, 3].map((port) => socketOf('10.9.9.9', port));
    expect(servers.map((socket) => connections.add(socket))).toEqual([true, true, true]);
    expect(flood.map(({ destroyed }) => destroyed)).toEqual([true, false, false, false, false]);
    expect(servers.some(({ destroyed }) => destroyed)).toBe(false);
    expect(connections.size).toBe(6);
  });

  it('an idle one goes before one at work, and room comes back', () => {
    const connections = new Connections({ max: 2, maxPerAddress: 2 });
    const [busy, idle, late] = [1, 2, 3].map((port) => socketOf('10.1.1.1', port)) as [
      Socket,
      Socket,
      Socket,
    ];
    connections.add(busy);
    connections.add(idle);
    connections.begin(busy);
    expect(connections.add(late)).toBe(false);
    expect(connections.add(socketOf('10.2.2.2', 1))).toBe(true);
    expect([busy.destroyed, idle.destroyed]).toEqual([false, true]);
    expect(connections.add(late)).toBe(true);
    connections.destroy();
    expect(connections.size).toBe(0);
  });
});

describe('bodies', () => {
  it('the largest of the address that holds most gives way, not the newcomer', () => {
    const bodies = new Bodies({ max: 100, maxPerAddress: 60 });
    const gone: string[] = [];
    const hold = (name: string, address: string, bytes: number) => {
      const body = bodies.hold(address, () => gone.push(name));
      body.grow(bytes);
      return body;
    };
    hold('a1', 'a', 30);
    hold('a2', 'a', 29);
    hold('b1', 'b', 40);
    const server = hold('server', 'c', 20);
    expect([gone, bodies.bytes]).toEqual([['a1'], 89]);
    hold('b2', 'b', 21);
    expect([gone, bodies.bytes]).toEqual([['a1', 'b1'], 70]);
    server.release();
    server.release();
    expect(bodies.bytes).toBe(50);
  });

  it('an address has no more than its own, and what has been read is held until its answer', () => {
    const bodies = new Bodies({ max: 100, maxPerAddress: 60 });
    const gone: string[] = [];
    const read = bodies.hold('a', () => gone.push('read'));
    read.grow(50);
    read.finish();
    bodies.hold('a', () => gone.push('late')).grow(20);
    expect([gone, bodies.bytes]).toEqual([['late'], 50]);
    read.release();
    expect(bodies.bytes).toBe(0);
  });
});

describe('looks at namespaces', () => {
  it('take turns by who asks, few at a time', async () => {
    const asked: string[] = [];
    const answers: Array<() => void> = [];
    const get = (path: string) => {
      asked.push(path);
      return new Promise((resolve) => answers.push(() => resolve({ metadata: {} })));
    };
    const namespaces = new Namespaces({ get } as unknown as KubeClient, systemClock);
    const flood = Array.from({ length: 60 }, (_each, index) => namespaces.of(`made-up-${index}`, '10.1.1.1'));
    const settled = Promise.allSettled(flood);
    await expect.poll(() => asked.length).toBe(16);
    const honest = namespaces.of('shop', '10.9.9.9');
    answers[0]?.();
    answers[1]?.();
    await expect.poll(() => asked.slice(16, 18)).toContain('/api/v1/namespaces/shop');
    answers[asked.indexOf('/api/v1/namespaces/shop')]?.();
    expect(await honest).toEqual({ name: 'shop', labels: {} });
    namespaces.close();
    for (const answer of answers) answer();
    const outcomes = await settled;
    expect(outcomes.filter(({ status }) => status === 'rejected').length).toBeGreaterThan(30);
  });
});

describe('the server', () => {
  let server: WebhookServer;
  let port: number;
  let ca: string;
  let serving: ServingCertificate;
  const open: Socket[] = [];

  beforeEach(async () => {
    const made = await makeServing(['webhook.test'], Date.now(), 3_600_000);
    ca = made.ca;
    serving = made.serving;
    await listen();
  });

  async function listen(clientCa?: string): Promise<void> {
    const options = {
      clock: systemClock,
      log: silentLogger,
      clientCa,
      admit: async () => ({ skipped: 'it is a test' }),
      onFailed: () => undefined,
    };
    server = new WebhookServer(options, serving);
    const { webhook } = parseForm(CONTROLLER_FORM, 'webhook: { listen: "127.0.0.1:0" }', { file: 'test' });
    await server.listen(webhook.listen, () => undefined);
    port = Number(server.bound[0]?.split(':').at(-1));
  }

  afterEach(() => {
    for (const socket of open.splice(0)) socket.destroy();
    server.close();
  });

  /** What came back, once the connection is over or something came. */
  function answerTo(
    localAddress: string,
    body: string,
    {
      declared = body.length,
      client = {},
    }: { declared?: number; client?: { cert?: string; key?: string } } = {},
  ): Promise<string> {
    const raw = connect({ host: '127.0.0.1', port, localAddress });
    const socket = connectTls({ socket: raw, ca, servername: 'webhook.test', ...client });
    open.push(raw, socket);
    return new Promise((resolve) => {
      socket.once('data', (chunk: Buffer) => resolve(chunk.toString()));
      socket.on('error', () => resolve('error'));
      socket.once('close', () => resolve('closed'));
      socket.write(
        `POST /inject HTTP/1.1\r\nhost: webhook.test\r\ncontent-type: application/json\r\ncontent-length: ${declared}\r\n\r\n`,
      );
      socket.write(body);
    });
  }

  const question = JSON.stringify({
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: { uid: 'u', object: {} },
  });

  it('connections that never shake hands are counted, and keep nobody else out', async () => {
    let closed = 0;
    const flood = Array.from({ length: 520 }, () => connect({ host: '127.0.0.1', port }));
    open.push(...flood);
    for (const socket of flood) socket.on('error', () => undefined).on('close', () => closed++);
    for (const socket of flood) socket.resume();
    await expect.poll(() => closed, { timeout: 4000 }).toBeGreaterThanOrEqual(8);
    expect(await answerTo('127.0.0.2', question)).toMatch(/^HTTP\/1.1 200 /);
  });

  it('bodies that do not end take the place of others of their own address only', async () => {
    const large = ' '.repeat(3_900_000);
    const held = [1, 2, 3, 4, 5].map(() => answerTo('127.0.0.1', large, { declared: large.length + 1 }));
    expect(await Promise.race(held)).toMatch(/^HTTP\/1.1 503 /);
    expect(await answerTo('127.0.0.2', question)).toMatch(/^HTTP\/1.1 200 /);
  });

  it('with a CA of clients, whoever shows no certificate by it for clients is refused, also after a rotation', async () => {
    const [known, stranger] = [await makeClientCertificate(), await makeClientCertificate()];
    // Of the CA, but for servers.
    const { serving: wrong, ca: alsoKnown } = await makeServing(['x.test'], Date.now(), 3_600_000);
    server.close();
    await listen(known.cert + alsoKnown);
    const answers = async (): Promise<string[]> => {
      const shown = [{}, stranger, { cert: wrong.chain, key: wrong.key }, known];
      const all = await Promise.all(shown.map((client) => answerTo('127.0.0.1', question, { client })));
      return all.map((text) => text.split('\r\n')[0] as string);
    };
    const wanted = [...[1, 2, 3].map(() => expect.stringMatching(/^(error|closed)$/)), 'HTTP/1.1 200 OK'];
    expect(await answers()).toEqual(wanted);
    const next = await makeServing(['webhook.test'], Date.now(), 3_600_000);
    server.show(next.serving);
    ca = next.ca;
    expect(await answers()).toEqual(wanted);
  });
});

/** Its own CA; PEM. */
async function makeClientCertificate(): Promise<{ cert: string; key: string }> {
  const x509 = await loadX509();
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const pkcs8 = pair.privateKey.export({ type: 'pkcs8', format: 'der' });
  const name = [{ CN: [`API server ${randomUUID()}`] }];
  const ecdsa = { name: 'ECDSA', namedCurve: 'P-256' };
  const made = await x509.X509CertificateGenerator.create({
    subject: name,
    issuer: name,
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 3_600_000),
    publicKey: new x509.PublicKey(pair.publicKey.export({ type: 'spki', format: 'der' })),
    signingKey: await webcrypto.subtle.importKey('pkcs8', pkcs8, ecdsa, false, ['sign']),
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth]),
    ],
  });
  return {
    cert: pemOf(made.rawData),
    key: pair.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
  };
}
