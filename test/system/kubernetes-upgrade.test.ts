/**
 * Releases with live controllers on the real API server: what becomes of pods that are created before, during and after
 * upgrades, changes of the webhook's certificate, a rollback, an uninstall and a new install.
 */
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { askForSvid } from '../harness/askforsvid.ts';
import { Controller, caPem, serve } from '../harness/controllers.ts';
import { CHART, HELMS } from '../harness/helm.ts';
import { configTextOf, greeterPod, type TestPod } from '../harness/injection.ts';
import { Kubernetes } from '../harness/kubernetes.ts';
import type { ConfigFile } from '../harness/sidecars.ts';

const NAMESPACE = 'hauberk-system';
const HOOKS = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations';
const BRIEF: ConfigFile = { drain: { deadline: '2s' } };

let cluster: Kubernetes;
/** Certificates of the user's, each its own CA; paths. */
let own: { cert: string; key: string };
let other: { cert: string; key: string };

beforeAll(async () => {
  cluster = await Kubernetes.make();
  await cluster.namespace(NAMESPACE);
  await cluster.namespace('shop', { 'hauberk.mesh/inject': 'enabled' }, 'greeter');
  const names = [`DNS:hauberk-controller.${NAMESPACE}.svc`];
  own = await cluster.certificate('own', names);
  other = await cluster.certificate('other', names);
});

async function create(): Promise<{ pod: TestPod | undefined; outcome: string }> {
  const path = '/api/v1/namespaces/shop/pods';
  const { status, body } = await cluster.request('POST', path, { body: greeterPod() });
  if (status !== 201) return { pod: undefined, outcome: `${status} ${body.message}` };
  const isInjected = body.metadata.labels['hauberk.mesh/injected'] === 'true';
  return { pod: body, outcome: isInjected ? 'injected' : 'without a sidecar' };
}

/** What a new pod has of the release. */
async function injected(): Promise<{ level: unknown; memory: unknown; bundle: string }> {
  const { pod, outcome } = await create();
  expect(outcome).toBe('injected');
  const proxy = pod?.spec.initContainers?.find(({ name }) => name === 'hauberk-proxy');
  const config = parse(configTextOf(pod as TestPod));
  const resources = proxy?.resources as { limits: { memory: string } } | undefined;
  return { level: config.log.level, memory: resources?.limits.memory, bundle: config.controller.bundlePem };
}

/** The certificate that a webhook shows, PEM as openssl writes it. */
async function shownBy({ address }: Controller): Promise<string> {
  const socket = connect({ host: address, port: 15017, rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  const { raw } = socket.getPeerCertificate();
  socket.destroy();
  return new X509Certificate(raw).toString();
}

/** Of each webhook the CAs that API servers know it by, PEM. */
async function published(): Promise<string[][]> {
  const { body } = await cluster.request('GET', `${HOOKS}/hauberk-injector`);
  return body.webhooks.map(({ clientConfig }: { clientConfig: { caBundle: string } }) =>
    Buffer.from(clientConfig.caBundle, 'base64')
      .toString()
      .split(/(?<=-----END CERTIFICATE-----\n)/)
      .sort(),
  );
}

const allInjected = new Map([['injected', expect.any(Number)]]);

// The second finds the CA of the first.
describe.each(HELMS)('%s', (helm) => {
  let running: Controller;
  /** What became of the pods that were created all the while, by what was done meanwhile. */
  const outcomes = new Map<string, Map<string, number>>();
  let doing = 'nothing';
  let over = false;
  let creating: Promise<void>;

  async function helmRun(...args: string[]): Promise<void> {
    const { code, stderr } = await cluster.tool(helm, [...args, '-n', NAMESPACE]);
    if (code !== 0) throw new Error(`${helm} ${args.join(' ')}: ${stderr}`);
  }
  const upgrade = (...args: string[]): Promise<void> =>
    helmRun('upgrade', 'hauberk', CHART, '--reset-values', ...args);

  async function start(config: ConfigFile = {}): Promise<void> {
    running = await Controller.start(cluster, { config: { ...BRIEF, ...config } });
  }

  /** New replicas by the new configuration, then the old ones end: what the Deployment does. */
  async function roll(config: ConfigFile = {}): Promise<void> {
    const before = running;
    await start(config);
    await serve(cluster, [before, running]);
    await pause(1000);
    await serve(cluster, [running]);
    await before.stop();
  }

  async function createUntilOver(): Promise<void> {
    while (!over) {
      const during = doing;
      const { outcome } = await create();
      const counts = outcomes.get(during) ?? new Map<string, number>();
      counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
      outcomes.set(during, counts);
      await pause(50);
    }
  }

  /** Does it while pods are created, and says what became of them. */
  async function meanwhile(what: string, work: () => Promise<void>): Promise<ReadonlyMap<string, number>> {
    doing = what;
    await work();
    doing = 'nothing';
    return outcomes.get(what) ?? new Map();
  }

  beforeAll(async () => {
    await cluster.install(helm);
    await start();
    await serve(cluster, [running]);
    // The API server hears of the webhook a moment later.
    while ((await create()).outcome !== 'injected') await pause(50);
    creating = createUntilOver();
  });

  afterAll(async () => {
    over = true;
    await creating;
    await helmRun('uninstall', 'hauberk');
    await running.stop();
  });

  test('an upgrade of the values is in the pods of its controllers, and no pod is refused or left alone meanwhile', async () => {
    expect(await injected()).toMatchObject({ level: 'info', memory: '256Mi' });
    const during = await meanwhile('values', async () => {
      await upgrade(
        ...['--set', 'config.injector.logLevel=debug'],
        ...['--set', 'config.injector.resources.limits.memory=300Mi'],
      );
      await roll();
    });
    expect(during).toEqual(allInjected);
    expect(await injected()).toMatchObject({ level: 'debug', memory: '300Mi' });
  });

  test("a certificate of the user's is taken up, changed, and given up by a rollback, and API servers know what they meet all the while", async () => {
    const [self] = (await published())[0] as [string];
    for (const [what, { cert, key }, known] of [
      ['taken up', own, [own.cert]],
      ['changed', other, [own.cert, other.cert]],
    ] as const) {
      const during = await meanwhile(what, async () => {
        await upgrade(
          ...['--set', 'webhook.tls=files', '--set', 'webhook.tlsSecret=hook'],
          ...['--set-file', `webhook.caBundle=${cert}`],
        );
        await roll({ webhook: { cert, key } });
      });
      expect([what, during]).toEqual([what, allInjected]);
      const wanted = [self, ...known.map((path) => readFileSync(path, 'utf8'))].sort();
      expect(await published()).toEqual([wanted, wanted, wanted]);
      expect(await shownBy(running)).toBe(readFileSync(cert, 'utf8'));
    }
    const during = await meanwhile('given up', async () => {
      await helmRun('rollback', 'hauberk', '2');
      await roll();
    });
    expect(during).toEqual(allInjected);
    expect(new X509Certificate(await shownBy(running)).verify(new X509Certificate(self).publicKey)).toBe(
      true,
    );
    // What that release gave them.
    expect(await injected()).toMatchObject({ level: 'debug', memory: '300Mi' });
  });

  test('uninstalled, no webhook is left and pods start as before; installed again, the CA is the one that pods trust', async () => {
    const before = await injected();
    const { token } = await cluster.podWithToken('shop', 'greeter', { audience: 'hauberk' });
    const request = { token, bundlePem: before.bundle };
    const issued = await askForSvid(cluster, running, request);
    const during = await meanwhile('uninstall', async () => {
      await helmRun('uninstall', 'hauberk');
      // Its Deployment goes at once, its pods when they have drained.
      await running.stop();
    });
    expect([...during.keys()].sort()).toEqual(['injected', 'without a sidecar']);
    expect((await create()).outcome).toBe('without a sidecar');
    expect((await cluster.request('GET', HOOKS)).body.items).toEqual([]);
    await cluster.install(helm);
    await start();
    await serve(cluster, [running]);
    await expect.poll(async () => (await create()).outcome, { timeout: 10_000 }).toBe('injected');
    expect(await injected()).toEqual({ level: 'info', memory: '256Mi', bundle: before.bundle });
    // Who has only what was issued before knows the new controller, and is known by what it issues now.
    const renewed = await askForSvid(cluster, running, request);
    for (const { identity } of [issued, renewed]) {
      const leaf = new X509Certificate(identity.chain[0] as Buffer);
      expect(leaf.verify(new X509Certificate(await caPem(cluster)).publicKey)).toBe(true);
    }
  });
});
