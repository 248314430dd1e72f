import { randomBytes } from 'node:crypto';
import { dirname } from 'node:path';
import { namedAdapter } from '../audit/adapter.ts';
import { openAdapters } from '../audit/adapters/adapters.ts';
import { Recorder } from '../audit/recorder.ts';
import { systemClock } from '../clock/clock.ts';
import { loadCryptoProvider } from '../crypto/provider.ts';
import { openRateLimits, type RateLimits } from '../limit/ratelimits.ts';
import { AccessPolicy } from '../policy/accesspolicy.ts';
import { appAt, appInProcess } from '../relay/appplace.ts';
import { AppTarget } from '../relay/apptarget.ts';
import { RelayContext } from '../relay/context.ts';
import { Egress } from '../relay/egress.ts';
import { Ingress } from '../relay/ingress.ts';
import { PeerTarget, type PeerTargetOptions } from '../relay/peertarget.ts';
import { Revocation } from '../relay/revocation.ts';
import { Rotation } from '../relay/rotation.ts';
import { SessionPlaces } from '../relay/sessionplaces.ts';
import { PeerSessions } from '../relay/sessions.ts';
import { Blocks } from '../session/blocks.ts';
import { EventLoopLag } from '../telemetry/eventlooplag.ts';
import { silentLogger } from '../telemetry/log.ts';
import { Metrics } from '../telemetry/metrics.ts';
import { loadTracing } from '../telemetry/tracing.ts';
import { type DiscoveryParts, discoveredRoutes, openDiscovery } from './discoveryparts.ts';
import { type IdentityParts, openIdentity } from './identityparts.ts';
import type { LocalAppHost, SidecarOptions } from './options.ts';
import { peerUpstream } from './peerupstream.ts';

/** What a sidecar is made of. */
export interface Parts {
  readonly context: RelayContext;
  readonly identity: IdentityParts;
  readonly rotation: Rotation;
  /** Names this run. */
  readonly instance: string;
  readonly limits: RateLimits;
  readonly sessions: PeerSessions;
  readonly revocation: Revocation;
  readonly egress: Egress;
  readonly ingress: Ingress;
  readonly targets: readonly PeerTarget[];
  readonly discovery: DiscoveryParts | undefined;
  readonly apps: readonly AppTarget[];
  readonly lag: EventLoopLag;
}

/** Makes the parts, from the bottom up; nothing listens yet. */
export async function assemble(options: SidecarOptions): Promise<Parts> {
  const { config, configFile, version, stdout, localApps } = options;
  const clock = options.clock ?? systemClock;
  const log = options.log ?? silentLogger;
  const identity = await openIdentity(options, clock, log);
  const { keeper } = identity;
  const blocks = await Blocks.open(clock, config.revocation.file);
  const { provider, postQuantum } = config.crypto;
  const crypto = await loadCryptoProvider(provider, { postQuantum: postQuantum !== 'off' });
  const instance = randomBytes(8);
  const recorder = new Recorder({
    clock,
    source: { instance: instance.toString('hex'), spiffeId: keeper.identity.spiffeId },
    adapters: [
      ...(await openAdapters(config.monitoring.adapters, { clock, stdout, folder: dirname(configFile) })),
      ...(options.adapters ?? []).map((adapter, i) => namedAdapter(adapter, `adapter-${i + 1}`)),
    ],
    queueLimit: config.monitoring.queue,
  });
  const metrics = new Metrics({ version });
  const lag = new EventLoopLag(clock);
  let limitStoreUp = true;
  if (config.limitStore.type !== 'memory') {
    metrics.observe({ limitStore: () => ({ store: config.limitStore.type, up: limitStoreUp }) });
  }
  const limits = await openRateLimits({
    limits: config.limits,
    clock,
    store: config.limitStore,
    namespace: keeper.identity.spiffeId,
    onStoreChange: ({ store, state, detail }) => {
      limitStoreUp = state === 'restored';
      metrics.limitStoreSwitches.of(state).inc();
      recorder.record({ type: 'limit.store', store, state, detail });
      log.warn({ store, state, detail }, 'the store of the limits has changed');
    },
  });
  const context = new RelayContext({
    clock,
    recorder,
    metrics,
    log,
    http2: config.http2,
    tracing: await loadTracing(version),
    auditCalls: config.monitoring.calls,
  });
  const sessions = new PeerSessions(context, {
    crypto,
    identity: () => keeper.identity,
    bundle: () => keeper.bundle,
    handshake: config.handshake,
    records: config.records,
    postQuantum,
    session: config.session,
    instance,
    lagMs: () => lag.currentMs,
    blocks,
    onSessionEnded: (id) => limits.release(id),
  });
  const places = new SessionPlaces(config.pool.maxConcurrentSessions);
  const peers = { sessions, places, pool: config.pool };
  const fixed = config.egress.routes.map((route) => {
    const makeUpstream: PeerTargetOptions['makeUpstream'] = (host, port, onGone) =>
      peerUpstream(context, { ...peers, onGone }, route, host, port);
    const target = new PeerTarget(context, {
      service: route.service,
      endpoints: route.endpoints,
      waitMs: config.pool.waitTimeoutMs,
      makeUpstream,
    });
    return { config: route, target, peer: route.peer };
  });
  const host: LocalAppHost = {
    clock,
    log,
    sessions: sessions.manager,
    limitsOf: ({ id, peer }) => limits.status(id, peer),
  };
  const inProcess = [...(localApps ?? [])].map(([service, app]) => appInProcess(service, () => app(host)));
  const apps = [...config.ingress.apps.map(appAt), ...inProcess].map((app) => new AppTarget(context, app));
  const ingress = new Ingress(context, {
    sessions,
    apps,
    policy: new AccessPolicy(config.ingress.allow, config.policy),
    limits,
  });
  const listening = () =>
    ingress.listeners.flatMap(({ address }) => (address.kind === 'tcp' ? [address] : []));
  const discovery = await openDiscovery(
    context,
    config,
    () => keeper.bundle,
    peers,
    identity.channel,
    listening,
  );
  return {
    context,
    identity,
    rotation: new Rotation(context, {
      sessions,
      identity: () => keeper.identity,
      bundle: () => keeper.bundle,
      handshakeMs: config.handshake.connectTimeoutMs + config.handshake.timeoutMs,
    }),
    instance: instance.toString('hex'),
    limits,
    sessions,
    revocation: new Revocation(context, sessions, blocks, (peer) => {
      for (const route of fixed) if (route.peer === peer) route.target.retryNow();
      discovery?.routes.retryNow(peer);
    }),
    egress: new Egress(context, {
      routes: [...fixed, ...discoveredRoutes(config, discovery)],
      discovery: config.egress.discovery ? discovery?.routes : undefined,
      maxConnections: config.egress.maxConnections,
      isBlocked: (peer) => blocks.has(peer),
    }),
    ingress,
    targets: fixed.map(({ target }) => target),
    discovery,
    apps,
    lag,
  };
}
