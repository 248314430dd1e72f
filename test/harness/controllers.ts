/**
 * `hauberk controller` as a process in the cluster's network, installed as the chart would have it: with the chart's
 * configuration, at a pod's address, and with a token of the chart's service account, no more.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readFileSync } from 'node:fs';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parse, stringify } from 'yaml';
import { CONTROLLER_FORM } from '../../src/config/controllerform.ts';
import { parseForm } from '../../src/config/parse.ts';
import type { InjectorSettings } from '../../src/kube/injector/settings.ts';
import { injectorSettings } from '../../src/kube/webhook/webhooksettings.ts';
import { version } from '../../src/telemetry/version.ts';
import { AuditFile } from './auditfile.ts';
import type { Kubernetes } from './kubernetes.ts';
import { atEnd, type ConfigFile, merge } from './sidecars.ts';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const NAME = 'hauberk-controller';
const READY_MS = 60_000;

export interface ControllerOptions {
  readonly namespace?: string;
  /** Merged into the chart's configuration. */
  readonly config?: ConfigFile;
}

export class Controller {
  readonly namespace: string;
  /** Its pod's address. */
  readonly address: string;
  readonly audit: AuditFile;
  readonly #folder: string;
  readonly #cluster: Kubernetes;
  #child: ChildProcess | undefined;

  private constructor(cluster: Kubernetes, namespace: string, address: string, folder: string) {
    this.#cluster = cluster;
    this.namespace = namespace;
    this.address = address;
    this.#folder = folder;
    this.audit = new AuditFile(join(folder, 'audit.jsonl'), `the audit of the controller at ${address}`);
  }

  /** Starts one more replica; resolves when it is ready. It ends with the test file. */
  static async start(cluster: Kubernetes, options: ControllerOptions = {}): Promise<Controller> {
    const { namespace = 'hauberk-system', config = {} } = options;
    const address = await cluster.network.addAddress();
    const folder = await mkdtemp(join(cluster.dir, 'controller-'));
    const controller = new Controller(cluster, namespace, address, folder);
    await controller.#configure(config);
    await controller.run();
    return controller;
  }

  async #configure(over: ConfigFile): Promise<void> {
    const { body } = await this.#cluster.request(
      'GET',
      `/api/v1/namespaces/${this.namespace}/configmaps/${NAME}`,
    );
    const access = await this.#cluster.accessOf(await this.#cluster.token(this.namespace, NAME));
    const chart = parse(body.data['controller.yaml']) as Record<string, ConfigFile>;
    const here = (section: string, key = 'listen'): ConfigFile => ({
      [section]: { [key]: `${this.address}${/:\d+$/.exec(`${chart[section]?.[key]}`)?.[0]}` },
    });
    const local: ConfigFile = {
      ...here('control'),
      ...here('webhook'),
      ...here('probes', 'http'),
      namespace: this.namespace,
      kubernetes: access,
      monitoring: { adapters: [{ file: { path: join(this.#folder, 'audit.jsonl') } }] },
    };
    await writeFile(join(this.#folder, 'controller.yaml'), stringify(merge(merge(chart, local), over)));
  }

  /** What it injects by. */
  async injectorSettings(): Promise<InjectorSettings> {
    const file = join(this.#folder, 'controller.yaml');
    const config = parseForm(CONTROLLER_FORM, readFileSync(file, 'utf8'), { file });
    const bundlePem = await caPem(this.#cluster, this.namespace);
    return injectorSettings(config, {
      namespace: this.namespace,
      version: version(),
      bundlePem,
      serverKnowsNative: true,
    });
  }

  /** Starts it, for the first time or once more, with the configuration that it had. */
  async run(): Promise<void> {
    const log = openSync(join(this.#folder, 'log'), 'a', 0o600);
    const child = this.#cluster.network.spawn(
      process.execPath,
      [MAIN, 'controller', '-c', join(this.#folder, 'controller.yaml')],
      { stdio: ['ignore', log, log], env: { PATH: process.env.PATH } },
    );
    this.#child = child;
    atEnd(() => this.kill());
    const until = Date.now() + READY_MS;
    while ((await this.probe('/readyz').catch(() => undefined))?.status !== 200) {
      if (child.exitCode !== null || Date.now() > until)
        throw new Error(`the controller was not ready:\n${this.log.slice(-4000)}`);
      await pause(50);
    }
  }

  /** All that it has written to stdout and stderr. */
  get log(): string {
    return readFileSync(join(this.#folder, 'log'), 'utf8');
  }

  get pid(): number {
    return this.#child?.pid as number;
  }

  /** GET of its probe listener. */
  async probe(path: string): Promise<{ status: number; body: string }> {
    const response = await fetch(`http://${this.address}:15020${path}`);
    return { status: response.status, body: await response.text() };
  }

  /** Ends it gracefully; resolves with its exit code. */
  async stop(): Promise<number | null> {
    return this.#end('SIGTERM');
  }

  /** Ends it as a crash would. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child as ChildProcess;
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, 'exit');
      child.kill(signal);
      await exited;
    }
    return child.exitCode;
  }
}

/** What sidecars trust, PEM. */
export async function caPem(cluster: Kubernetes, namespace = 'hauberk-system'): Promise<string> {
  const { body } = await cluster.request('GET', `/api/v1/namespaces/${namespace}/secrets/hauberk-ca`);
  return Buffer.from(body.data['ca.crt'], 'base64').toString();
}

/**
 * Has the Service of the controllers lead to these, as the EndpointSlice controller does with ready pods. Resolves once API
 * servers know the webhook.
 */
export async function serve(
  cluster: Kubernetes,
  controllers: readonly Controller[],
  namespace = 'hauberk-system',
): Promise<void> {
  const addresses = controllers.map(({ address }) => address);
  await cluster.apply(cluster.endpointSlice(namespace, NAME, addresses, { control: 15010, webhook: 15017 }));
  await cluster.webhooksKnown('hauberk-injector');
}
