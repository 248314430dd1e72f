import { once } from 'node:events';
import { createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import { loadIdentity } from '../../src/identity/load.ts';
import { bridgeTo } from '../harness/bridge.ts';
import { AUTHORITY, type Case, runH2spec } from '../harness/h2spec.ts';
import { atEnd, ingressTo, type SidecarProcess, World } from '../harness/sidecars.ts';

/** Cases of h2spec 2.6.0, the strict ones among them. */
const CASES = 147;

/** Where h2spec 2.6.0 still asks for RFC 7540, and RFC 9113 for the contrary. */
const EXCEPTIONS = [
  // Section 5.3.2 deprecates priorities without keeping this rule; the fields are ignored (sections 6.2, 6.3).
  'http2/5.3.1: Sends HEADERS frame that depends on itself',
  'http2/5.3.1: Sends PRIORITY frame that depend on itself',
];

/** One case opens a stream more, and leaves all to be cancelled: node:http2 would call a thousand of them an attack. */
const http2 = { appStreams: 100, sessionStreams: 100 };

let world: World;
let web: SidecarProcess;
let greeter: SidecarProcess;

/** An app that answers every request with 200 and a body, when the request has ended. */
async function startApp(): Promise<string> {
  const server = createServer();
  server.on('session', (session) => session.on('error', () => {}));
  server.on('stream', (stream) => {
    stream.on('error', () => {}); // a reset
    stream.resume();
    stream.once('end', () => {
      if (stream.destroyed) return;
      stream.respond({ ':status': 200, 'content-type': 'text/plain' });
      stream.end('Hello, h2spec!\n');
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  atEnd(() => void server.close());
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

beforeAll(async () => {
  world = await World.make();
  greeter = await world.sidecar('greeter', { ...ingressTo(world, await startApp(), AUTHORITY), http2 });
  const route = {
    service: AUTHORITY,
    authorities: ['*'],
    endpoints: [greeter.ingress],
    peer: world.spiffeId('greeter'),
  };
  web = await world.sidecar('web', { egress: { routes: [route] }, http2 });
});

function check(cases: readonly Case[]): void {
  const broken = cases.filter(({ failure, skipped }) => failure !== undefined || skipped);
  const named = broken.map((one) => ({ ...one, name: `${one.section}: ${one.title}` }));
  expect(named.filter(({ name }) => !EXCEPTIONS.includes(name))).toEqual([]);
  expect(named.map(({ name }) => name)).toEqual(EXCEPTIONS);
  expect(cases.length).toBe(CASES);
}

it('every case passes at egress', async () => {
  const cases = await runH2spec(web.egress, join(world.dir, 'egress.xml'));
  check(cases);
});

it("every case passes at ingress, inside a session's records", async () => {
  const files = await world.identityFiles('web');
  const self = await loadIdentity({ ...files, trustDomain: world.trust.trustDomain }, systemClock);
  const expectedPeer = world.spiffeId('greeter');
  const bridge = await bridgeTo(greeter.ingress, self.identity, { expectedPeer, bundle: self.bundle });
  const cases = await runH2spec(bridge.address, join(world.dir, 'ingress.xml'));
  check(cases);
  expect(bridge.refused()).toBe(0);
});
