/**
 * `hauberk demo`: a trust domain, a gRPC server and a client that know nothing of Hauberk, and two sidecars in
 * processes of their own between them, with somebody listening on the wire.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ServiceError } from '@grpc/grpc-js';
import { initTrustDomain, issueSvid } from '../../identity/authority.ts';
import { print } from '../terminal.ts';
import { DemoClient } from './client.ts';
import { Eavesdropper } from './eavesdropper.ts';
import { SidecarProcess } from './process.ts';
import { startServer } from './server.ts';
import { bold, dim, green, heading, hexdump, line, red } from './story.ts';

const DOMAIN = 'demo.example';
const SERVICE = 'greeter.demo';
const LIMIT = 40; // requests a session in 10 s
const SECRET = 'the password is xyzzy';

export interface DemoOptions {
  /** Leave everything running until a signal. */
  readonly keep: boolean;
}

/** Undone in reverse order. */
type Cleanup = Array<() => void | Promise<void>>;

/** Resolves with whether everything went as it should. */
export async function demo({ keep }: DemoOptions): Promise<boolean> {
  const cleanup: Cleanup = [];
  try {
    return await tell(keep, cleanup);
  } finally {
    for (const undo of cleanup.reverse()) await undo();
  }
}

async function tell(keep: boolean, cleanup: Cleanup): Promise<boolean> {
  const dir = mkdtempSync(join(tmpdir(), 'hauberk-demo-'));
  cleanup.push(() => rmSync(dir, { recursive: true, force: true }));
  print(bold('Hauberk: a gRPC call through two sidecars, over an encrypted session'));

  heading('A trust domain and two identities');
  const keys = join(dir, 'keys');
  await initTrustDomain({ dir: keys, trustDomain: DOMAIN });
  for (const name of ['web', 'greeter']) {
    const { spiffeId } = await issueSvid({ dir: keys, name });
    line(`${spiffeId}  ${dim(join(keys, `${name}.pem`))}`);
  }

  heading('What runs where');
  const server = await startServer();
  cleanup.push(() => server.close());
  const greeter = await SidecarProcess.start('greeter', dir, greeterYaml(keys, server.port));
  cleanup.push(() => greeter.stop());
  const wire = await Eavesdropper.between(portOf(greeter.ready.ingress));
  cleanup.push(() => wire.close());
  const web = await SidecarProcess.start('web', dir, webYaml(keys, wire.port));
  cleanup.push(() => web.stop());
  const egress = web.ready.egress[0] as string;
  line(`client app   grpc-js in this process        -> its sidecar at ${egress}`);
  line(`sidecar      web, process ${web.ready.pid}`);
  line(`eavesdropper on the wire between the sidecars, port ${wire.port}`);
  line(`sidecar      greeter, process ${greeter.ready.pid}, at ${greeter.ready.ingress[0]}`);
  line(`server app   grpc-js in this process, at 127.0.0.1:${server.port}`);

  const client = new DemoClient(egress, SERVICE);
  cleanup.push(() => client.close());
  const results = [
    await callAllKinds(client),
    await compareSessions(web, greeter),
    showWire(wire),
    await goOverTheLimit(client),
    await tryForeign(keys, dir, wire.port, greeter, cleanup),
  ];
  await showAudit(web, greeter);
  const good = results.every(Boolean);
  print('');
  print(good ? green('Everything went as it should.') : red('Something went wrong: see above.'));
  if (keep && good) await keepRunning(web, greeter, keys);
  return good;
}

async function callAllKinds(client: DemoClient): Promise<boolean> {
  heading('All four kinds of call');
  const calls: Array<[kind: string, run: () => Promise<string>]> = [
    ['unary', async () => (await client.hello(SECRET)).message],
    ['unary, again', async () => (await client.feature()).name],
    ['server-streaming', async () => `${(await client.features()).length} features`],
    ['client-streaming', async () => `${(await client.recordRoute()).distance} m over 3 points`],
    ['bidirectional', async () => `${(await client.chat()).length} notes back for 3 sent`],
  ];
  let good = true;
  for (const [kind, run] of calls) {
    const startedAt = performance.now();
    const result = await run().then(
      (text) => green(text),
      (error: Error) => {
        good = false;
        return red(error.message);
      },
    );
    line(`${kind.padEnd(18)}${(performance.now() - startedAt).toFixed(1).padStart(7)} ms   ${result}`);
  }
  line(dim('the first call also opens the session: TCP, the handshake, both certificates'));
  return good;
}

async function compareSessions(web: SidecarProcess, greeter: SidecarProcess): Promise<boolean> {
  heading('One session, the same id at both ends (it was never sent)');
  const [here, there] = await Promise.all([web.event('session.created'), greeter.event('session.created')]);
  line(`web      ${here?.sessionId}  with ${here?.peer}`);
  line(`greeter  ${there?.sessionId}  with ${there?.peer}`);
  return here !== undefined && here.sessionId === there?.sessionId;
}

function showWire(wire: Eavesdropper): boolean {
  heading('What the eavesdropper saw');
  const { seen } = wire;
  line(dim(`the app sent  SayHello { name: "${SECRET}" }, which in plaintext is`));
  for (const row of hexdump(
    Buffer.from(`/hauberk.demo.v1.Greeter/SayHello\n${String.fromCharCode(SECRET.length)}${SECRET}`),
    4,
  )) {
    line(row);
  }
  line(dim(`on the wire, ${seen.length} bytes from web to greeter; the hello, then nothing but noise`));
  for (const row of hexdump(seen, 3)) line(row);
  line('...');
  for (const row of hexdump(seen.subarray(-64), 4)) line(row);
  const leaked = ['xyzzy', 'SayHello', DOMAIN].filter((text) => seen.includes(text));
  line(
    leaked.length === 0
      ? green('neither message, method nor identity is in it')
      : red(`in plaintext: ${leaked}`),
  );
  return leaked.length === 0 && seen.length > 0;
}

async function goOverTheLimit(client: DemoClient): Promise<boolean> {
  heading(`Over the limit (${LIMIT} requests in 10 s for each session)`);
  for (let done = 1; done <= LIMIT + 1; done++) {
    try {
      await client.hello('again');
    } catch (error) {
      const { code, details, metadata } = error as ServiceError;
      line(
        `${done - 1} more calls went through; the next: ${code === 8 ? green('RESOURCE_EXHAUSTED') : red(String(code))}, ${details}`,
      );
      line(
        dim(
          `hauberk-error: ${metadata.get('hauberk-error')}, grpc-retry-pushback-ms: ${metadata.get('grpc-retry-pushback-ms')}`,
        ),
      );
      return code === 8;
    }
  }
  line(red('no call was limited'));
  return false;
}

async function tryForeign(
  keys: string,
  dir: string,
  port: number,
  greeter: SidecarProcess,
  cleanup: Cleanup,
): Promise<boolean> {
  heading('Somebody with a certificate of another trust domain');
  const foreign = join(dir, 'foreign');
  await initTrustDomain({ dir: foreign, trustDomain: DOMAIN });
  await issueSvid({ dir: foreign, name: 'web' });
  line(dim('the same names, but from a CA that the greeter does not know'));
  const bundle = await trustBoth(foreign, keys);
  const intruder = await SidecarProcess.start('intruder', dir, webYaml(foreign, port, bundle));
  cleanup.push(() => intruder.stop());
  const client = new DemoClient(intruder.ready.egress[0] as string, SERVICE);
  cleanup.push(() => client.close());
  const refused = await client.hello('intruder').then(
    () => false,
    (error: ServiceError) => {
      line(`its call: ${green('UNAVAILABLE')}, ${error.details}`);
      return error.code === 14;
    },
  );
  const event = await greeter.event('handshake.failed');
  line(`greeter's audit: ${event?.type}, reason ${event?.reason}: ${event?.detail}`);
  if (!refused) line(red('the call went through'));
  return refused && event !== undefined;
}

/** The intruder believes the greeter, so that it is the greeter who refuses. */
async function trustBoth(foreign: string, keys: string): Promise<string> {
  const bundles = await Promise.all(
    [foreign, keys].map((folder) => readFile(join(folder, 'bundle.pem'), 'utf8')),
  );
  const both = join(foreign, 'both.pem');
  await writeFile(both, bundles.join(''), { mode: 0o600 });
  return both;
}

async function showAudit(web: SidecarProcess, greeter: SidecarProcess): Promise<void> {
  heading('The audit, as the file adapters wrote it');
  await greeter.event('call.limited');
  for (const sidecar of [web, greeter]) {
    const counts = new Map<string, number>();
    for (const { type } of sidecar.events) counts.set(type, (counts.get(type) ?? 0) + 1);
    line(
      `${sidecar.name.padEnd(8)} ${[...counts].map(([type, n]) => (n > 1 ? `${type} x${n}` : type)).join(', ')}`,
    );
  }
  const last = greeter.events.filter(({ type }) => type === 'call.completed')[0];
  line(dim(JSON.stringify(last)));
}

async function keepRunning(web: SidecarProcess, greeter: SidecarProcess, keys: string): Promise<void> {
  print('');
  print(bold('Still running; try:'));
  line(`any gRPC client at ${web.ready.egress[0]}, plaintext, :authority ${SERVICE}`);
  line(`curl http://${web.ready.probes.http[0]}/metrics`);
  line(`curl http://${greeter.ready.probes.http[0]}/readyz`);
  line(`configurations: ${web.configFile} ${greeter.configFile}`);
  line(`identities: ${keys}`);
  line('Ctrl-C ends it and removes the folder.');
  await new Promise<void>((resolve) => {
    const idle = setInterval(() => {}, 60_000);
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => {
        clearInterval(idle);
        resolve();
      });
    }
  });
}

function greeterYaml(keys: string, app: number): string {
  return `trustDomain: ${DOMAIN}
identity: { svid: ${keys}/greeter.pem, key: ${keys}/greeter.key, bundle: ${keys}/bundle.pem }
egress: { listen: "127.0.0.1:0" }
ingress:
  listen: 127.0.0.1:0
  apps: [{ service: ${SERVICE}, address: "127.0.0.1:${app}" }]
  allow: [{ peer: "spiffe://${DOMAIN}/ns/default/sa/web", methods: ["/hauberk.demo.v1.*/*"] }]
limits: [{ scope: session, maxRequests: ${LIMIT}, window: 10s }]
probes: { http: "127.0.0.1:0", grpc: "127.0.0.1:0" }
log: { level: error }
`;
}

function webYaml(keys: string, peerPort: number, bundle = `${keys}/bundle.pem`): string {
  return `trustDomain: ${DOMAIN}
identity: { svid: ${keys}/web.pem, key: ${keys}/web.key, bundle: ${bundle} }
egress:
  listen: 127.0.0.1:0
  routes:
    - service: ${SERVICE}
      endpoints: ["127.0.0.1:${peerPort}"]
      peer: spiffe://${DOMAIN}/ns/default/sa/greeter
ingress: { listen: "127.0.0.1:0" }
probes: { http: "127.0.0.1:0", grpc: "127.0.0.1:0" }
log: { level: error }
`;
}

function portOf(addresses: readonly string[]): number {
  return Number(addresses[0]?.split(':').at(-1));
}
