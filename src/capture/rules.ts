/**
 * Rules as text, in the form in which iptables-save prints them, so that what is installed can be compared with what was
 * meant. Everything of ours is in chains of our own; of other chains we touch one rule each, the jump into ours.
 *
 *   nat     OUTPUT -> HAUBERK_OUTPUT    what the app calls, to the listeners of its sidecar
 *   filter  INPUT  -> HAUBERK_INPUT     who calls the app without the mesh, refused
 */
import type { CapturePlan } from './plan.ts';
import { textOf } from './plan.ts';

export type Family = 4 | 6;
export type TableName = 'nat' | 'filter';

/** A chain of ours: what is in it, and how packets come there. */
export interface Chain {
  readonly table: TableName;
  readonly name: string;
  /** Chain of the kernel's, and the match of the jump. */
  readonly from: string;
  readonly match: string;
  /** Rules without `-A NAME`. */
  readonly rules: readonly string[];
}

/** Each chain of ours begins so, of whatever version. */
export const PREFIX = 'HAUBERK_';

export function chainsOf(plan: CapturePlan, family: Family): Chain[] {
  const chains: Chain[] = [];
  if (plan.redirects.length > 0) {
    const users = new Set([plan.uid, ...plan.skipUsers]);
    const redirects = new Map(plan.redirects.map(({ port, to }) => [port, to]));
    chains.push({
      table: 'nat',
      name: `${PREFIX}OUTPUT`,
      from: 'OUTPUT',
      match: '-p tcp',
      rules: unique([
        '-o lo -j RETURN',
        ...[...users].map((uid) => `-m owner --uid-owner ${uid} -j RETURN`),
        ...plan.skipSubnets
          .filter((subnet) => subnet.family === family)
          .map(({ text }) => `-d ${text} -j RETURN`),
        ...plan.skipPorts.map((range) => `-p tcp -m tcp --dport ${textOf(range)} -j RETURN`),
        ...[...redirects].map(([port, to]) => `-p tcp -m tcp --dport ${port} -j REDIRECT --to-ports ${to}`),
      ]),
    });
  }
  if (plan.inbound.length > 0) {
    chains.push({
      table: 'filter',
      name: `${PREFIX}INPUT`,
      from: 'INPUT',
      match: '-p tcp',
      rules: unique([
        '-i lo -j RETURN',
        // Nobody is let past, whatever is skipped: that is about what the app calls.
        // Only what opens a connection: the answers to one of ours may come to any port.
        ...plan.inbound.map(
          (range) =>
            `-p tcp -m tcp --dport ${textOf(range)} --tcp-flags FIN,SYN,RST,ACK SYN -j REJECT --reject-with tcp-reset`,
        ),
      ]),
    });
  }
  return chains;
}

const unique = (rules: readonly string[]): string[] => [...new Set(rules)];

/** What is in one family's tables, as far as it concerns us. */
export interface State {
  /** Rules of our chains, without `-A NAME`, by `table/NAME`. */
  readonly chains: ReadonlyMap<string, readonly string[]>;
  /** Jumps into our chains, as `CHAIN MATCH... -j HAUBERK_...`, by table, in their order; `first`: none stands before it. */
  readonly jumps: ReadonlyMap<string, readonly { readonly rule: string; readonly first: boolean }[]>;
  /** Rules and chains that are not ours. */
  readonly foreign: number;
  /** The node's kubelet or kube-proxy has left its chains here. */
  readonly kubernetes: boolean;
}

export const NOTHING: State = { chains: new Map(), jumps: new Map(), foreign: 0, kubernetes: false };

/** Reads what iptables-save prints. */
export function readSaved(saved: string): State {
  const chains = new Map<string, string[]>();
  const jumps = new Map<string, { rule: string; first: boolean }[]>();
  const begun = new Set<string>();
  let [table, foreign, kubernetes] = ['', 0, false];
  for (const line of saved.split('\n')) {
    const [, name] = /^\*(\S+)/.exec(line) ?? [];
    if (name !== undefined) table = name;
    const [, chain, policy] = /^:(\S+) (\S+)/.exec(line) ?? [];
    if (chain?.startsWith(PREFIX)) chains.set(`${table}/${chain}`, []);
    else if (chain !== undefined && policy === '-') foreign++;
    if (chain?.startsWith('KUBE-')) kubernetes = true;
    const [, at, rule] = /^-A (\S+) (.*)$/.exec(line) ?? [];
    if (at === undefined || rule === undefined) continue;
    const first = !begun.has(`${table}/${at}`);
    begun.add(`${table}/${at}`);
    if (at.startsWith(PREFIX)) chains.get(`${table}/${at}`)?.push(rule);
    else if (new RegExp(`-[jg] ${PREFIX}`).test(rule)) {
      jumps.set(table, [...(jumps.get(table) ?? []), { rule: `${at} ${rule}`, first }]);
    } else foreign++;
  }
  return { chains, jumps, foreign, kubernetes };
}

/**
 * What iptables-restore --noflush makes of `state` what `wanted` says, each table as one transaction; empty if there is nothing
 * to do.
 */
export function restoreText(wanted: readonly Chain[], state: State): string {
  const tables = new Set<string>([
    ...wanted.map(({ table }) => table),
    ...[...state.chains.keys()].map((key) => key.slice(0, key.indexOf('/'))),
    ...state.jumps.keys(),
  ]);
  return [...tables].map((table) => tableText(table, wanted, state)).join('');
}

function tableText(table: string, all: readonly Chain[], state: State): string {
  const wanted = all.filter((chain) => chain.table === table);
  const names = new Set(wanted.map(({ name }) => name));
  const left = [...state.chains.keys()]
    .filter((key) => key.startsWith(`${table}/`))
    .map((key) => key.slice(table.length + 1))
    .filter((name) => !names.has(name));
  return [
    `*${table}`,
    // Naming a chain makes it, or empties it.
    ...[...names, ...left].map((name) => `:${name} - [0:0]`),
    ...(state.jumps.get(table) ?? []).map(({ rule }) => `-D ${rule}`),
    ...left.map((name) => `-X ${name}`),
    ...wanted.flatMap(({ name, rules }) => rules.map((rule) => `-A ${name} ${rule}`)),
    ...wanted.map(({ from, match, name }) => `-I ${from} ${match} -j ${name}`),
    'COMMIT',
    '',
  ].join('\n');
}

/** How `state` differs from what is wanted, a line each. */
export function differences(wanted: readonly Chain[], state: State): string[] {
  const wrong: string[] = [];
  for (const { table, name, from, match, rules } of wanted) {
    const found = state.chains.get(`${table}/${name}`);
    if (found === undefined) {
      wrong.push(`table ${table} has no chain ${name}`);
      continue;
    }
    if (found.map(plain).join('\n') !== rules.map(plain).join('\n')) {
      const missing = rules.find((rule) => !found.map(plain).includes(plain(rule)));
      wrong.push(
        `chain ${name} has other rules, ${missing === undefined ? 'or in another order' : `not "${missing}"`}`,
      );
    }
    const jump = (state.jumps.get(table) ?? []).filter(
      ({ rule }) => plain(rule) === plain(`${from} ${match} -j ${name}`),
    );
    if (jump.length !== 1) wrong.push(`${from} of table ${table} leads to ${name} ${jump.length} times`);
    else if (!jump[0]?.first) wrong.push(`${from} of table ${table} has another rule before that to ${name}`);
  }
  const names = new Set(wanted.map(({ table, name }) => `${table}/${name}`));
  for (const key of state.chains.keys()) {
    if (!names.has(key)) wrong.push(`table ${key.replace('/', ' has a chain ')} that should be gone`);
  }
  return wrong;
}

/** Without what versions of iptables print or leave out. */
const plain = (rule: string): string => rule.replaceAll('-m tcp ', '').trim();
