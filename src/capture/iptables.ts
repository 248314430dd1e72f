/** The programs of iptables, of one of their two kinds. */
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { CaptureError, type CaptureErrorCode } from './errors.ts';
import { type Family, readSaved, type State } from './rules.ts';

/** Which of the kernel's two interfaces the rules are given to. */
export type Backend = 'nft' | 'legacy';
export const BACKENDS: readonly Backend[] = ['nft', 'legacy'];

/** How a program ended. */
export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What of the machine is used: programs, and files of the kernel. */
export interface Machine {
  /** Undefined: there is no such program. */
  run(program: string, args: readonly string[], input?: string): Promise<Ran | undefined>;
  /** Undefined: there is no such file. */
  read(path: string): Promise<string | undefined>;
}

export const realMachine: Machine = {
  run: (program, args, input = '') =>
    new Promise((resolve, reject) => {
      const child = spawn(program, args, { stdio: 'pipe' });
      let [stdout, stderr] = ['', ''];
      child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
      child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
      child.once('error', (error: NodeJS.ErrnoException) =>
        error.code === 'ENOENT' ? resolve(undefined) : reject(error),
      );
      child.once('close', (code) => resolve({ code, stdout, stderr }));
      // It may end without having read everything; its exit code then tells.
      child.stdin.on('error', () => undefined);
      child.stdin.end(input);
    }),
  read: async (path) => {
    try {
      return await readFile(path, 'utf8');
    } catch {
      return undefined;
    }
  },
};

/** Prefixes of the programs' names. */
const FAMILY = { 4: 'iptables', 6: 'ip6tables' } as const;
const FAMILY_NAME = { 4: 'IPv4', 6: 'IPv6' } as const;

/** What each kind says of itself, where its programs have the plain name. */
const SAYS = { nft: '(nf_tables)', legacy: '(legacy)' } as const;

export class Iptables {
  readonly backend: Backend;
  readonly #machine: Machine;
  /** Between the family's name and `-save`. */
  readonly #infix: string;
  /** Seconds for which the lock of the tables is waited for. */
  readonly #waitS: number;

  private constructor(machine: Machine, backend: Backend, infix: string, waitS: number) {
    this.#machine = machine;
    this.backend = backend;
    this.#infix = infix;
    this.#waitS = waitS;
  }

  /** Undefined: this machine has no iptables of this kind. */
  static async find(machine: Machine, backend: Backend, waitS: number): Promise<Iptables | undefined> {
    if ((await machine.run(`iptables-${backend}-restore`, ['--version'])) !== undefined) {
      return new Iptables(machine, backend, `-${backend}`, waitS);
    }
    const plain = await machine.run('iptables-restore', ['--version']);
    const itself = plain?.stdout.includes(SAYS[backend]) ?? false;
    return itself ? new Iptables(machine, backend, '', waitS) : undefined;
  }

  async save(family: Family): Promise<State> {
    return readSaved(await this.#run(family, 'save', []));
  }

  /** The text as it would be printed: what is of ours, nothing else. */
  async restore(family: Family, text: string): Promise<void> {
    await this.#run(family, 'restore', ['--noflush', '--wait', `${this.#waitS}`], text);
  }

  async #run(family: Family, what: string, args: readonly string[], input?: string): Promise<string> {
    const program = `${FAMILY[family]}${this.#infix}-${what}`;
    const ran = await this.#machine.run(program, args, input);
    if (ran === undefined) {
      throw new CaptureError(
        'no-iptables',
        `there is no ${program} here: use the image hauberk-capture, or install the package iptables`,
      );
    }
    if (ran.code !== 0) throw complaint(program, family, ran, this);
    return ran.stdout;
  }

  get waitS(): number {
    return this.#waitS;
  }
}

/** What the programs say, in the order in which it is looked for, and what helps. */
const CAUSES: ReadonlyArray<[said: RegExp, code: CaptureErrorCode, cure: (of: Cause) => string]> = [
  [
    /can't open lock file/i,
    'failed',
    () =>
      'the lock of the tables cannot be opened: make /run writable, or name another file in XTABLES_LOCKFILE',
  ],
  [
    /xtables lock/i,
    'locked',
    ({ waitS }) =>
      `another program holds the lock of the tables, and did not let go of it within ${waitS} s: run this again when it is done, or wait longer with --wait`,
  ],
  [
    /permission denied|you must be root|operation not permitted/i,
    'not-permitted',
    () =>
      'rules can be made only with the capabilities NET_ADMIN and NET_RAW, as user 0: give them to this container, or use explicit mode, which needs none',
  ],
  [
    /matching rule|chain '[^']*' does not exist|bad rule/i,
    'changed-meanwhile',
    () => 'something else changed the tables at the same time, and nothing was done: run this again',
  ],
  [
    /couldn't load (match|target)/i,
    'no-iptables',
    () =>
      'iptables lacks its extensions here: use the image hauberk-capture, or install the whole package iptables',
  ],
  [
    /insmod|initialize|generation id|not supported|no such file|no chain\/target\/match|does not exist|table name|missing kernel/i,
    'no-kernel-support',
    ({ family, backend }) =>
      `the node's kernel has no ${FAMILY_NAME[family]} tables of the kind "${backend}", or lacks a match: load ${MODULES[backend][family]} on the node (modprobe), try the other --backend, or use explicit mode`,
  ],
];

interface Cause {
  readonly family: Family;
  readonly backend: Backend;
  readonly waitS: number;
}

const MODULES = {
  nft: {
    4: 'nf_tables, nft_compat, nft_chain_nat, xt_REDIRECT, xt_owner and ipt_REJECT',
    6: 'nf_tables, nft_compat, nft_chain_nat, xt_REDIRECT, xt_owner and ip6t_REJECT',
  },
  legacy: {
    4: 'iptable_nat, iptable_filter, xt_REDIRECT, xt_owner and ipt_REJECT',
    6: 'ip6table_nat, ip6table_filter, xt_REDIRECT, xt_owner and ip6t_REJECT',
  },
} as const;

function complaint(program: string, family: Family, { code, stderr }: Ran, of: Iptables): CaptureError {
  const said = stderr.trim().replaceAll(/\s*\n\s*/g, '; ');
  const [, kind, cure] = CAUSES.find(([pattern]) => pattern.test(stderr)) ?? [];
  const own = `(${program}: ${said === '' ? `exit code ${code}` : said})`;
  if (kind === undefined || cure === undefined)
    return new CaptureError('failed', `the rules were refused ${own}`);
  return new CaptureError(kind, `${cure({ family, backend: of.backend, waitS: of.waitS })} ${own}`);
}
