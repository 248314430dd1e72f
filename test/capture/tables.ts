/** A plain twin of iptables for the tests: tables in memory, with the programs that read and change them. */
import type { Machine, Ran } from '../../src/capture/iptables.ts';
import type { Family } from '../../src/capture/rules.ts';

type Rules = Map<string, string[]>; // by chain

const KERNEL = {
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
};

const OK: Ran = { code: 0, stdout: '', stderr: '' };
const failed = (stderr: string, code = 2): Ran => ({ code, stdout: '', stderr });

class Tables {
  #tables = new Map<string, Rules>();

  constructor() {
    for (const [name, chains] of Object.entries(KERNEL)) {
      this.#tables.set(name, new Map(chains.map((chain) => [chain, []])));
    }
  }

  rules(table: string, chain: string): string[] | undefined {
    return this.#tables.get(table)?.get(chain);
  }

  save(): string {
    const lines: string[] = ['# Generated'];
    for (const [table, chains] of this.#tables) {
      lines.push(`*${table}`);
      for (const chain of chains.keys()) {
        const kernels = KERNEL[table as keyof typeof KERNEL].includes(chain);
        lines.push(`:${chain} ${kernels ? 'ACCEPT' : '-'} [0:0]`);
      }
      for (const [chain, rules] of chains) lines.push(...rules.map((rule) => `-A ${chain} ${rule}`));
      lines.push('COMMIT');
    }
    return `${lines.join('\n')}\n`;
  }

  /** Each table wholly or not at all. */
  restore(text: string): Ran {
    let [name, next]: [string, Rules] = ['', new Map()];
    for (const [i, line] of text.trimEnd().split('\n').entries()) {
      const [word = '', chain = '', ...rest] = line.split(' ');
      const rule = rest.join(' ');
      const wrong = failed(`line ${i + 1}: Bad rule (does a matching rule exist in that chain?)`);
      const rules = next.get(chain);
      if (word.startsWith('*')) {
        name = word.slice(1);
        next = new Map([...(this.#tables.get(name) as Rules)].map(([key, all]) => [key, [...all]]));
      } else if (word.startsWith(':')) next.set(word.slice(1), []);
      else if (word === 'COMMIT') this.#tables.set(name, next);
      else if (rules === undefined) return failed(`line ${i + 1}: Chain '${chain}' does not exist`);
      else if (word === '-A') rules.push(rule);
      else if (word === '-I') rules.unshift(rule);
      else if (word === '-D') {
        if (!rules.includes(rule)) return wrong;
        rules.splice(rules.indexOf(rule), 1);
      } else if (word === '-X') {
        const used = [...next.values()].flat().some((other) => other.endsWith(`-j ${chain}`));
        if (used || rules.length > 0)
          return failed(`line ${i + 1}: CHAIN_DEL failed (Device or resource busy)`);
        next.delete(chain);
      } else return failed(`line ${i + 1}: Bad argument`);
    }
    return OK;
  }
}

export class FakeMachine implements Machine {
  readonly tables = {
    nft: { 4: new Tables(), 6: new Tables() },
    legacy: { 4: new Tables(), 6: new Tables() },
  };
  /** Programs that were run, `iptables-nft-restore`, without looks at versions. */
  readonly ran: string[] = [];
  /** What a program says instead of doing anything. */
  readonly broken = new Map<string, string>();
  /** Programs that are not there, by the begin of their names. */
  readonly missing: string[] = [];
  /** What the plain names are. */
  plain: 'nft' | 'legacy' = 'nft';
  /** Content of /proc/net/if_inet6. */
  addresses: string | undefined = address('20010db8000000000000000000000001', '00');
  /** Is called after each restore. */
  meddle: () => void = () => undefined;

  async read(path: string): Promise<string | undefined> {
    return path === '/proc/net/if_inet6' ? this.addresses : undefined;
  }

  async run(program: string, args: readonly string[], input = ''): Promise<Ran | undefined> {
    if (this.missing.some((begin) => program.startsWith(begin))) return undefined;
    const [, version, given, what] = /^ip(6?)tables-(?:(nft|legacy)-)?(save|restore)$/.exec(program) ?? [];
    const backend = (given ?? this.plain) as 'nft' | 'legacy';
    const family: Family = version === '6' ? 6 : 4;
    if (args.includes('--version')) {
      return { ...OK, stdout: `${program} v1.8.9 (${backend === 'nft' ? 'nf_tables' : 'legacy'})\n` };
    }
    this.ran.push(program);
    const said = this.broken.get(program);
    if (said !== undefined) return failed(said, 4);
    const tables = this.tables[backend][family];
    if (what === 'save') return { ...OK, stdout: tables.save() };
    if (!args.includes('--noflush')) return failed('this would throw the rules of others away');
    const outcome = tables.restore(input);
    this.meddle();
    return outcome;
  }
}

export const address = (hex: string, scope: string): string => `${hex} 02 40 ${scope} 80     eth0\n`;
