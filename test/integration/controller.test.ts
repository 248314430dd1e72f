import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import { ControlChannel } from '../../src/control/channel.ts';
import { loadExposureDefinition, loadIdentityDefinition } from '../../src/control/definition.ts';
import type { CertifyResponse, GetBundleResponse } from '../../src/control/messages.ts';
import { TrustBundle } from '../../src/identity/trustbundle.ts';
import { collectionPath, SECRETS } from '../../src/kube/client/resource.ts';
import type { KubeEvent, KubeSecret } from '../../src/kube/objects.ts';
import { endOf, hauberk, spawnHauberk } from '../harness/cli.ts';
import { KubeApi } from '../harness/kubeapi.ts';
import { CA_PATH, CONTROLLER, NAMESPACE, POD, requestWith } from '../kube/issuancerig.ts';

let api: KubeApi;
const dir = mkdtempSync(join(tmpdir(), 'hauberk-controllers-'));
const children: Array<ReturnType<typeof spawnHauberk>> = [];

beforeAll(async () => {
  api = await KubeApi.start();
});

afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await api.end();
  rmSync(dir, { recursive: true });
});

let files = 0;
function config(over: Readonly<Record<string, unknown>> = {}): string {
  const file = join(dir, `c${++files}.yaml`);
  const loopback = { listen: '127.0.0.1:0' };
  const base = {
    namespace: NAMESPACE,
    control: loopback,
    webhook: loopback,
    probes: { http: '127.0.0.1:0' },
    monitoring: { adapters: ['stdout'] },
    log: { level: 'warn' },
    drain: { deadline: '1s' }, // the webhook lingers for a part of it
    kubernetes: { server: api.access.server, ca: api.access.ca, token: api.access.token },
  };
  writeFileSync(file, JSON.stringify({ ...base, ...over }));
  return file;
}

interface Ready {
  readonly spiffeId: string;
  readonly control: readonly string[];
  readonly webhook: readonly string[];
  readonly probes: { readonly http: readonly string[] };
}

interface Running {
  readonly ready: Ready;
  readonly end: ReturnType<typeof endOf>;
  stop(signal: NodeJS.Signals): void;
}

async function start(): Promise<Running> {
  const child = spawnHauberk(['controller', '-c', config()]);
  children.push(child);
  const end = endOf(child);
  const lines = createInterface({ input: child.stdout });
  for await (const line of lines) {
    const value = JSON.parse(line) as Ready | { type: string };
    if ('control' in value) return { ready: value, end, stop: (signal) => void child.kill(signal) };
  }
  throw new Error((await end).stderr);
}

async function channelTo({ ready }: Running, said: string): Promise<ControlChannel> {
  const token = join(dir, 'token');
  writeFileSync(token, said);
  const port = Number(ready.control[0]?.split(':').pop());
  const pem = Buffer.from(api.at<KubeSecret>(CA_PATH)?.data?.['ca.crt'] as string, 'base64');
  const trust = TrustBundle.fromPem(pem, 'cluster.local');
  return new ControlChannel({
    address: { host: '127.0.0.1', port },
    peer: CONTROLLER,
    token,
    bundle: () => trust,
    clock: systemClock,
  });
}

async function metricsOf({ ready }: Running): Promise<string> {
  return (await fetch(`http://${ready.probes.http[0]}/metrics`)).text();
}

const leads = async (replica: Running): Promise<boolean> =>
  (await metricsOf(replica)).includes('hauberk_controller_leader 1');

it('two replicas that start together issue by one CA, and end in good order', async () => {
  const replicas = await Promise.all([start(), start()]);
  const { Certify, GetBundle } = await loadIdentityDefinition();
  const { Report } = await loadExposureDefinition();
  const token = api.tokens.issue({ namespace: 'shop', serviceAccount: 'web', pod: POD });
  for (const replica of replicas) {
    const { ready } = replica;
    expect(ready.spiffeId).toBe(CONTROLLER);
    expect(ready.webhook).toEqual([expect.stringMatching(/^127\.0\.0\.1:\d+$/)]);
    const channel = await channelTo(replica, token);
    const issued = await channel.call<CertifyResponse>(Certify as never, requestWith(token), 5_000);
    expect(issued.spiffeId).toBe('spiffe://cluster.local/ns/shop/sa/web');
    const { bundle } = await channel.call<GetBundleResponse>(GetBundle as never, {}, 5_000);
    expect(bundle).toEqual(issued.bundle);
    const exposed = { exposed: [50_051], closed: [] };
    await channel.call(Report as never, exposed, 5_000, { authorize: true });
    channel.close();
    expect(await metricsOf(replica)).toContain('hauberk_svids_issued_total{key_type="p256"} 2');
  }
  await expect
    .poll(async () => (await Promise.all(replicas.map(leads))).includes(true), { timeout: 20_000 })
    .toBe(true);
  const pod = (): KubeEvent[] =>
    (api.store.all('/apis/events.k8s.io/v1/events') as KubeEvent[]).filter(
      ({ regarding }) => regarding?.uid === POD.uid,
    );
  const warning = { type: 'Warning', reason: 'PlaintextExposed', metadata: { namespace: 'shop' } };
  await expect.poll(pod).toMatchObject([warning, warning]);
  for (const replica of replicas) replica.stop('SIGTERM');
  const ended = await Promise.all(replicas.map(({ end }) => end));
  const [first, second] = ended.map(({ code, stdout, stderr }) => {
    expect(code, stderr).toBe(0);
    expect(stderr).not.toContain(token);
    const events = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { type?: string; cause?: string });
    const types = events.map(({ type }) => type);
    expect(types).toEqual(
      expect.arrayContaining([
        'controller.started',
        'ca.taken',
        'controller.ready',
        'svid.issued',
        'controller.draining',
      ]),
    );
    expect(types.at(-1)).toBe('controller.stopped');
    return events;
  });
  const causes = [first, second].map((events) => events?.find(({ type }) => type === 'ca.taken')?.cause);
  expect(causes.sort()).toEqual(['found', 'made']);
  const leading = [first, second].filter((events) =>
    events?.some(({ type }) => type === 'controller.leading'),
  );
  expect(leading.length).toBeGreaterThanOrEqual(1);
});

describe('a controller that cannot start says why', () => {
  const complaint = async (over: Readonly<Record<string, unknown>>, code: number): Promise<string> => {
    const outcome = await hauberk(['controller', '-c', config(over)]);
    expect({ code: outcome.code, ready: outcome.stdout.includes('"ready"') }, outcome.stderr).toEqual({
      code,
      ready: false,
    });
    expect(outcome.stderr).not.toMatch(/^ +at /m);
    return outcome.stderr
      .split('\n')
      .filter((line) => line.startsWith('hauberk: '))
      .join('\n');
  };

  it('3: outside of a cluster without an API server, or with a mistake in its file', async () => {
    const [outside, mistake] = await Promise.all([
      complaint({ kubernetes: {} }, 3),
      complaint({ issuer: { svidTTL: '1h' } }, 3),
    ]);
    expect(outside).toMatch(/c\d+\.yaml: kubernetes\.server is missing, and this is no pod of a cluster/);
    expect(mistake).toMatch(/c\d+\.yaml:1:\d+: issuer\.svidTTL: unknown key: did you mean svidTtl\?/);
  });

  it('4: with a Secret that is no CA; 11: without a token', async () => {
    const path = collectionPath(SECRETS, NAMESPACE);
    api.put(path, { metadata: { name: 'broken' }, data: { 'ca.crt': 'AAAA', 'ca.key': 'AAAA' } });
    const [broken, none] = await Promise.all([
      complaint({ issuer: { caSecret: 'broken' } }, 4),
      complaint(
        { kubernetes: { server: api.access.server, ca: api.access.ca, token: join(dir, 'none') } },
        11,
      ),
    ]);
    expect(broken).toMatch(
      /^hauberk: Secret hauberk-system\/broken, ca\.crt: the file is empty; correct the Secret/,
    );
    expect(none).toMatch(/^hauberk: .*\/none, the service account token, cannot be read/);
  });
});

it('one that waits for its API server ends at a signal', async () => {
  const child = spawnHauberk([
    'controller',
    '-c',
    config({ kubernetes: { server: 'https://127.0.0.1:1', ca: api.access.ca, token: api.access.token } }),
  ]);
  children.push(child);
  const end = endOf(child);
  await once(child.stdout, 'data'); // controller.started
  child.kill('SIGTERM');
  const { code, stdout } = await end;
  expect(code).toBe(0);
  expect(stdout).not.toContain('"ready"');
  expect(stdout).toContain('controller.stopped');
});
