// Every annotation that a pod may have, the one source of docs/kubernetes-annotations.md (a test holds its table against
// this one) and of what is refused. inject.ts tells whether a pod is injected at all.
import { nearest } from '../../config/nearest.ts';
import { quote } from '../../config/pointer.ts';
import {
  parseAllow,
  parseCpu,
  parseFlag,
  parseHosts,
  parseIdentity,
  parseLimits,
  parseMemoryLimit,
  parseMemoryRequest,
  parseOwnPort,
  parsePorts,
  parsePortsOrNone,
  parseSubnets,
  parseUpstreams,
  parseUsers,
  parseWord,
} from './annotationvalues.ts';
import { AnnotationError } from './errors.ts';
import { PREFIX, WRITTEN } from './names.ts';

interface Annotation<T> {
  readonly default: string;
  readonly example: string;
  readonly means: string;
  /** Only in this mode does it have a meaning. */
  readonly mode?: 'transparent';
  /** Throws AnnotationError. */
  parse(text: string): T;
}

const annotation = <T>(definition: Annotation<T>): Annotation<T> => definition;
const transparent = { mode: 'transparent' } as const;

/** By the name after `hauberk.mesh/`. */
export const ANNOTATIONS = {
  inject: annotation({
    default: 'that of the namespace',
    example: 'enabled',
    means:
      '`enabled` or `disabled`. A label of the same name on the pod says the same, one on the namespace speaks for its pods; the pod wins',
    parse: parseWord(['enabled', 'disabled']),
  }),
  ports: annotation({
    default: 'TCP ports of its containers whose name begins with `grpc` or `h2c`',
    example: '50051,50052',
    means:
      'Where the app serves plaintext gRPC; peers reach these ports and no others. `none`: it only calls',
    parse: parsePortsOrNone,
  }),
  upstreams: annotation({
    default: 'none',
    example: '50061=greeter.shop:50051',
    means:
      'Ports on 127.0.0.1 that lead to a service each, whatever the app says: for clients that know no `grpc_proxy`',
    parse: parseUpstreams,
  }),
  mode: annotation({
    default: '`injector.mode` of the controller',
    example: 'transparent',
    means:
      '`explicit`: the app calls through `grpc_proxy` or an upstream port, without any privilege. `transparent`: an init container redirects what the app calls',
    parse: parseWord(['explicit', 'transparent']),
  }),
  'capture-ports': annotation({
    ...transparent,
    default: '`ports`',
    example: '50051,9090',
    means: 'Ports that the app calls and that are redirected to the sidecar',
    parse: parsePorts,
  }),
  'skip-ports': annotation({
    ...transparent,
    default: 'none',
    example: '50052',
    means: 'Ports that the app calls and that are not redirected. Nobody reaches `ports` because of it',
    parse: parsePorts,
  }),
  'skip-subnets': annotation({
    ...transparent,
    default: 'none',
    example: '10.9.0.0/16,fd00::/8',
    means: 'Destinations whose ports are not redirected. Nobody there reaches `ports` because of it',
    parse: parseSubnets,
  }),
  'skip-users': annotation({
    ...transparent,
    default: 'none',
    example: '1337',
    means: 'Numeric users whose calls are not redirected',
    parse: parseUsers,
  }),
  'mesh-port': annotation({
    default: '`15008`',
    example: '15108',
    means: 'Where peers connect',
    parse: parseOwnPort,
  }),
  'egress-port': annotation({
    default: '`15001`',
    example: '15011',
    means: 'Where the app connects, on loopback',
    parse: parseOwnPort,
  }),
  'probe-port': annotation({
    default: '`15020`',
    example: '15030',
    means: 'HTTP probes and metrics; `grpc.health.v1` is on the next port',
    parse: parseOwnPort,
  }),
  'cpu-request': annotation({
    default: "the controller's `injector.resources`",
    example: '50m',
    means: 'CPU that the sidecar is promised',
    parse: parseCpu,
  }),
  'cpu-limit': annotation({
    default: "the controller's `injector.resources`",
    example: '1',
    means: 'CPU that it may use',
    parse: parseCpu,
  }),
  'memory-request': annotation({
    default: "the controller's `injector.resources`",
    example: '96Mi',
    means: 'Memory that the sidecar is promised',
    parse: parseMemoryRequest,
  }),
  'memory-limit': annotation({
    default: "the controller's `injector.resources`",
    example: '256Mi',
    means: 'Memory that it may use, 96Mi or more: with less it would be killed under load',
    parse: parseMemoryLimit,
  }),
  'log-level': annotation({
    default: '`injector.logLevel` of the controller',
    example: 'debug',
    means: 'Least severe log line: `debug`, `info`, `warn`, `error` or `silent`',
    parse: parseWord(['debug', 'info', 'warn', 'error', 'silent']),
  }),
  limits: annotation({
    default: 'none',
    example: 'session=1000/60s,peer=5000/60s',
    means: 'Calls that peers may make: of a session, and of a peer over all its sessions',
    parse: parseLimits,
  }),
  allow: annotation({
    default: 'nobody, unless `injector.policy` of the controller is `open`',
    example: 'spiffe://cluster.local/ns/shop/sa/* /shop.Greeter/*; spiffe://cluster.local/ns/ops/sa/probe',
    means:
      'Who may call: rules that `;` parts, each a glob over SPIFFE IDs and, if not all, over methods. With it nobody else may, whatever `injector.policy` says',
    parse: parseAllow,
  }),
  identity: annotation({
    default: '`serviceaccount`',
    example: 'secret:web-svid',
    means:
      "`serviceaccount`: the controller certifies the pod's service account. `secret:NAME`: `tls.crt`, `tls.key` and `ca.crt` of a Secret",
    parse: parseIdentity,
  }),
  native: annotation({
    default: '`injector.native` of the controller',
    example: 'true',
    means:
      '`true`: a native sidecar, which Kubernetes knows from 1.29 on. `false`: a container beside the app. `auto`: native if the API server knows it',
    parse: parseWord(['auto', 'true', 'false']),
  }),
  'rewrite-probes': annotation({
    default: '`true` in transparent mode, else `false`',
    example: 'true',
    means: "Whether kubelet's probes of `ports` go to the sidecar, which makes them over loopback",
    parse: parseFlag,
  }),
  'grpc-proxy': annotation({
    default: '`true` in explicit mode, else `false`',
    example: 'true',
    means:
      'Whether containers of the app get `grpc_proxy` and `no_grpc_proxy`, unless they have a `grpc_proxy` of their own in `env` (what `envFrom` brings is not seen, and is overridden)',
    parse: parseFlag,
  }),
  'no-grpc-proxy': annotation({
    default: 'none',
    example: 'otel.obs,.googleapis.com',
    means:
      'Who is called past the sidecar in spite of `grpc_proxy`, because it is not of the mesh: hosts, ends of their names (`.googleapis.com`), addresses and subnets, without ports, for clients compare none',
    parse: parseHosts,
  }),
} as const;

type AnnotationName = keyof typeof ANNOTATIONS;

/** What a pod's annotations say, parsed. */
export type AnnotationValues = {
  readonly [K in AnnotationName]?: ReturnType<(typeof ANNOTATIONS)[K]['parse']>;
};

const NAMES = Object.keys(ANNOTATIONS) as AnnotationName[];
const isName = (name: string): name is AnnotationName => Object.hasOwn(ANNOTATIONS, name);

function unknown(sort: string, name: string): string {
  const near = nearest(name, NAMES);
  const words = name.toLowerCase().split(/[-_.]/);
  const alike =
    near === undefined
      ? NAMES.filter((each) => each.split('-').some((word) => words.includes(word)))
      : [near];
  const cure =
    alike.length === 0
      ? `there are ${NAMES.join(', ')}`
      : `did you mean ${alike.map((each) => PREFIX + each).join(' or ')}?`;
  return `the ${sort} ${quote(PREFIX + name)} is not known: ${cure}`;
}

function written(name: string): string {
  const near =
    name === 'port' ? `did you mean ${PREFIX}ports?` : 'remove it; was it copied from an injected pod?';
  return `the annotation ${PREFIX}${name} is the injector's own: ${near}`;
}

/** Reads all annotations, and everything that is wrong with them. Those of others are left alone. */
export function readAnnotations(annotations: Readonly<Record<string, string>>): {
  values: AnnotationValues;
  problems: string[];
} {
  const values: Record<string, unknown> = Object.create(null);
  const problems: string[] = [];
  for (const [key, text] of Object.entries(annotations)) {
    if (!key.startsWith(PREFIX)) continue;
    const name = key.slice(PREFIX.length);
    if (!isName(name)) {
      problems.push(WRITTEN.includes(name) ? written(name) : unknown('annotation', name));
      continue;
    }
    try {
      values[name] = ANNOTATIONS[name].parse(text.trim());
    } catch (error) {
      if (!(error instanceof AnnotationError)) throw error;
      problems.push(`${key}: ${error.message}`);
    }
  }
  return { values: values as AnnotationValues, problems };
}

/** Labels of ours are few: what belongs into an annotation would be ignored in silence. */
export function labelProblems(labels: Readonly<Record<string, string>>): string[] {
  return Object.keys(labels)
    .filter((key) => key.startsWith(PREFIX))
    .map((key) => key.slice(PREFIX.length))
    .filter((name) => name !== 'inject' && name !== 'injected')
    .map((name) =>
      isName(name)
        ? `${PREFIX}${name} is a label of the pod and has no effect: make it an annotation`
        : unknown('label', name),
    );
}
