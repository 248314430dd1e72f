import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { DiscoveryStage, type PodProcess, portOf } from '../harness/discoverystage.ts';
import type { Greeter } from '../harness/greeter.ts';
import { SayHello } from '../harness/greeter-methods.ts';
import type { SidecarProcess } from '../harness/sidecars.ts';

let stage: DiscoveryStage;
let app: Greeter;
let greeter: PodProcess;
let web: SidecarProcess;
beforeAll(async () => {
  stage = await DiscoveryStage.make();
  app = await stage.world.app({ name: 'greeter' });
  const listening = portOf(app.address);
  [greeter, web] = await Promise.all([
    stage.pod('greeter-1', { app: app.address }),
    stage.caller({
      egress: {
        redirects: [{ port: 50_051, listen: '127.0.0.1:0' }],
        routes: [{ service: 'greeter.shop:50051', discovery: true, listen: '127.0.0.1:0' }],
      },
    }),
  ]);
  stage.service('greeter', listening, [{ pod: greeter }]);
  // Pods of strangers.
  stage.service('outside', listening, [
    { pod: { name: 'x', address: '127.0.1.2' } },
    { pod: { name: 'y', address: '127.0.1.3' } },
  ]);
  // The pod says another account than the one it can prove.
  const liar = { name: 'liar', address: greeter.address, account: 'other' };
  stage.meshed(liar, portOf(greeter.sidecar.ingress));
  stage.service('liar', listening, [{ pod: liar }]);
  // The last of all that the controller watches; and the route has asked before there was anything, and is told once in
  // a second at most.
  for (const authority of ['liar', 'greeter.shop:50051'])
    while (/no-service|no-endpoints/.test(await answerOf(authority))) await pause(20);
});

/** Who answers a call of an authority, or why nobody does. */
async function answerOf(authority: string, address = web.egress): Promise<string> {
  const client = stage.world.client(address);
  const answer = await client.unary(SayHello, { name: 'Ada' }, { options: { host: authority } });
  client.close();
  return answer.message?.message ?? `${answer.code} ${answer.hauberkError}: ${answer.details}`;
}

const OK = 'Hello Ada, from greeter';

describe('a service that no route names', () => {
  it.each(['greeter', 'greeter:50051', 'greeter.shop.svc.cluster.local:50051', '10.96.0.1:50051'])(
    'is found as %s',
    async (authority) => expect(await answerOf(authority)).toBe(OK),
  );

  it('is found by the address of its pod', async () => {
    expect(await answerOf(`${greeter.address}:${portOf(app.address)}`)).toBe(OK);
    const { service } = await greeter.sidecar.audit.event('call.completed');
    expect(service).toBe(`*:${portOf(app.address)}`);
  });

  it('is called over one session, whatever it is called by', async () => {
    await Promise.all(
      ['greeter', 'greeter.shop', 'greeter.shop.svc'].map((name) => answerOf(`${name}:50051`)),
    );
    expect(await web.metric('hauberk_sessions_created_total')).toBe(1);
    expect(
      await web.metric('hauberk_calls_total', { service: 'greeter.shop', grpc_status: 'OK' }),
    ).toBeGreaterThan(3);
  });

  it('that does not exist, or is not in the mesh, is refused with a sentence', async () => {
    expect(await answerOf('nobody.shop:50051')).toBe('14 no-service: no service nobody.shop');
    expect(await answerOf('greeter.shop:50052')).toBe(
      '14 no-endpoints: greeter.shop has no port 50052, but 50051 (grpc)',
    );
    expect(await answerOf('outside.shop:50051')).toBe(
      '14 no-endpoints: outside.shop has 2 endpoints, none in the mesh: set hauberk.mesh/inject: enabled on its namespace or pods, and make them anew',
    );
  });

  it('whose endpoint proves another SPIFFE ID is refused before anything is sent', async () => {
    const served = app.calls('SayHello');
    expect(await answerOf('liar.shop:50051')).toMatch(/^14 handshake-refused: .*\/ns\/shop\/sa\/other/);
    expect(app.calls('SayHello')).toBe(served);
  });

  it('is called through a redirect’s listener by name, by address, and without a port', async () => {
    const [listener = ''] = web.ready.redirects[50_051] ?? [];
    for (const authority of ['greeter.shop', 'greeter:50051', '10.96.0.1', '10.96.0.1:50051'])
      expect(await answerOf(authority, listener)).toBe(OK);
    expect(await answerOf('nobody', listener)).toBe('14 no-service: no service nobody.shop');
  });

  it('is called through the port of its route, whatever :authority says', async () => {
    expect(await answerOf('localhost', web.ready.routes['greeter.shop:50051'])).toBe(OK);
  });

  it('is called by HTTP CONNECT, as by grpc_proxy', async () => {
    const client = fileURLToPath(new URL('../harness/proxied-client.ts', import.meta.url));
    const child = spawn(process.execPath, ['--import', 'tsx', client, 'greeter.shop:50051'], {
      env: { PATH: process.env.PATH, grpc_proxy: `http://${web.egress}` },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let out = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text;
    });
    const [code] = await once(child, 'close');
    expect([code, JSON.parse(out).message?.message]).toEqual([0, OK.replace('Ada', 'proxy')]);
  });
});
