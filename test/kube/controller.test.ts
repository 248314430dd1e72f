import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect as connectTcp, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import { ControlChannel } from '../../src/control/channel.ts';
import { loadIdentityDefinition } from '../../src/control/definition.ts';
import { ControlError } from '../../src/control/errors.ts';
import type { CertifyResponse } from '../../src/control/messages.ts';
import { initTrustDomain } from '../../src/identity/authority.ts';
import { parseCertificate } from '../../src/identity/certificate.ts';
import { spiffeIdOf } from '../../src/identity/chain.ts';
import { TrustBundle } from '../../src/identity/trustbundle.ts';
import { Controller } from '../../src/kube/controller.ts';
import type { KubeSecret } from '../../src/kube/objects.ts';
import type { ControllerContext, ControllerPart, MakePart } from '../../src/kube/part.ts';
import { silentLogger } from '../../src/telemetry/log.ts';
import { turns } from '../audit/collector.ts';
import { KubeApi } from '../harness/kubeapi.ts';
import { CA_PATH, CONTROLLER, configOf, NAMESPACE, POD, requestWith } from './issuancerig.ts';

/** Whatever becomes of it. */
const either = (socket: Socket, ...events: string[]): Promise<void> =>
  new Promise((resolve) => {
    for (const event of events) socket.once(event, () => resolve());
  });

const LEASE_PATH = '/apis/coordination.k8s.io/v1/leases';

const LOOPBACK =
  'control: { listen: "127.0.0.1:0", maxConnectionsPerAddress: 4 }\nprobes: { http: "127.0.0.1:0" }\nmonitoring: { adapters: [stdout] }\n';

let api: KubeApi;
let dir: string;
const ends: Array<() => unknown> = [];

beforeEach(async () => {
  api = await KubeApi.start();
  dir = await mkdtemp(join(tmpdir(), 'hauberk-controller-'));
});

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
  await api.end();
  await rm(dir, { recursive: true });
});

interface Running {
  readonly controller: Controller;
  readonly port: number;
  /** Types of what it has recorded. */
  types(): string[];
}

async function make(parts: readonly MakePart[] = [], text = LOOPBACK): Promise<Omit<Running, 'port'>> {
  const stdout = new PassThrough();
  const lines: string[] = [];
  stdout.on('data', (chunk: Buffer) => lines.push(...chunk.toString().trim().split('\n')));
  const controller = await Controller.make({
    config: configOf(text),
    configFile: '/etc/hauberk/controller.yaml',
    configSha256: '0'.repeat(64),
    access: api.access,
    namespace: NAMESPACE,
    version: '0.0.0',
    stdout,
    log: silentLogger,
    clock: systemClock,
    parts,
  });
  ends.push(() => controller.stop('test'));
  return { controller, types: () => lines.map((line) => (JSON.parse(line) as { type: string }).type) };
}

async function started(parts?: readonly MakePart[], text?: string): Promise<Running> {
  const made = await make(parts, text);
  expect(await made.controller.start()).toBe(true);
  const [address = ''] = made.controller.bound.control ?? [];
  return { ...made, port: Number(address.split(':').pop()) };
}

/** The CA as its Secret has it. */
function bundle(): TrustBundle {
  const pem = Buffer.from(api.at<KubeSecret>(CA_PATH)?.data?.['ca.crt'] as string, 'base64');
  return TrustBundle.fromPem(pem, 'cluster.local');
}

async function channelTo(port: number, trust: () => TrustBundle = bundle): Promise<ControlChannel> {
  const token = join(dir, 'token');
  await writeFile(token, 'unused');
  const channel = new ControlChannel({
    address: { host: '127.0.0.1', port },
    peer: CONTROLLER,
    token,
    bundle: trust,
    clock: systemClock,
  });
  ends.push(() => channel.close());
  return channel;
}

const token = (): string => api.tokens.issue({ namespace: 'shop', serviceAccount: 'web', pod: POD });

async function certify(channel: ControlChannel, given = token()): Promise<CertifyResponse> {
  const { Certify } = await loadIdentityDefinition();
  return channel.call<CertifyResponse>(Certify as never, requestWith(given), 5_000);
}

async function tlsTo(port: number, options: object = {}): Promise<TLSSocket> {
  const socket = connectTls({
    host: '127.0.0.1',
    port,
    rejectUnauthorized: false,
    ALPNProtocols: ['h2'],
    ...options,
  });
  ends.push(() => socket.destroy());
  socket.on('error', () => undefined);
  await either(socket, 'secureConnect', 'close');
  return socket;
}

const leafOf = (socket: TLSSocket): Buffer => socket.getPeerCertificate().raw;

const get = async ({ controller }: { controller: Controller }, path: string) => {
  const [address] = controller.bound['probes.http'] ?? [];
  const response = await fetch(`http://${address}${path}`);
  return { status: response.status, body: await response.text() };
};

describe('a controller', () => {
  it('issues an SVID over gRPC, to a sidecar that knows it by its own', async () => {
    const running = await started();
    const channel = await channelTo(running.port);
    const { chain, bundle: cas, spiffeId } = await certify(channel);
    expect(spiffeId).toBe('spiffe://cluster.local/ns/shop/sa/web');
    const trust = new TrustBundle({ trustDomain: 'cluster.local', certificates: cas });
    expect(trust.verifyChain(chain, Date.now()).spiffeId).toBe(spiffeId);
    const refused = await certify(channel, 'nobody').catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(ControlError);
    expect((refused as ControlError).code).toBe('UNAUTHENTICATED');
    await api.stop();
    const away = (await certify(channel).catch((error: unknown) => error)) as ControlError;
    expect([away.code, away.message]).toEqual([
      'UNAVAILABLE',
      expect.stringContaining('the SVID at hand stays good'),
    ]);
    const { body } = await get(running, '/metrics');
    expect(body).toContain('hauberk_svids_issued_total{key_type="p256"} 2'); // its own, too
    expect(body).toContain('hauberk_svids_refused_total{reason="bad-token"} 1');
    expect(body).toContain('hauberk_ca_certificates 1');
    expect(body).toContain('hauberk_control_connections 1');
    expect(body).toMatch(/hauberk_ca_remaining_seconds 3\.15\d+e\+?8|hauberk_ca_remaining_seconds 315\d{6}/);
  });

  it('says what it waits for while the API server is away, and is ready when that is back', async () => {
    await api.stop();
    const made = await make();
    const starting = made.controller.start();
    while (made.controller.bound['probes.http']?.length === 0) await turns(1);
    expect((await get(made, '/livez')).status).toBe(200);
    const { status, body } = await get(made, '/readyz');
    expect([status, body]).toEqual([503, expect.stringContaining('certificate authority')]);
    await api.listen();
    expect(await starting).toBe(true);
    expect((await get(made, '/readyz')).status).toBe(200);
    await made.controller.stop('test');
    expect(made.types()).toEqual(
      expect.arrayContaining([
        'controller.started',
        'config.loaded',
        'ca.taken',
        'svid.issued',
        'controller.ready',
      ]),
    );
    expect(made.types().at(-1)).toBe('controller.stopped');
  });

  it('that is stopped while it waits for the API server does not start', async () => {
    await api.stop();
    const made = await make();
    const starting = made.controller.start();
    await turns(10);
    await made.controller.drain('SIGTERM');
    await made.controller.stop('SIGTERM');
    await expect(starting).resolves.toBe(false);
    expect(made.types().at(-1)).toBe('controller.stopped');
  });

  it('that cannot start undoes what it began', async () => {
    api.put(`/api/v1/namespaces/${NAMESPACE}/secrets`, { metadata: { name: 'hauberk-ca' }, data: {} });
    const closed: string[] = [];
    const made = await make([async () => ({ close: async () => void closed.push('part') })]);
    await expect(made.controller.start()).rejects.toThrow(/Secret hauberk-system\/hauberk-ca, ca\.crt/);
    await expect(get(made, '/livez')).rejects.toThrow();
    expect(made.types().at(-1)).toBe('controller.stopped');
    expect(closed).toEqual([]); // it came to none
    api.remove(CA_PATH);
    const later = await make([
      async () => ({
        open: () => Promise.reject(new Error('no port')),
        close: async () => void closed.push('part'),
      }),
    ]);
    await expect(later.controller.start()).rejects.toThrow('no port');
    expect(closed).toEqual(['part']);
  });

  it('shows at its Lease, by an event, that it leads, and by another that it does so no more', async () => {
    const { controller } = await started();
    const path = '/apis/events.k8s.io/v1/events';
    const [lease] = api.store.all(LEASE_PATH);
    // `kubectl describe` asks for events by the uid.
    const uid = lease?.metadata.uid;
    expect(uid).toMatch(/^[0-9a-f-]{36}$/);
    const regarding = { kind: 'Lease', namespace: 'hauberk-system', name: 'hauberk-controller', uid };
    await expect
      .poll(() => api.store.all(path))
      .toMatchObject([{ reason: 'Leading', type: 'Normal', regarding }]);
    // The last one takes longer than the release of the Lease.
    api.hold = async ({ resource }) => {
      if (resource === 'events') await new Promise((resolve) => setTimeout(resolve, 200));
    };
    await controller.stop('test');
    const reasons = api.store.all(path).map(({ reason }) => reason);
    expect(reasons.sort()).toEqual(['Following', 'Leading']);
  });

  it('speaks TLS 1.3 and HTTP/2 only', async () => {
    const { port } = await started();
    const good = await tlsTo(port);
    expect([good.authorized, good.getProtocol(), good.alpnProtocol]).toEqual([false, 'TLSv1.3', 'h2']);
    expect(spiffeIdOf(parseCertificate(leafOf(good))).id).toBe(CONTROLLER);
    expect((await tlsTo(port, { maxVersion: 'TLSv1.2' })).getProtocol()).toBeNull();
    expect((await tlsTo(port, { ALPNProtocols: ['http/1.1'] })).alpnProtocol).toBeFalsy();
  });

  it('closes connections of an address that has too many, and takes others when some have gone', async () => {
    const { port, controller } = await started();
    const open = async (): Promise<Socket> => {
      const socket = connectTcp(port, '127.0.0.1');
      ends.push(() => socket.destroy());
      socket.on('error', () => undefined);
      await either(socket, 'connect');
      return socket;
    };
    const four = await Promise.all([open(), open(), open(), open()]);
    const fifth = await open();
    await either(fifth, 'close');
    expect(four.map(({ destroyed }) => destroyed)).toEqual([false, false, false, false]);
    expect((await get({ controller }, '/metrics')).body).toContain(
      'hauberk_connections_refused_total{listener="control",reason="address-limit"} 1',
    );
    for (const socket of four) socket.destroy();
    let sixth: TLSSocket;
    do sixth = await tlsTo(port);
    while (sixth.alpnProtocol !== 'h2');
  });

  it('shows another certificate when the CA is replaced, and the connections that are up stay', async () => {
    const running = await started();
    const before = bundle();
    const channel = await channelTo(running.port, () => before);
    await certify(channel);
    const first = await tlsTo(running.port);
    const old = leafOf(first);
    first.destroy();
    const folder = join(dir, 'next');
    const files = await initTrustDomain({ dir: folder, trustDomain: 'cluster.local' });
    const [cert, key] = await Promise.all([readFile(files.bundle), readFile(files.caKey)]);
    const secret = api.at<KubeSecret>(CA_PATH) as KubeSecret;
    const both = Buffer.concat([cert, Buffer.from(secret.data?.['ca.crt'] as string, 'base64')]);
    api.put(`/api/v1/namespaces/${NAMESPACE}/secrets`, {
      metadata: { name: 'hauberk-ca' },
      data: { 'ca.crt': both.toString('base64'), 'ca.key': key.toString('base64') },
    });
    await running.controller.lookAtCa();
    let shown = old;
    while (shown.equals(old)) {
      const socket = await tlsTo(running.port);
      shown = leafOf(socket);
      socket.destroy();
    }
    expect(bundle().verifyChain([shown], Date.now()).spiffeId).toBe(CONTROLLER);
    expect(() => before.verifyChain([shown], Date.now())).toThrow();
    // Over the connection that was there before: a new one would not be trusted.
    const { bundle: cas } = await certify(channel);
    expect(cas).toHaveLength(2);
  });

  it('gives its parts what they need, serves what they serve, and ends them', async () => {
    const log: string[] = [];
    let given: ControllerContext | undefined;
    const { Certify } = await loadIdentityDefinition();
    const path = '/test.Part/Echo';
    const part: MakePart = async (context) => {
      given = context;
      log.push(`made with a CA: ${context.ca().certificates.length}`);
      const made: ControllerPart = {
        services: [
          {
            definition: { Echo: { ...Certify, path } } as never,
            handlers: {
              Echo: (_call: unknown, answer: (error: null, response: object) => void) =>
                answer(null, { spiffeId: 'echo' }),
            } as never,
          },
        ],
        open: async () => {
          log.push('opened');
          return { webhook: ['127.0.0.1:15017'] };
        },
        drain: () => void log.push('drained'),
        close: async () => void log.push('closed'),
      };
      return made;
    };
    const { controller, port } = await started([part]);
    expect(given).toMatchObject({ namespace: NAMESPACE, spiffeId: CONTROLLER, version: '0.0.0' });
    expect(controller.bound).toMatchObject({ control: [`127.0.0.1:${port}`], webhook: ['127.0.0.1:15017'] });
    const channel = await channelTo(port);
    const echoed = await channel.call<CertifyResponse>(
      { ...Certify, path } as never,
      requestWith('x'),
      5_000,
    );
    expect(echoed.spiffeId).toBe('echo');
    await controller.drain('SIGTERM');
    await controller.stop('SIGTERM');
    expect(log).toEqual(['made with a CA: 1', 'opened', 'drained', 'closed']);
  });

  it('that drains answers what was asked, and takes nothing new', async () => {
    const running = await started();
    const channel = await channelTo(running.port);
    await certify(channel);
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    api.hold = async ({ resource }) => {
      if (resource === 'tokenreviews') await held;
    };
    const asked = certify(channel);
    while (api.asked.filter(({ resource }) => resource === 'tokenreviews').length < 2) await turns(1);
    const drained = running.controller.drain('SIGTERM');
    expect((await get(running, '/readyz')).body).toContain('draining');
    const late = connectTcp(running.port, '127.0.0.1');
    late.on('error', () => undefined);
    await either(late, 'close');
    release();
    await expect(asked).resolves.toMatchObject({ spiffeId: 'spiffe://cluster.local/ns/shop/sa/web' });
    await drained;
    await running.controller.stop('SIGTERM');
    expect(running.types().slice(-2)).toEqual(expect.arrayContaining(['controller.stopped']));
  });
});
