/**
 * Electors as processes, which are killed, stopped and cut off, on a stub API server over TLS: at no moment do two of
 * them lead, by the clock that all of one machine share.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Lease } from '../../src/kube/objects.ts';
import { KubeApi } from '../harness/kubeapi.ts';

const PROGRAM = fileURLToPath(new URL('../harness/electorprocess.ts', import.meta.url));

class Elector {
  readonly name: string;
  readonly process: ChildProcess;
  /** When it was seen to lead: [first, last] of each reign, in milliseconds since the epoch. */
  readonly reigns: Array<[number, number]> = [];
  #leads = false;
  #text = '';

  constructor(name: string, api: KubeApi) {
    this.name = name;
    const { server, ca, token } = api.access;
    const access = JSON.stringify({ server, ca, token });
    this.process = spawn(process.execPath, ['--import', 'tsx', PROGRAM, access, name], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.process.stdout?.setEncoding('utf8').on('data', (text: string) => this.#read(text));
  }

  get leads(): boolean {
    return this.#leads;
  }

  /** It leads, and has said so lately. */
  get leadsNow(): boolean {
    return this.#leads && Date.now() - (this.reigns.at(-1)?.[1] ?? 0) < 500;
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const exited = once(this.process, 'exit');
    this.process.kill(signal);
    await exited;
    this.#leads = false;
  }

  #read(text: string): void {
    const lines = (this.#text + text).split('\n');
    this.#text = lines.pop() as string;
    for (const line of lines) {
      const [time, state] = line.split(' ');
      const at = Number(time);
      const last = this.reigns.at(-1);
      if (state === 'leads' && this.#leads && last !== undefined) last[1] = at;
      else if (state === 'leads') this.reigns.push([at, at]);
      this.#leads = state === 'leads';
    }
  }
}

let api: KubeApi;
let electors: Elector[];

beforeEach(async () => {
  api = await KubeApi.start();
  electors = [];
});

afterEach(async () => {
  for (const elector of electors) await elector.end('SIGKILL');
  await api.end();
});

function begin(name: string): Elector {
  const elector = new Elector(name, api);
  electors.push(elector);
  return elector;
}

const settled = { timeout: 30_000, interval: 20 };

/** The one that leads, once there is one other than `not`. */
async function leader(not?: Elector): Promise<Elector> {
  let found: Elector | undefined;
  await expect
    .poll(() => {
      found = electors.find((elector) => elector !== not && elector.leadsNow);
      return found !== undefined;
    }, settled)
    .toBe(true);
  return found as Elector;
}

/** Every two reigns of different electors that had a moment in common. */
function overlaps(): string[] {
  const reigns = electors
    .flatMap(({ name, reigns: all }) => all.map(([from, to]) => ({ name, from, to })))
    .sort((a, b) => a.from - b.from);
  return reigns.flatMap((reign, i) =>
    reigns
      .slice(i + 1)
      .filter(({ name, from }) => name !== reign.name && from <= reign.to)
      .map((other) => `${reign.name} until ${reign.to}, ${other.name} from ${other.from}`),
  );
}

it('of three, one leads; killed, stopped in order, frozen or cut off, it is followed by one other', async () => {
  for (const name of ['a', 'b', 'c']) begin(name);
  const first = await leader();
  await first.end('SIGKILL');
  const second = await leader(first);
  begin('d');
  const asked = Date.now();
  await second.end('SIGTERM');
  // It has let go: nobody waits for the end of the Lease.
  const lease = api.at<Lease>('/apis/coordination.k8s.io/v1/namespaces/ns/leases/lease');
  expect(lease?.spec?.holderIdentity ?? '').not.toMatch(new RegExp(`^${second.name}_`));
  const third = await leader(second);
  expect(third.reigns.at(-1)?.[0]).toBeGreaterThanOrEqual(asked);
  begin('e');
  third.process.kill('SIGSTOP');
  await leader(third);
  third.process.kill('SIGCONT');
  await expect.poll(() => third.leads, settled).toBe(false);
  await leader(third);
  // The server goes away: the leader cannot renew, and nobody can take over.
  await api.stop();
  await expect.poll(() => electors.some(({ leads }) => leads), settled).toBe(false);
  await api.listen();
  await leader();
  expect(overlaps()).toEqual([]);
});

it('two whose every other request is lost or late never lead together', async () => {
  let count = 0;
  api.hold = async () => {
    const turn = count++ % 5;
    if (turn === 0) await new Promise((resolve) => setTimeout(resolve, 1500));
    if (turn === 2) api.cut();
  };
  begin('a');
  begin('b');
  await leader();
  for (let times = 0; times < 2; times++) {
    const current = await leader();
    current.process.kill('SIGSTOP');
    await leader(current);
    current.process.kill('SIGCONT');
  }
  expect(overlaps()).toEqual([]);
  expect(electors.every(({ reigns }) => reigns.length > 0)).toBe(true);
});
