/** What a container asks for and may use, as Kubernetes writes quantities. */
export interface ResourceSettings {
  readonly requests: { readonly cpu?: string; readonly memory?: string };
  readonly limits: { readonly cpu?: string; readonly memory?: string };
}

/** What holds for all pods; the controller's configuration and its surroundings make it. */
export interface InjectorSettings {
  /** Hauberk's version, which pods are stamped with. */
  readonly version: string;
  readonly trustDomain: string;
  /** Namespace of the control plane: nothing in it is injected. */
  readonly namespace: string;
  /** Where sidecars find the controller: `host:port`. */
  readonly controllerAddress: string;
  /** SPIFFE ID that the controller proves. */
  readonly controllerPeer: string;
  /** CA certificates by which sidecars know the controller at first, PEM. */
  readonly bundlePem: string;
  /** Audience of the projected service account tokens. */
  readonly audience: string;
  readonly image: string;
  readonly captureImage: string;
  readonly pullPolicy: 'Always' | 'IfNotPresent' | 'Never';
  /** User and group of the sidecar. */
  readonly uid: number;
  readonly mode: 'explicit' | 'transparent';
  /** `auto`: native sidecars if the API server knows them. */
  readonly native: 'auto' | 'always' | 'never';
  /** Whether the API server knows native sidecars (1.29). */
  readonly serverKnowsNative: boolean;
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error' | 'silent';
  readonly resources: ResourceSettings;
  readonly excludedNamespaces: readonly string[];
  readonly policy: 'enforce' | 'open';
  /** Sections of the sidecar's configuration (docs/configuration.md) that hold unless the injector sets the key itself. */
  readonly proxy: Readonly<Record<string, unknown>>;
}

/** The namespace that the pod is in. */
export interface NamespaceView {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}
