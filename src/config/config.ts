/**
 * The checked configuration of one sidecar, as everything above this folder sees it: defaults are filled in,
 * durations are milliseconds, sizes are bytes, paths are absolute, addresses are parsed. The YAML that it
 * comes from is described by `schema.ts` and by docs/configuration.md, which is generated from that.
 */

/** Where a listener is bound, or where an app listens. `port: 0` picks a free port. IPv6 hosts have no brackets. */
export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** Where a peer sidecar is dialled: an IP address (IPv6 without brackets) or a DNS name. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** One upstream service. */
export interface RouteConfig {
  /** Canonical name in lower case, forwarded to the peer. */
  readonly service: string;
  /**
   * What `:authority` may be besides the service's own names, in lower case: `name`, `name:port`, `*.suffix`,
   * `*.suffix:port`, or `*` for everything that no other route takes. Exact before wildcard.
   */
  readonly authorities: readonly string[];
  readonly endpoints: readonly Endpoint[];
  /** The SPIFFE ID that the other end must prove. */
  readonly peer: string;
  /** The deadline of gRPC calls that bring none. */
  readonly timeoutMs?: number;
  /** A port or socket of its own, whatever `:authority` says. */
  readonly listen?: ListenAddress;
}

/** An upstream service whose endpoints the controller tells. */
export interface DiscoveredRouteConfig extends Pick<RouteConfig, 'authorities' | 'timeoutMs' | 'listen'> {
  /** Its name, perhaps with a port: `greeter.shop:50051`. */
  readonly service: string;
}

/** A listener for redirected connections: `port` is what they went to. */
export interface RedirectConfig {
  readonly port: number;
  readonly listen: readonly ListenAddress[];
}

/** One local app that ingress delivers to. */
export interface AppConfig {
  /** In lower case; `*` for any name with the port of `address`, which is an address with a port then. */
  readonly service: string;
  readonly address: ListenAddress;
}

/** One authorization rule; `src/policy` runs them. Deny beats allow, whatever the order. */
export interface AllowRule {
  /** Glob over SPIFFE IDs; `*` does not cross a `/`. */
  readonly peer: string;
  /** Globs over `/pkg.Service/Method`; `*` does not cross a `/`. Never empty. */
  readonly methods: readonly string[];
  readonly action: 'allow' | 'deny' | 'audit';
}

/** At most `maxRequests` calls in a fixed window of `windowMs`, for each session or for each peer. */
export interface LimitConfig {
  readonly scope: 'session' | 'peer';
  readonly maxRequests: number;
  readonly windowMs: number;
}

/** `url` may hold a password: never print it. */
export type LimitStoreConfig =
  | { readonly type: 'memory' }
  | { readonly type: 'redis'; readonly url: string; readonly timeoutMs: number };

/** Where audit events go. Paths are absolute. */
export type AdapterConfig =
  | { readonly type: 'stdout' }
  | { readonly type: 'file'; readonly path: string }
  | {
      readonly type: 'module';
      /** An absolute path, or a package name to be resolved from the configuration file's folder. */
      readonly module: string;
      readonly options: Readonly<Record<string, unknown>>;
    };

/** Handshake and record limits of design section 5. */
export interface HandshakeConfig {
  /** TCP connect, for the initiator. */
  readonly connectTimeoutMs: number;
  /** Until the first frame is complete. */
  readonly firstFrameTimeoutMs: number;
  /** The whole handshake. */
  readonly timeoutMs: number;
  /** Bytes of message 1. */
  readonly maxFirstMessageSize: number;
  /** Bytes of every other message. */
  readonly maxMessageSize: number;
  readonly maxHalfOpen: number;
  /** An address is one IPv4 address or one IPv6 /64. */
  readonly maxHalfOpenPerAddress: number;
  /** Handshakes a second. */
  readonly ratePerAddress: number;
  readonly burstPerAddress: number;
  /** Event-loop lag above which full handshakes are refused. */
  readonly maxEventLoopLagMs: number;
  /** The per-process Noise static key is replaced after this long. */
  readonly staticKeyLifetimeMs: number;
}

/** Record limits of design section 5. */
export interface RecordsConfig {
  /** Once its length has come, a record must complete within this. */
  readonly timeoutMs: number;
  /** How long an authenticated CLOSE waits for the peer's. */
  readonly closeTimeoutMs: number;
  /** After so long without anything from the peer a PING goes out; 0: never. */
  readonly heartbeatMs: number;
  /** Nothing has come for so long after a PING: the connection ends. */
  readonly heartbeatTimeoutMs: number;
  /** A direction rekeys after this many records, ... */
  readonly rekeyRecords: number;
  /** ... this many bytes, ... */
  readonly rekeyBytes: number;
  /** ... or this long under one key. */
  readonly rekeyAfterMs: number;
  /** Of one connection; more are a flood. */
  readonly maxRecordsPerSecond: number;
}

/** Connections to peers, for each address of a route's endpoints. */
export interface PoolConfig {
  /** Connections at the same time. */
  readonly size: number;
  /** The first pause after a failed dial is at most this, each further one at most twice as long, ... */
  readonly backoffMs: number;
  /** ... up to this. */
  readonly maxBackoffMs: number;
  /** Dials that may fail in a row before the address counts as down; 0: it never does. */
  readonly maxReconnectAttempts: number;
  /** While it is down it is dialled so often. */
  readonly healthCheckMs: number;
  /** How long a call waits for a connection or a stream. */
  readonly waitTimeoutMs: number;
  /** Sessions that this sidecar has opened, over all addresses. */
  readonly maxConcurrentSessions: number;
}

/**
 * HTTP/2 limits of design section 7. `app...` applies to connections with apps (both egress and ingress side),
 * `session...` to those inside a session; a name without either applies to both.
 */
export interface Http2Config {
  /** Concurrent streams a connection. */
  readonly appStreams: number;
  readonly sessionStreams: number;
  /** Calls waiting for a free stream, before UNAVAILABLE. */
  readonly queuedCalls: number;
  /** RST_STREAM frames in a burst before the share of reset streams is looked at. */
  readonly appResetBurst: number;
  /** Share of recent streams, 0 to 1, that may be reset once the burst is used up. */
  readonly appResetRatio: number;
  /** Cancelled calls that an app is told of at once, ... */
  readonly appCancelBurst: number;
  /** ... and a second. */
  readonly appCancelsPerSecond: number;
  readonly sessionResetBurst: number;
  readonly sessionResetsPerSecond: number;
  /** CONTINUATION frames a header block. */
  readonly continuationFrames: number;
  /** Bytes of a header block as sent. */
  readonly headerBlockSize: number;
  /** Bytes of a header list, counted with 32 a field (RFC 9113 section 6.5.2); advertised. */
  readonly headerListSize: number;
  readonly headerFields: number;
  /** 1xx responses of one call. */
  readonly interimResponses: number;
  /** HPACK table, bytes. */
  readonly appHeaderTableSize: number;
  readonly sessionHeaderTableSize: number;
  /** PING, SETTINGS, PRIORITY, empty and unknown frames, ...: this many of a kind ... */
  readonly floodFrames: number;
  /** ... in this long. */
  readonly floodWindowMs: number;
  /** Frames of any kind on one connection; more are a flood. */
  readonly maxFramesPerSecond: number;
  readonly queuedControlFrames: number;
  /** Entries of one SETTINGS frame. */
  readonly settingsEntries: number;
  /** A stream with queued data and no progress for this long is reset while its connection's queue is full. */
  readonly stallTimeoutMs: number;
  /** Bytes queued a connection. */
  readonly queuedBytes: number;
  /** Bytes kept for all connections of a peer together. */
  readonly peerBytes: number;
  readonly prefaceTimeoutMs: number;
  /** Until the peer's first SETTINGS, and until ours are acknowledged. */
  readonly settingsTimeoutMs: number;
  /** Until a header block is complete. */
  readonly headersTimeoutMs: number;
  /** Stream windows begin here, bytes, ... */
  readonly initialWindow: number;
  /** ... and double up to this while the far side drains. */
  readonly maxWindow: number;
}

/** Whether handshakes with ML-KEM are insisted on, tried first, or not done. */
export type PostQuantumPolicy = 'required' | 'preferred' | 'off';

/** Absolute paths, and how their files are replaced. */
export interface IdentityConfig {
  readonly svid: string;
  readonly key: string;
  readonly bundle: string;
  /** How often the files are looked at; 0: only when asked. */
  readonly reloadMs: number;
  /** Whether the SVID is renewed where the CA's key lies beside the bundle. */
  readonly renew: boolean;
  /** Whether the sidecar has its files certified by the controller; there is a `ControllerConfig` then. */
  readonly issuer: 'files' | 'controller';
}

/** How the control plane is reached and known. Paths are absolute. */
export interface ControllerConfig {
  readonly address: Endpoint;
  /** The SPIFFE ID that it must prove. */
  readonly peer: string;
  /** File of the service account token; read anew each time. */
  readonly token: string;
  /** The CA certificates that it is known by before there is a bundle of the identity. */
  readonly bundle: { readonly file: string } | { readonly pem: string };
}

/** A probe of the app that `/app-probe/NAME` makes over loopback. */
export interface AppProbeConfig {
  /** `container/livez`, `container/readyz` or `container/startupz`. */
  readonly name: string;
  readonly kind: 'http' | 'grpc' | 'tcp';
  readonly port: number;
  readonly timeoutMs: number;
  /** Of `http`, with its query; `/` by default. */
  readonly path?: string;
  /** Of `http`. */
  readonly scheme: 'http' | 'https';
  /** Of `http`. */
  readonly headers: ReadonlyArray<{ readonly name: string; readonly value: string }>;
  /** Of `grpc`; the server as a whole by default. */
  readonly service?: string;
}

/** A checked configuration with its defaults, as `loadConfig` gives it; docs/configuration.md tells of each key. */
export interface SidecarConfig {
  readonly trustDomain: string;
  readonly identity: IdentityConfig;
  /** Undefined without a control plane. */
  readonly controller: ControllerConfig | undefined;
  readonly egress: {
    readonly listen: readonly ListenAddress[];
    /** Connections of apps, over all listeners. */
    readonly maxConnections: number;
    readonly routes: readonly RouteConfig[];
    readonly discovered: readonly DiscoveredRouteConfig[];
    /** What no route takes is asked of the controller. */
    readonly discovery: boolean;
    /** For short names; undefined: that of the service account. */
    readonly namespace: string | undefined;
    readonly redirects: readonly RedirectConfig[];
  };
  readonly ingress: {
    readonly listen: readonly ListenAddress[];
    /** Where apps are not to answer. */
    readonly podAddresses: readonly string[];
    readonly apps: readonly AppConfig[];
    readonly allow: readonly AllowRule[];
  };
  readonly policy: 'enforce' | 'open';
  readonly session: {
    readonly idleMs: number;
    readonly absoluteMs: number;
    readonly max: number;
    readonly maxPerPeer: number;
    /** GOAWAY goes out this long before a session's end. */
    readonly graceMs: number;
  };
  readonly revocation: {
    /** Absolute path of the file of blocked peers. */
    readonly file: string | undefined;
  };
  readonly limits: readonly LimitConfig[];
  readonly limitStore: LimitStoreConfig;
  readonly monitoring: {
    readonly adapters: readonly AdapterConfig[];
    /** Which calls get a `call.completed` event. */
    readonly calls: 'all' | 'failed' | 'none';
    /** Events waiting, per adapter. */
    readonly queue: number;
  };
  readonly admin: {
    /** Loopback and Unix sockets only. */
    readonly listen: readonly ListenAddress[];
    /** File of the token that callers over TCP present; there is one whenever there is such a listener. */
    readonly token?: string;
    /** Unix sockets are for their owner's group too. */
    readonly groupAccess: boolean;
  };
  readonly probes: {
    readonly http: readonly ListenAddress[];
    readonly grpc: readonly ListenAddress[];
    readonly apps: readonly AppProbeConfig[];
  };
  readonly http2: Http2Config;
  readonly handshake: HandshakeConfig;
  readonly records: RecordsConfig;
  readonly pool: PoolConfig;
  readonly crypto: { readonly provider: 'native' | 'noble'; readonly postQuantum: PostQuantumPolicy };
  readonly log: { readonly level: 'debug' | 'info' | 'warn' | 'error' | 'silent' };
  readonly drain: { readonly deadlineMs: number };
}
