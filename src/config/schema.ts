// Every key of the configuration file: the one source of the checks (check.ts), the defaults, the types below,
// docs/configuration.md and docs/sidecar.schema.json (both written by scripts/generate-docs.mjs).
import type { Static } from 'typebox';
import { HANDSHAKE, HTTP2, POOL, RECORDS } from './limitschema.ts';
import {
  anything,
  choice,
  count,
  duration,
  flag,
  kind,
  list,
  mapping,
  oneOrMore,
  optional,
  wordOrMapping,
} from './schemanode.ts';

const IDENTITY = mapping(
  {
    svid: kind('path', {
      description: "This sidecar's X.509-SVID: PEM, leaf first, then any intermediates.",
      example: 'keys/web.pem',
    }),
    key: kind('path', {
      description: "The SVID's private key, PEM, readable by its owner only.",
      example: 'keys/web.key',
    }),
    bundle: kind('path', {
      description: "The trust domain's CA certificates, PEM.",
      example: 'keys/bundle.pem',
    }),
    reload: kind('interval', {
      description:
        'How often the three files are looked at (read only if they have changed): a renewed SVID and a changed bundle are taken without a restart, and without losing a call. `off`: only on SIGHUP.',
      default: '30s',
    }),
    renew: flag({
      description:
        "Renews the SVID when about half of its life is left, as `hauberk issue` does, where the CA's key lies beside the bundle: for development. Elsewhere whoever issues the files renews them.",
      default: false,
    }),
    issuer: choice(['files', 'controller'], {
      description:
        'Where the files come from. `files`: somebody else puts them there. `controller`: the sidecar has the controller certify a new key when half of the remaining life is over, and writes all three; at its start it uses what is there and still good. Their folder is then its own, best a volume in memory.',
      default: 'files',
    }),
  },
  {
    description:
      'Who this sidecar is. `hauberk init` and `hauberk issue` make these files, or the sidecar itself with what the controller certifies.',
  },
);

const CONTROLLER = optional(
  mapping(
    {
      address: kind('endpoint', {
        description:
          'Where the controller serves its control API: a name stands for all its addresses, each a replica.',
        example: 'hauberk-controller.hauberk-system.svc:15010',
      }),
      peer: kind('spiffe-id', {
        description: 'The SPIFFE ID that the controller must prove; in `trustDomain`.',
        example: 'spiffe://shop.example/ns/hauberk-system/sa/hauberk-controller',
      }),
      token: kind('path', {
        description:
          'The service account token that proves to the controller who this is: a projected one with the audience of its `issuer.audience`. Read anew each time.',
        example: '/var/run/secrets/hauberk/token',
      }),
      bundle: optional(
        kind('path', {
          description:
            'The CA certificates, PEM, by which the controller is known until there is an `identity.bundle`; while the sidecar has no identity also if who answers is not the controller by that. Either this or `bundlePem`.',
          example: '/etc/hauberk/bundle.pem',
        }),
      ),
      bundlePem: optional(
        kind('ca-pem', { description: 'The same as text, for a configuration without other files.' }),
      ),
    },
    {
      description:
        'The control plane: it certifies this sidecar (`identity.issuer: controller`) and tells where services are. Without this section there is none.',
    },
  ),
);

const ROUTE = mapping(
  {
    service: kind('discoverable', {
      description:
        "The service's canonical name; its Kubernetes forms (`greeter`, `greeter.shop`, `greeter.shop.svc`, ...) match as well. With `discovery`, a port may follow: `greeter.shop:50051`.",
    }),
    authorities: list(kind('authority', { description: 'A name that apps call the service by.' }), {
      description:
        'What else `:authority` may be, with or without a port. `*.shop.svc.cluster.local` matches any name below, `*` any name that no other route takes. Case does not matter; exact names go before wildcards, the longest wildcard before shorter ones.',
      default: [],
      example: ['greeter', 'greeter.shop.svc.cluster.local:50051'],
    }),
    endpoints: optional(
      oneOrMore('endpoint', {
        description:
          'Mesh listeners of the sidecars before the service: `ip:port`, `[ipv6]:port` or `dns-name:port`, one or a list. A DNS name stands for all its A and AAAA records. Needed unless `discovery` is set.',
        example: ['10.1.2.3:15008', 'greeter-mesh.shop:15008'],
      }),
    ),
    peer: optional(
      kind('spiffe-id', {
        description:
          'The SPIFFE ID that those sidecars must prove. One full ID in `trustDomain`, no globs. Needed unless `discovery` is set.',
        example: 'spiffe://shop.example/ns/shop/sa/greeter',
      }),
    ),
    discovery: flag({
      description:
        'The controller tells the endpoints and who each must be, in place of `endpoints` and `peer`.',
      default: false,
    }),
    timeout: optional(
      duration('1ms', '1d', {
        description:
          "The deadline of gRPC calls to the service that bring none; without this key they have none. It is held here and sent on as `grpc-timeout`; a call's own deadline, longer or shorter, stays as it is. It ends streams, too: leave it out where they are meant to last.",
        example: '15s',
      }),
    ),
    listen: optional(
      kind('listener', {
        description:
          'A port or Unix socket for this route alone, whatever `:authority` says, for clients that can set neither name nor proxy.',
        example: '127.0.0.1:50061',
      }),
    ),
  },
  { description: 'An upstream service and how to reach it.' },
);

const EGRESS = mapping(
  {
    listen: oneOrMore('listen', {
      description:
        'Where apps connect: plaintext HTTP/2, routed by `:authority`. `off` leaves only the ports of routes.',
      default: 'localhost:15001',
    }),
    allowNonLoopback: flag({
      description:
        'Lets egress listen on other addresses than loopback. Calls arrive there in plaintext and unauthenticated: whoever reaches the port speaks with the identity of this sidecar.',
      default: false,
    }),
    maxConnections: count(1, 1_000_000, 'connections', {
      description: 'Connections of apps at the same time; further ones are closed.',
      default: 4_096,
    }),
    routes: list(ROUTE, { description: 'The services that apps may call.', default: [] }),
    discovery: flag({
      description:
        'What no route takes is asked of the controller: names of services, and addresses of services and pods. Without it only `routes` can be called.',
      default: false,
    }),
    namespace: optional(
      kind('namespace', {
        description:
          'The Kubernetes namespace that short names such as `greeter` are looked for in. Default: that of the service account whose token `controller.token` is.',
        example: 'shop',
      }),
    ),
    redirects: list(
      mapping(
        {
          port: count(1, 65_535, 'port', {
            description: 'The port that apps connect to, and that `:authority` means where it names none.',
            example: 50_051,
          }),
          listen: kind('listen', {
            description: 'Where those connections arrive.',
            example: 'localhost:15101',
          }),
        },
        { description: 'What becomes of connections to one port.' },
      ),
      {
        description:
          'Listeners for connections that the kernel redirects, one for each port that apps connect to: Node.js cannot tell which one that was. They route by `:authority` as `egress.listen` does.',
        default: [],
      },
    ),
  },
  { description: 'Calls from local apps to peers.' },
);

const INGRESS = mapping(
  {
    listen: oneOrMore('listen', {
      description: 'Where peers connect; sessions and nothing else. `off` for a sidecar that only calls.',
      default: ':15008',
    }),
    allowRemoteApps: flag({
      description:
        "Lets an app's address be another than loopback or a Unix socket. Calls leave the sidecar in plaintext.",
      default: false,
    }),
    podAddresses: optional(
      oneOrMore('ip', {
        description:
          'Addresses of this pod or machine. The sidecar dials the ports of its `apps` there, at its start and every few minutes, and warns (`app.exposed`) when one answers in plaintext: whoever reaches it needs no identity. Not for transparent mode, in which the kernel refuses what does not come from the pod itself.',
        example: '10.1.2.3',
      }),
    ),
    apps: list(
      mapping(
        {
          service: kind('app-service', {
            description:
              'The canonical service name that peers ask for. `"*"`: whatever name they ask for, as long as they ask for the port of `address`; an app that has the name goes before.',
            example: 'web.shop',
          }),
          address: kind('app-address', {
            description: 'Where the app serves plaintext HTTP/2: `host:port` or `unix:/path`.',
          }),
        },
        { description: 'A local app.' },
      ),
      {
        description: 'The apps that this sidecar delivers to: each service once, `"*"` once for each port.',
        default: [],
      },
    ),
    allow: list(
      mapping(
        {
          peer: kind('spiffe-glob', {
            description: 'Which peers, by SPIFFE ID; `*` stands for any characters but `/`.',
          }),
          methods: list(kind('method-glob', { description: 'A method, or a glob over them.' }), {
            description:
              'Which methods, as `/package.Service/Method`; `*` stands for any characters but `/`, and `/*/*` is every method.',
            default: ['/*/*'],
            example: ['/shop.Greeter/*'],
            least: 1,
          }),
          action: choice(['allow', 'deny', 'audit'], {
            description:
              '`allow` lets the call pass, `deny` refuses it, `audit` lets it pass and records that only this rule did. Deny beats allow, and allow beats audit, whatever their order.',
            default: 'allow',
          }),
        },
        { description: 'A rule.' },
      ),
      {
        description: 'Who may call what. A call that no rule allows is denied, unless `policy` is `open`.',
        default: [],
      },
    ),
  },
  { description: 'Calls from peers to local apps.' },
);

const SESSION = mapping(
  {
    idle: duration('1s', '30d', {
      description: 'A session without calls and data ends after this long.',
      default: '1h',
    }),
    absolute: duration('10s', '30d', {
      description: 'No session lives longer, nor longer than any certificate in either chain.',
      default: '8h',
    }),
    max: count(1, 1_000_000, 'sessions', { description: 'Sessions in all.', default: 10_000 }),
    maxPerPeer: count(1, 1_000_000, 'sessions', {
      description:
        'Sessions with one peer (SPIFFE ID) at one address; wherever it is, it has at most as many, or a quarter of session.max if that is more.',
      default: 64,
    }),
    grace: duration('0s', '1h', {
      description: 'GOAWAY goes out this long before the end, so that calls in flight can finish.',
      default: '30s',
    }),
  },
  { description: 'How long sessions live and how many there may be.' },
);

const REVOCATION = mapping(
  {
    file: optional(
      kind('path', {
        description:
          'Where the sidecar keeps the peers that an operator has blocked, so that they stay blocked over restarts. It makes the file, and replaces it whole at each change: a folder of its own that it may write to. Without it a block ends with the process. One file for one sidecar.',
        example: 'state/blocked.jsonl',
      }),
    ),
  },
  { description: 'Peers that are kept out, whatever they can prove.' },
);

const LIMITS = list(
  mapping(
    {
      scope: choice(['session', 'peer'], {
        description:
          '`session` counts the calls of each session, `peer` those of all sessions of a SPIFFE ID. A peer escapes a session limit by a fresh handshake, and a peer limit not at all.',
        example: 'session',
      }),
      maxRequests: count(1, 1_000_000_000, 'calls', {
        description: 'Calls allowed in a window.',
        example: 1000,
      }),
      window: duration('1s', '1d', { description: 'Length of the fixed window.', example: '60s' }),
    },
    { description: 'A limit.' },
  ),
  { description: 'Rate limits at ingress. Every one of them must allow a call.', default: [] },
);

const LIMIT_STORE = mapping(
  {
    type: choice(['memory', 'redis'], {
      description: '`memory` counts for this sidecar alone, `redis` for all that share the store.',
      default: 'memory',
    }),
    url: optional(
      kind('redis-url', {
        description: 'The Redis server; may hold a password, so rather set it by `HAUBERK_LIMIT_STORE_URL`.',
        secret: true,
      }),
    ),
    timeout: duration('10ms', '10s', {
      description: 'A command not answered in time is counted in memory instead.',
      default: '200ms',
    }),
  },
  { description: 'Where rate limits are counted. While Redis is away, memory takes over.' },
);

export const ADAPTERS = list(
  wordOrMapping(
    ['stdout'],
    {
      stdout: optional(mapping({}, { description: 'JSON lines on stdout; the same as the word `stdout`.' })),
      file: optional(
        mapping(
          {
            path: kind('path', { description: 'The file, appended to.', example: 'audit.jsonl' }),
          },
          { description: 'JSON lines in a file.' },
        ),
      ),
      module: optional(
        kind('module', { description: "A module of one's own whose default export makes an adapter." }),
      ),
      options: optional(
        anything({
          description: 'Handed to the `module`.',
          example: { endpoint: 'https://siem.example' },
        }),
      ),
    },
    { description: 'One of `stdout`, `file` and `module`.' },
  ),
  {
    description: 'Where audit events go. None slows or stops calls or another adapter.',
    default: [],
    example: ['stdout', { file: { path: 'audit.jsonl' } }, { module: './my-adapter.mjs' }],
  },
);

export const QUEUE = count(16, 1_000_000, 'events', {
  description: 'Events that may wait, per adapter; further ones are dropped and counted.',
  default: 10_000,
});

const MONITORING = mapping(
  {
    adapters: ADAPTERS,
    calls: choice(['all', 'failed', 'none'], {
      description: 'Which calls get a `call.completed` event.',
      default: 'all',
    }),
    queue: QUEUE,
  },
  { description: 'Audit.' },
);

export const LOG = mapping(
  {
    level: choice(['debug', 'info', 'warn', 'error', 'silent'], {
      description: 'Least severe log line that is written to stderr.',
      default: 'info',
    }),
  },
  { description: 'Logs.' },
);

const APP_PROBE = mapping(
  {
    name: kind('probe-name', {
      description: 'The container, and `livez`, `readyz` or `startupz`: what is behind `/app-probe/`.',
    }),
    kind: choice(['http', 'grpc', 'tcp'], {
      description:
        '`http`: a GET, answered by 200 to 399; redirects are followed where they stay on 127.0.0.1, and one that leads elsewhere is an answer. `grpc`: Check of `grpc.health.v1`, answered by SERVING. `tcp`: a connection.',
      example: 'grpc',
    }),
    port: count(1, 65_535, 'port', { description: 'Where the app listens, on 127.0.0.1.', example: 50_051 }),
    timeout: duration('100ms', '1h', { description: 'No answer for so long is a bad one.', default: '1s' }),
    path: optional(
      kind('http-path', { description: 'With `http`: the path, with its query; without this key `/`.' }),
    ),
    scheme: choice(['http', 'https'], {
      description: 'With `http`: `https` takes any certificate, as kubelet does.',
      default: 'http',
    }),
    headers: list(
      mapping(
        {
          name: kind('header-name', { description: 'Its name.' }),
          value: kind('header-value', { description: 'Its value.' }),
        },
        { description: 'A header field.' },
      ),
      { description: 'With `http`: further header fields.', default: [] },
    ),
    service: optional(
      kind('grpc-service', {
        description: 'With `grpc`: the service that is asked for; without this key the server as a whole.',
      }),
    ),
  },
  { description: 'A probe of the app.' },
);

const PROBES = mapping(
  {
    http: oneOrMore('listen', {
      description:
        'HTTP `/livez`, `/readyz`, `/startupz`, `/metrics`; no secrets, no control. `off` for none.',
      default: ':15020',
    }),
    grpc: oneOrMore('listen', { description: '`grpc.health.v1`. `off` for none.', default: ':15021' }),
    apps: list(APP_PROBE, {
      description:
        "Probes of the app that `/app-probe/NAME` of `probes.http` makes, for a kubelet that does not reach the app's own ports.",
      default: [],
    }),
  },
  { description: 'Health and metrics.' },
);

const ADMIN = mapping(
  {
    listen: oneOrMore('listen', {
      description:
        'Where `hauberk status`, `sessions` and `events` connect: a Unix socket (best), or a loopback port, which needs a `token`. `off` for none.',
      default: 'off',
      example: 'unix:/run/hauberk/admin.sock',
    }),
    token: optional(
      kind('path', {
        description:
          'A file with what callers of a loopback port must present: 32 to 512 printable characters, readable by its owner only. In a pod, the app reaches loopback too.',
        example: 'keys/admin.token',
      }),
    ),
    groupAccess: flag({
      description:
        "Lets the group of the sidecar's user connect to the Unix socket (mode 0660 instead of 0600).",
      default: false,
    }),
  },
  { description: 'The admin API: who reaches it sees all sessions and can end them.' },
);

/** The schema of the whole file. */
export const SCHEMA = mapping(
  {
    trustDomain: kind('trust-domain', {
      description: 'The SPIFFE trust domain that this sidecar and its peers belong to.',
    }),
    identity: IDENTITY,
    controller: CONTROLLER,
    egress: EGRESS,
    ingress: INGRESS,
    policy: choice(['enforce', 'open'], {
      description:
        '`enforce` denies what no rule of `ingress.allow` allows. `open` allows it (rules that deny still hold), and is logged at start.',
      default: 'enforce',
    }),
    session: SESSION,
    revocation: REVOCATION,
    limits: LIMITS,
    limitStore: LIMIT_STORE,
    monitoring: MONITORING,
    probes: PROBES,
    admin: ADMIN,
    drain: mapping(
      {
        deadline: duration('0s', '1h', {
          description:
            'How long the whole end may take after SIGTERM. The last 7.5 s of it, or its half if that is less, are kept for what follows the calls: 2 s to close connections, 5 s for the audit to be written, 0.5 s for the rest; the calls under way have what is before. The audit gets 1 s at least, so below 3 s something that hangs can make it longer. Whoever kills the process must wait longer than this (`terminationGracePeriodSeconds`, `TimeoutStopSec`).',
          default: '30s',
        }),
      },
      { description: 'Stopping.' },
    ),
    log: LOG,
    crypto: mapping(
      {
        provider: choice(['native', 'noble'], {
          description:
            '`native` is OpenSSL through node:crypto; `noble` is JavaScript, about 30 times slower.',
          default: 'native',
        }),
        postQuantum: choice(['required', 'preferred', 'off'], {
          description:
            'ML-KEM-768 beside X25519 in handshakes, so that traffic recorded today stays closed to a quantum computer. `preferred` does it with every peer that can and will, `required` refuses all others, `off` does without.',
          default: 'preferred',
        }),
      },
      { description: 'Cryptography.' },
    ),
    handshake: HANDSHAKE,
    records: RECORDS,
    pool: POOL,
    http2: HTTP2,
  },
  { description: 'Configuration of a Hauberk sidecar.' },
);

/** The file after its strings are parsed and its defaults filled in, in the file's own names. */
export type ParsedFile = Static<typeof SCHEMA>;
