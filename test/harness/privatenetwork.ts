/**
 * A network namespace with one interface, which a pair of virtual ones joins to the machine's own network. What runs in
 * it has addresses that are not loopback, and ports that nobody else has. Needs root; it goes when its last process ends.
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { networkInterfaces } from 'node:os';
import { runTool } from './nghttp2.ts';
import { atEnd } from './sidecars.ts';

const INSIDE = 'inside';

export class PrivateNetwork {
  /** The first address inside. */
  readonly address: string;
  /** Where those inside reach what listens outside. */
  readonly outside: string;
  readonly #subnet: string;
  readonly #holder: ChildProcess;
  #last = 2;
  #lastOutside = 200;

  private constructor(subnet: string, holder: ChildProcess) {
    this.#subnet = subnet;
    this.#holder = holder;
    this.address = `${subnet}.2`;
    this.outside = `${subnet}.1`;
  }

  /** It ends with the test file. */
  static async make(): Promise<PrivateNetwork> {
    const subnet = freeSubnet();
    // Holds the namespace, and ends with this process: its input does.
    const holder = spawn('unshare', ['--net', 'sh', '-c', 'echo ready; exec cat'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const network = new PrivateNetwork(subnet, holder);
    atEnd(() => end(holder));
    await once(holder.stdout!, 'data');
    const name = nameOf(subnet);
    await ip('link', 'add', name, 'type', 'veth', 'peer', 'name', INSIDE, 'netns', `${holder.pid}`);
    await ip('address', 'add', `${network.outside}/24`, 'dev', name);
    await ip('link', 'set', name, 'up');
    await network.#ip('link', 'set', 'lo', 'up');
    await network.#ip('address', 'add', `${network.address}/24`, 'dev', INSIDE);
    await network.#ip('link', 'set', INSIDE, 'up');
    return network;
  }

  /** One more address inside, such as a pod's. */
  async addAddress(): Promise<string> {
    this.#last++;
    const address = `${this.#subnet}.${this.#last}`;
    await this.#ip('address', 'add', `${address}/24`, 'dev', INSIDE);
    return address;
  }

  /** One more address outside that those inside reach, for the same port a second time. */
  async addOutside(): Promise<string> {
    this.#lastOutside++;
    const address = `${this.#subnet}.${this.#lastOutside}`;
    await ip('address', 'add', `${address}/32`, 'dev', nameOf(this.#subnet));
    return address;
  }

  /** Starts a process inside; its pid is the program's own. The caller ends it. */
  spawn(command: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    return spawn('nsenter', [...this.#enter(), command, ...args], options);
  }

  #enter(): string[] {
    return [`--net=/proc/${this.#holder.pid}/ns/net`, '--'];
  }

  async #ip(...args: string[]): Promise<void> {
    await tool('nsenter', [...this.#enter(), 'ip', ...args]);
  }
}

/** Of the interface outside. */
function nameOf(subnet: string): string {
  return `hbk-${subnet.replaceAll('.', '-').slice(3)}`;
}

/** The beginning of a /24 that no interface here has. */
function freeSubnet(): string {
  const taken = Object.values(networkInterfaces()).flatMap((addresses) =>
    (addresses ?? []).map(({ address }) => address),
  );
  for (;;) {
    const subnet = `10.${randomInt(200, 250)}.${randomInt(256)}`;
    if (!taken.some((address) => address.startsWith(`${subnet}.`))) return subnet;
  }
}

function ip(...args: string[]): Promise<void> {
  return tool('ip', args);
}

async function tool(name: string, args: readonly string[]): Promise<void> {
  const { code, stderr } = await runTool(name, args);
  if (code !== 0) throw new Error(`${name} ${args.join(' ')}: ${stderr}`);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}
