import type { AdapterConfig, ListenAddress } from './config.ts';

/** CPU and memory as Kubernetes writes them. */
export interface ResourceAmounts {
  readonly cpu?: string;
  readonly memory?: string;
}

/** Whose certificate the webhook shows. */
export type WebhookTls =
  | { readonly source: 'self'; readonly secret: string }
  | {
      readonly source: 'files' | 'external';
      readonly cert: string;
      readonly key: string;
      /** PEM. Undefined: somebody else writes it into the webhook configuration. */
      readonly caBundle: string | undefined;
    };

/**
 * The checked configuration of the controller: defaults are filled in, durations are milliseconds, paths are absolute,
 * addresses are parsed. docs/controller-configuration.md tells of each key.
 */
export interface ControllerConfig {
  readonly trustDomain: string;
  /** The DNS domain of the cluster. */
  readonly clusterDomain: string;
  /** Undefined: that of the service account. */
  readonly namespace: string | undefined;
  readonly serviceName: string;
  readonly control: {
    readonly listen: readonly ListenAddress[];
    readonly maxConnections: number;
    readonly maxConnectionsPerAddress: number;
  };
  readonly issuer: {
    readonly svidTtlMs: number;
    readonly audience: string;
    readonly caSecret: string;
    readonly caTtlMs: number;
    readonly maxConcurrent: number;
    readonly maxWaiting: number;
    readonly maxPerSecond: number;
    /** In a minute. */
    readonly maxPerAddress: number;
    /** In five minutes. */
    readonly maxPerPod: number;
  };
  readonly webhook: {
    readonly listen: readonly ListenAddress[];
    /** Name of the MutatingWebhookConfiguration. */
    readonly configuration: string;
    readonly tls: WebhookTls;
    /** PEM. Undefined: no certificate is asked for. */
    readonly clientCa: string | undefined;
  };
  readonly injector: {
    /** Undefined: that of the controller's version. */
    readonly image: string | undefined;
    readonly captureImage: string | undefined;
    readonly pullPolicy: 'IfNotPresent' | 'Always' | 'Never';
    readonly uid: number;
    readonly mode: 'explicit' | 'transparent';
    readonly native: 'auto' | 'always' | 'never';
    readonly logLevel: 'debug' | 'info' | 'warn' | 'error' | 'silent';
    readonly resources: { readonly requests: ResourceAmounts; readonly limits: ResourceAmounts };
    readonly excludedNamespaces: readonly string[];
    readonly policy: 'open' | 'enforce';
    /** Further keys of the sidecars' file, in its own names; they have been checked. */
    readonly proxy: Readonly<Record<string, unknown>>;
  };
  readonly leader: {
    readonly lease: string;
    readonly durationMs: number;
    readonly renewMs: number;
    readonly retryMs: number;
  };
  /** What is undefined is found in the pod. */
  readonly kubernetes: {
    readonly server: string | undefined;
    readonly ca: string | undefined;
    readonly token: string | undefined;
  };
  readonly probes: { readonly http: readonly ListenAddress[] };
  readonly monitoring: { readonly adapters: readonly AdapterConfig[]; readonly queue: number };
  readonly log: { readonly level: 'debug' | 'info' | 'warn' | 'error' | 'silent' };
  readonly drain: { readonly deadlineMs: number };
}
