/**
 * Hosts on a network of their own: network namespaces, each with an interface to a bridge, which is in a namespace too. Nothing
 * outside of these is touched.
 */
import { type ChildProcessByStdio, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { atEnd } from './sidecars.ts';

const run = promisify(execFile);

let networks = 0;

export class Network {
  readonly #prefix: string;

  private constructor(prefix: string) {
    this.#prefix = prefix;
  }

  static async make(): Promise<Network> {
    const network = new Network(`hbk${process.pid}n${networks++}`);
    await network.#namespace(network.#bridge);
    await ip('-n', network.#bridge, 'link', 'add', 'br0', 'type', 'bridge');
    await ip('-n', network.#bridge, 'link', 'set', 'br0', 'up');
    return network;
  }

  get #bridge(): string {
    return `${this.#prefix}-net`;
  }

  async #namespace(name: string): Promise<void> {
    await ip('netns', 'add', name);
    atEnd(() => ip('netns', 'del', name));
    await ip('-n', name, 'link', 'set', 'lo', 'up');
  }

  /** A host `10.77.0.NUMBER` and `fd77::NUMBER`. */
  async host(name: string, number: number): Promise<Host> {
    const namespace = `${this.#prefix}-${name}`;
    const port = `v${number}`;
    await this.#namespace(namespace);
    await ip(
      '-n',
      this.#bridge,
      'link',
      'add',
      port,
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      namespace,
    );
    await ip('-n', this.#bridge, 'link', 'set', port, 'master', 'br0', 'up');
    const host = new Host(namespace, number, this.#bridge, port);
    await ip('-n', namespace, 'addr', 'add', `${host.v4}/24`, 'dev', 'eth0');
    await ip('-n', namespace, 'addr', 'add', `${host.v6}/64`, 'dev', 'eth0', 'nodad');
    await ip('-n', namespace, 'link', 'set', 'eth0', 'up');
    return host;
  }

  /** Listens to all that goes over the bridge, from now on. */
  async wiretap(): Promise<Wiretap> {
    const args = ['--immediate-mode', '-U', '-Z', 'root', '-s', '0', '-i', 'br0', '-w', '-', 'tcp'];
    const child = spawn('ip', ['netns', 'exec', this.#bridge, 'tcpdump', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const tap = new Wiretap(child);
    atEnd(async () => void (await tap.stop()));
    // The header of the file comes when it listens.
    await once(child.stdout, 'readable');
    return tap;
  }
}

export class Host {
  /** Of the network, for `ip netns`. */
  readonly namespace: string;
  readonly v4: string;
  readonly v6: string;
  readonly #bridge: string;
  readonly #port: string;

  constructor(namespace: string, number: number, bridge: string, port: string) {
    this.namespace = namespace;
    this.v4 = `10.77.0.${number}`;
    this.v6 = `fd77::${number}`;
    this.#bridge = bridge;
    this.#port = port;
  }

  /** Runs a program of the machine's on it; returns what it prints. */
  async run(program: string, ...args: string[]): Promise<string> {
    return (await run('ip', ['netns', 'exec', this.namespace, program, ...args])).stdout;
  }

  /** Takes its cable out, or puts it back. Addresses and what is open stay. */
  async connected(is: boolean): Promise<void> {
    await ip('-n', this.#bridge, 'link', 'set', this.#port, is ? 'up' : 'down');
  }

  /** What goes to it is no faster than this, `2mbit`. */
  async slow(rate: string): Promise<void> {
    const to = ['-n', this.#bridge, 'qdisc', 'replace', 'dev', this.#port, 'root'];
    await run('tc', [...to, 'tbf', 'rate', rate, 'burst', '4k', 'latency', '400ms']);
  }

  /** How often something had to wait because of that. */
  async delayed(): Promise<number> {
    const { stdout } = await run('tc', ['-s', '-n', this.#bridge, 'qdisc', 'show', 'dev', this.#port]);
    return Number(/overlimits (\d+)/.exec(stdout)?.[1]);
  }
}

/** What came over the wire, as tcpdump writes it. */
export class Wiretap {
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  readonly #chunks: Buffer[] = [];

  constructor(child: ChildProcessByStdio<null, Readable, Readable>) {
    this.#child = child;
    child.stdout.on('data', (chunk: Buffer) => this.#chunks.push(chunk));
    child.stderr.resume();
  }

  /** Everything so far. */
  get octets(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  async stop(): Promise<Buffer> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill('SIGINT');
      await once(this.#child, 'close');
    }
    return this.octets;
  }
}

async function ip(...args: string[]): Promise<void> {
  await run('ip', args);
}
