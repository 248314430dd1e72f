/** Pods on hosts of a test network: containers of our images, and of plain apps, in the host's network namespace. */
import { chmod, chown, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { stringify } from 'yaml';
import type { Outcome } from './cli.ts';
import type { Container, ContainerOptions, Image } from './container.ts';
import type { KubeApi } from './kubeapi.ts';
import type { Host } from './netns.ts';
import { atEnd, type ConfigFile, type Ready, type World } from './sidecars.ts';

const APP = fileURLToPath(new URL('pod-app.mjs', import.meta.url));

/** Users of the containers. */
const SIDECAR = 15008;
const PLAIN = 1000;

/** What the pods of a test have in common. */
export class Cluster {
  readonly world: World;
  readonly image: Image;
  readonly capture: Image;
  /** Seen by every container: the program of the plain apps, and what DNS knows. */
  readonly #shared: string;
  #nameserver: string | undefined;

  private constructor(world: World, image: Image, capture: Image, shared: string) {
    this.world = world;
    this.image = image;
    this.capture = capture;
    this.#shared = shared;
  }

  static async make(world: World, image: Image, capture: Image): Promise<Cluster> {
    const shared = await folder();
    await build({
      entryPoints: [APP],
      outfile: join(shared, 'app.mjs'),
      bundle: true,
      format: 'esm',
      platform: 'node',
      logLevel: 'error',
      banner: {
        js: "import { createRequire } from 'node:module';\nconst require = createRequire(import.meta.url);",
      },
    });
    const cluster = new Cluster(world, image, capture, shared);
    await cluster.names({});
    return cluster;
  }

  /** Address of the DNS server, once there is one. */
  get nameserver(): string | undefined {
    return this.#nameserver;
  }

  /** What DNS knows from now on. */
  async names(records: Readonly<Record<string, readonly string[]>>): Promise<void> {
    const file = join(this.#shared, 'names.json');
    // At once: a query may come at any moment.
    await writeFile(`${file}.new`, JSON.stringify(records));
    await rename(`${file}.new`, file);
  }

  /** Starts DNS on a host; pods that start later ask there. */
  async dns(host: Host): Promise<void> {
    const capabilities = ['net_bind_service'];
    const server = this.#app(host, 0, ['dns', host.v4, '/run/names.json'], { capabilities });
    await server.line((line) => line.ready === true);
    this.#nameserver = host.v4;
  }

  /** Starts a sidecar on a host as `identity`; resolves when it is ready. */
  async sidecar(
    host: Host,
    identity: string,
    config: ConfigFile,
  ): Promise<{ container: Container; ready: Ready }> {
    const volume = await folder();
    const { svid, key, bundle } = await this.world.identityFiles(identity);
    for (const [name, path] of Object.entries({ svid, key, bundle })) {
      await writeFile(join(volume, name), await readFile(path), { mode: 0o400 });
      await chown(join(volume, name), SIDECAR, SIDECAR);
    }
    const container = this.image.start({
      args: ['run'],
      user: `${SIDECAR}:${SIDECAR}`,
      volume,
      network: host.namespace,
      nameserver: this.#nameserver,
      env: {
        HAUBERK_CONFIG: stringify({
          trustDomain: this.world.trust.trustDomain,
          identity: { svid: '/run/svid', key: '/run/key', bundle: '/run/bundle' },
          handshake: { maxEventLoopLag: '10s', connectTimeout: '1s' },
          records: { heartbeat: '500ms', heartbeatTimeout: '3s' },
          log: { level: 'debug' },
          ...config,
        }),
      },
    });
    return { container, ready: await container.ready() };
  }

  /** Has an API server that listens on loopback of the machine be there on loopback of a host, too. */
  async apiServer(host: Host, api: KubeApi): Promise<void> {
    const { hostname, port } = new URL(api.access.server);
    const socket = createServer((near) => {
      const far = connect(Number(port), hostname);
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        from.pipe(to);
        from.on('error', () => to.destroy());
      }
    });
    await new Promise<void>((resolve) => socket.listen(join(this.#shared, 'api.sock'), resolve));
    atEnd(() => void socket.close());
    const relay = this.#app(host, 0, ['relay', port, '/run/api.sock']);
    await relay.line((line) => line.ready === true);
  }

  /** Starts `hauberk controller` on a host where the API server is; resolves when it is ready. */
  async controller(host: Host, api: KubeApi): Promise<Container> {
    const volume = await folder();
    const files = { 'ca.crt': await readFile(api.access.ca), token: await readFile(api.access.token) };
    for (const [name, content] of Object.entries(files)) await writeFile(join(volume, name), content);
    await writeFile(
      join(volume, 'controller.yaml'),
      stringify({
        trustDomain: this.world.trust.trustDomain,
        namespace: 'hauberk-system',
        kubernetes: { server: api.access.server, ca: '/run/ca.crt', token: '/run/token' },
        webhook: { listen: 'off' },
      }),
    );
    const container = this.image.start({
      args: ['controller', '-c', '/run/controller.yaml'],
      volume,
      network: host.namespace,
    });
    await container.ready();
    return container;
  }

  /** Starts a sidecar that the controller certifies, as a pod has it. */
  async certified(host: Host, token: string, bundle: string, config: ConfigFile): Promise<Container> {
    const volume = await folder();
    for (const [name, text] of Object.entries({ token, bundle })) await writeFile(join(volume, name), text);
    await chown(volume, SIDECAR, SIDECAR);
    const { trustDomain } = this.world.trust;
    return this.image.start({
      args: ['run'],
      user: `${SIDECAR}:${SIDECAR}`,
      volume,
      writable: true,
      network: host.namespace,
      nameserver: this.#nameserver,
      env: {
        HAUBERK_CONFIG: stringify({
          trustDomain,
          identity: {
            svid: '/run/svid.pem',
            key: '/run/svid.key',
            bundle: '/run/bundle.pem',
            issuer: 'controller',
          },
          controller: {
            address: 'hauberk-controller.hauberk-system.svc:15010',
            peer: `spiffe://${trustDomain}/ns/hauberk-system/sa/hauberk-controller`,
            token: '/run/token',
            bundle: '/run/bundle',
          },
          handshake: { maxEventLoopLag: '10s', connectTimeout: '1s' },
          records: { heartbeat: '500ms', heartbeatTimeout: '3s' },
          ...config,
        }),
      },
    });
  }

  /** Runs `hauberk capture ARGS` on a host, as the injector's container does. */
  captured(host: Host, ...args: string[]): Promise<Outcome> {
    return this.capture.run({
      args: ['capture', ...args],
      network: host.namespace,
      capabilities: ['net_admin', 'net_raw'],
    });
  }

  /** A plain app on a host, that answers. */
  async server(host: Host, name: string, ...addresses: string[]): Promise<PlainApp> {
    const app = this.#app(host, PLAIN, ['server', name, ...addresses]);
    await app.line((line) => line.ready === true);
    return app;
  }

  /**
   * A plain app on a host, that calls `target` every `ms`, with so many octets. `mark` is in each of its messages, and
   * begins each of its calls' names.
   */
  client(
    host: Host,
    target: string,
    mark: string,
    { ms = 20, octets = 100, user = PLAIN, env = {} as Readonly<Record<string, string>> } = {},
  ): PlainApp {
    return this.#app(host, user, ['client', target, `${ms}`, `${octets}`, mark], { env });
  }

  #app(
    host: Host,
    user: number,
    args: readonly string[],
    more: Pick<ContainerOptions, 'capabilities' | 'env'> = {},
  ): PlainApp {
    const container = this.image.start({
      entrypoint: ['/nodejs/bin/node', '/run/app.mjs'],
      args,
      user: `${user}:${user}`,
      volume: this.#shared,
      network: host.namespace,
      nameserver: this.#nameserver,
      ...more,
    });
    return new PlainApp(container, args[0] === 'client' ? args.at(-1) : '');
  }
}

/** What a plain app says. */
interface Line {
  readonly ready?: true;
  readonly served?: string;
  readonly called?: string;
  readonly ended?: string;
  readonly code?: number;
  readonly details?: string;
  /** Name of the server that answered. */
  readonly by?: string;
}

export class PlainApp {
  /** What a client's calls begin with. */
  readonly mark: string;
  readonly #container: Container;
  readonly #lines: Line[] = [];

  constructor(container: Container, mark = '') {
    this.#container = container;
    this.mark = mark;
  }

  get lines(): readonly Line[] {
    const { stdout } = this.#container;
    while (this.#lines.length < stdout.length)
      this.#lines.push(JSON.parse(stdout[this.#lines.length] as string));
    return this.#lines;
  }

  /** Waits for a line that is wanted, among those after the first `after`; rejects when the app ends without it. */
  async line(wanted: (line: Line) => boolean, after = 0): Promise<Line> {
    for (;;) {
      const found = this.lines.slice(after).find(wanted);
      if (found !== undefined) return found;
      await this.#container.more();
    }
  }

  /** The next call that begins after now, once it has ended. */
  async nextCall(wanted: (line: Line) => boolean = () => true): Promise<Line> {
    const after = this.lines.length;
    const begun = await this.line((line) => line.called !== undefined, after);
    const later = this.lines.findIndex((line) => line.called === begun.called);
    return this.line((line) => line.ended !== undefined && wanted(line), later);
  }

  /** Waits until all calls that have begun by now have ended. */
  async callsEnded(): Promise<void> {
    const begun = this.lines.map(({ called }) => called).filter((id) => id !== undefined);
    for (const id of begun) await this.line(({ ended }) => ended === id);
  }

  /** SIGTERM: it ends what it is at. */
  async stop(): Promise<void> {
    await this.#container.signal('SIGTERM');
    await this.#container.outcome;
  }

  kill(): Promise<void> {
    return this.#container.kill();
  }
}

/** The books of clients that have ended, beside those of all servers. What is wrong, a line each, and how many ended how. */
export function settle(
  clients: readonly PlainApp[],
  servers: readonly PlainApp[],
): { wrong: string[]; answered: number; unavailable: number } {
  const wrong: string[] = [];
  const served = new Map<string, number>();
  for (const { served: id } of servers.flatMap(({ lines }) => lines)) {
    if (id !== undefined) served.set(id, (served.get(id) ?? 0) + 1);
  }
  let [answered, unavailable] = [0, 0];
  for (const { lines } of clients) {
    const ends = new Map(lines.filter(({ ended }) => ended !== undefined).map((line) => [line.ended, line]));
    for (const { called } of lines) {
      if (called === undefined) continue;
      const times = served.get(called) ?? 0;
      served.delete(called);
      const { code, details } = ends.get(called) ?? {};
      if (code === undefined) wrong.push(`${called} never ended`);
      else if (code === 0) answered++;
      else if (code === UNAVAILABLE) unavailable++;
      else wrong.push(`${called} ended with ${code}: ${details}`);
      if (times > 1) wrong.push(`${called} came ${times} times`);
      if (code === 0 && times === 0) wrong.push(`${called} was answered, and no server knows of it`);
    }
  }
  const own = clients.map(({ mark }) => `${mark}-`);
  for (const id of served.keys()) {
    if (own.some((begin) => id.startsWith(begin))) wrong.push(`nobody made ${id}`);
  }
  return { wrong, answered, unavailable };
}

const UNAVAILABLE = 14;

/** Open to every user of the pods; it goes with the test file. */
async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'hauberk-pod-'));
  await chmod(path, 0o755);
  atEnd(() => rm(path, { recursive: true }));
  return path;
}
