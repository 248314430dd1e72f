// Every key of the file of `hauberk controller`: the one source of its checks, defaults and types, of
// docs/controller-configuration.md and of docs/controller.schema.json (scripts/generate-docs.mjs writes both).
import type { Static } from 'typebox';
import { ADAPTERS, LOG, QUEUE } from './schema.ts';
import { anything, choice, count, duration, kind, list, mapping, oneOrMore, optional } from './schemanode.ts';

const CONTROL = mapping(
  {
    listen: oneOrMore('listen', {
      description:
        'Where sidecars connect: gRPC over TLS, with the services `Identity` (their certificates) and `Discovery` (where services are).',
      default: ':15010',
    }),
    maxConnections: count(16, 100_000, 'connections', {
      description:
        'Connections of sidecars at the same time, over all addresses. When one more comes, the oldest of the address that has most is closed, or the new one if its own address would have as many.',
      default: 10_000,
    }),
    maxConnectionsPerAddress: count(1, 10_000, 'connections', {
      description:
        'Of these, from one address; further ones are closed. An IPv6 address counts as a whole, for pods of a node or a subnet share a /64: let only networks reach the controller in which nobody can choose among many addresses. Pods on the host network share their node.',
      default: 256,
    }),
  },
  { description: 'What sidecars ask of the controller.' },
);

const ISSUER = mapping(
  {
    svidTtl: duration('10m', '7d', {
      description:
        'Lifetime of the certificates (X.509-SVIDs) that pods get; none outlives the CA. Sidecars renew at half of it.',
      default: '24h',
    }),
    audience: kind('audience', {
      description:
        "The audience that a pod's service account token must be bound to. The injector gives pods a token for it, which nothing else accepts.",
      default: 'hauberk',
    }),
    caSecret: kind('kube-name', {
      description:
        "The Secret, in the controller's namespace, of the CA: `ca.crt` (PEM, one or several CA certificates) and `ca.key` (PEM, P-256). Made if there is none, never overwritten, and read anew when it is changed.",
      default: 'hauberk-ca',
    }),
    caTtl: duration('1d', '36500d', {
      description: 'Lifetime of the CA certificate, where the controller makes it.',
      default: '3650d',
    }),
    maxConcurrent: count(1, 1_024, 'requests', {
      description: 'Certificates that are made at the same time; further requests wait, in turn by address.',
      default: 32,
    }),
    maxWaiting: count(16, 100_000, 'requests', {
      description:
        'Requests that may wait for their turn. When one more comes, one of the address with the most is refused.',
      default: 4_096,
    }),
    maxPerSecond: count(1, 10_000, 'requests a second', {
      description:
        'Requests that are begun in a second: each costs the API server a TokenReview. Further ones wait for their turn. Of Discovery, too, as many tokens are reviewed in a second, and as many wait as of requests.',
      default: 200,
    }),
    maxPerAddress: count(1, 100_000, 'requests', {
      description:
        'Requests from one address in a minute; further ones are refused unread. As many tokens of one address are reviewed in a minute, those of Discovery, too. An IPv6 address counts as a whole. Pods on the host network share their node.',
      default: 300,
    }),
    maxPerPod: count(1, 10_000, 'certificates', {
      description: 'Certificates for one pod in five minutes; it needs one in half of `svidTtl`.',
      default: 20,
    }),
  },
  { description: 'The identities of pods: whoever proves a service account gets a certificate for it.' },
);

const WEBHOOK = mapping(
  {
    listen: oneOrMore('listen', {
      description: 'Where the API server asks about new pods, over HTTPS. `off` for no injection.',
      default: ':15017',
    }),
    configuration: kind('kube-name', {
      description:
        'The MutatingWebhookConfiguration that names this webhook. The controller writes the CA of its certificate into it, but with `tls: external`.',
      default: 'hauberk-injector',
    }),
    tls: choice(['self', 'files', 'external'], {
      description:
        "Whose certificate the webhook shows. `self`: one of the controller's own making, rotated by itself. `files`: that of `cert` and `key`, of the CA in `caBundle`. `external`: the same with files that cert-manager writes, whose cainjector writes the CA into the configuration.",
      default: 'self',
    }),
    secret: kind('kube-name', {
      description:
        "With `tls: self`: the Secret, in the controller's namespace, of the webhook's certificate and its CA.",
      default: 'hauberk-webhook-tls',
    }),
    cert: optional(
      kind('path', {
        description: 'With `tls: files` or `external`: the certificate, PEM, leaf first.',
        example: '/etc/hauberk/webhook/tls.crt',
      }),
    ),
    key: optional(
      kind('path', {
        description: "With `tls: files` or `external`: the certificate's private key, PEM.",
        example: '/etc/hauberk/webhook/tls.key',
      }),
    ),
    caBundle: optional(
      kind('ca-pem', {
        description:
          'With `tls: files`: the CA certificates, PEM text, by which API servers know the certificate. The controller adds them to the configuration, and takes out what no controller shows any more after ten minutes. Without this key somebody else keeps them there.',
      }),
    ),
    clientCa: optional(
      kind('ca-pem', {
        description:
          'The CA certificates, PEM text, that sign what API servers show to webhooks. With it whoever shows no such certificate is refused before it can ask anything. Without it everybody who reaches the port may ask, since API servers show none unless they are told to (docs/kubernetes.md, Only API servers ask).',
      }),
    ),
  },
  { description: 'Injection of the sidecar into new pods.' },
);

const amounts = (cpu: string, memory: string, description: string) =>
  mapping(
    {
      cpu: optional(kind('cpu', { description: 'CPU; a plain number is written in quotes.', example: cpu })),
      memory: optional(kind('memory', { description: 'Memory.', example: memory })),
    },
    { description },
  );

const INJECTOR = mapping(
  {
    image: optional(
      kind('image', {
        description: "The sidecar's image; without this key that of the controller's own version.",
      }),
    ),
    captureImage: optional(
      kind('image', {
        description:
          "The image of the init container of `mode: transparent`; without this key that of the controller's own version.",
        example: 'ghcr.io/hauberk-mesh/hauberk-capture:0.2.0',
      }),
    ),
    pullPolicy: choice(['IfNotPresent', 'Always', 'Never'], {
      description: '`imagePullPolicy` of both.',
      default: 'IfNotPresent',
    }),
    uid: count(1, 4_294_967_293, 'user id', {
      description: 'User and group of the sidecar. Its own connections are told by it from those of apps.',
      default: 15_008,
    }),
    mode: choice(['explicit', 'transparent'], {
      description:
        "How calls come to the sidecar, where a pod's annotation does not say. `explicit`: apps call it, and nothing needs a privilege. `transparent`: an init container with NET_ADMIN redirects the declared ports.",
      default: 'explicit',
    }),
    native: choice(['auto', 'always', 'never'], {
      description:
        'Whether the sidecar is an init container that stays (Kubernetes 1.29 and later), which starts before the app and ends after it. `auto`: where the cluster can.',
      default: 'auto',
    }),
    logLevel: choice(['debug', 'info', 'warn', 'error', 'silent'], {
      description: 'Log level of sidecars.',
      default: 'info',
    }),
    resources: mapping(
      {
        requests: amounts('50m', '96Mi', 'What a sidecar is given at least.'),
        limits: amounts('"1"', '256Mi', 'What a sidecar gets at most.'),
      },
      { description: 'What sidecars may use.' },
    ),
    excludedNamespaces: list(kind('namespace', { description: 'A namespace.' }), {
      description: "Namespaces whose pods are never touched, besides the controller's own.",
      default: ['kube-system', 'kube-public', 'kube-node-lease'],
    }),
    policy: choice(['open', 'enforce'], {
      description:
        "Who may call a pod without the annotation `hauberk.mesh/allow`. `open`: every identity of the trust domain. `enforce`: nobody. With the annotation its rules hold, and nobody else's calls pass.",
      default: 'open',
    }),
    proxy: anything({
      description:
        "Further keys of the sidecars' configuration, as in docs/configuration.md, such as `session`, `pool` or `monitoring`; what the injector itself writes goes before.",
      default: {},
      example: { session: { idle: '30m' } },
    }),
  },
  { description: 'What is put into pods.' },
);

const LEADER = mapping(
  {
    lease: kind('kube-name', {
      description: "The Lease, in the controller's namespace, by which replicas choose a leader.",
      default: 'hauberk-controller',
    }),
    duration: duration('2s', '10m', {
      description: 'A leader that has not renewed its lease for so long is replaced.',
      default: '15s',
    }),
    renew: duration('1s', '10m', {
      description: 'A leader that could not renew its lease for so long steps down.',
      default: '10s',
    }),
    retry: duration('100ms', '1m', {
      description: 'How often the lease is renewed, or tried for; less than two fifths of `renew`.',
      default: '2s',
    }),
  },
  { description: 'Of several replicas, one does what must be done once.' },
);

const KUBERNETES = mapping(
  {
    server: optional(
      kind('https-url', {
        description: 'The API server. Without this key that of the cluster in which the controller runs.',
      }),
    ),
    ca: optional(
      kind('path', {
        description:
          "CA certificates of the API server, PEM. Without this key those of the pod's service account.",
        example: '/var/run/secrets/kubernetes.io/serviceaccount/ca.crt',
      }),
    ),
    token: optional(
      kind('path', {
        description:
          "A file with the controller's own token, read anew every minute. Without this key that of the pod's service account.",
        example: '/var/run/secrets/kubernetes.io/serviceaccount/token',
      }),
    ),
  },
  { description: 'The API server; to be set outside of a cluster only.' },
);

/** The schema of the whole file. */
export const CONTROLLER_SCHEMA = mapping(
  {
    trustDomain: kind('trust-domain', {
      description:
        'The SPIFFE trust domain of all identities that are issued: `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`. It cannot be changed once there is a CA.',
      default: 'cluster.local',
    }),
    clusterDomain: kind('service', {
      description:
        'The DNS domain of the cluster: apps may call a service as `name.namespace.svc.CLUSTER-DOMAIN`, too.',
      default: 'cluster.local',
    }),
    namespace: optional(
      kind('namespace', {
        description:
          "The controller's own namespace. Without this key that of its service account, which a pod finds beside its token.",
        example: 'hauberk-system',
      }),
    ),
    serviceName: kind('kube-name', {
      description:
        "The controller's Service, by which sidecars and the API server reach it, and its service account: it is in the names of its certificates.",
      default: 'hauberk-controller',
    }),
    control: CONTROL,
    issuer: ISSUER,
    webhook: WEBHOOK,
    injector: INJECTOR,
    leader: LEADER,
    kubernetes: KUBERNETES,
    probes: mapping(
      {
        http: oneOrMore('listen', {
          description:
            'HTTP `/livez`, `/readyz`, `/startupz`, `/metrics`; no secrets, no control. `off` for none.',
          default: ':15020',
        }),
      },
      { description: 'Health and metrics.' },
    ),
    monitoring: mapping({ adapters: ADAPTERS, queue: QUEUE }, { description: 'Audit.' }),
    log: LOG,
    drain: mapping(
      {
        deadline: duration('0s', '1h', {
          description:
            'How long the whole end may take after SIGTERM. Requests under way have at most half of it; the rest is for the audit to be written. Sidecars go on by themselves and look for another replica.',
          default: '10s',
        }),
      },
      { description: 'Stopping.' },
    ),
  },
  { description: 'Configuration of the Hauberk controller.' },
);

/** The file after its strings are parsed and its defaults filled in, in the file's own names. */
export type ParsedControllerFile = Static<typeof CONTROLLER_SCHEMA>;
