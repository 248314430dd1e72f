import { expect, it } from 'vitest';
import { type CaptureSettings, install, rehearse, remove, show } from '../../src/capture/capture.ts';
import { CaptureError } from '../../src/capture/errors.ts';
import { planOf } from '../../src/capture/plan.ts';
import { address, FakeMachine } from './tables.ts';

const SETTINGS: CaptureSettings = { backend: 'auto', ipv6: 'auto', waitS: 5 };
const PLAN = planOf({ uid: '15008', redirect: ['50051=15101'], inboundPorts: ['50051'] });

const OUTPUT = [
  '-o lo -j RETURN',
  '-m owner --uid-owner 15008 -j RETURN',
  '-p tcp -m tcp --dport 50051 -j REDIRECT --to-ports 15101',
];
const INPUT = [
  '-i lo -j RETURN',
  '-p tcp -m tcp --dport 50051 --tcp-flags FIN,SYN,RST,ACK SYN -j REJECT --reject-with tcp-reset',
];

async function refusal(act: Promise<unknown>): Promise<CaptureError> {
  const error = await act.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(CaptureError);
  return error as CaptureError;
}

it('puts its rules into chains of its own, for both families, with one jump before all other rules', async () => {
  const machine = new FakeMachine();
  machine.tables.nft[4].restore('*filter\n-A INPUT -p icmp -j ACCEPT\nCOMMIT\n');
  const report = await install(machine, PLAN, SETTINGS);
  expect(report).toEqual({ backend: 'nft', families: [4, 6], changed: true, warnings: [] });
  for (const tables of [machine.tables.nft[4], machine.tables.nft[6]]) {
    expect(tables.rules('nat', 'OUTPUT')).toEqual(['-p tcp -j HAUBERK_OUTPUT']);
    expect(tables.rules('nat', 'HAUBERK_OUTPUT')).toEqual(OUTPUT);
    expect(tables.rules('filter', 'HAUBERK_INPUT')).toEqual(INPUT);
  }
  expect(machine.tables.nft[4].rules('filter', 'INPUT')).toEqual([
    '-p tcp -j HAUBERK_INPUT',
    '-p icmp -j ACCEPT',
  ]);
});

it('what is skipped is left alone before anything is redirected, and lets nobody in', async () => {
  const machine = new FakeMachine();
  const plan = planOf({
    uid: '15008',
    redirect: ['50051=15101'],
    inboundPorts: ['50051-50059'],
    skipPorts: ['50055'],
    skipSubnets: ['10.9.0.0/16', 'fd09::/48'],
    skipUsers: ['1000'],
  });
  await install(machine, plan, SETTINGS);
  expect(machine.tables.nft[6].rules('nat', 'HAUBERK_OUTPUT')).toEqual([
    '-o lo -j RETURN',
    '-m owner --uid-owner 15008 -j RETURN',
    '-m owner --uid-owner 1000 -j RETURN',
    '-d fd09::/48 -j RETURN',
    '-p tcp -m tcp --dport 50055 -j RETURN',
    '-p tcp -m tcp --dport 50051 -j REDIRECT --to-ports 15101',
  ]);
  expect(machine.tables.nft[4].rules('filter', 'HAUBERK_INPUT')).toEqual([
    '-i lo -j RETURN',
    '-p tcp -m tcp --dport 50051:50059 --tcp-flags FIN,SYN,RST,ACK SYN -j REJECT --reject-with tcp-reset',
  ]);
});

it('is there once however often it is installed, and touches nothing then', async () => {
  const machine = new FakeMachine();
  await install(machine, PLAN, SETTINGS);
  machine.ran.length = 0;
  expect((await install(machine, PLAN, SETTINGS)).changed).toBe(false);
  expect(machine.ran.filter((program) => program.endsWith('-restore'))).toEqual([]);
});

it('another plan takes the place of the one before, whatever that left', async () => {
  const machine = new FakeMachine();
  await install(machine, PLAN, SETTINGS);
  // Of a later version, perhaps.
  machine.tables.nft[4].restore(
    '*nat\n:HAUBERK_MORE - [0:0]\n-A HAUBERK_MORE -j RETURN\n-A OUTPUT -j HAUBERK_MORE\n-A OUTPUT -p tcp -j HAUBERK_OUTPUT\nCOMMIT\n',
  );
  await install(machine, planOf({ uid: '15008', redirect: ['50052=15102'] }), SETTINGS);
  const tables = machine.tables.nft[4];
  expect(tables.rules('nat', 'OUTPUT')).toEqual(['-p tcp -j HAUBERK_OUTPUT']);
  expect(tables.rules('nat', 'HAUBERK_OUTPUT')?.at(-1)).toContain('--dport 50052');
  expect(tables.rules('nat', 'HAUBERK_MORE')).toBeUndefined();
  expect(tables.rules('filter', 'HAUBERK_INPUT')).toBeUndefined();
  expect(tables.rules('filter', 'INPUT')).toEqual([]);
});

it('what a plan no longer has is taken away, though all else is as it was', async () => {
  const machine = new FakeMachine();
  await install(machine, PLAN, SETTINGS);
  const less = planOf({ uid: '15008', redirect: ['50051=15101'] });
  expect((await install(machine, less, SETTINGS)).changed).toBe(true);
  expect(machine.tables.nft[6].rules('filter', 'HAUBERK_INPUT')).toBeUndefined();
  expect(machine.tables.nft[6].rules('nat', 'HAUBERK_OUTPUT')).toEqual(OUTPUT);
});

it('a rule that somebody put before ours, or changed, is seen and mended', async () => {
  const machine = new FakeMachine();
  await install(machine, PLAN, SETTINGS);
  machine.tables.nft[4].restore('*filter\n-I INPUT -j ACCEPT\nCOMMIT\n');
  machine.tables.nft[6].restore('*nat\n-I HAUBERK_OUTPUT -j RETURN\nCOMMIT\n');
  expect((await install(machine, PLAN, SETTINGS)).changed).toBe(true);
  expect(machine.tables.nft[4].rules('filter', 'INPUT')).toEqual(['-p tcp -j HAUBERK_INPUT', '-j ACCEPT']);
  expect(machine.tables.nft[6].rules('nat', 'HAUBERK_OUTPUT')).toEqual(OUTPUT);
});

it('rules that are gone again by the time they are read back are a failure', async () => {
  const machine = new FakeMachine();
  machine.meddle = () => machine.tables.nft[4].restore('*nat\n:OUTPUT - [0:0]\nCOMMIT\n');
  const error = await refusal(install(machine, PLAN, SETTINGS));
  expect(error.code).toBe('not-verified');
  expect(error.message).toContain('OUTPUT of table nat leads to HAUBERK_OUTPUT 0 times');
});

it('is removed without a trace, and without touching the rules of others', async () => {
  const machine = new FakeMachine();
  machine.tables.nft[4].restore('*nat\n:OTHER - [0:0]\n-A OTHER -j RETURN\n-A OUTPUT -j OTHER\nCOMMIT\n');
  const before = [machine.tables.nft[4].save(), machine.tables.nft[6].save()];
  await install(machine, PLAN, SETTINGS);
  expect((await show(machine, SETTINGS)).map(({ backend, family }) => `${backend}${family}`)).toEqual([
    'nft4',
    'nft6',
  ]);
  expect((await remove(machine, SETTINGS)).length).toBe(2);
  expect([machine.tables.nft[4].save(), machine.tables.nft[6].save()]).toEqual(before);
  expect(await remove(machine, SETTINGS)).toEqual([]);
});

it('a dry run says what is given to iptables-restore, and runs nothing', async () => {
  const machine = new FakeMachine();
  const told = await rehearse(machine, PLAN, SETTINGS);
  expect(machine.ran).toEqual([]);
  machine.tables.nft[4].restore(told.get(4) as string);
  machine.tables.nft[6].restore(told.get(6) as string);
  expect((await install(machine, PLAN, SETTINGS)).changed).toBe(false);
});

it.each([
  ['of the other kind that has rules of others', ':OTHER - [0:0]\n-A OTHER -j RETURN\n'],
  ['of the other kind that a kubelet has marked', ':KUBE-IPTABLES-HINT - [0:0]\n'],
])('takes the tables %s', async (_what, rules) => {
  const machine = new FakeMachine();
  if (rules.includes('KUBE')) machine.tables.nft[4].restore('*nat\n:A - [0:0]\n:B - [0:0]\nCOMMIT\n');
  machine.tables.legacy[6].restore(`*nat\n${rules}COMMIT\n`);
  expect((await install(machine, PLAN, SETTINGS)).backend).toBe('legacy');
});

it('stays where its own rules are, and takes them away from there when told another kind', async () => {
  const machine = new FakeMachine();
  await install(machine, PLAN, { ...SETTINGS, backend: 'legacy' });
  machine.tables.nft[4].restore('*nat\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n');
  expect((await install(machine, PLAN, SETTINGS)).backend).toBe('legacy');
  expect((await install(machine, PLAN, { ...SETTINGS, backend: 'nft' })).backend).toBe('nft');
  expect(machine.tables.legacy[4].rules('nat', 'HAUBERK_OUTPUT')).toBeUndefined();
  expect(machine.tables.nft[4].rules('nat', 'HAUBERK_OUTPUT')).toEqual(OUTPUT);
});

it('takes legacy tables where the kernel has no nft, and leaves no half of it in nft', async () => {
  const machine = new FakeMachine();
  machine.broken.set(
    'ip6tables-nft-restore',
    'Could not fetch rule set generation id: Protocol not supported',
  );
  expect((await install(machine, PLAN, SETTINGS)).backend).toBe('legacy');
  expect(machine.tables.nft[4].rules('nat', 'HAUBERK_OUTPUT')).toBeUndefined();
});

it('a kernel that has neither is told with what to load', async () => {
  const machine = new FakeMachine();
  machine.broken.set('iptables-nft-save', 'Could not fetch rule set generation id: Protocol not supported');
  machine.broken.set(
    'iptables-legacy-save',
    "can't initialize iptables table `nat': Table does not exist (do you need to insmod?)",
  );
  const error = await refusal(install(machine, PLAN, SETTINGS));
  expect(error.code).toBe('no-kernel-support');
  expect(error.message).toMatch(
    /no IPv4 tables of the kind "nft".*load nf_tables, .* on the node.*explicit mode/,
  );
});

it('programs with the plain names are taken for what they say they are', async () => {
  const machine = new FakeMachine();
  machine.missing.push('iptables-nft', 'iptables-legacy', 'ip6tables-nft', 'ip6tables-legacy');
  machine.plain = 'legacy';
  expect((await install(machine, PLAN, SETTINGS)).backend).toBe('legacy');
  expect((await refusal(install(machine, PLAN, { ...SETTINGS, backend: 'nft' }))).message).toBe(
    'there is no iptables of the kind "nft" here: use the image hauberk-capture, or install the package iptables',
  );
});

it('without iptables it says where there is some', async () => {
  const machine = new FakeMachine();
  machine.missing.push('ip');
  for (const act of [install(machine, PLAN, SETTINGS), remove(machine, SETTINGS), show(machine, SETTINGS)]) {
    const error = await refusal(act);
    expect(error.code).toBe('no-iptables');
    expect(error.message).toContain('use the image hauberk-capture');
  }
});

it.each([
  ['Permission denied (you must be root)', 'not-permitted', /capabilities NET_ADMIN and NET_RAW, as user 0/],
  [
    'Another app is currently holding the xtables lock. Stopped waiting after 5s.',
    'locked',
    /within 5 s: run this again/,
  ],
  ["Fatal: can't open lock file /run/xtables.lock: Read-only file system", 'failed', /make \/run writable/],
  ["Chain 'OUTPUT' does not exist", 'changed-meanwhile', /nothing was done: run this again/],
  ["Couldn't load match `owner':No such file or directory", 'no-iptables', /lacks its extensions/],
  ['RULE_APPEND failed (No such file or directory)', 'no-kernel-support', /xt_owner/],
  ['something new\nof two lines', 'failed', /\(iptables-legacy-restore: something new; of two lines\)$/],
])('what iptables says, "%s", is told with its cure', async (said, code, cure) => {
  const machine = new FakeMachine();
  machine.broken.set('iptables-legacy-restore', said);
  const error = await refusal(install(machine, PLAN, { ...SETTINGS, backend: 'legacy' }));
  expect(error.code).toBe(code);
  expect(error.message).toMatch(cure);
});

it.each<[what: string, addresses: string | undefined, broken: boolean, families: readonly number[] | string]>(
  [
    ['has no IPv6', undefined, true, [4]],
    ['has IPv6 without addresses', '', true, [4]],
    ['has only link-local addresses', address('fe800000000000000000000000000001', '20'), false, [4, 6]],
    [
      'has only link-local addresses and no tables',
      address('fe800000000000000000000000000001', '20'),
      true,
      [4],
    ],
    [
      'has an address of the internet and no tables',
      address('20010db8000000000000000000000001', '00'),
      true,
      'failed',
    ],
  ],
)('where the pod %s, IPv6 is captured if it must and can be', async (_what, addresses, broken, families) => {
  const machine = new FakeMachine();
  machine.addresses = addresses;
  if (broken) for (const kind of ['nft', 'legacy']) machine.broken.set(`ip6tables-${kind}-restore`, 'insmod');
  if (families === 'failed') {
    expect((await refusal(install(machine, PLAN, SETTINGS))).code).toBe('no-kernel-support');
    expect(await show(machine, SETTINGS)).toEqual([]);
    return;
  }
  const report = await install(machine, PLAN, SETTINGS);
  expect(report.families).toEqual(families);
  expect(report.warnings.length).toBe(addresses?.startsWith('fe80') && broken ? 1 : 0);
  expect(machine.tables.nft[4].rules('nat', 'HAUBERK_OUTPUT')).toEqual(OUTPUT);
});

it('of an installation that fails midway nothing stays, but the rules of an earlier one do', async () => {
  const machine = new FakeMachine();
  machine.broken.set('ip6tables-nft-restore', 'Permission denied');
  await refusal(install(machine, PLAN, SETTINGS));
  expect(machine.tables.nft[4].rules('nat', 'HAUBERK_OUTPUT')).toBeUndefined();
  machine.broken.clear();
  await install(machine, PLAN, SETTINGS);
  machine.broken.set('ip6tables-nft-restore', 'Permission denied');
  await refusal(install(machine, planOf({ uid: '15008', redirect: ['1=15102'] }), SETTINGS));
  for (const family of [4, 6] as const) {
    expect(machine.tables.nft[family].rules('nat', 'HAUBERK_OUTPUT')).toBeDefined();
  }
});
