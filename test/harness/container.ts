/**
 * Root file systems of our images, and programs in them as a container engine would run them: as the first process of
 * namespaces of its own, below a read-only root, as the image's user, with nothing but the image's environment.
 */
import { type ChildProcessByStdio, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { mkdtemp, readFile, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { endOf, type Outcome } from './cli.ts';
import { atEnd, type Ready } from './sidecars.ts';

const BUILD = fileURLToPath(new URL('../../deploy/build-rootfs', import.meta.url));

/** What an engine is told of an image. */
export interface ImageConfig {
  readonly user: string;
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  /** Octets. */
  readonly sizes: { readonly all: number; readonly node: number; readonly hauberk: number };
}

/** A folder that a container sees at a path of its own. */
export interface Mount {
  readonly folder: string;
  readonly at: string;
  /** Not read-only. */
  readonly writable?: boolean;
}

export interface ContainerOptions {
  readonly args?: readonly string[];
  /** In place of the image's entry point. */
  readonly entrypoint?: readonly string[];
  /** `uid:gid`, in place of the image's. */
  readonly user?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** A folder that is seen as /run, read-only. */
  readonly volume?: string;
  /** Not read-only. */
  readonly writable?: boolean;
  /** Others; where they are is made in the image, as engines do. */
  readonly mounts?: readonly Mount[];
  /** Capabilities that user 0 has, `net_admin`; none by default, as for other users. */
  readonly capabilities?: readonly string[];
  /** In a network namespace of its own, with a loopback. */
  readonly ownNetwork?: boolean;
  /** In this network namespace, by its name. */
  readonly network?: string | undefined;
  /** Address of the DNS server that it asks; without any it knows no names. */
  readonly nameserver?: string | undefined;
}

const SCRIPT = `
set -e
root=$1 mounts=$2 network=$3 resolv=$4
shift 4
[ -z "$network" ] || ip link set lo up
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 none "$root/dev"
mknod -m 666 "$root/dev/null" c 1 3
[ -z "$resolv" ] || mount --bind "$resolv" "$root/etc/resolv.conf"
while read -r access folder at; do
  [ -n "$at" ] || continue
  mkdir -p "$root$at"
  mount --bind -o "$access" "$folder" "$root$at"
done <<EOF
$mounts
EOF
mount -o remount,bind,ro "$root"
exec "$@"
`;

/** What chroot(1) itself needs. */
const TO_CHROOT = ['sys_chroot', 'setuid', 'setgid'];

export class Image {
  readonly root: string;
  readonly config: ImageConfig;

  private constructor(root: string, config: ImageConfig) {
    this.root = root;
    this.config = config;
  }

  /**
   * Assembles the file system of a target of deploy/Dockerfile, with another's Node if one is there. It goes with the
   * test file.
   */
  static async build(target: 'hauberk' | 'capture', like?: Image): Promise<Image> {
    const root = await mkdtemp(join(tmpdir(), `hauberk-image-${target}-`));
    atEnd(() => rm(root, { recursive: true }));
    const node = like === undefined ? [] : ['--node', join(like.root, 'nodejs/bin/node')];
    const { stdout } = await promisify(execFile)(BUILD, ['--target', target, ...node, root]);
    return new Image(root, JSON.parse(stdout) as ImageConfig);
  }

  start(options: ContainerOptions = {}): Container {
    const { config, root } = this;
    const { args = config.cmd, entrypoint = config.entrypoint, user = config.user, env = {} } = options;
    const { volume, writable = false, capabilities = [], ownNetwork = false } = options;
    const run = volume === undefined ? [] : [{ folder: volume, at: '/run', writable }];
    const lines = [...run, ...(options.mounts ?? [])].map(
      ({ folder, at, writable: isWritable = false }) => `${isWritable ? 'rw' : 'ro'} ${folder} ${at}`,
    );
    const environment = Object.entries({ ...config.env, ...env }).map(([key, value]) => `${key}=${value}`);
    const kept = ['-all', ...[...TO_CHROOT, ...capabilities].map((name) => `+${name}`)].join(',');
    const { network, nameserver } = options;
    const into = network === undefined ? [] : [`--net=/run/netns/${network}`];
    const child = spawn(
      'nsenter',
      [
        ...into,
        'unshare',
        ...['--mount', '--pid', '--fork', '--kill-child=KILL', '--propagation=private'],
        ...(ownNetwork ? ['--net'] : []),
        ...['sh', '-c', SCRIPT, 'sh', root, lines.join('\n'), ownNetwork ? 'yes' : ''],
        nameserver === undefined ? '' : this.#resolvConf(nameserver),
        ...['env', '-i', ...environment],
        ...['setpriv', '--no-new-privs', `--bounding-set=${kept}`],
        ...['chroot', '--groups=', `--userspec=${user}`, root, ...entrypoint, ...args],
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    return new Container(child);
  }

  /** A file that is laid over the image's, as engines do. */
  #resolvConf(nameserver: string): string {
    const file = `${this.root}.${nameserver}.resolv.conf`;
    if (!existsSync(file)) {
      writeFileSync(file, `nameserver ${nameserver}\noptions timeout:1\n`);
      writeFileSync(join(this.root, 'etc/resolv.conf'), '');
      atEnd(() => rm(file));
    }
    return file;
  }

  /** Runs it to its end. */
  async run(options: ContainerOptions = {}): Promise<Outcome> {
    return this.start(options).outcome;
  }
}

export class Container {
  readonly outcome: Promise<Outcome>;
  /** What it has written to standard output, by lines. */
  readonly stdout: string[] = [];
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  #stderr = '';

  constructor(child: ChildProcessByStdio<null, Readable, Readable>) {
    this.#child = child;
    this.outcome = endOf(child);
    child.stderr.on('data', (text: string) => {
      this.#stderr += text;
    });
    createInterface(child.stdout).on('line', (line) => this.stdout.push(line));
    atEnd(() => this.kill());
  }

  /** Its ready line. */
  async ready(): Promise<Ready> {
    for (;;) {
      const line = this.stdout.find((text) => text.startsWith('{"ready":true'));
      if (line !== undefined) return JSON.parse(line) as Ready;
      await this.more();
    }
  }

  /** Waits for more on standard output; rejects if it has ended. */
  async more(): Promise<void> {
    const { exitCode, signalCode, stdout } = this.#child;
    if (exitCode !== null || signalCode !== null) throw new Error(`it has ended:\n${this.#stderr}`);
    await Promise.race([once(stdout, 'data'), this.outcome]);
  }

  /** Ends it as a crash of its machine would. */
  async kill(): Promise<void> {
    // Not unshare: a first process that has become another user would outlive it.
    for (const pid of await this.#children()) process.kill(pid, 'SIGKILL');
    await this.outcome;
  }

  get log(): string {
    return this.#stderr;
  }

  /** Id, as we see it, of its first process, once that is Node. */
  async pid(): Promise<number> {
    for (;;) {
      const [first] = await this.#children();
      if (first !== undefined && (await readlink(`/proc/${first}/exe`)).endsWith('/node')) return first;
      if (this.#child.exitCode !== null) throw new Error(`it has ended:\n${this.#stderr}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async #children(): Promise<number[]> {
    const { pid } = this.#child;
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'latin1').catch(() => '');
    return children
      .split(' ')
      .map(Number)
      .filter((child) => child > 0);
  }

  /** Sends its first process a signal, as an engine does. */
  async signal(signal: NodeJS.Signals): Promise<void> {
    process.kill(await this.pid(), signal);
  }
}
