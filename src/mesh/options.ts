import type { MonitoringAdapter } from '../audit/adapter.ts';
import type { PostQuantumPolicy } from '../config/config.ts';
import type { LogLevel, LogSink } from '../telemetry/log.ts';

/** Milliseconds, or a number with one of the units ms, s, m, h and d, such as `'30m'`. */
export type Duration = number | string;

/** At most `maxRequests` calls of a caller in each fixed window of `windowMs`. */
export interface RateLimit {
  /** From 1 on. */
  readonly maxRequests: number;
  /** Milliseconds: 1,000 (a second) to 86,400,000 (a day). */
  readonly windowMs: number;
  /**
   * `session` (the default) counts each session by itself, `peer` all sessions of a SPIFFE ID together: a caller escapes
   * the first by a new handshake, the second not at all.
   */
  readonly scope?: 'session' | 'peer';
}

/** Where an identity lies, instead of in a folder as `hauberk issue` makes it. Paths. */
export interface KeyFiles {
  /** The X.509-SVID: PEM, leaf first. */
  readonly svid: string;
  /** Its private key: PEM, readable by its owner only. */
  readonly key: string;
  /** The CA certificates of the trust domain: PEM. */
  readonly bundle: string;
}

/** How the identity of a program is renewed. */
export interface RotationOptions {
  /** How often the files are looked at, 100 ms to a day; default 30 s. They are read only if they have changed. */
  readonly checkInterval?: Duration;
  /** Whether the program renews its SVID where the CA's key lies beside the bundle; default true. */
  readonly renew?: boolean;
}

/** A service that this program calls. */
export interface ServiceOptions {
  /** `host:port` of its mesh ports; a DNS name stands for all its addresses. */
  readonly endpoints: readonly string[];
  /** The SPIFFE ID that it must prove. By default that of the service's name in our own trust domain. */
  readonly peer?: string;
  /** The deadline of calls that bring none. */
  readonly timeout?: Duration;
}

/** Who may call, and what. */
export interface AllowOptions {
  /** The name of a service, or a SPIFFE ID in which `*` stands for any characters but `/`. */
  readonly peer: string;
  /** Names of this service's own methods, or `/package.Service/Method` with `*`; all by default. */
  readonly methods?: readonly string[];
  /** `deny` beats `allow`, whatever the order; `audit` allows and records. `allow` by default. */
  readonly action?: 'allow' | 'deny' | 'audit';
}

/** What a {@link SecureMesh} is made of. Only `serviceId` has no default. */
export interface SecureMeshOptions {
  /**
   * This service's name: what others call it by, and the name of its files among the keys. `web` is
   * `spiffe://DOMAIN/ns/default/sa/web`, `web.shop` is `spiffe://DOMAIN/ns/shop/sa/web`.
   */
  readonly serviceId: string;
  /** The mesh port, where peers open their sessions; 0 for any that is free. Without it this program only calls. */
  readonly port?: number;
  /** The address that the mesh port is bound to; all by default. */
  readonly host?: string;
  /** The folder of `hauberk init` and `hauberk issue`, or the files. Default `./keys`. */
  readonly keys?: string | KeyFiles;
  /**
   * Whether the identity is renewed under the running program, without losing a call: its files are looked at every
   * `checkInterval` (30 s), and where the CA's key lies beside the bundle, as in a folder of `hauberk init`, the program
   * issues itself a new SVID when about half of its life is left (`renew`). Default true; `false` leaves both to
   * {@link SecureMesh.reloadIdentity} and to a restart.
   */
  readonly rotation?: boolean | RotationOptions;
  readonly security?: {
    /** How long a session lives without a call; default 1 h. */
    readonly sessionTimeout?: Duration;
    /** How long a session lives in all; default 8 h. Certificates that end earlier end it earlier. */
    readonly absoluteLifetime?: Duration;
    /** Whether handshakes with ML-KEM-768 are insisted on, preferred (the default), or not made. */
    readonly postQuantum?: PostQuantumPolicy;
    /** Sessions at the same time; default 10,000. */
    readonly maxSessions?: number;
  };
  /** Limits of those who call this program; none by default. */
  readonly rateLimit?: RateLimit | readonly RateLimit[];
  /** A Redis in which replicas of this service count limits of the scope `peer` together: `rediss://:password@host:6379`. */
  readonly redis?: string;
  readonly monitoring?: {
    /** `false` turns all adapters off; default true. */
    readonly enabled?: boolean;
    /** Where audit events go: objects of your own, JSON lines on stdout, or a file. */
    readonly adapters?: readonly (
      | MonitoringAdapter
      | 'stdout'
      | { readonly file: { readonly path: string } }
    )[];
    /** Which calls get an event of their own; default `all`. */
    readonly calls?: 'all' | 'failed' | 'none';
  };
  /** The services that this program calls, by name: their mesh ports, or more about them. */
  readonly services?: Readonly<Record<string, string | readonly string[] | ServiceOptions>>;
  /** Where calls for this service go if another process serves them: `127.0.0.1:50051` or `unix:/path`, plaintext gRPC. */
  readonly app?: string;
  /**
   * Who may call. Left out, every identity of the trust domain may, which the audit records at the start as policy
   * `open`; `[]` is nobody.
   */
  readonly allow?: readonly (string | AllowOptions)[];
  /** Ports for health checks and metrics, as in `':15020'`; none by default. */
  readonly probes?: { readonly http?: string; readonly grpc?: string };
  /** Where `hauberk status`, `sessions` and `events` connect: `unix:run/admin.sock`; nowhere by default. */
  readonly admin?: string;
  /** Keeps the peers that were blocked over restarts: a file in a folder of its own. */
  readonly revocationFile?: string;
  /** How long `cleanup()` may take, calls under way included; default 30 s. */
  readonly drainTimeout?: Duration;
  /** The least severe line that is written to stderr (default `error`), or a logger such as pino's. */
  readonly log?: LogLevel | LogSink;
}
