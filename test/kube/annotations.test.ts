import { expect, it } from 'vitest';
import { ANNOTATIONS } from '../../src/kube/injector/annotations.ts';
import { greeterPod, injectPod } from '../harness/injection.ts';
import { schemaFaults } from '../harness/kubernetes-schema.ts';

/** Of each annotation, what is wrong and the sentence that tells so. */
const WRONG: Record<keyof typeof ANNOTATIONS, Array<[text: string, sentence: string]>> = {
  inject: [
    [
      'enable',
      'hauberk.mesh/inject: "enable" is not one of its values: write enabled; there are enabled or disabled',
    ],
    ['true', 'hauberk.mesh/inject: "true": write enabled'],
    ['Yes', 'hauberk.mesh/inject: "Yes": write enabled'],
    ['off', 'hauberk.mesh/inject: "off": write disabled'],
    ['', 'hauberk.mesh/inject: "" is not one of its values: write enabled or disabled'],
  ],
  ports: [
    ['grpc', 'hauberk.mesh/ports: "grpc" is not a port: write each as a number, as in 50051,50052'],
    ['50051/tcp', '"50051/tcp" is not a port: write numbers, with commas between them, as in 50051,50052'],
    ['50051-50060', '"50051-50060" is not a port: write numbers, with commas between them'],
    ['50051;50052', '"50051;50052" is not a port: write numbers, with commas between them'],
    ['0', 'hauberk.mesh/ports: "0" is not a port'],
    ['65536', 'hauberk.mesh/ports: "65536" is not a port'],
    ['50051,,50052', 'hauberk.mesh/ports: has an empty entry: remove the "," before or after it'],
    ['50051,50051', 'hauberk.mesh/ports: has "50051" twice: keep one'],
    ['50051,050051', 'hauberk.mesh/ports: "050051" is not a port'],
    ['08,8', 'hauberk.mesh/ports: has 8 twice: keep one'],
    ['50051 50052', 'hauberk.mesh/ports: "50051 50052" is not a port'],
    ['', 'hauberk.mesh/ports: is empty: give it a value, or remove the annotation'],
    [
      '15008',
      "port 15008 is both the sidecar's mesh port and one of the app's (hauberk.mesh/ports): choose another",
    ],
    [
      Array.from({ length: 65 }, (_, i) => i + 1).join(','),
      'hauberk.mesh/ports: has 65 entries: at most 64 are taken',
    ],
  ],
  upstreams: [
    [
      'greeter.shop:50051',
      'hauberk.mesh/upstreams: "greeter.shop:50051" is not an upstream: write PORT=NAME:PORT, as in 50061=greeter.shop:50051',
    ],
    [
      '50061=greeter.shop',
      'hauberk.mesh/upstreams: "greeter.shop" has no port: write "50061=greeter.shop:50051"',
    ],
    [
      'greeter.shop=50061',
      '"greeter.shop=50061" is the wrong way round: the port comes first, as in 50061=greeter.shop:50051',
    ],
    [
      '127.0.0.1:50061=a.shop:1',
      'has an address: write the port alone, which is on 127.0.0.1, as in 50061=a.shop:1',
    ],
    ['50061=http://a.shop:1', '"50061=http://a.shop:1" has a scheme: write "50061=a.shop:1"'],
    ['50061=gree ter:1', 'hauberk.mesh/upstreams: "gree ter" is not a service name'],
    [
      '50061=a:1,50061=b:1',
      'hauberk.mesh/upstreams: gives the port 50061 to two services: a port leads to one',
    ],
    [
      '80=a:1',
      'hauberk.mesh/upstreams: 80 needs a privilege that the sidecar does not have: write a port from 1024 on',
    ],
    ['50061=a:x', 'hauberk.mesh/upstreams: "x" is not a port'],
    ['50051=a:1', "port 50051 is both the port for a:1 in hauberk.mesh/upstreams and one of the app's"],
    ['50061=a:1=b', 'is not an upstream'],
  ],
  mode: [
    [
      'transparnt',
      'hauberk.mesh/mode: "transparnt" is not one of its values: write transparent; there are explicit or transparent',
    ],
  ],
  'capture-ports': [
    ['x', 'hauberk.mesh/capture-ports: "x" is not a port'],
    [
      '50051',
      'hauberk.mesh/capture-ports has no effect in explicit mode: set hauberk.mesh/mode: transparent, or remove it',
    ],
  ],
  'skip-ports': [
    ['x', 'hauberk.mesh/skip-ports: "x" is not a port'],
    ['22', 'hauberk.mesh/skip-ports has no effect in explicit mode'],
  ],
  'skip-subnets': [
    ['10.0.0.0', 'hauberk.mesh/skip-subnets: "10.0.0.0" has no length: write 10.0.0.0/32 for one address'],
    ['fd00::', 'hauberk.mesh/skip-subnets: "fd00::" has no length: write fd00::/128 for one address'],
    [
      '10.0.0.0/33',
      'hauberk.mesh/skip-subnets: "10.0.0.0/33" has the length "33": write a number from 0 to 32',
    ],
    ['example.com/8', 'hauberk.mesh/skip-subnets: "example.com/8" is not a subnet'],
    ['fe80::%eth0/64', 'is not a subnet'],
    ['10.0.0.0/8', 'hauberk.mesh/skip-subnets has no effect in explicit mode'],
  ],
  'skip-users': [
    ['envoy', 'hauberk.mesh/skip-users: "envoy" is not a user id: write a number, as in 1337'],
    ['4294967295', 'is not a user id'],
    ['0', 'hauberk.mesh/skip-users has no effect in explicit mode'],
  ],
  'mesh-port': [
    ['443', 'hauberk.mesh/mesh-port: 443 needs a privilege that the sidecar does not have'],
    ['http', 'hauberk.mesh/mesh-port: "http" is not a port'],
    ['50051', "port 50051 is both the sidecar's mesh port and one of the app's"],
  ],
  'egress-port': [
    ['443', 'hauberk.mesh/egress-port: 443 needs a privilege'],
    [
      '15008',
      "port 15008 is both the sidecar's mesh port and the sidecar's egress port: set hauberk.mesh/egress-port",
    ],
  ],
  'probe-port': [
    ['443', 'hauberk.mesh/probe-port: 443 needs a privilege'],
    [
      '15007',
      "port 15008 is both the sidecar's mesh port and the sidecar's health port (one above the probe port)",
    ],
    ['65535', 'hauberk.mesh/probe-port: 65535 leaves no port for health: choose a lower one'],
  ],
  'cpu-request': [
    ['a lot', 'hauberk.mesh/cpu-request: "a lot" is not a quantity of Kubernetes: write one as in 100m'],
    ['0', 'hauberk.mesh/cpu-request: "0" is not an amount of cores from 1m to 1024'],
    ['-1', 'is not a quantity of Kubernetes'],
  ],
  'cpu-limit': [['128Mi', 'hauberk.mesh/cpu-limit: "128Mi" is not an amount of cores']],
  'memory-request': [
    [
      '128',
      'hauberk.mesh/memory-request: "128" is not an amount of memory from 64Mi to 1Ti: that is bytes; write 128Mi',
    ],
    [
      '512Mi',
      'hauberk.mesh/memory-request: 512Mi is more than the limit of 256Mi: set hauberk.mesh/memory-limit, too',
    ],
    ['1e3', 'is not a quantity of Kubernetes: write one as in 128Mi'],
  ],
  'memory-limit': [
    [
      '10Mi',
      'hauberk.mesh/memory-limit: "10Mi" is not an amount of memory from 96Mi to 1Ti: write one as in 128Mi',
    ],
    ['95Mi', '"95Mi" is not an amount of memory from 96Mi to 1Ti'],
    ['256', 'that is bytes; write 256Mi'],
    ['64', '"64" is not an amount of memory from 96Mi to 1Ti: write one as in 128Mi'],
    ['200000000000000', 'is not an amount of memory from 96Mi to 1Ti: write one as in 128Mi'],
    ['128mb', 'hauberk.mesh/memory-limit: "128mb" is not a quantity'],
  ],
  'log-level': [
    [
      'warning',
      'hauberk.mesh/log-level: "warning" is not one of its values: write debug, info, warn, error or silent',
    ],
    ['INFO', 'hauberk.mesh/log-level: "INFO" is not one of its values: write info'],
  ],
  limits: [
    [
      '1000/60s',
      'hauberk.mesh/limits: "1000/60s" is not a limit: write SCOPE=CALLS/WINDOW, as in session=1000/60s',
    ],
    ['sesion=1/60s', 'hauberk.mesh/limits: "sesion" is not a scope: write session or peer'],
    ['session=0/60s', 'hauberk.mesh/limits: "session=0/60s" allows 0 calls: write 1 to 1000000000'],
    ['session=1/60', 'hauberk.mesh/limits: "60" has no unit: write 60s, 60ms, 60m or 60h'],
  ],
  allow: [
    ['*', 'hauberk.mesh/allow: "*" matches no SPIFFE ID, for * does not cross a /'],
    [
      'spiffe://cluster.local/ns/shop/sa/* shop.Greeter',
      'hauberk.mesh/allow: "shop.Greeter" is not a method: it begins with a /',
    ],
    ['spiffe://cluster.local/ns/a/sa/b;;', 'hauberk.mesh/allow: has an empty entry: remove the ";"'],
    [
      'spiffe://cluster.local/ns/a/sa/b, spiffe://cluster.local/ns/a/sa/c',
      'has a comma: write ; between rules, and blanks between a peer and its methods',
    ],
    [
      '/shop.Greeter/*',
      '"/shop.Greeter/*" does not say who: write a SPIFFE ID or a glob over them before the methods, as in spiffe://cluster.local/ns/shop/sa/web /shop.Greeter/*',
    ],
    ['', 'hauberk.mesh/allow: is empty'],
  ],
  identity: [
    [
      'secret',
      'hauberk.mesh/identity: "secret" is no source of an identity: write serviceaccount or secret:NAME',
    ],
    ['secret:', 'hauberk.mesh/identity: "" is not the name of a Secret'],
    ['secret:Web', 'hauberk.mesh/identity: "Web" is not the name of a Secret: lower-case letters'],
  ],
  native: [['yes', 'hauberk.mesh/native: "yes" is not one of its values: write auto, true or false']],
  'rewrite-probes': [
    ['on', 'hauberk.mesh/rewrite-probes: "on" is not one of its values: write true or false'],
  ],
  'grpc-proxy': [['1', 'hauberk.mesh/grpc-proxy: "1" is not one of its values: write true or false']],
  'no-grpc-proxy': [
    ['', 'hauberk.mesh/no-grpc-proxy: is empty'],
    ['a,,b', 'hauberk.mesh/no-grpc-proxy: has an empty entry'],
    ['a,a', 'hauberk.mesh/no-grpc-proxy: has "a" twice: keep one'],
    [
      'otel.obs:4317',
      'hauberk.mesh/no-grpc-proxy: "otel.obs:4317" has a port or brackets, and clients compare hosts without: write "otel.obs"',
    ],
    ['10.0.0.1:80', 'write "10.0.0.1"'],
    ['[fd00::1]:80', 'write "fd00::1"'],
    ['[fd00::1]', 'write "fd00::1"'],
    ['https://a.example', '"https://a.example" has a scheme: write the host alone, as in otel.obs'],
    [
      '*.googleapis.com',
      'hauberk.mesh/no-grpc-proxy: "*.googleapis.com" has a wildcard, which clients do not know: write ".googleapis.com" for all names that end so',
    ],
    ['*.googleapis.com:443', 'write ".googleapis.com" for'],
    ['*', 'call nobody through its sidecar: set hauberk.mesh/grpc-proxy: "false" if that is meant'],
    ['10.0.0.0/33', '"10.0.0.0/33" has the length "33"'],
    ['a.example/x', '"a.example/x" is not a subnet'],
    ['.', 'hauberk.mesh/no-grpc-proxy: "." is not a host: write a name or the end of one, as in otel.obs'],
    ['a..b', '"a..b" is not a host'],
    ['a b', '"a b" is not a host'],
    ['fe80::1%eth0', '"fe80::1%eth0" is not a host'],
    [`${'a'.repeat(64)}`, 'is not a host'],
  ],
};

it.each(
  Object.entries(WRONG).flatMap(([name, cases]) => cases.map(([text, sentence]) => [name, text, sentence])),
)('%s: %j is refused, and told why', (name, text, sentence) => {
  expect(() => injectPod(greeterPod({ [name as string]: text as string }))).toThrow(sentence as string);
});

it('the example of every annotation is taken, alone and all together', () => {
  const examples = Object.entries(ANNOTATIONS).map(([name, { example }]): [string, string] => [
    name,
    example,
  ]);
  for (const [name, example] of examples) {
    const mode = ANNOTATIONS[name as keyof typeof ANNOTATIONS].mode ?? 'explicit';
    const { pod } = injectPod(greeterPod({ mode, [name]: example }));
    expect(schemaFaults(pod)).toEqual([]);
  }
  const { pod } = injectPod(greeterPod(Object.fromEntries([...examples, ['capture-ports', '50051,9090']])));
  expect(schemaFaults(pod)).toEqual([]);
});

it('an annotation or label that is not known is refused with the one that was probably meant', () => {
  const sentences: Array<[string, string]> = [
    ['port', "the annotation hauberk.mesh/port is the injector's own: did you mean hauberk.mesh/ports?"],
    ['upstream', 'the annotation "hauberk.mesh/upstream" is not known: did you mean hauberk.mesh/upstreams?'],
    ['memory-limits', 'did you mean hauberk.mesh/memory-limit?'],
    [
      'version',
      "the annotation hauberk.mesh/version is the injector's own: remove it; was it copied from an injected pod?",
    ],
    [
      'sidecar',
      `the annotation "hauberk.mesh/sidecar" is not known: there are ${Object.keys(ANNOTATIONS).join(', ')}`,
    ],
    ['no-proxy', 'is not known: did you mean hauberk.mesh/grpc-proxy or hauberk.mesh/no-grpc-proxy?'],
    ['memory', 'did you mean hauberk.mesh/memory-request or hauberk.mesh/memory-limit?'],
    [
      'exclude-outbound-ports',
      'did you mean hauberk.mesh/ports or hauberk.mesh/capture-ports or hauberk.mesh/skip-ports?',
    ],
    ['__proto__', 'the annotation "hauberk.mesh/__proto__" is not known'],
    ['constructor', 'the annotation "hauberk.mesh/constructor" is not known'],
  ];
  for (const [name, sentence] of sentences)
    expect(() => injectPod(greeterPod({ [name]: 'x' }))).toThrow(sentence);
  const pod = greeterPod();
  pod.metadata.labels = { 'hauberk.mesh/mode': 'transparent', 'hauberk.mesh/injected': 'true' };
  expect(() => injectPod(pod)).toThrow(
    'hauberk.mesh/mode is a label of the pod and has no effect: make it an annotation',
  );
  pod.metadata.labels = { 'hauberk.mesh/injekt': 'enabled' };
  expect(() => injectPod(pod)).toThrow(
    'the label "hauberk.mesh/injekt" is not known: did you mean hauberk.mesh/inject?',
  );
});

it('hosts that gRPC clients understand are taken as they are written', () => {
  const hosts = 'otel.obs,.googleapis.com,Host_1,a.example.,10.0.0.1,fd00::1,10.0.0.0/8,fd00::/8';
  const { pod } = injectPod(greeterPod({ 'no-grpc-proxy': hosts }));
  expect(pod.spec.containers[0]?.env).toContainEqual({
    name: 'no_grpc_proxy',
    value: `localhost,127.0.0.1,::1,${hosts}`,
  });
});

it('hosts to call directly are refused where no container calls by grpc_proxy', () => {
  const without = 'hauberk.mesh/no-grpc-proxy has no effect, because containers of the app get no grpc_proxy';
  expect(() => injectPod(greeterPod({ 'no-grpc-proxy': 'a', 'grpc-proxy': 'false' }))).toThrow(
    `${without}: remove it, or hauberk.mesh/grpc-proxy: "false"`,
  );
  expect(() => injectPod(greeterPod({ 'no-grpc-proxy': 'a', mode: 'transparent' }))).toThrow(
    `${without}: leave out what the app calls past the sidecar by hauberk.mesh/skip-ports or hauberk.mesh/skip-subnets instead`,
  );
});

it('everything that is wrong is told at once, ten things at most', () => {
  const many = Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`q${i}`, 'x']));
  expect(() => injectPod(greeterPod({ ports: 'x', mode: 'y', 'log-level': 'z' }))).toThrow(
    /ports: .*; .*mode: .*; .*log-level: /,
  );
  expect(() => injectPod(greeterPod(many))).toThrow(/; and 2 more$/);
});

it('in transparent mode what would capture nothing, or the sidecar itself, is refused', () => {
  const transparent = (annotations: Record<string, string>) => () =>
    injectPod(greeterPod({ mode: 'transparent', ...annotations }));
  expect(transparent({ ports: 'none' })).toThrow(
    'transparent mode would redirect nothing: name the ports that the app calls in hauberk.mesh/capture-ports, as in 50051',
  );
  expect(transparent({ 'capture-ports': '15050' })).toThrow(
    "hauberk.mesh/capture-ports: 15050 is one of the sidecar's own (15001 to 15199): remove it",
  );
  expect(transparent({ 'capture-ports': '50051', ports: '15050', 'skip-ports': '15050' })).toThrow(
    "hauberk.mesh/ports: 15050 is one of the sidecar's own (15001 to 15199), which transparent mode never closes to others: have the app listen on another",
  );
  expect(transparent({ 'capture-ports': '9090', 'skip-ports': '9090' })).toThrow(
    'hauberk.mesh/skip-ports: 9090 is in hauberk.mesh/capture-ports as well: remove it from one of them',
  );
  expect(transparent({ 'mesh-port': '15101' })).toThrow(
    "port 15101 is both the sidecar's mesh port and the listener for redirected port 50051",
  );
});

it('a hook of a container that kubelet could not call any more is refused', () => {
  const pod = greeterPod({ mode: 'transparent' });
  Object.assign(pod.spec.containers[0] as object, {
    lifecycle: { preStop: { httpGet: { port: 'grpc', path: '/' } } },
  });
  expect(() => injectPod(pod)).toThrow('container "app" has a preStop hook that calls a captured port');
});

it('a limit below what the controller requests lowers the request', () => {
  const resources = { requests: { cpu: '50m', memory: '128Mi' }, limits: { memory: '256Mi' } };
  const { pod } = injectPod(greeterPod({ 'memory-limit': '96Mi', 'cpu-limit': '20m' }), { resources });
  expect(pod.spec.initContainers?.[0]?.resources).toEqual({
    requests: { cpu: '20m', memory: '96Mi' },
    limits: { cpu: '20m', memory: '96Mi' },
  });
});
