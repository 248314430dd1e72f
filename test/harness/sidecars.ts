/**
 * Real sidecar processes for the tests: `hauberk run` of the built program, with a trust domain and a
 * configuration made at run time, in folders of their own. Everything started here ends with the test file.
 *
 *   const pair = await startPair();                    // app <- greeter's sidecar <= web's sidecar <- client
 *   const answer = await pair.client.unary(SayHello, { name: 'Ada' });
 *   const event = await pair.web.audit.event('call.completed');
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll } from 'vitest';
import { stringify } from 'yaml';
import type { SvidFiles } from '../../src/identity/authority.ts';
import { AuditFile } from './auditfile.ts';
import { Greeter, type GreeterOptions } from './greeter.ts';
import { type ClientOptions, TestClient } from './greeter-client.ts';
import { makeTrustFolder, type TrustFolder } from './trust.ts';

const PATIENCE_MS = 20_000;
const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** A configuration file's content, in the file's own names. */
export type ConfigFile = { readonly [key: string]: unknown };

/** What the ready line says. */
export interface Ready {
  readonly ready: true;
  readonly version: string;
  readonly pid: number;
  readonly spiffeId: string;
  readonly egress: readonly string[];
  readonly routes: Readonly<Record<string, string>>;
  readonly redirects: Readonly<Record<string, readonly string[]>>;
  readonly ingress: readonly string[];
  readonly probes: { readonly http: readonly string[]; readonly grpc: readonly string[] };
  readonly admin: readonly string[];
}

export interface StartOptions {
  /** Name of its identity, as `hauberk issue` takes it; the sidecar's name by default. */
  identity?: string;
  /** Issues the identity in another trust domain than the world's. */
  trust?: TrustFolder;
  env?: Readonly<Record<string, string>>;
  /** Arguments for node itself. */
  nodeArgs?: readonly string[];
  /** The program to run, such as an older version's; the one that was built by default. */
  main?: string;
}

/** Paths of a sidecar's configuration and audit. */
export interface SidecarFiles {
  readonly config: string;
  readonly audit: string;
}

const cleanups: Array<() => Promise<void> | void> = [];
afterAll(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean();
});

/** Runs when the test file ends, before what was started earlier goes. */
export function atEnd(clean: () => Promise<void> | void): void {
  cleanups.push(clean);
}

/** One `hauberk run`. */
export class SidecarProcess {
  readonly name: string;
  readonly ready: Ready;
  readonly configFile: string;
  readonly audit: AuditFile;
  /** Resolves when the process has ended, and all that it wrote has been read. */
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  readonly #stderr: string[];
  readonly #stdout: string[];

  constructor(
    name: string,
    ready: Ready,
    files: { config: string; audit: string },
    process: { child: ChildProcessByStdio<null, Readable, Readable>; stdout: string[]; stderr: string[] },
  ) {
    this.name = name;
    this.ready = ready;
    this.configFile = files.config;
    this.#child = process.child;
    this.#stdout = process.stdout;
    this.#stderr = process.stderr;
    this.exited = exitOf(process.child);
    this.audit = new AuditFile(files.audit, `${name}'s audit`);
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** The first listener for apps, `host:port`. */
  get egress(): string {
    return this.ready.egress[0] as string;
  }

  /** The first listener for peers, `host:port`. */
  get ingress(): string {
    return this.ready.ingress[0] as string;
  }

  /** Everything written to stderr until now. */
  get log(): string {
    return this.#stderr.join('');
  }

  /** Lines written to stdout until now, the ready line among them. */
  get stdout(): readonly string[] {
    return this.#stdout;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends it as a crash would. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.exited;
  }

  /** Ends it gracefully (SIGTERM); resolves with its exit code. */
  async stop(): Promise<number | null> {
    this.#child.kill('SIGTERM');
    return (await this.exited).code;
  }

  /** GET of a probe listener's path. */
  async probe(path: string): Promise<{ status: number; body: string }> {
    const response = await fetch(`http://${this.ready.probes.http[0]}${path}`);
    return { status: response.status, body: await response.text() };
  }

  /** The sum over all series of a metric whose labels include `labels`; 0 without any. */
  async metric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    const { body } = await this.probe('/metrics');
    let sum = 0;
    for (const line of body.split('\n')) {
      const [, series, text, value] = /^([a-zA-Z_:0-9]+)(?:\{(.*)\})? (\S+)/.exec(line) ?? [];
      if (series !== name) continue;
      const given = new Map(
        [...(text ?? '').matchAll(/([a-zA-Z_]+)="([^"]*)"/g)].map(([, k, v]) => [k, v] as const),
      );
      if (Object.entries(labels).every(([key, wanted]) => given.get(key) === wanted)) sum += Number(value);
    }
    return sum;
  }

  /** Resolves once all that has happened here until now is in the audit's file. */
  async audited(): Promise<void> {
    const recorded = await this.metric('hauberk_audit_recorded_total');
    const taken = async (): Promise<number> =>
      (await this.metric('hauberk_audit_delivered_total')) +
      (await this.metric('hauberk_audit_dropped_total'));
    const deadline = performance.now() + PATIENCE_MS;
    while ((await taken()) < recorded) {
      if (performance.now() > deadline) throw new Error(`${this.name} has not written its audit`);
      await pause(10);
    }
  }

  /** Resident memory, octets. */
  rss(): Promise<number> {
    return this.metric('process_resident_memory_bytes');
  }
}

/** A trust domain and the processes in it. */
export class World {
  readonly dir: string;
  readonly trust: TrustFolder;
  /** Issued once a name: sidecars that start at the same time would find the key of one and the SVID of another. */
  readonly #issued = new Map<TrustFolder, Map<string, Promise<SvidFiles>>>();

  private constructor(dir: string, trust: TrustFolder) {
    this.dir = dir;
    this.trust = trust;
  }

  static async make(trustDomain = 'shop.example'): Promise<World> {
    const dir = await mkdtemp(join(tmpdir(), 'hauberk-world-'));
    atEnd(() => rm(dir, { recursive: true, force: true }));
    return new World(dir, await makeTrustFolder({ dir: join(dir, 'keys'), trustDomain }));
  }

  /** The SPIFFE ID of an identity NAME. */
  spiffeId(name: string): string {
    return `spiffe://${this.trust.trustDomain}/ns/default/sa/${name}`;
  }

  /**
   * Starts a sidecar; resolves at its ready line. The configuration is merged into one that binds free ports
   * of 127.0.0.1 and audits into a file: mappings key by key, anything else replaces what was there.
   */
  async sidecar(name: string, config: ConfigFile = {}, options: StartOptions = {}): Promise<SidecarProcess> {
    return this.run(name, await this.configure(name, config, options), options);
  }

  /** Writes what a sidecar is started with: its identity and its configuration. */
  async configure(name: string, config: ConfigFile = {}, options: StartOptions = {}): Promise<SidecarFiles> {
    const { identity = name, trust = this.trust } = options;
    const folder = await mkdtemp(join(this.dir, `${name}-`));
    const { svid, key, bundle } = await this.identityFiles(identity, trust);
    const files = { config: join(folder, 'sidecar.yaml'), audit: join(folder, 'audit.jsonl') };
    const base: ConfigFile = {
      trustDomain: trust.trustDomain,
      identity: { svid, key, bundle },
      egress: { listen: '127.0.0.1:0' },
      ingress: { listen: '127.0.0.1:0' },
      probes: { http: '127.0.0.1:0', grpc: '127.0.0.1:0' },
      monitoring: { adapters: [{ file: { path: files.audit } }] },
      // A machine that is busy with other tests must not make a sidecar refuse its peers.
      handshake: { maxEventLoopLag: '10s' },
    };
    await writeFile(files.config, stringify(merge(base, config), { aliasDuplicateObjects: false }));
    return files;
  }

  /** The files of an identity. Issuing them anew, as `trust.issue` does, has the sidecars that run with them rotate. */
  identityFiles(identity: string, trust: TrustFolder = this.trust): Promise<SvidFiles> {
    const issued = this.#issued.get(trust) ?? new Map<string, Promise<SvidFiles>>();
    this.#issued.set(trust, issued);
    const files = issued.get(identity) ?? trust.issue(identity);
    issued.set(identity, files);
    return files;
  }

  /** Starts a sidecar that is configured, for the first time or once more. */
  async run(name: string, files: SidecarFiles, options: StartOptions = {}): Promise<SidecarProcess> {
    const { env = {}, nodeArgs = [], main = MAIN } = options;
    const child = spawn(process.execPath, [...nodeArgs, main, 'run', '-c', files.config], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env.PATH, ...env },
    });
    atEnd(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    });
    const stderr: string[] = [];
    child.stderr.setEncoding('utf8').on('data', (text: string) => stderr.push(text));
    const stdout: string[] = [];
    const ready = await new Promise<Ready>((resolve, reject) => {
      createInterface(child.stdout).on('line', (line) => {
        stdout.push(line);
        if (line.startsWith('{"ready":true')) resolve(JSON.parse(line) as Ready);
      });
      child.once('error', reject);
      child.once('close', (code, signal) =>
        reject(new Error(`${name} ended before it was ready (${code ?? signal}):\n${stderr.join('')}`)),
      );
    });
    return new SidecarProcess(name, ready, files, { child, stdout, stderr });
  }

  /** Starts an app to be called. */
  async app(options: GreeterOptions = {}): Promise<Greeter> {
    const app = await Greeter.start(options);
    atEnd(() => app.kill());
    return app;
  }

  /** A client of an egress listener, or of an app itself. */
  client(address: string, options: ClientOptions = {}): TestClient {
    const client = new TestClient(address, options);
    atEnd(() => client.close());
    return client;
  }
}

export interface PairOptions {
  /** Merged into the configuration of the calling sidecar, `web`. */
  web?: ConfigFile;
  /** Merged into the configuration of the called sidecar, `greeter`. */
  greeter?: ConfigFile;
  /** Merged into the route from web to greeter. */
  route?: ConfigFile;
  app?: GreeterOptions;
  client?: ClientOptions;
  /** How both sidecars are started. */
  start?: StartOptions;
  /** The program that each of them runs. */
  mains?: { readonly web?: string | undefined; readonly greeter?: string | undefined };
  world?: World;
}

/** Two sidecars and a route between them: service `greeter.shop`, everything allowed within the trust domain. */
export interface Pair {
  readonly world: World;
  /** The called app. */
  readonly app: Greeter;
  /** The calling side. */
  readonly web: SidecarProcess;
  /** The called side. */
  readonly greeter: SidecarProcess;
  /** Calls through web's egress listener, as `greeter.shop`. */
  readonly client: TestClient;
  /** Another such client, with a connection of its own. */
  newClient(options?: ClientOptions): TestClient;
}

export const SERVICE = 'greeter.shop';

export async function startPair(options: PairOptions = {}): Promise<Pair> {
  const world = options.world ?? (await World.make());
  const app = await world.app(options.app);
  const greeter = await world.sidecar(
    'greeter',
    merge(ingressTo(world, app.address), options.greeter ?? {}),
    started(options, 'greeter'),
  );
  const web = await world.sidecar(
    'web',
    merge(
      {
        egress: {
          routes: [
            merge(
              { service: SERVICE, endpoints: [greeter.ingress], peer: world.spiffeId('greeter') },
              options.route ?? {},
            ),
          ],
        },
      },
      options.web ?? {},
    ),
    started(options, 'web'),
  );
  const newClient = (more: ClientOptions = {}): TestClient =>
    world.client(web.egress, { authority: SERVICE, ...options.client, ...more });
  return { world, app, web, greeter, client: newClient(), newClient };
}

function started({ start = {}, mains = {} }: PairOptions, name: 'web' | 'greeter'): StartOptions {
  const main = mains[name];
  return main === undefined ? start : { ...start, main };
}

/** Configuration of a sidecar in front of an app, which everybody of the trust domain may call. */
export function ingressTo(world: World, address: string, service = SERVICE): ConfigFile {
  return {
    ingress: {
      apps: [{ service, address }],
      allow: [{ peer: world.spiffeId('*'), methods: ['/*', '/*/*'] }],
    },
  };
}

function isMapping(value: unknown): value is ConfigFile {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** `over` merged into `base`, mappings key by key; undefined takes a key away. */
export function merge(base: ConfigFile, over: ConfigFile): ConfigFile {
  const merged: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const was = merged[key];
    if (value === undefined) delete merged[key];
    else merged[key] = isMapping(was) && isMapping(value) ? merge(was, value) : value;
  }
  return merged;
}

async function exitOf(
  child: ChildProcessByStdio<null, Readable, Readable>,
): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  await once(child, 'close'); // 'exit' may come before the last of its output
  return { code: child.exitCode, signal: child.signalCode };
}
