import type {
  AdapterConfig,
  ControllerConfig,
  DiscoveredRouteConfig,
  IdentityConfig,
  LimitStoreConfig,
  RouteConfig,
  SidecarConfig,
} from './config.ts';
import type { ParsedFile } from './schema.ts';

type Routes = ParsedFile['egress']['routes'];
type Adapters = ParsedFile['monitoring']['adapters'];

function discovered({ service, authorities, listen, timeout }: Routes[number]): DiscoveredRouteConfig {
  return {
    service,
    authorities,
    ...(timeout === undefined ? {} : { timeoutMs: timeout }),
    ...(listen === undefined ? {} : { listen }),
  };
}

/** The schema's rules see to it that a route without discovery has endpoints and a peer. */
function route(given: Routes[number]): RouteConfig[] {
  const { endpoints, peer } = given;
  return endpoints === undefined || peer === undefined ? [] : [{ ...discovered(given), endpoints, peer }];
}

function limitStore({ type, url, timeout }: ParsedFile['limitStore']): LimitStoreConfig {
  return type === 'redis' && url !== undefined ? { type, url, timeoutMs: timeout } : { type: 'memory' };
}

export function adapterOf(entry: Adapters[number]): AdapterConfig {
  if (typeof entry === 'string') return { type: 'stdout' };
  if (entry.file !== undefined) return { type: 'file', path: entry.file.path };
  if (entry.module !== undefined)
    return { type: 'module', module: entry.module, options: entry.options ?? {} };
  return { type: 'stdout' };
}

function identity({ reload, ...rest }: ParsedFile['identity']): IdentityConfig {
  return { ...rest, reloadMs: reload };
}

function controller(given: ParsedFile['controller']): ControllerConfig | undefined {
  if (given === undefined) return undefined;
  const { bundle, bundlePem, ...rest } = given;
  return { ...rest, bundle: bundle === undefined ? { pem: bundlePem ?? '' } : { file: bundle } };
}

/** From the file's names to those of `SidecarConfig`, which carry their units. */
export function buildConfig(file: ParsedFile): SidecarConfig {
  const { session, handshake, records, pool, http2, monitoring } = file;
  return {
    trustDomain: file.trustDomain,
    identity: identity(file.identity),
    controller: controller(file.controller),
    egress: {
      listen: file.egress.listen,
      maxConnections: file.egress.maxConnections,
      routes: file.egress.routes.flatMap(route),
      discovered: file.egress.routes.filter(({ discovery }) => discovery).map(discovered),
      discovery: file.egress.discovery,
      namespace: file.egress.namespace,
      redirects: file.egress.redirects,
    },
    ingress: {
      listen: file.ingress.listen,
      podAddresses: file.ingress.podAddresses ?? [],
      apps: file.ingress.apps,
      allow: file.ingress.allow,
    },
    policy: file.policy,
    session: {
      idleMs: session.idle,
      absoluteMs: session.absolute,
      max: session.max,
      maxPerPeer: session.maxPerPeer,
      graceMs: session.grace,
    },
    revocation: { file: file.revocation.file },
    limits: file.limits.map(({ scope, maxRequests, window }) => ({ scope, maxRequests, windowMs: window })),
    limitStore: limitStore(file.limitStore),
    monitoring: {
      adapters: monitoring.adapters.map(adapterOf),
      calls: monitoring.calls,
      queue: monitoring.queue,
    },
    probes: {
      ...file.probes,
      apps: file.probes.apps.map(({ timeout, ...probe }) => ({ ...probe, timeoutMs: timeout })),
    },
    admin: file.admin,
    http2: {
      appStreams: http2.appStreams,
      sessionStreams: http2.sessionStreams,
      queuedCalls: http2.queuedCalls,
      appResetBurst: http2.appResetBurst,
      appResetRatio: http2.appResetRatio,
      appCancelBurst: http2.appCancelBurst,
      appCancelsPerSecond: http2.appCancelsPerSecond,
      sessionResetBurst: http2.sessionResetBurst,
      sessionResetsPerSecond: http2.sessionResetsPerSecond,
      continuationFrames: http2.continuationFrames,
      headerBlockSize: http2.headerBlock,
      headerListSize: http2.headerList,
      headerFields: http2.headerFields,
      interimResponses: http2.interimResponses,
      appHeaderTableSize: http2.appHeaderTable,
      sessionHeaderTableSize: http2.sessionHeaderTable,
      floodFrames: http2.floodFrames,
      floodWindowMs: http2.floodWindow,
      maxFramesPerSecond: http2.maxFramesPerSecond,
      queuedControlFrames: http2.queuedControlFrames,
      settingsEntries: http2.settingsEntries,
      stallTimeoutMs: http2.stallTimeout,
      queuedBytes: http2.queuedBytes,
      peerBytes: http2.peerBytes,
      prefaceTimeoutMs: http2.prefaceTimeout,
      settingsTimeoutMs: http2.settingsTimeout,
      headersTimeoutMs: http2.headersTimeout,
      initialWindow: http2.initialWindow,
      maxWindow: http2.maxWindow,
    },
    handshake: {
      connectTimeoutMs: handshake.connectTimeout,
      firstFrameTimeoutMs: handshake.firstFrameTimeout,
      timeoutMs: handshake.timeout,
      maxFirstMessageSize: handshake.maxFirstMessage,
      maxMessageSize: handshake.maxMessage,
      maxHalfOpen: handshake.maxHalfOpen,
      maxHalfOpenPerAddress: handshake.maxHalfOpenPerAddress,
      ratePerAddress: handshake.ratePerAddress,
      burstPerAddress: handshake.burstPerAddress,
      maxEventLoopLagMs: handshake.maxEventLoopLag,
      staticKeyLifetimeMs: handshake.staticKeyLifetime,
    },
    records: {
      timeoutMs: records.timeout,
      closeTimeoutMs: records.closeTimeout,
      heartbeatMs: records.heartbeat,
      heartbeatTimeoutMs: records.heartbeatTimeout,
      rekeyRecords: records.rekeyRecords,
      rekeyBytes: records.rekeyBytes,
      rekeyAfterMs: records.rekeyAfter,
      maxRecordsPerSecond: records.maxRecordsPerSecond,
    },
    pool: {
      size: pool.size,
      backoffMs: pool.backoff,
      maxBackoffMs: pool.maxBackoff,
      maxReconnectAttempts: pool.maxReconnectAttempts,
      healthCheckMs: pool.healthCheck,
      waitTimeoutMs: pool.waitTimeout,
      maxConcurrentSessions: pool.maxConcurrentSessions,
    },
    crypto: file.crypto,
    log: file.log,
    drain: { deadlineMs: file.drain.deadline },
  };
}
