/*
 * Services whose endpoints a controller tells, in reading order: this file (what is asked and answered), discoveredtarget.ts
 * (one service), discoveredroutes.ts (all that apps have asked for, bounded), upstreampool.ts (what they share), forwarding.ts
 * (what calls are sent on as). Who asks is above: src/control/discovery.ts.
 */

export interface DiscoveryQuery {
  /** As the app says it, in lower case: a name or an IP address (IPv6 in brackets), with or without a port. */
  readonly authority: string;
  /** For short names; empty: that of the sidecar's service account. */
  readonly namespace: string;
  /** What is meant if `authority` has no port; 0: the only port there is. */
  readonly port: number;
}

/** The sidecar before one app of a service. */
export interface DiscoveredEndpoint {
  /** An IP address, IPv6 without brackets. */
  readonly address: string;
  readonly meshPort: number;
  /** What its sidecar is asked for: the port of its app. */
  readonly targetPort: number;
  /** The SPIFFE ID that it must prove. */
  readonly peer: string;
  readonly zone: string;
  /** False: it comes to its end, and is called only if all others do. */
  readonly ready: boolean;
}

/** The whole state of a service, checked: addresses are addresses, ports are ports, peers are of the own trust domain. */
export interface DiscoveryAnswer {
  readonly found: boolean;
  /** Canonical, `name.namespace`; empty where nothing was found. */
  readonly service: string;
  readonly endpoints: readonly DiscoveredEndpoint[];
  /** If there are none: why, for people. */
  readonly hint: string;
  /** Endpoints of this zone are near; empty: all are alike. */
  readonly zone: string;
}

/** Whom to ask. */
export interface DiscoverySource {
  /**
   * Calls `onAnswer` with the state of a service, perhaps before it returns, and after each change of it, until the function
   * that it returns is called. `lastUsed`: when calls used the answer last, monotonic milliseconds.
   */
  watch(
    query: DiscoveryQuery,
    onAnswer: (answer: DiscoveryAnswer) => void,
    lastUsed: () => number,
  ): () => void;
  /** Why there is no answer now, for people; undefined if there is one to come. */
  readonly trouble: string | undefined;
  /** Nobody tells anything now, of any service. */
  readonly isAway: boolean;
}
