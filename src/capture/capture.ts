/**
 * Installs, removes and shows the rules of a capture in the network namespace of this process. Rules of others stay as
 * they are; each table changes at once or not at all.
 */
import { CaptureError } from './errors.ts';
import { BACKENDS, type Backend, Iptables, type Machine } from './iptables.ts';
import type { CapturePlan } from './plan.ts';
import { chainsOf, differences, type Family, NOTHING, restoreText, type State } from './rules.ts';

export interface CaptureSettings {
  /** `auto`: the one that has rules here already, ours before others'; else nft, and legacy where the kernel has no nft. */
  readonly backend: Backend | 'auto';
  /** `auto`: wherever there are IPv6 addresses. */
  readonly ipv6: 'auto' | 'on' | 'off';
  /** Seconds for which another program's lock of the tables is waited for. */
  readonly waitS: number;
}

/** What was done. */
export interface CaptureReport {
  readonly backend: Backend;
  readonly families: readonly Family[];
  /** False: everything was there already. */
  readonly changed: boolean;
  /** What an operator should know although it is no failure, a sentence each. */
  readonly warnings: readonly string[];
}

/** Rules of ours in one family's tables. */
export interface CaptureState {
  readonly backend: Backend;
  readonly family: Family;
  readonly state: State;
}

const FAMILIES: readonly Family[] = [4, 6];

const ours = ({ chains, jumps }: State): boolean => chains.size > 0 || jumps.size > 0;

/** Makes the tables what `plan` says, whatever of ours was there, and reads them back. Throws `CaptureError`. */
export async function install(
  machine: Machine,
  plan: CapturePlan,
  settings: CaptureSettings,
): Promise<CaptureReport> {
  const candidates = await candidatesOf(machine, settings);
  const [families, unsure] = await familiesOf(machine, settings.ipv6);
  let failure: unknown;
  for (const iptables of candidates) {
    try {
      const report = await installWith(iptables, plan, families, unsure);
      await removeElsewhere(machine, settings, iptables.backend);
      return report;
    } catch (error) {
      failure ??= error;
      const another = error instanceof CaptureError && OTHER_BACKEND_MAY.includes(error.code);
      if (!another) throw error;
    }
  }
  throw failure;
}

/** What may be otherwise with the other backend. */
const OTHER_BACKEND_MAY = ['no-kernel-support', 'no-iptables'];

async function installWith(
  iptables: Iptables,
  plan: CapturePlan,
  families: readonly Family[],
  unsure: boolean,
): Promise<CaptureReport> {
  const done: Family[] = [];
  /** Families that had nothing of ours before. Half of a first installation helps nobody; rules of an earlier one stay. */
  const fresh: Family[] = [];
  const warnings: string[] = [];
  let changed = false;
  for (const family of families) {
    try {
      const before = await iptables.save(family);
      if (!ours(before)) fresh.push(family);
      changed = (await make(iptables, family, plan, before)) || changed;
      done.push(family);
    } catch (error) {
      const needless = family === 6 && unsure && error instanceof CaptureError;
      const undone = needless ? fresh.filter((other) => other === family) : fresh;
      for (const other of undone) await undo(iptables, other);
      if (!needless) throw error;
      warnings.push(`IPv6 is not captured, and no address needs it now: ${error.message}`);
    }
  }
  return { backend: iptables.backend, families: done, changed, warnings };
}

/** Returns whether anything had to be done. */
async function make(iptables: Iptables, family: Family, plan: CapturePlan, before: State): Promise<boolean> {
  const wanted = chainsOf(plan, family);
  if (differences(wanted, before).length === 0) return false;
  await iptables.restore(family, restoreText(wanted, before));
  const wrong = differences(wanted, await iptables.save(family));
  if (wrong.length === 0) return true;
  throw new CaptureError(
    'not-verified',
    `the rules were taken, but are not there (${wrong.join('; ')}): something else changes the tables; run this again when it is done`,
  );
}

async function undo(iptables: Iptables, family: Family): Promise<void> {
  try {
    const state = await iptables.save(family);
    if (ours(state)) await iptables.restore(family, restoreText([], state));
  } catch {
    // What failed first is what is told.
  }
}

/** Takes everything of ours away, in both backends; returns where something was. Throws `CaptureError`. */
export async function remove(machine: Machine, settings: CaptureSettings): Promise<CaptureState[]> {
  const found = await show(machine, settings);
  for (const { backend, family, state } of found) {
    const iptables = (await Iptables.find(machine, backend, settings.waitS)) as Iptables;
    await iptables.restore(family, restoreText([], state));
    if (ours(await iptables.save(family))) {
      throw new CaptureError('not-verified', 'the rules are still there: something else puts them back');
    }
  }
  return found;
}

/** Everything of ours that is there. Throws `CaptureError`. */
export async function show(machine: Machine, settings: CaptureSettings): Promise<CaptureState[]> {
  const found: CaptureState[] = [];
  for (const iptables of await toolsOf(machine, settings)) {
    for (const family of FAMILIES) {
      const state = await stateOf(iptables, family, settings);
      if (state !== undefined && ours(state)) found.push({ backend: iptables.backend, family, state });
    }
  }
  return found;
}

/** Undefined: the kernel has no such tables, so nothing of ours is in them. */
async function stateOf(
  iptables: Iptables,
  family: Family,
  { backend, ipv6 }: Pick<CaptureSettings, 'backend' | 'ipv6'>,
): Promise<State | undefined> {
  try {
    return await iptables.save(family);
  } catch (error) {
    const asked = backend === iptables.backend && (family === 4 || ipv6 === 'on');
    if (!asked && error instanceof CaptureError && OTHER_BACKEND_MAY.includes(error.code)) return undefined;
    throw error;
  }
}

async function removeElsewhere(machine: Machine, settings: CaptureSettings, kept: Backend): Promise<void> {
  for (const iptables of await toolsOf(machine, { ...settings, backend: 'auto' })) {
    if (iptables.backend === kept) continue;
    for (const family of FAMILIES) {
      const state = await stateOf(iptables, family, { backend: 'auto', ipv6: 'auto' });
      if (state !== undefined && ours(state)) await iptables.restore(family, restoreText([], state));
    }
  }
}

async function toolsOf(machine: Machine, { backend, waitS }: CaptureSettings): Promise<Iptables[]> {
  const wanted = backend === 'auto' ? BACKENDS : [backend];
  const found = await Promise.all(wanted.map((each) => Iptables.find(machine, each, waitS)));
  const tools = found.filter((each) => each !== undefined);
  if (tools.length > 0) return tools;
  const what = backend === 'auto' ? 'iptables' : `iptables of the kind "${backend}"`;
  throw new CaptureError(
    'no-iptables',
    `there is no ${what} here: use the image hauberk-capture, or install the package iptables`,
  );
}

/** In the order in which they are tried. */
async function candidatesOf(machine: Machine, settings: CaptureSettings): Promise<Iptables[]> {
  const tools = await toolsOf(machine, settings);
  if (tools.length === 1) return tools;
  const weights = await Promise.all(
    tools.map(async (iptables) => {
      const states = await Promise.all(FAMILIES.map((family) => stateOf(iptables, family, settings)));
      return states.reduce((weight, state) => weight + (state === undefined ? 0 : weightOf(state)), 0);
    }),
  );
  return tools
    .map((iptables, i) => ({ iptables, weight: weights[i] as number }))
    .sort((a, b) => b.weight - a.weight)
    .map(({ iptables }) => iptables);
}

const OURS_WEIGHS = 1e9;
const KUBERNETES_WEIGHS = 1e6;

function weightOf(state: State): number {
  return (ours(state) ? OURS_WEIGHS : 0) + (state.kubernetes ? KUBERNETES_WEIGHS : 0) + state.foreign;
}

/** What a first installation would give to iptables-restore, by family; nothing is asked of the tables. */
export async function rehearse(
  machine: Machine,
  plan: CapturePlan,
  { ipv6 }: Pick<CaptureSettings, 'ipv6'>,
): Promise<ReadonlyMap<Family, string>> {
  const [families] = await familiesOf(machine, ipv6);
  return new Map(families.map((family) => [family, restoreText(chainsOf(plan, family), NOTHING)]));
}

const IPV6_ADDRESSES = '/proc/net/if_inet6';
/** Scope of addresses that reach beyond the link, in that file's fourth column. */
const GLOBAL = '00';

/** The families to capture, and whether IPv6 is there for nothing but link-local addresses. */
async function familiesOf(
  machine: Machine,
  ipv6: CaptureSettings['ipv6'],
): Promise<[families: Family[], unsure: boolean]> {
  if (ipv6 === 'off') return [[4], false];
  if (ipv6 === 'on') return [[4, 6], false];
  const addresses = ((await machine.read(IPV6_ADDRESSES)) ?? '').split('\n').filter((line) => line !== '');
  if (addresses.length === 0) return [[4], false];
  return [[4, 6], !addresses.some((line) => line.split(/ +/)[3] === GLOBAL)];
}
