import { describe, expect, it } from 'vitest';
import { renderIssue } from '../../src/config/errors.ts';
import { COMPLETE, issuesOf, LEAST, linesOf } from './samples.ts';

const ROUTE = (more: string) =>
  `egress: { routes: [{ service: a, endpoints: "a:1", peer: "spiffe://shop.example/a"${more} }] }\n`;

const CONTROLLER =
  'controller: { address: "c:15010", peer: "spiffe://shop.example/c", token: /t, bundle: /b }\n';

/** What follows the two lines of LEAST, and the one issue that it must give. */
const TABLE: Array<[text: string, line: string]> = [
  // Names
  ['session: { idel: 1h }', '3:12 unknown-key session.idel: unknown key: did you mean idle?'],
  [
    'session:\n  max_per_peer: 3',
    '4:3 unknown-key session.max_per_peer: unknown key: did you mean maxPerPeer?',
  ],
  ['Session: {}', '3:1 unknown-key Session: unknown key: did you mean session?'],
  ['idle: 1h', '3:1 unknown-key idle: unknown key: did you mean session.idle?'],
  ['sesssions: {}', '3:1 unknown-key sesssions: unknown key: did you mean session?'],
  ['zzz: {}', '3:1 unknown-key zzz: unknown key. Known here: trustDomain'],
  ['__proto__: { x: 1 }', '3:1 unknown-key __proto__: unknown key. Known here:'],
  ['log: { constructor: 1 }', '3:8 unknown-key log.constructor: unknown key. Known here: level'],
  [
    ROUTE(', listn: "127.0.0.1:1"'),
    '3:85 unknown-key egress.routes[0].listn: unknown key: did you mean listen?',
  ],
  [
    'monitoring: { adapters: [{ file: { pth: x, path: y } }] }',
    '3:36 unknown-key monitoring.adapters[0].file.pth: unknown key: did you mean path?',
  ],
  [
    'monitoring: { adapters: [{ stdout: { x: 1 } }] }',
    '3:38 unknown-key monitoring.adapters[0].stdout.x: unknown key. No keys belong here',
  ],
  ['session:\n  "a\\u0007\\u2028b": 1', '4:3 unknown-key session."a\\u0007\\u2028b": unknown key.'],
  ['<<: { log: {} }', '3:1 unknown-key "<<": unknown key.'],
  // Admin
  [
    'admin: { listen: 10.0.0.1:15000 }',
    '3:18 conflict admin.listen: 10.0.0.1:15000 is not loopback, and whoever reaches the admin API can end every session: listen on unix:/run/hauberk/admin.sock, or on 127.0.0.1 with an admin.token',
  ],
  ['admin: { listen: 0.0.0.0:15000, token: t }', '3:18 conflict admin.listen: 0.0.0.0:15000 is not loopback'],
  [
    'admin: { listen: 127.0.0.1:15000 }',
    '3:18 conflict admin.listen: every program of this machine or pod reaches 127.0.0.1:15000: listen on a Unix socket, or name a file with a secret in admin.token',
  ],
  [
    'admin: { listen: 127.0.0.1:15001, token: t }',
    '3:18 conflict admin.listen: 127.0.0.1:15001 is taken: egress.listen binds 127.0.0.1:15001',
  ],
  // The control plane
  [
    'controller: { address: "c:15010", token: t, bundle: b }',
    '3:1 missing-key controller.peer is missing: expected a SPIFFE ID, as in spiffe://shop.example/ns/hauberk-system/sa/hauberk-controller',
  ],
  [
    'controller: { address: "c:15010", token: t, peer: "spiffe://shop.example/c" }',
    '3:1 conflict controller.bundle: missing: name the file of the CA certificates, or write them in bundlePem',
  ],
  [
    'controller: { address: "c:15010", token: t, peer: "spiffe://shop.example/c", bundle: b, bundlePem: "-----BEGIN CERTIFICATE-----" }',
    '3:100 conflict controller.bundlePem: there is a controller.bundle already: keep one of the two',
  ],
  [
    'controller: { address: "c:15010", token: t, peer: "spiffe://shop.example/c", bundlePem: keys/bundle.pem }',
    '3:89 invalid-value controller.bundlePem: "keys/bundle.pem" holds no certificate: write PEM text that begins with -----BEGIN CERTIFICATE-----',
  ],
  [
    'controller: { address: "c:15010", token: t, peer: "spiffe://other.example/c", bundle: b }',
    '3:51 conflict controller.peer: the controller is in the trust domain other.example, and this is shop.example',
  ],
  [
    'controller: { address: "c", token: t, peer: "spiffe://shop.example/c", bundle: b }',
    '3:24 invalid-value controller.address: "c" has no port',
  ],
  // Types
  [
    'session: { idle: 60 }',
    '3:18 wrong-type session.idle: expected a duration, as in 1h, found the number 60',
  ],
  [
    'session: { max: many }',
    '3:17 wrong-type session.max: expected a whole number from 1 to 1000000, as in 10000, found "many"',
  ],
  [
    'session: { max: 1.5 }',
    '3:17 wrong-type session.max: expected a whole number from 1 to 1000000, as in 10000, found the number 1.5',
  ],
  ['session: { max: .nan }', '3:17 wrong-type session.max: expected a whole number'],
  ['session: []', '3:10 wrong-type session: expected a mapping (lines of key: value), found a list'],
  [
    'session:',
    '3:9 wrong-type session: expected a mapping (lines of key: value), found nothing; give it a value, or remove the key',
  ],
  [
    'egress: { allowNonLoopback: yes }',
    '3:29 wrong-type egress.allowNonLoopback: expected true or false, found "yes"',
  ],
  [
    'egress: { listen: 15001 }',
    '3:19 wrong-type egress.listen: expected an address to listen on, or a list of them, as in localhost:15001, found the number 15001',
  ],
  [
    'egress: { routes: { a: b } }',
    '3:19 wrong-type egress.routes: expected a list (lines that begin with -), found a mapping',
  ],
  ['limits: [5]', '3:10 wrong-type limits[0]: expected a mapping (lines of key: value), found the number 5'],
  [
    'monitoring: { adapters: [5] }',
    '3:26 wrong-type monitoring.adapters[0]: expected stdout or a mapping (stdout, file, module, options), found the number 5',
  ],
  ['15001: x', '3:1 wrong-type this key is not text: put it into quotes'],
  ['? [a, b]\n: c', '3:3 wrong-type this key is not text: put it into quotes'],
  // Missing
  [
    ROUTE(', peer: x').replace('endpoints: "a:1", ', '').replace(', peer: x', ''),
    '3:20 missing-key egress.routes[0].endpoints is missing: expected an address to dial, or a list of them, as in 10.1.2.3:15008, or discovery: true, by which the controller tells it',
  ],
  [
    'monitoring: { adapters: [{ file: {} }] }',
    '3:28 missing-key monitoring.adapters[0].file.path is missing: expected a path, as in audit.jsonl',
  ],
  ['limitStore: { type: redis }', '3:1 conflict limitStore.url: missing: a Redis store needs it'],
  // Values
  ['policy: opn', '3:9 invalid-value policy: expected one of enforce, open, found "opn"; did you mean open?'],
  [
    'session: { idle: 60x }',
    '3:18 invalid-value session.idle: "60x" is not a duration: write a number and one of ms, s, m, h, d, as in 60s',
  ],
  [
    'session: { idle: "60" }',
    '3:18 invalid-value session.idle: "60" has no unit: write 60s, 60ms, 60m or 60h',
  ],
  ['session: { idle: 0s }', '3:18 invalid-value session.idle: expected 1s to 30d, found "0s"'],
  [
    'session: { max: 0 }',
    '3:17 invalid-value session.max: expected 1 to 1000000 (sessions), found the number 0',
  ],
  ['http2: { headerList: 64kB }', '3:22 invalid-value http2.headerList: "64kB" is not a size'],
  [
    'http2: { headerList: 100 }',
    '3:22 invalid-value http2.headerList: expected 4KiB to 1MiB, found the number 100',
  ],
  ['http2: { headerList: 2MiB }', '3:22 invalid-value http2.headerList: expected 4KiB to 1MiB, found "2MiB"'],
  [
    'http2: { appResetRatio: 1.1 }',
    '3:25 invalid-value http2.appResetRatio: expected 0 to 1 (share), found the number 1.1',
  ],
  [
    'http2: { appResetRatio: .inf }',
    '3:25 wrong-type http2.appResetRatio: expected a number from 0 to 1, as in 0.5, found the number Infinity',
  ],
  [
    'limits: [{ scope: peer, maxRequests: 0, window: 60s }]',
    '3:38 invalid-value limits[0].maxRequests: expected 1 to 1000000000 (calls), found the number 0',
  ],
  [
    'limits: [{ scope: peer, maxRequests: 1, window: 999ms }]',
    '3:49 invalid-value limits[0].window: expected 1s to 1d, found "999ms"',
  ],
  [
    'egress: { listen: [] }',
    '3:19 invalid-value egress.listen: the list is empty: expected at least one entry',
  ],
  [
    'ingress: { allow: [{ peer: "spiffe://shop.example/a", methods: [] }] }',
    '3:64 invalid-value ingress.allow[0].methods: the list is empty',
  ],
  [
    'ingress: { allow: [{ peer: "*" }] }',
    '3:28 invalid-value ingress.allow[0].peer: "*" matches no SPIFFE ID, for * does not cross a /: write spiffe://shop.example/ns/*/sa/*',
  ],
  [
    'ingress: { allow: [{ peer: "spiffe://shop.example/**" }] }',
    '3:28 invalid-value ingress.allow[0].peer: "spiffe://shop.example/**" has **',
  ],
  [
    'ingress: { allow: [{ peer: "spiffe://shop.example/a", methods: ["*"] }] }',
    '3:65 invalid-value ingress.allow[0].methods[0]: "*" is not a method: it begins with a /',
  ],
  [
    ROUTE('').replace('shop.example/a', 'shop.example/*'),
    '3:58 invalid-value egress.routes[0].peer: "spiffe://shop.example/*" has a *',
  ],
  [
    ROUTE('').replace('"a:1"', '"10.0.0.1"'),
    '3:45 invalid-value egress.routes[0].endpoints: "10.0.0.1" has no port: write 10.0.0.1:15008',
  ],
  [
    ROUTE('').replace('"a:1"', '["b:1", "a:0"]'),
    '3:53 invalid-value egress.routes[0].endpoints[1]: "a:0" has the port "0": ports are 1 to 65535',
  ],
  [
    'probes: { http: "example.com:80" }',
    '3:17 invalid-value probes.http: "example.com:80" cannot be bound: example.com is not an IP address',
  ],
  [
    'probes: { grpc: "127.0.0.1:65536" }',
    '3:17 invalid-value probes.grpc: "127.0.0.1:65536" has the port "65536": ports are 0 to 65535',
  ],
  [
    'monitoring: { adapters: [stdut] }',
    '3:26 invalid-value monitoring.adapters[0]: expected stdout or a mapping (stdout, file, module, options), found "stdut"; did you mean stdout?',
  ],
  [
    'monitoring: { adapters: [{ module: "https://x/y.mjs" }] }',
    '3:36 invalid-value monitoring.adapters[0].module: "https://x/y.mjs" is neither a path',
  ],
  // Rules between keys
  [
    'egress: { listen: "0.0.0.0:15001" }',
    '3:19 conflict egress.listen: 0.0.0.0:15001 is not loopback, and calls would arrive there in plaintext',
  ],
  [ROUTE(', listen: "10.0.0.1:5"'), '3:93 conflict egress.routes[0].listen: 10.0.0.1:5 is not loopback'],
  [
    'ingress: { apps: [{ service: a, address: "10.0.0.1:5" }] }',
    '3:42 conflict ingress.apps[0].address: 10.0.0.1:5 is not loopback',
  ],
  [
    'ingress: { apps: [{ service: a, address: "127.0.0.1:15008" }] }',
    "3:42 conflict ingress.apps[0].address: 0.0.0.0:15008 is this sidecar's own ingress.listen",
  ],
  [
    'ingress:\n  apps:\n    - { service: a.b, address: "127.0.0.1:5" }\n    - { service: A.B.svc, address: "127.0.0.1:6" }',
    '6:18 conflict ingress.apps[1].service: a.b.svc has an app already (line 5)',
  ],
  [
    'ingress: { apps: [{ service: "*", address: "unix:/app.sock" }] }',
    '3:44 conflict ingress.apps[0].address: an app for "*" is told by its port, and unix:/app.sock has none: give host:port',
  ],
  [
    'ingress:\n  apps:\n    - { service: "*", address: "127.0.0.1:5" }\n    - { service: "*", address: "127.0.0.1:6" }\n    - { service: "*", address: "[::1]:5" }',
    '7:32 conflict ingress.apps[2].address: "*" has an app on port 5 already (line 5): keep one',
  ],
  [
    'egress:\n  redirects:\n    - { port: 5, listen: "127.0.0.1:1" }\n    - { port: 5, listen: "127.0.0.1:2" }',
    '6:15 conflict egress.redirects[1].port: port 5 has a listener already (line 5): keep one',
  ],
  [
    'egress: { redirects: [{ port: 5, listen: "0.0.0.0:15101" }] }',
    '3:42 conflict egress.redirects[0].listen: 0.0.0.0:15101 is not loopback',
  ],
  [
    'egress: { redirects: [{ port: 5, listen: "127.0.0.1:15001" }] }',
    '3:42 conflict egress.redirects[0].listen: 127.0.0.1:15001 is taken: egress.listen binds 127.0.0.1:15001',
  ],
  [
    ROUTE('').replace('service: a', 'service: "a:5"'),
    '3:31 conflict egress.routes[0].service: "a:5" has a port: write a and put the port into authorities',
  ],
  [
    ROUTE('').replace('service: a', 'service: "a:0"'),
    '3:31 invalid-value egress.routes[0].service: "a:0" has the port "0": ports are 1 to 65535',
  ],
  [
    `${CONTROLLER}${ROUTE(', discovery: true').replace(', peer: "spiffe://shop.example/a"', '')}`,
    '4:45 conflict egress.routes[0].endpoints: the controller tells it, for discovery is true: remove one of the two',
  ],
  ['egress: { discovery: true }', '3:22 conflict egress.discovery: there is no controller to ask'],
  [
    'egress: { routes: [{ service: a, discovery: true }] }',
    '3:45 conflict egress.routes[0].discovery: there is no controller to ask: add the section controller',
  ],
  [
    'egress: { namespace: Shop }',
    '3:22 invalid-value egress.namespace: "Shop" is not the name of a namespace',
  ],
  [
    'egress: { redirects: [{ port: 5, listen: "off" }] }',
    '3:42 conflict egress.redirects[0].listen: cannot be off: remove the entry instead',
  ],
  [
    'ingress: { listen: "127.0.0.1:15020" }',
    '3:20 conflict ingress.listen: 127.0.0.1:15020 is taken: probes.http binds 0.0.0.0:15020; choose another',
  ],
  [
    'probes: { http: "127.0.0.1:9", grpc: "0.0.0.0:9" }',
    '3:38 conflict probes.grpc: 0.0.0.0:9 is taken: probes.http binds 127.0.0.1:9',
  ],
  [
    'probes: { http: ["[::1]:9", "[0:0::0:1]:9"], grpc: "off" }',
    '3:29 conflict probes.http[1]: [::1]:9 is taken: probes.http binds [::1]:9',
  ],
  [
    'egress: { listen: ["unix:/a", "unix:///a"] }',
    '3:31 conflict egress.listen[1]: unix:/a is taken: egress.listen binds unix:/a',
  ],
  [
    ROUTE(', listen: "127.0.0.1:15001"'),
    '3:93 conflict egress.routes[0].listen: 127.0.0.1:15001 is taken: egress.listen binds 127.0.0.1:15001',
  ],
  [
    ROUTE('').replace('shop.example/a', 'other.example/a'),
    '3:58 conflict egress.routes[0].peer: the peer is in the trust domain other.example, which identity.bundle cannot vouch for: peers are in shop.example',
  ],
  [
    'ingress: { allow: [{ peer: "spiffe://other.example/*" }] }',
    '3:28 conflict ingress.allow[0].peer: the rule can never match: peers are in the trust domain shop.example, not in other.example',
  ],
  [
    ROUTE('').replace('"a:1"', '["a:1", "A:1"]'),
    '3:53 conflict egress.routes[0].endpoints[1]: a:1 is listed twice: keep one',
  ],
  [
    'limits:\n  - { scope: peer, maxRequests: 1, window: 60s }\n  - { scope: peer, maxRequests: 2, window: 1m }',
    '5:5 conflict limits[1]: a second limit has the scope peer and the window 1m: keep one',
  ],
  ['limitStore: { url: "redis://h" }', '3:20 conflict limitStore.url: only a Redis store has one'],
  ['monitoring: { adapters: [{}] }', '3:26 conflict monitoring.adapters[0]: none of stdout, file and module'],
  [
    'monitoring: { adapters: [{ options: {} }] }',
    '3:26 conflict monitoring.adapters[0]: none of stdout, file and module',
  ],
  [
    'monitoring: { adapters: [{ stdout: {}, file: { path: x } }] }',
    '3:26 conflict monitoring.adapters[0]: several of stdout, file and module',
  ],
  [
    'monitoring: { adapters: [{ stdout: {}, options: {} }] }',
    '3:49 conflict monitoring.adapters[0].options: options are for a module only',
  ],
  [
    'monitoring: { adapters: [{ file: { path: x } }, { file: { path: ./x } }] }',
    '3:49 conflict monitoring.adapters[1]: a second adapter writes to "/etc/hauberk/x"',
  ],
  [
    'session: { idle: 9h }',
    '3:18 conflict session.idle: session.idle (9h) is more than session.absolute (8h): lower it, or raise the other',
  ],
  [
    'session: { max: 10 }',
    '3:17 conflict session.max: session.maxPerPeer (64) is more than session.max (10)',
  ],
  [
    'http2: { maxWindow: 32KiB }',
    '3:21 conflict http2.maxWindow: http2.initialWindow (64KiB) is more than http2.maxWindow (32KiB)',
  ],
  [
    'handshake: { maxHalfOpen: 2 }',
    '3:27 conflict handshake.maxHalfOpen: handshake.maxHalfOpenPerAddress (16) is more than',
  ],
];

describe('a mistake is named with its place and cure', () => {
  it.each(TABLE)('%s', (text, line) => {
    const issues = linesOf(`${LEAST}${text}`);
    expect(issues).toHaveLength(1);
    expect(issues[0]).toContain(line);
    expect(issues[0].startsWith(line.split(' ', 1)[0] + ' ')).toBe(true);
  });
});

it('an identity of the controller needs one, and nobody else renews it', () => {
  const identity = (more: string) => LEAST.replace(' }', `, issuer: controller${more} }`);
  expect(linesOf(identity(''))).toEqual([
    '2:85 conflict identity.issuer: there is no controller: add the section controller, or use issuer: files',
  ]);
  const controller = 'controller: { address: "c:1", token: t, peer: "spiffe://shop.example/c", bundle: b }\n';
  expect(linesOf(identity('') + controller)).toEqual([]);
  expect(linesOf(identity(', renew: true') + controller)).toEqual([
    '2:104 conflict identity.renew: the controller renews this identity: remove renew, or use issuer: files',
  ]);
});

it('names that belong to two routes are refused, whatever their case and form', () => {
  const route = (service: string, authorities: string) =>
    `    - { service: ${service}, authorities: [${authorities}], endpoints: "x:1", peer: "spiffe://shop.example/x" }\n`;
  const routes = (...all: string[]) => `${LEAST}egress:\n  routes:\n${all.join('')}`;
  expect(linesOf(routes(route('a.shop', ''), route('A.shop', '')))).toEqual([
    '6:18 conflict egress.routes[1].service: a.shop already belongs to the route of a.shop (line 5): a name belongs to one route',
  ]);
  for (const [one, two] of [
    ['x', 'X'],
    ['a.shop', 'a.shop.svc.cluster.local'],
    ['"x:1"', '"X:1"'],
    ['"*.a"', '"*.A"'],
    ['"*"', '"*"'],
    ['"[::1]"', '"[0::1]"'],
  ]) {
    const issues = issuesOf(routes(route('s', one), route('t', two)));
    expect(issues.map((issue) => [issue.code, issue.line, issue.key])).toEqual([
      ['conflict', 6, 'egress.routes[1].authorities'],
    ]);
  }
  expect(issuesOf(routes(route('s', 'x, "x:1", s'), route('t', '"x:2", "*.x"')))).toEqual([]);
});

it('all mistakes of a file are told at once, in its order, those of variables last', () => {
  const text = `trustDomain: Shop
identiti: {}
session: { idle: 60, idle: 5h, max: -1 }
log: { level: loud }
limits: [{ scope: peer, maxRequests: 1, window: 1m }, { scope: peer, maxRequests: 2, window: 1m }]
`;
  const issues = issuesOf(text, { HAUBERK_DRAIN_DEADLINE: '5', HAUBERK_X: '1' });
  expect(issues.map(({ code, line, key, variable }) => [code, line ?? variable, key])).toEqual([
    ['missing-key', 1, 'identity'],
    ['invalid-value', 1, 'trustDomain'],
    ['unknown-key', 2, 'identiti'],
    ['wrong-type', 3, 'session.idle'],
    ['duplicate-key', 3, 'session.idle'],
    ['invalid-value', 3, 'session.max'],
    ['invalid-value', 4, 'log.level'],
    ['conflict', 5, 'limits[1]'],
    ['invalid-value', 'HAUBERK_DRAIN_DEADLINE', 'drain.deadline'],
    ['unknown-variable', 'HAUBERK_X', undefined],
  ]);
});

it('thousands of mistakes give a bounded message', () => {
  const keys = Array.from({ length: 3_000 }, (_, i) => `  k${i}: 1`).join('\n');
  const { length } = issuesOf(`${LEAST}session:\n${keys}\n`);
  expect(length).toBe(1_000);
});

it('an empty file lacks the required keys, and an empty one besides variables too', () => {
  for (const text of ['', '# nothing\n', '---\n', 'null']) {
    expect(issuesOf(text).map((issue) => [issue.code, issue.key])).toEqual([
      ['missing-key', 'trustDomain'],
      ['missing-key', 'identity'],
    ]);
  }
});

it('a file that is not a mapping is refused', () => {
  for (const text of ['5', 'text', '[1, 2]'])
    expect(issuesOf(text)[0]).toMatchObject({ code: 'wrong-type', line: 1 });
});

it('secrets are in no message', () => {
  const secret = 'hunter2';
  const texts = [
    `limitStore: { type: redis, url: "http://:${secret}@h" }`,
    `limitStore: { type: redis, url: ["redis://:${secret}@h"] }`,
    `limitStore: "redis://:${secret}@h"`,
    `limitStore: { type: memory, url: "redis://:${secret}@h" }`,
    `limitStore: { url: "redis://:${secret}@h, }`,
    `limitStore: { url: redis://:${secret}@h\n  x: [`,
  ];
  for (const text of texts) {
    const issues = issuesOf(LEAST + text);
    expect(issues.length).toBeGreaterThan(0);
    expect(JSON.stringify(issues)).not.toContain(secret);
  }
  expect(JSON.stringify(issuesOf(LEAST, { HAUBERK_LIMIT_STORE_URL: `ftp://${secret}` }))).not.toContain(
    secret,
  );
});

it('an issue is rendered as file:line:column, or with its variable', () => {
  expect(renderIssue('a.yaml', { code: 'unknown-key', line: 3, column: 5, message: 'x' })).toBe(
    'a.yaml:3:5: x',
  );
  expect(renderIssue('a.yaml', { code: 'invalid-value', variable: 'HAUBERK_A', message: 'x' })).toBe(
    'a.yaml: x (from HAUBERK_A)',
  );
});

it('no control character of a value gets into a message', () => {
  const issues = issuesOf(`${LEAST}probes: { http: "127.0.0.\\x1b[31m\\x03:1", grpc: "\\u202e:x" }\n`);
  expect(issues.length).toBeGreaterThan(0);
  for (const { message } of issues) expect(message).not.toMatch(/[\x00-\x1f\x7f-\x9f\u202e]/);
});

it('the complete file has no mistakes', () => {
  expect(issuesOf(COMPLETE)).toEqual([]);
});
