import { expect, it } from 'vitest';
import { overridableKeys } from '../../src/config/environment.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { issuesOf, LEAST, linesOf } from './samples.ts';

const parse = (env: Record<string, string | undefined>, text = LEAST) =>
  parseConfig(text, { file: '/etc/hauberk/sidecar.yaml', env });

it('a variable wins over the file and over the default', () => {
  const config = parse(
    { HAUBERK_SESSION_IDLE: '30m', HAUBERK_LOG_LEVEL: 'debug' },
    `${LEAST}session: { idle: 5m, grace: 1s }\n`,
  );
  expect(config.session).toMatchObject({ idleMs: 1_800_000, graceMs: 1_000 });
  expect(config.log.level).toBe('debug');
});

it('numbers, truth values, sizes, paths and lists of addresses can be set', () => {
  const config = parse({
    HAUBERK_SESSION_MAX_PER_PEER: '3',
    HAUBERK_EGRESS_ALLOW_NON_LOOPBACK: 'true',
    HAUBERK_EGRESS_LISTEN: '10.0.0.1:0, unix:egress.sock',
    HAUBERK_HTTP2_HEADER_LIST: '8KiB',
    HAUBERK_HTTP2_HEADER_BLOCK: '8192',
    HAUBERK_HTTP2_APP_RESET_RATIO: '0.25',
    HAUBERK_IDENTITY_KEY: 'other.key',
    HAUBERK_LIMIT_STORE_TYPE: 'redis',
    HAUBERK_LIMIT_STORE_URL: 'redis://h',
    HAUBERK_PROBES_GRPC: 'off',
  });
  expect(config.session.maxPerPeer).toBe(3);
  expect(config.egress.listen).toEqual([
    { kind: 'tcp', host: '10.0.0.1', port: 0 },
    { kind: 'unix', path: '/etc/hauberk/egress.sock' },
  ]);
  expect(config.http2).toMatchObject({ headerListSize: 8_192, headerBlockSize: 8_192, appResetRatio: 0.25 });
  expect(config.identity.key).toBe('/etc/hauberk/other.key');
  expect(config.limitStore).toEqual({ type: 'redis', url: 'redis://h', timeoutMs: 200 });
  expect(config.probes.grpc).toEqual([]);
});

it('required keys may come from variables alone, with an empty file', () => {
  const env = {
    HAUBERK_TRUST_DOMAIN: 'shop.example',
    HAUBERK_IDENTITY_SVID: 'a',
    HAUBERK_IDENTITY_KEY: 'b',
    HAUBERK_IDENTITY_BUNDLE: 'c',
  };
  expect(parse(env, '').identity.svid).toBe('/etc/hauberk/a');
});

it('the addresses of a pod come as Kubernetes gives them', () => {
  expect(parse({ HAUBERK_POD_IPS: '10.1.2.3,FD00::0:3' }).ingress.podAddresses).toEqual([
    '10.1.2.3',
    'fd00::3',
  ]);
  expect(parse({ HAUBERK_POD_IPS: '10.1.2.3' }).ingress.podAddresses).toEqual(['10.1.2.3']);
  expect(linesOf(LEAST, { HAUBERK_POD_IPS: '10.1.2.3:80' })).toEqual([
    'HAUBERK_POD_IPS invalid-value ingress.podAddresses: "10.1.2.3:80" is not an IP address: write 10.1.2.3 or fd00::3, without a port',
  ]);
});

it('a mistake in a variable names the variable', () => {
  expect(linesOf(LEAST, { HAUBERK_SESSION_IDLE: '5' })).toEqual([
    'HAUBERK_SESSION_IDLE invalid-value session.idle: "5" has no unit: write 5s, 5ms, 5m or 5h',
  ]);
  expect(linesOf(LEAST, { HAUBERK_SESSION_MAX: 'many' })[0]).toMatch(
    /^HAUBERK_SESSION_MAX wrong-type session\.max/,
  );
  expect(linesOf(LEAST, { HAUBERK_EGRESS_LISTEN: '127.0.0.1:1,x' })[0]).toMatch(
    /^HAUBERK_EGRESS_LISTEN invalid-value egress\.listen\[1\]/,
  );
  expect(linesOf(LEAST, { HAUBERK_SESSION_IDLE: '9h' })[0]).toMatch(
    /^HAUBERK_SESSION_IDLE conflict session\.idle/,
  );
});

it('an unknown HAUBERK_ name is refused with the nearest valid one', () => {
  expect(linesOf(LEAST, { HAUBERK_SESION_IDLE: '5h' })).toEqual([
    'HAUBERK_SESION_IDLE unknown-variable unknown variable: did you mean HAUBERK_SESSION_IDLE?',
  ]);
  expect(linesOf(LEAST, { HAUBERK_WHATEVER_ELSE: '5h' })).toEqual([
    'HAUBERK_WHATEVER_ELSE unknown-variable unknown variable: unset it',
  ]);
  expect(issuesOf(LEAST, { HAUBERK_LIMITS_0_SCOPE: 'peer' })[0].code).toBe('unknown-variable');
});

it('empty variables, other programs names and those that Kubernetes sets for a Service are passed over', () => {
  const env = {
    HAUBERK_SESSION_IDLE: '',
    HAUBERK_NONSENSE: '',
    hauberk_session_idle: '5h',
    PATH: '/bin',
    HAUBERK_SERVICE_HOST: '10.96.0.1',
    HAUBERK_SERVICE_PORT: '443',
    HAUBERK_SERVICE_PORT_GRPC: '443',
    HAUBERK_PORT: 'tcp://10.96.0.1:443',
    HAUBERK_PORT_443_TCP: 'tcp://10.96.0.1:443',
    HAUBERK_PORT_443_TCP_PROTO: 'tcp',
    HAUBERK_PORT_443_TCP_PORT: '443',
    HAUBERK_PORT_443_TCP_ADDR: '10.96.0.1',
    HAUBERK_CONTROLLER_SERVICE_HOST: '10.96.0.2',
    HAUBERK_CONTROLLER_PORT_443_TCP_ADDR: '10.96.0.2',
  };
  expect(parse(env)).toEqual(parse({}));
});

it('every variable names one key, and none looks like one of Kubernetes', () => {
  const variables = overridableKeys().map(({ variable }) => variable);
  expect(new Set(variables).size).toBe(variables.length);
  expect(variables.length).toBeGreaterThan(60);
  for (const variable of variables) {
    expect(variable).toMatch(/^HAUBERK_[A-Z0-9]+(_[A-Z0-9]+)*$/);
  }
});

it('every variable takes the example of its key', () => {
  for (const { variable, node } of overridableKeys()) {
    const issues = issuesOf(LEAST, { [variable]: String(node.examples?.[0]) });
    const own = issues.filter((issue) => issue.variable === variable && issue.code !== 'missing-key');
    const codes = own.map((issue) => issue.code).filter((code) => code !== 'conflict');
    expect([variable, codes]).toEqual([variable, []]);
  }
});

it('the variable that holds a whole configuration is no key', () => {
  expect(parse({ HAUBERK_CONFIG: 'log: { level: debug }' })).toEqual(parse({}));
});

it('a variable below something that is no mapping leaves the complaint to the file', () => {
  expect(linesOf(`${LEAST}session: 5`, { HAUBERK_SESSION_IDLE: '1h' })).toEqual([
    '3:10 wrong-type session: expected a mapping (lines of key: value), found the number 5',
  ]);
});
