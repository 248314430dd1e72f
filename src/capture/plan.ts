/** What to capture, as the options of `hauberk capture install` say it. */
import { CaptureError } from './errors.ts';
import { parseSubnet, type Subnet } from './subnet.ts';

/** Ports from `first` to `last`, both included. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Connections to `port`, wherever they go, come to `to` of our own loopback instead. */
export interface Redirect {
  readonly port: number;
  readonly to: number;
}

export interface CapturePlan {
  /** Of the sidecar, whose own connections are never redirected. */
  readonly uid: number;
  readonly redirects: readonly Redirect[];
  /** Ports of the app that other hosts reach through the mesh only. */
  readonly inbound: readonly PortRange[];
  /** Left alone in both directions, whatever else names them. */
  readonly skipPorts: readonly PortRange[];
  /** Destinations that are not redirected, and sources that may come in plaintext. */
  readonly skipSubnets: readonly Subnet[];
  /** Users whose connections are not redirected. */
  readonly skipUsers: readonly number[];
}

/** The plan as text, one element an option's value. */
export interface CaptureOptions {
  readonly uid: string;
  readonly redirect?: readonly string[];
  readonly inboundPorts?: readonly string[];
  readonly skipPorts?: readonly string[];
  readonly skipSubnets?: readonly string[];
  readonly skipUsers?: readonly string[];
}

/** Ports that a sidecar may listen on; they are never captured. */
const OURS: PortRange = { first: 15001, last: 15199 };
/** The largest user id; the one above means "none". */
const MAX_UID = 2 ** 32 - 2;

/** Throws `CaptureError` (bad-input). */
export function planOf(options: CaptureOptions): CapturePlan {
  const plan: CapturePlan = {
    uid: uidOf('--uid', options.uid),
    redirects: items(options.redirect).map(redirectOf),
    inbound: items(options.inboundPorts).map((text) => rangeOf('--inbound-ports', text)),
    skipPorts: items(options.skipPorts).map((text) => rangeOf('--skip-ports', text)),
    skipSubnets: items(options.skipSubnets).map(parseSubnet),
    skipUsers: items(options.skipUsers).map((text) => uidOf('--skip-users', text)),
  };
  check(plan);
  return plan;
}

function items(values: readonly string[] = []): string[] {
  return values.flatMap((value) => value.split(',').map((item) => item.trim()));
}

function check({ uid, redirects, inbound, skipUsers }: CapturePlan): void {
  if (redirects.length === 0 && inbound.length === 0) {
    throw bad(
      'there is nothing to capture: name the ports that the app calls (--redirect 50051=15101), or those that it serves (--inbound-ports 50051)',
    );
  }
  if (uid === 0) {
    throw bad(
      '--uid 0: a sidecar that runs as root cannot be told from the rest of the pod; give it a user of its own, as in --uid 15008',
    );
  }
  if (skipUsers.includes(uid)) {
    throw bad(`--skip-users ${uid}: this is the sidecar's user, whose connections are never redirected`);
  }
  const targets = new Map<number, number>();
  for (const { port, to } of redirects) {
    if (overlap(OURS, { first: port, last: port })) throw ours('--redirect', `${port}`);
    const before = targets.get(port);
    if (before !== undefined && before !== to) {
      throw bad(
        `--redirect: port ${port} can go to ${before} or to ${to}, not to both; each listener takes one port`,
      );
    }
    targets.set(port, to);
  }
  for (const { to } of redirects) {
    if (targets.has(to))
      throw bad(
        `--redirect: port ${to} is captured itself, so nothing may be redirected to it; take a free one from 15101 on`,
      );
  }
  for (const range of inbound) {
    if (overlap(OURS, range)) throw ours('--inbound-ports', textOf(range));
  }
}

const overlap = (a: PortRange, b: PortRange): boolean => a.first <= b.last && b.first <= a.last;

const ours = (option: string, what: string): CaptureError =>
  bad(
    `${option} ${what}: ports ${OURS.first} to ${OURS.last} are the sidecar's own and are never captured; the app must use another`,
  );

/** `50051`, `50060:50069`: as iptables has it. */
export function textOf({ first, last }: PortRange): string {
  return first === last ? `${first}` : `${first}:${last}`;
}

function redirectOf(text: string): Redirect {
  const [port, to, ...more] = text.split('=');
  if (port === undefined || to === undefined || more.length > 0) {
    throw bad(`--redirect "${text}": expected a port and the listener that takes it, as in 50051=15101`);
  }
  return { port: portOf('--redirect', port), to: portOf('--redirect', to) };
}

function rangeOf(option: string, text: string): PortRange {
  const [first = '', last = first, ...more] = text.split('-');
  if (more.length > 0)
    throw bad(`${option} "${text}": expected a port or a range, as in 50051 or 50060-50069`);
  const range = { first: portOf(option, first), last: portOf(option, last) };
  if (range.first > range.last) throw bad(`${option} "${text}": the range ends before it begins`);
  return range;
}

function portOf(option: string, text: string): number {
  const port = /^[0-9]{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65535) throw bad(`${option} "${text}": a port is a number from 1 to 65535`);
  return port;
}

function uidOf(option: string, text: string): number {
  const uid = /^[0-9]{1,10}$/.test(text) ? Number(text) : -1;
  if (uid < 0 || uid > MAX_UID) {
    throw bad(`${option} "${text}": expected the number of a user; names are not known where rules are made`);
  }
  return uid;
}

function bad(message: string): CaptureError {
  return new CaptureError('bad-input', message);
}
