import { appendFile } from 'node:fs/promises';
import { createServer as createHttp, get } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2 } from 'node:http2';
import { connect as connectTls, TLSSocket } from 'node:tls';
import { beforeAll, describe, expect, it } from 'vitest';
import type { AuditEventOf } from '../../src/audit/event.ts';
import { systemClock } from '../../src/clock/clock.ts';
import { type LoadedIdentity, loadIdentity } from '../../src/identity/load.ts';
import { toPem } from '../../src/identity/pem.ts';
import { encodeIdentityPayload } from '../../src/transport/identitypayload.ts';
import { SayHello } from '../harness/greeter-methods.ts';
import { rawConnection, talk } from '../harness/rawtcp.ts';
import {
  acceptorAs,
  answerWith,
  dialAs,
  honest,
  type Impostor,
  identityOf,
  impostor,
  intrude,
  type Prove,
  refusalOf,
} from '../harness/rogue.ts';
import { type Pair, type SidecarProcess, startPair, World } from '../harness/sidecars.ts';
import { makeTrust } from '../harness/trust.ts';
import { type Forged, forgeCa, forgeLeaf, type Recipe } from '../identity/forge.ts';

const HOUR = 3_600_000;
const valid = { notBefore: Date.now() - HOUR, notAfter: Date.now() + HOUR };
const ID = 'spiffe://shop.example/ns/default/sa/';

/** Certificates that a CA of our own bundle has signed, and that must be refused all the same. */
const BAD_LEAVES: ReadonlyArray<[what: string, recipe: Recipe, code: string]> = [
  ['an expired certificate', { notBefore: Date.now() - 2 * HOUR, notAfter: Date.now() - HOUR }, 'expired'],
  [
    'a certificate that is not yet valid',
    { notBefore: Date.now() + HOUR, notAfter: Date.now() + 2 * HOUR },
    'not-yet-valid',
  ],
  [
    'a certificate of another trust domain',
    { uris: ['spiffe://bank.example/ns/default/sa/web'] },
    'wrong-trust-domain',
  ],
  ['a certificate with several URI names', { uris: [`${ID}web`, `${ID}greeter`] }, 'several-uri-sans'],
  ['a certificate without a URI name', { uris: [], dns: ['web.shop.example'] }, 'no-uri-san'],
  ['a CA’s certificate as its own', { ca: true }, 'leaf-is-ca'],
  ['a certificate whose key may not sign', { usage: 1 << 5 }, 'key-usage'],
];

let pair: Pair;
let root: Forged;
let self: { web: LoadedIdentity; greeter: LoadedIdentity; other: LoadedIdentity };

const handshake = { burstPerAddress: 10_000, maxEventLoopLag: '10s' };
const settings = { handshake, log: { level: 'error' } };
/** Of those whom somebody makes wait: everybody else has the time that a busy machine takes. */
const hasty = { ...settings, handshake: { ...handshake, timeout: '1s', firstFrameTimeout: '300ms' } };

beforeAll(async () => {
  const world = await World.make();
  root = await forgeCa({ name: 'CN=Second CA', ...valid });
  await appendFile(world.trust.bundle, toPem('CERTIFICATE', root.der));
  pair = await startPair({ world, greeter: settings, web: settings });
  const load = async (name: string): Promise<LoadedIdentity> =>
    loadIdentity({ ...(await world.identityFiles(name)), trustDomain: 'shop.example' }, systemClock);
  self = { web: await load('web'), greeter: await load('greeter'), other: await load('other') };
});

const leaf = (recipe: Recipe = {}): Promise<Forged> =>
  forgeLeaf(root, { uris: [`${ID}web`], ...valid, ...recipe });

/** No chain at all, or an empty one. */
const withoutCertificate =
  (expectedPeer: string | undefined): Prove =>
  () =>
    encodeIdentityPayload({
      chain: [],
      signatureAlgorithm: 0x0403,
      signature: Buffer.alloc(70),
      expectedPeer,
      maxRecord: undefined,
      instance: undefined,
    });

describe('a sidecar that is called', () => {
  /** Runs an attempt, and returns what the called sidecar recorded about it. No session has come of it. */
  async function refused(
    attempt: () => Promise<unknown>,
    { audit } = pair.greeter,
  ): Promise<AuditEventOf<'handshake.failed'>> {
    const before = await audit.mark();
    const calls = pair.app.calls();
    await attempt();
    const event = await audit.event('handshake.failed', () => true, before);
    const since = (await audit.all()).filter(({ seq }) => seq > before);
    expect(since.filter(({ type }) => type === 'session.created' || type === 'connection.opened')).toEqual(
      [],
    );
    expect(pair.app.calls()).toBe(calls);
    expect(event).toMatchObject({ direction: 'inbound' });
    expect(event.remote).toMatch(/^127\.0\.0\.1:\d+$/);
    return event;
  }

  const expectedPeer = `${ID}greeter`;
  const knock = (prove: Prove) => () => intrude(pair.greeter.ingress, prove);

  it('refuses a peer without a certificate', async () => {
    const event = await refused(knock(withoutCertificate(expectedPeer)));
    expect(event).toMatchObject({
      reason: 'no-certificate',
      detail: 'The peer sent an empty certificate chain',
    });
    expect(event.peer).toBeUndefined();
    const nothing = await refused(knock(() => Buffer.alloc(0)));
    expect(nothing).toMatchObject({ reason: 'no-certificate', detail: 'The peer sent no certificate chain' });
  });

  it('refuses a certificate of a foreign CA, even for the same trust domain', async () => {
    const foreign = await makeTrust();
    const identity = await foreign.identity('web');
    let error: unknown;
    const event = await refused(async () => {
      error = await refusalOf(
        dialAs(identity, pair.greeter.ingress, { expectedPeer, bundle: self.web.bundle }),
      );
    });
    expect(event).toMatchObject({ reason: 'untrusted-peer' });
    expect(event.detail).toContain('untrusted-issuer');
    expect(event.peer).toBeUndefined();
    expect(error).toMatchObject({ code: 'not-confirmed' });
  });

  it.each(BAD_LEAVES)('refuses %s', async (_what, recipe, code) => {
    const identity = await identityOf(await leaf(recipe));
    const event = await refused(knock(honest(identity, 'initiator', expectedPeer)));
    expect(event.reason).toBe('untrusted-peer');
    expect(event.detail).toContain(`refused, ${code}: `);
  });

  it('refuses somebody else’s certificate without its key', async () => {
    const identity = await identityOf(await leaf(), { signer: await leaf() });
    const event = await refused(knock(honest(identity, 'initiator', expectedPeer)));
    expect(event).toMatchObject({
      reason: 'bad-signature',
      detail: `Whoever showed the certificate of ${ID}web has not signed this handshake with its key`,
    });
  });

  it('refuses a signature that was made in the responder’s role, over another handshake or for another key', async () => {
    const identity = await identityOf(await leaf());
    const right = honest(identity, 'initiator', expectedPeer);
    const forgeries: Prove[] = [
      honest(identity, 'responder'),
      (_h, key) => right(Buffer.alloc(32), key),
      (h) => right(h, Buffer.alloc(32, 9)),
    ];
    const reasons = [];
    for (const forged of forgeries) reasons.push((await refused(knock(forged))).reason);
    expect(reasons).toEqual(['bad-identity-payload', 'bad-signature', 'bad-signature']);
  });

  it('refuses a peer that looks for another service', async () => {
    const event = await refused(knock(honest(self.web.identity, 'initiator', `${ID}other`)));
    expect(event).toMatchObject({ reason: 'misdirected', peer: `${ID}web` });
    expect(event.detail).toContain(`looked for "${ID}other"; this is ${ID}greeter`);
  });

  it('refuses TLS, and says that it is TLS', async () => {
    const event = await refused(async () => {
      const socket = connectTls({
        port: Number(pair.greeter.ingress.split(':')[1]),
        rejectUnauthorized: false,
      });
      await new Promise((resolve) => socket.once('error', resolve));
    });
    expect(event.reason).toBe('not-hauberk');
    expect(event.detail).toContain('TLS');
  });

  it('refuses HTTP/1.1 and HTTP/2, and says that it is HTTP', async () => {
    const http1 = await refused(
      () => new Promise((resolve) => get(`http://${pair.greeter.ingress}/`).once('error', resolve)),
    );
    expect(http1).toMatchObject({ reason: 'not-hauberk' });
    expect(http1.detail).toContain('HTTP');
    const http2 = await refused(
      () =>
        new Promise((resolve) => {
          const client = connectHttp2(`http://${pair.greeter.ingress}`);
          client.on('error', () => {});
          client.once('close', () => resolve(undefined));
        }),
    );
    expect(http2).toMatchObject({ reason: 'not-hauberk' });
    expect(http2.detail).toContain('HTTP');
  });

  it('answers an unknown version with the highest that it speaks', async () => {
    const event = await refused(async () => {
      const { received } = await talk(pair.greeter.ingress, ['HBK1\x07\x00 and whatever version 7 says']);
      expect(received.toString('hex')).toBe('0300020101'); // alert, 2 bytes: unknown version, 1
    });
    expect(event).toMatchObject({ reason: 'unknown-version' });
    expect(event.detail).toContain('The peer speaks HBK version 7');
  });

  it('refuses modes that it does not know, and never a mode below', async () => {
    const hello = (mode: number, offered: number): Buffer => {
      const bytes = Buffer.from('HBK1\x01\0\0\0\0\0\0\0', 'latin1');
      bytes[5] = mode;
      bytes.writeUInt16BE(offered, 6);
      return Buffer.concat([bytes, Buffer.of(1, 0, 32), Buffer.alloc(32, 7)]);
    };
    const only = await refused(() => talk(pair.greeter.ingress, [hello(5, 1 << 5)]));
    expect(only.reason).toBe('mode-refused');
    const absent = await refused(() => talk(pair.greeter.ingress, [hello(5, 1)]));
    expect(absent.reason).toBe('bad-hello');
    const impossible = await refused(() => talk(pair.greeter.ingress, [hello(200, 0xffff)]));
    expect(impossible.reason).toBe('bad-hello');
    const retried = await refused(async () => {
      const { received } = await talk(pair.greeter.ingress, [hello(5, (1 << 5) | 1), hello(5, (1 << 5) | 1)]);
      expect(received.toString('hex')).toBe('02000100'); // RETRY, 1 byte: mode 0; at most once
    });
    expect(retried.reason).toBe('bad-retry');
  });

  it('refuses whoever says nothing, or half of something, in time', async () => {
    const greeter = await pair.world.sidecar('greeter', hasty);
    const silent = await refused(() => talk(greeter.ingress, ['']), greeter);
    expect(silent.reason).toBe('first-frame-timeout');
    const half = await refused(() => talk(greeter.ingress, ['HBK1\x01\x00\x00\x01']), greeter);
    expect(half.reason).toBe('first-frame-timeout');
  });

  it('refuses bytes that come before their turn', async () => {
    const event = await refused(async () => {
      const socket = await rawConnection(pair.greeter.ingress);
      socket.end(
        Buffer.concat([Buffer.from('HBK1\x01\0\0\x01\0\0\0\0\x01\0\x20', 'latin1'), Buffer.alloc(40, 5)]),
      );
    });
    expect(event.reason).toBe('unexpected-bytes');
  });
});

describe('a sidecar that calls', () => {
  const answering = (prove: Prove): Promise<Impostor> => impostor((socket) => void answerWith(socket, prove));
  const OPENING = 12 + 3 + 1216; // bytes: CLIENT_HELLO and message 1

  /** Everyone who might answer in the greeter's place, and why he is refused. */
  const IMPOSTORS: ReadonlyArray<
    [what: string, make: () => Promise<Impostor>, reason: string | RegExp, detail: string | RegExp]
  > = [
    [
      'a peer without a certificate',
      () => answering(withoutCertificate(undefined)),
      'no-certificate',
      'The peer sent an empty certificate chain',
    ],
    [
      'a foreign CA',
      async () => {
        const foreign = await makeTrust();
        return honestly(await identityOfTrust(foreign), foreign.bundle);
      },
      'untrusted-peer',
      /untrusted-issuer/,
    ],
    ...BAD_LEAVES.map(
      ([what, recipe, code]) =>
        [
          what,
          async () => {
            const uris = recipe.uris ?? [`${ID}greeter`];
            return answering(honest(await identityOf(await leaf({ ...recipe, uris })), 'responder'));
          },
          'untrusted-peer',
          new RegExp(`refused, ${code}: `),
        ] as [string, () => Promise<Impostor>, string, RegExp],
    ),
    [
      'another service’s certificate',
      () => honestly(self.other.identity, self.other.bundle),
      'wrong-peer',
      `The peer is ${ID}other, the route expects ${ID}greeter: correct peer or endpoints of the route`,
    ],
    [
      'the right certificate without its key',
      async () => {
        const uris = [`${ID}greeter`];
        const thief = await identityOf(await leaf({ uris }), { signer: await leaf() });
        return answering(honest(thief, 'responder'));
      },
      'bad-signature',
      /has not signed this handshake/,
    ],
    ['our own messages', () => impostor((socket) => void socket.pipe(socket)), 'unexpected-frame', /./],
    [
      'our own message 1, cut out of its frames',
      () =>
        impostor((socket) => void socket.once('data', (chunk: Buffer) => socket.write(chunk.subarray(12)))),
      'reflected-key',
      /./,
    ],
    [
      'TLS',
      async () => {
        const [key, cert] = [await keyPem(root), toPem('CERTIFICATE', root.der)];
        return impostor((socket) => {
          new TLSSocket(socket, { isServer: true, key, cert }).on('error', () => {});
        });
      },
      /^(unexpected-frame|connection-lost)$/,
      /./,
    ],
    [
      'HTTP/1.1',
      async () => {
        const server = createHttp();
        return impostor((socket) => void server.emit('connection', socket));
      },
      'unexpected-frame',
      /./,
    ],
    [
      'HTTP/2',
      async () => {
        const server = createHttp2();
        server.on('sessionError', () => {});
        return impostor((socket) => void server.emit('connection', socket));
      },
      'unexpected-frame',
      /./,
    ],
    ['an alert', () => impostor((s) => void s.write(Buffer.of(3, 0, 2, 1, 9))), 'peer-alert', /9/],
    ['nothing', () => impostor(() => {}), 'handshake-timeout', /1000 ms/],
    ['the end', () => impostor((socket) => void socket.end()), 'connection-lost', /./],
    [
      'a message above the limit',
      () => impostor((socket) => void socket.write(Buffer.of(1, 0xff, 0xff))),
      'message-too-large',
      /./,
    ],
  ];

  const honestly = async (...[identity, bundle]: Parameters<typeof acceptorAs>): Promise<Impostor> => {
    const acceptor = acceptorAs(identity, bundle);
    return impostor((socket) => acceptor.accept(socket));
  };
  const identityOfTrust = (trust: Awaited<ReturnType<typeof makeTrust>>) => trust.identity('greeter');
  const keyPem = async ({ keys }: Forged): Promise<string> =>
    toPem('PRIVATE KEY', Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey)));

  let web: SidecarProcess;
  let hastyWeb: SidecarProcess;
  const made: Impostor[] = [];
  const service = (n: number): string => `impostor${n}.shop`;

  beforeAll(async () => {
    for (const [, make] of IMPOSTORS) made.push(await make());
    const routes = made.map(({ address }, n) => ({
      service: service(n),
      endpoints: [address],
      peer: `${ID}greeter`,
    }));
    [web, hastyWeb] = (await Promise.all(
      [settings, hasty].map((how) => pair.world.sidecar('web', { ...how, egress: { routes } })),
    )) as [SidecarProcess, SidecarProcess];
  });

  it.each(IMPOSTORS.map(([what, , reason, detail], n) => ({ what, reason, detail, n })))(
    'refuses whoever answers with $what',
    async ({ n, reason, detail }) => {
      const { address, received } = made[n] as Impostor;
      const { egress, audit } = reason === 'handshake-timeout' ? hastyWeb : web;
      const client = pair.world.client(egress, { authority: service(n) });
      const answer = await client.unary(SayHello, { name: 'Ada' });
      expect(answer).toMatchObject({ code: 14, hauberkError: 'handshake-refused' });
      const event = await audit.event('handshake.failed', ({ remote }) => remote === address);
      expect(event).toMatchObject({ direction: 'outbound' });
      expect(event.reason).toMatch(reason);
      expect(event.detail).toMatch(detail);
      // The caller is told, too; and nothing of the caller was shown: neither its identity nor the call.
      expect(answer.details).toContain(event.reason);
      expect(received().length).toBeLessThanOrEqual(OPENING);
      client.close();
    },
  );

  it('none of this upset a sidecar', async () => {
    expect((await pair.client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
    for (const sidecar of [web, pair.web, pair.greeter]) expect(sidecar.log).toBe('');
    expect((await web.audit.of('session.created')).length).toBe(0);
  });
});
