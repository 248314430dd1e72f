import {
  type CaptureSettings,
  type CaptureState,
  install,
  rehearse,
  remove,
  show,
} from '../../capture/capture.ts';
import { realMachine } from '../../capture/iptables.ts';
import { type CaptureOptions, type CapturePlan, planOf, textOf } from '../../capture/plan.ts';
import { type Family, restoreText } from '../../capture/rules.ts';
import { print, printError } from '../terminal.ts';

interface TableArguments {
  backend: CaptureSettings['backend'];
  ipv6: CaptureSettings['ipv6'];
  /** In seconds. */
  wait: number;
}

const settingsOf = ({ backend, ipv6, wait }: TableArguments): CaptureSettings => ({
  backend,
  ipv6,
  waitS: wait,
});

const PROGRAM = { 4: 'iptables', 6: 'ip6tables' } as const;

/** `hauberk capture install` */
export async function installCapture(
  given: TableArguments & CaptureOptions & { dryRun: boolean },
): Promise<void> {
  const plan = planOf(given);
  if (given.dryRun) {
    for (const [family, text] of await rehearse(realMachine, plan, given)) printRestore(family, text);
    return;
  }
  const { backend, families, changed, warnings } = await install(realMachine, plan, settingsOf(given));
  for (const warning of warnings) printError(`hauberk: ${warning}`);
  const where = families.map((family) => `IPv${family}`).join(' and ');
  print(`${changed ? 'captured' : 'captured already'}, by iptables (${backend}), ${where}`);
  for (const line of summary(plan)) print(`  ${line}`);
}

function summary({ redirects, inbound, uid }: CapturePlan): string[] {
  return [
    ...redirects.map(
      ({ port, to }) => `to port ${port} of others: comes to port ${to} here, except from user ${uid}`,
    ),
    ...inbound.map((range) => `from others to port ${textOf(range).replace(':', '-')} here: refused`),
  ];
}

/** `hauberk capture remove` */
export async function removeCapture(given: TableArguments & { dryRun: boolean }): Promise<void> {
  const settings = settingsOf(given);
  const found = await (given.dryRun ? show : remove)(realMachine, settings);
  if (found.length === 0) print('nothing is captured here');
  for (const { backend, family, state } of found) {
    if (given.dryRun) printRestore(family, restoreText([], state), backend);
    else print(`removed from iptables (${backend}), IPv${family}`);
  }
}

/** `hauberk capture show` */
export async function showCapture(given: TableArguments): Promise<void> {
  const found = await show(realMachine, settingsOf(given));
  if (found.length === 0) print('nothing is captured here');
  for (const each of found) for (const line of linesOf(each)) print(line);
}

function linesOf({ backend, family, state }: CaptureState): string[] {
  return [
    `# ${PROGRAM[family]} (${backend})`,
    ...[...state.jumps].flatMap(([table, jumps]) => jumps.map(({ rule }) => `-t ${table} -A ${rule}`)),
    ...[...state.chains].flatMap(([key, rules]) => {
      const [table, name] = key.split('/');
      return rules.map((rule) => `-t ${table} -A ${name} ${rule}`);
    }),
  ];
}

function printRestore(family: Family, text: string, backend?: string): void {
  const infix = backend === undefined ? '' : `-${backend}`;
  print(`# ${PROGRAM[family]}${infix}-restore --noflush`);
  print(text.trimEnd());
}
