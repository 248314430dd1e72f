import { IdentityError } from '../../../src/identity/errors.ts';
import { parseSpiffeId } from '../../../src/identity/spiffeid.ts';
import { Glob } from '../../../src/policy/glob.ts';
import { tidyPath } from '../../../src/policy/tidypath.ts';
import { parseAuthority } from '../../../src/relay/authority.ts';
import { encodeGrpcMessage } from '../../../src/relay/reply.ts';
import { formatTimeout, parseTimeout } from '../../../src/relay/timeout.ts';
import { parseTraceParent } from '../../../src/telemetry/traceparent.ts';
import { mutateBytes } from '../mutator.ts';
import { claim, same, type Target } from '../target.ts';

/** An input is an octet, what its text is taken for, and the text. */
export type Reading = (text: string) => void;

const UNIT_NS: Record<string, bigint> = {
  H: 3_600_000_000_000n,
  M: 60_000_000_000n,
  S: 1_000_000_000n,
  m: 1_000_000n,
  u: 1000n,
  n: 1n,
};

const nanoseconds = (text: string): bigint => BigInt(text.slice(0, -1)) * (UNIT_NS[text.slice(-1)] as bigint);

export function timeout(text: string, parse = parseTimeout, format = formatTimeout): void {
  const ms = parse(text);
  claim((ms !== undefined) === /^[0-9]{1,8}[HMSmun]$/.test(text), `the timeout ${JSON.stringify(text)}`);
  if (ms === undefined) return;
  const exact = Number(nanoseconds(text)) / 1e6;
  claim(Math.abs(ms - exact) <= exact * 1e-12, `${text} is ${exact} ms and not ${ms}`);
  const shorter = format(ms);
  claim(/^[0-9]{1,8}[HMSmun]$/.test(shorter), `${shorter} is no timeout`);
  claim(nanoseconds(shorter) <= nanoseconds(text), `${shorter} is longer than ${text}`);
}

function authority(text: string): void {
  const parsed = parseAuthority(text);
  if (parsed === undefined) {
    claim(!/^[a-z0-9][a-z0-9-]{0,60}(:[1-9][0-9]{0,3})?$/.test(text), `${text} is refused`);
    return;
  }
  const { name, port } = parsed;
  claim(/^([a-z0-9_.-]{1,255}|\[[0-9a-f:.]+\])$/.test(name), `the name ${JSON.stringify(name)}`);
  claim(Number.isInteger(port) && port >= 0 && port <= 65_535, `the port ${port}`);
  same(parseAuthority(port === 0 ? name : `${name}:${port}`)?.port, port, 'it does not come back');
  same(parseAuthority(text.toUpperCase()), parsed, 'case matters');
}

/** `pattern LF text`. */
export function glob(
  text: string,
  matches = (pattern: string, name: string) => new Glob(pattern).matches(name),
): void {
  const [pattern = '', name = ''] = text.split('\n');
  // A star for every character would keep the regular expression busy for ever.
  if (pattern.length > 24 || name.length > 60) return;
  const source = pattern
    .replace(/\*+/g, '*')
    .replace(/[.+?^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '[^/]*');
  same(
    matches(pattern, name),
    new RegExp(`^${source}$`, 's').test(name),
    `${JSON.stringify(pattern)} and ${JSON.stringify(name)}`,
  );
}

function path(text: string): void {
  const tidy = tidyPath(text);
  if (!text.startsWith('/')) return;
  claim(tidy.startsWith('/'), `${JSON.stringify(tidy)} does not begin with /`);
  if (tidy === text || tidy === '/') return;
  const segments = tidy.slice(1).split('/');
  claim(
    !segments.some((segment) => ['', '.', '..'].includes(segment)),
    `${JSON.stringify(tidy)} is not tidy`,
  );
  claim(!/[?#\\]/.test(tidy), `${JSON.stringify(tidy)} has a query, a fragment or a backslash`);
}

function spiffeId(text: string): void {
  const right =
    /^spiffe:\/\/[a-z0-9._-]{1,255}(\/[A-Za-z0-9._-]+)*$/.test(text) &&
    text.length <= 2048 &&
    !text
      .slice(9)
      .split('/')
      .slice(1)
      .some((segment) => segment === '.' || segment === '..');
  let id: string | undefined;
  try {
    const parsed = parseSpiffeId(text);
    id = `spiffe://${parsed.trustDomain}${parsed.path}`;
  } catch (error) {
    claim(error instanceof IdentityError, `it threw ${String(error)}`);
  }
  same(id, right ? text : undefined, 'a SPIFFE ID');
}

function traceparent(text: string): void {
  const parsed = parseTraceParent(text);
  if (parsed === undefined) return;
  claim(/^[0-9a-f]{32}$/.test(parsed.traceId) && !/^0+$/.test(parsed.traceId), 'a trace id');
  claim(/^[0-9a-f]{16}$/.test(parsed.spanId) && !/^0+$/.test(parsed.spanId), 'a span id');
  claim(
    text.startsWith('ff') === false && text.includes(`-${parsed.traceId}-${parsed.spanId}-`),
    'not as it was',
  );
}

function message(text: string): void {
  const encoded = encodeGrpcMessage(text);
  claim(/^[\x20-\x7e]*$/.test(encoded), 'not printable ASCII');
  same(decodeURIComponent(encoded), text, 'a grpc-message does not come back');
}

const READINGS: readonly Reading[] = [
  (text) => timeout(text),
  authority,
  (text) => glob(text),
  path,
  spiffeId,
  traceparent,
  message,
];

const SEEDS: ReadonlyArray<[reading: number, text: string]> = [
  [0, '100m'],
  [0, '99999999H'],
  [0, '00000001n'],
  [1, 'greeter.shop:50051'],
  [1, '[::1]:80'],
  [1, 'Greeter.'],
  [1, '..'],
  [2, '/shop.*/Say*\n/shop.Greeter/SayHello'],
  [2, 'spiffe://a/*/b*b\nspiffe://a/x/bbb'],
  [3, '/a/%2e%2e/b//c/?d#e'],
  [3, '/a/%252e/\\b/.'],
  [4, 'spiffe://shop.example/ns/default/sa/web'],
  [5, '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'],
  [5, '01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x'],
  [6, 'caf\u00e9 100%'],
];

export const target: Target = {
  name: 'text',
  claim:
    'timeouts, authorities, globs, paths, SPIFFE IDs, traceparents and messages are read as plain rules say; no timeout grows',
  seeds: SEEDS.map(([reading, text]) => Buffer.concat([Buffer.from([reading]), Buffer.from(text, 'latin1')])),
  maxLength: 300,
  mutate: mutateBytes,
  run: (input) => READINGS[(input[0] ?? 0) % READINGS.length]?.(input.toString('latin1', 1)),
};
