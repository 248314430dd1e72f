/**
 * `hauberk demo`: a trust domain, a gRPC server and a client that know nothing of Hauberk, and two sidecars in
 * processes of their own between them, with somebody listening on the wire.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ServiceError } from '@grpc/grpc-js';
import { initTrustDomain, issueSvid } from '../../identity/authority.ts';
import { print } from '../terminal.ts';
import { Cleanup } from './cleanup.ts';
import { DemoClient } from './client.ts';
import { DOMAIN, greeterYaml, LIMIT, SERVICE, webYaml } from './configurations.ts';
import { Eavesdropper } from './eavesdropper.ts';
import { type DemoEvent, SidecarProcess } from './process.ts';
import { startServer } from './server.ts';
import { bold, dim, green, heading, hexdump, line, red } from './story.ts';

const SECRET = 'the password is xyzzy';
/** Calls of which the median is shown. */
const REPEATED = 100;
const RESOURCE_EXHAUSTED = 8;
const UNAVAILABLE = 14;
const SIGNALS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const;

export interface DemoOptions {
  /** Leave everything running until a signal. */
  readonly keep: boolean;
}

/** Resolves with the exit code. Whatever happens, nothing stays behind: no process, no folder. */
export async function demo({ keep }: DemoOptions): Promise<number> {
  const cleanup = new Cleanup();
  const signal = firstSignal();
  let told = false;
  const story = async (): Promise<number> => {
    const good = await tell(keep, cleanup);
    told = good;
    if (!keep || !good) return good ? 0 : 1;
    return signal.then(() => 0);
  };
  try {
    return await Promise.race([story(), signal.then((name) => (told ? 0 : 128 + SIGNALS[name]))]);
  } finally {
    await cleanup.run();
  }
}

/** Further signals, such as the ones that a terminal and a parent both send, do not interrupt the cleaning up. */
function firstSignal(): Promise<keyof typeof SIGNALS> {
  return new Promise((resolve) => {
    for (const name of Object.keys(SIGNALS)) process.on(name, () => resolve(name as keyof typeof SIGNALS));
  });
}

async function tell(keep: boolean, cleanup: Cleanup): Promise<boolean> {
  const dir = mkdtempSync(join(tmpdir(), 'hauberk-demo-'));
  await cleanup.add(() => rmSync(dir, { recursive: true, force: true }));
  print(bold('Hauberk: gRPC calls through two sidecars, over an encrypted, mutually authenticated session'));

  heading('A trust domain, and an identity for each of the two services');
  const keys = join(dir, 'keys');
  await initTrustDomain({ dir: keys, trustDomain: DOMAIN });
  for (const name of ['web', 'greeter']) {
    const { spiffeId } = await issueSvid({ dir: keys, name });
    line(spiffeId);
  }
  line(dim(`in ${keys}, as \`hauberk init\` and \`hauberk issue\` make them`));

  heading('What runs where');
  const server = await startServer();
  await cleanup.add(() => server.close());
  const greeter = await SidecarProcess.start('greeter', dir, greeterYaml(keys, server.port), cleanup);
  const wire = await Eavesdropper.between(portOf(greeter.ready.ingress));
  await cleanup.add(() => wire.close());
  const web = await SidecarProcess.start('web', dir, webYaml(keys, wire.port), cleanup);
  const egress = web.ready.egress[0] as string;
  const place = (what: string, where: string): void => line(`${what.padEnd(16)}${where}`);
  place('client app', `grpc-js in this process; calls ${SERVICE}, in plaintext, at ${egress}`);
  place('  |', 'h2c over loopback');
  place('sidecar web', `process ${web.ready.pid}, listens at ${egress}`);
  place('  ||', `one encrypted session over TCP, with an eavesdropper on it at 127.0.0.1:${wire.port}`);
  place('sidecar greeter', `process ${greeter.ready.pid}, listens at ${greeter.ready.ingress[0]}`);
  place('  |', 'h2c over loopback');
  place('server app', `grpc-js in this process, listens at 127.0.0.1:${server.port}`);

  const client = new DemoClient(egress, SERVICE);
  await cleanup.add(() => client.close());
  const direct = new DemoClient(`127.0.0.1:${server.port}`, SERVICE);
  await cleanup.add(() => direct.close());
  const results = [
    await callAllKinds(client, direct),
    await compareSessions(web, greeter),
    showWire(wire),
    await goOverTheLimit(client),
    await tryForeign(keys, dir, wire.port, greeter, cleanup),
  ];
  await showAudit(web, greeter);
  const good = results.every(Boolean);
  print('');
  print(good ? green('Everything went as it should.') : red('Something went wrong: see above.'));
  if (keep && good) {
    await waitForWindow(client);
    showAddresses(web, greeter, keys);
  }
  return good;
}

async function callAllKinds(client: DemoClient, direct: DemoClient): Promise<boolean> {
  heading('All four kinds of call');
  const calls: Array<[kind: string, run: () => Promise<string>]> = [
    ['unary', async () => (await client.hello(SECRET)).message],
    ['unary, again', async () => (await client.feature()).name],
    ['server-streaming', async () => `${(await client.features()).length} features for 1 rectangle`],
    ['client-streaming', async () => `${(await client.recordRoute()).distance} m along 3 points`],
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
  line(
    dim(
      'the first opens the session (TCP, handshake, both certificates); each runs its code for the first time',
    ),
  );
  if (!good) return false;
  const through = await median(client);
  const without = await median(direct);
  line(
    `${REPEATED} unary calls more, one at a time: median ${through} ms; without the sidecars ${without} ms`,
  );
  line(dim('both with the two apps in them, and just started; `npm run bench:peers` measures it properly'));
  return true;
}

/** Of the latency of unary calls, in ms. */
async function median(client: DemoClient): Promise<string> {
  const latencies: number[] = [];
  for (let i = 0; i < REPEATED; i++) {
    const startedAt = performance.now();
    await client.hello('again');
    latencies.push(performance.now() - startedAt);
  }
  return (latencies.sort((a, b) => a - b)[REPEATED / 2] as number).toFixed(2);
}

async function compareSessions(web: SidecarProcess, greeter: SidecarProcess): Promise<boolean> {
  heading('One session, with the same id at both ends');
  const [here, there] = await Promise.all([web.event('session.created'), greeter.event('session.created')]);
  line(`web      ${here?.sessionId}  with ${here?.peer}`);
  line(`greeter  ${there?.sessionId}  with ${there?.peer}`);
  line(dim('it was never sent: both derived it from the handshake'));
  return here !== undefined && here.sessionId === there?.sessionId;
}

function showWire(wire: Eavesdropper): boolean {
  heading('What the eavesdropper saw');
  line(`the first call was ${bold(`SayHello("${SECRET}")`)}, which in plaintext would look like this:`);
  const plaintext = `/hauberk.demo.v1.Greeter/SayHello\n${String.fromCharCode(SECRET.length)}${SECRET}`;
  for (const row of hexdump(Buffer.from(plaintext), 4)) line(`  ${row}`);
  const { there, back } = wire;
  line(
    `on the wire: ${there.length} bytes from web to greeter, ${back.length} back. Those to greeter begin with`,
  );
  for (const row of hexdump(there.octets, 2)) line(`  ${row}`);
  line(dim('(HBK1: the protocol’s hello; then a one-time public key) and later look like this:'));
  for (const row of hexdump(there.octets.subarray(-64), 4)) line(`  ${row}`);
  const seen = Buffer.concat([there.octets, back.octets]);
  const leaked = ['xyzzy', 'SayHello', 'Greeter', 'greeter', DOMAIN].filter((text) => seen.includes(text));
  line(
    leaked.length === 0
      ? green('neither message, method nor identity is in it, in either direction')
      : red(`in plaintext: ${leaked.join(', ')}`),
  );
  return leaked.length === 0 && there.length > 0 && back.length > 0;
}

/** Calls until one is refused; whether it was for the limit. The window may end meanwhile: then the next one fills up. */
export async function goOverTheLimit(client: Pick<DemoClient, 'hello'>): Promise<boolean> {
  heading(`Over the limit: ${LIMIT} requests in 10 s for each session`);
  for (let done = 0; done <= 2 * LIMIT; done++) {
    try {
      await client.hello('again');
    } catch (error) {
      const { code, details, metadata } = error as ServiceError;
      line(`${done} more calls went through; then`);
      line(
        `${code === RESOURCE_EXHAUSTED ? green('RESOURCE_EXHAUSTED') : red(`status ${code}`)}: ${details}`,
      );
      const names = ['hauberk-error', 'grpc-retry-pushback-ms'];
      line(dim(names.map((name) => `${name}: ${metadata.get(name)}`).join(', ')));
      return code === RESOURCE_EXHAUSTED;
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
  heading('Somebody else who says to be web');
  const foreign = join(dir, 'foreign');
  await initTrustDomain({ dir: foreign, trustDomain: DOMAIN });
  await issueSvid({ dir: foreign, name: 'web' });
  line(
    'a third sidecar, with the same name in its certificate, which is from a CA that greeter does not know',
  );
  const bundle = await trustBoth(foreign, keys);
  const intruder = await SidecarProcess.start('intruder', dir, webYaml(foreign, port, bundle), cleanup);
  const client = new DemoClient(intruder.ready.egress[0] as string, SERVICE);
  await cleanup.add(() => client.close());
  const refused = await client.hello('intruder').then(
    () => false,
    ({ code, details }: ServiceError) => {
      line(`its call: ${code === UNAVAILABLE ? green('UNAVAILABLE') : red(`status ${code}`)}: ${details}`);
      return code === UNAVAILABLE;
    },
  );
  const event = await greeter.event('handshake.failed');
  line(`greeter recorded ${event?.type}, ${event?.reason}: ${event?.detail}`);
  if (!refused) line(red('the call went through'));
  return refused && event?.reason === 'untrusted-peer';
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
  heading('What the sidecars recorded in their audit');
  await greeter.event('call.limited');
  for (const sidecar of [web, greeter]) {
    const counts = new Map<string, number>();
    for (const { type } of sidecar.events) counts.set(type, (counts.get(type) ?? 0) + 1);
    const list = [...counts].map(([type, n]) => (n > 1 ? `${type} x${n}` : type));
    line(`${sidecar.name.padEnd(8)} ${list.join(', ')}`);
  }
  line(dim('each is a line of JSON, here the one of the first call at greeter:'));
  const first = greeter.events.find(({ type }) => type === 'call.completed') as DemoEvent;
  for (const [name, value] of Object.entries(first)) line(dim(`  ${name.padEnd(14)} ${value}`));
}

/** Whoever tries the addresses is not to meet the limit that the story has used up. */
async function waitForWindow(client: DemoClient): Promise<void> {
  print(dim('Waiting until the limit allows calls again ...'));
  for (;;) {
    try {
      await client.hello('again');
      return;
    } catch (error) {
      const [pushback] = (error as ServiceError).metadata.get('grpc-retry-pushback-ms');
      if (pushback === undefined) throw error;
      await new Promise((resolve) => setTimeout(resolve, Number(pushback)));
    }
  }
}

function showAddresses(web: SidecarProcess, greeter: SidecarProcess, keys: string): void {
  const egress = web.ready.egress[0];
  const protos = fileURLToPath(new URL('../../../proto', import.meta.url));
  print('');
  print(bold('Still running. Try:'));
  line(`any gRPC client, plaintext, at ${egress} with :authority ${SERVICE}, such as`);
  line(`  grpcurl -plaintext -authority ${SERVICE} -import-path ${protos} \\`);
  line(
    `    -proto hauberk/demo/v1/greeter.proto -d '{"name":"you"}' ${egress} hauberk.demo.v1.Greeter/SayHello`,
  );
  line(`curl http://${web.ready.probes.http[0]}/metrics`);
  line(`curl http://${greeter.ready.probes.http[0]}/readyz`);
  line(`configurations  ${web.configFile}`);
  line(`                ${greeter.configFile}`);
  line(`identities      ${keys}`);
  line('Ctrl-C ends it and removes the folder.');
}

function portOf(addresses: readonly string[]): number {
  return Number(addresses[0]?.split(':').at(-1));
}
