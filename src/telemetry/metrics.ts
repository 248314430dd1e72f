import { readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import type { Registry } from 'prom-client';
import { DEFINITIONS, type MetricName } from './definitions.ts';
import type { EventLoopLag } from './eventlooplag.ts';
import { GRPC_STATUS_NAMES } from './grpcstatus.ts';
import { Histogram, LabelledSeries, NumberFamily, type Sample } from './series.ts';

const require = createRequire(import.meta.url);

/** Upper bounds in seconds: a hop takes well under a millisecond, a stream may take minutes. */
const DURATION_BOUNDS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60,
];
const MAX_CALL_SERIES = 500;
const NO_STATUS = GRPC_STATUS_NAMES.length;

/** Calls of one direction, service and method. `record` is what a call costs: no allocation, no look-up. */
export class CallSeries {
  readonly duration = new Histogram(DURATION_BOUNDS);
  readonly #byStatus = new Float64Array(GRPC_STATUS_NAMES.length + 1);

  /** Counts a call that ended; anything but 0 to 16 counts as status `other`. */
  record(grpcStatus: number | undefined, seconds: number): void {
    const index =
      grpcStatus !== undefined && grpcStatus >= 0 && grpcStatus < NO_STATUS ? grpcStatus | 0 : NO_STATUS;
    this.#byStatus[index] = (this.#byStatus[index] as number) + 1;
    this.duration.observe(seconds);
  }

  /** Calls by status, those that occurred only. */
  statuses(): Array<{ readonly grpcStatus: string; readonly count: number }> {
    return Array.from(this.#byStatus, (count, code) => ({
      grpcStatus: GRPC_STATUS_NAMES[code] ?? 'other',
      count,
    })).filter(({ count }) => count > 0);
  }
}

/** State that others own, read when it is scraped. Readers are cheap and do not throw. */
export interface MetricSources {
  callsOpen?(): { readonly egress: number; readonly ingress: number };
  sessionsOpen?(): { readonly inbound: number; readonly outbound: number };
  sessionsDisconnected?(): { readonly inbound: number; readonly outbound: number };
  handshakesHalfOpen?(): number;
  peersBlocked?(): number;
  identityRemainingSeconds?(): number;
  appsExposed?(): Readonly<Record<string, number>>;
  certifyWaiting?(): number;
  /** Undefined while there is no CA. */
  caRemainingSeconds?(): number | undefined;
  caCertificates?(): number | undefined;
  controlConnections?(): number;
  leader?(): number;
  sessionsOutdated?(): { readonly inbound: number; readonly outbound: number };
  discoveryServer?(): { readonly streams: number; readonly told: number; readonly refused: number };
  discovery?(): { readonly names: number; readonly staleSeconds: number };
  limitStore?(): { readonly store: string; readonly up: boolean };
  /** Undefined while there is none. */
  webhookCertificateRemainingSeconds?(): number | undefined;
  audit?(): {
    readonly recorded: number;
    readonly late: number;
    readonly adapters: ReadonlyArray<{
      readonly name: string;
      readonly state: 'working' | 'suspended' | 'closed';
      readonly queued: number;
      readonly delivered: number;
      readonly dropped: number;
      readonly failures: number;
    }>;
  };
  eventLoopLag?: EventLoopLag;
}

export interface MetricsOptions {
  readonly version: string;
  /** Calls beyond this number of services and methods are counted under method `other`. Default 500. */
  readonly maxCallSeries?: number;
}

const family = <L extends readonly string[]>(name: MetricName): NumberFamily<L> =>
  new NumberFamily<L>(DEFINITIONS[name].labels);

type CallDirection = 'egress' | 'ingress';
type SessionDirection = 'inbound' | 'outbound';
type Side = 'app' | 'peer' | 'local-app';
type Flow = 'in' | 'out';

/**
 * All metrics of a sidecar. What happens is counted in plain numbers; prom-client is loaded by the first scrape and
 * only writes the text. Where something is counted often, keep the Series that `family.of(...)` gives.
 */
export class Metrics {
  readonly denied = family<[service: string]>('hauberk_calls_denied_total');
  readonly limited = family<[scope: string]>('hauberk_calls_limited_total');
  readonly retries = family<[direction: CallDirection]>('hauberk_calls_retried_total');
  readonly errors = family<[code: string]>('hauberk_errors_total');
  readonly sessionsCreated = family<[direction: SessionDirection]>('hauberk_sessions_created_total');
  readonly sessionsResumed = family<[direction: SessionDirection]>('hauberk_sessions_resumed_total');
  readonly ticketsRefused = family<[direction: SessionDirection, reason: string]>(
    'hauberk_tickets_refused_total',
  );
  readonly sessionsClosed = family<[reason: string]>('hauberk_sessions_closed_total');
  readonly rekeys = family<[flow: Flow]>('hauberk_rekeys_total');
  readonly records = family<[flow: Flow]>('hauberk_records_total');
  readonly handshakes = family<[direction: SessionDirection, result: string]>('hauberk_handshakes_total');
  readonly handshakeModes = family<[direction: SessionDirection, mode: string]>(
    'hauberk_handshake_modes_total',
  );
  readonly handshakeDuration = new LabelledSeries<[direction: SessionDirection], Histogram>(
    ['direction'],
    () => new Histogram(DURATION_BOUNDS),
  );
  readonly identityReloads = family<[result: 'rotated' | 'refused']>('hauberk_identity_reloads_total');
  readonly identityRenewals = family<[result: 'ok' | 'failed']>('hauberk_identity_renewals_total');
  readonly svidsIssued = family<[keyType: string]>('hauberk_svids_issued_total');
  readonly svidsRefused = family<[reason: string]>('hauberk_svids_refused_total');
  readonly certifyDuration = new LabelledSeries<[result: 'issued' | 'refused'], Histogram>(
    ['result'],
    () => new Histogram(DURATION_BOUNDS),
  );
  readonly peerConnections = family<[direction: SessionDirection, state: string]>('hauberk_peer_connections');
  readonly connectionsOpen = family<[side: Side]>('hauberk_connections_open');
  readonly connections = family<[side: Side]>('hauberk_connections_total');
  readonly refusals = family<[listener: string, reason: string]>('hauberk_connections_refused_total');
  readonly bytes = family<[side: Side, flow: Flow]>('hauberk_bytes_total');
  readonly connectionsClosed = family<[side: Side, reason: string]>('hauberk_connections_closed_total');
  readonly floods = family<[side: Side, kind: string]>('hauberk_floods_total');
  readonly admissions =
    family<[result: 'injected' | 'unchanged' | 'skipped' | 'refused' | 'failed']>('hauberk_admissions_total');
  readonly admissionDuration = new LabelledSeries<[], Histogram>([], () => new Histogram(DURATION_BOUNDS));
  readonly discoveryAnswers = family<[result: 'endpoints' | 'none' | 'unknown' | 'kept']>(
    'hauberk_discovery_answers_total',
  );
  readonly limitStoreSwitches = family<[state: 'lost' | 'restored']>('hauberk_limit_store_switches_total');

  readonly #calls: LabelledSeries<[CallDirection, service: string, method: string], CallSeries>;
  readonly #version: string;
  #sources: MetricSources = {};
  #registry: Registry | undefined;

  constructor(options: MetricsOptions) {
    this.#version = options.version;
    this.#calls = new LabelledSeries(
      DEFINITIONS.hauberk_call_duration_seconds.labels,
      () => new CallSeries(),
      options.maxCallSeries ?? MAX_CALL_SERIES,
    );
  }

  /** The series of one method; to be kept by the caller, once for each route and method. */
  calls(direction: CallDirection, service: string, method: string): CallSeries {
    return this.#calls.of(direction, service, method);
  }

  /** Calls of one direction that have ended, and how many of them not with OK. */
  callTotals(wanted: CallDirection): { readonly ended: number; readonly failed: number } {
    let ended = 0;
    let ok = 0;
    for (const { labels, series } of this.#calls) {
      if (labels.direction !== wanted) continue;
      for (const { grpcStatus, count } of series.statuses()) {
        ended += count;
        if (grpcStatus === 'OK') ok += count;
      }
    }
    return { ended, failed: ended - ok };
  }

  /** Adds state to read at each scrape; a later source replaces an earlier one of the same name. */
  observe(sources: MetricSources): void {
    this.#sources = { ...this.#sources, ...sources };
  }

  /** Everything in the Prometheus text format 0.0.4. */
  async render(): Promise<{ readonly contentType: string; readonly body: string }> {
    this.#registry ??= this.#buildRegistry();
    const registry = this.#registry;
    return { contentType: registry.contentType, body: await registry.metrics() };
  }

  #buildRegistry(): Registry {
    // The rest of prom-client brings TLS and zlib with it: 4 MiB on Node 24.
    const PromRegistry = require('prom-client/lib/registry.js') as typeof Registry;
    const registry = new PromRegistry();
    for (const name of Object.keys(DEFINITIONS) as MetricName[]) {
      const { type, help } = DEFINITIONS[name];
      // A registry asks each metric for its values by get(); where they come from is the metric's own affair.
      const metric = {
        name,
        type,
        help,
        get: async () => ({ name, type, help, values: await this.#samples(name) }),
      };
      registry.registerMetric(metric as unknown as Parameters<Registry['registerMetric']>[0]);
    }
    return registry;
  }

  async #samples(name: MetricName): Promise<Sample[]> {
    const read: () => Sample[] | Promise<Sample[]> = this.#readers[name];
    return read();
  }

  readonly #readers: { readonly [N in MetricName]: () => Sample[] | Promise<Sample[]> } = {
    hauberk_build_info: () => [
      { labels: { version: this.#version, runtime: `node ${process.versions.node}` }, value: 1 },
    ],
    hauberk_calls_total: () =>
      Array.from(this.#calls).flatMap(({ labels, series }) =>
        series.statuses().map(({ grpcStatus, count }) => ({
          labels: { ...labels, grpc_status: grpcStatus },
          value: count,
        })),
      ),
    hauberk_call_duration_seconds: () =>
      Array.from(this.#calls).flatMap(({ labels, series }) =>
        series.duration.samples('hauberk_call_duration_seconds', labels),
      ),
    hauberk_calls_open: () => byLabel('direction', this.#sources.callsOpen?.()),
    hauberk_calls_denied_total: () => this.denied.samples(),
    hauberk_calls_limited_total: () => this.limited.samples(),
    hauberk_calls_retried_total: () => this.retries.samples(),
    hauberk_errors_total: () => this.errors.samples(),
    hauberk_sessions_open: () => byLabel('direction', this.#sources.sessionsOpen?.()),
    hauberk_sessions_disconnected: () => byLabel('direction', this.#sources.sessionsDisconnected?.()),
    hauberk_sessions_created_total: () => this.sessionsCreated.samples(),
    hauberk_sessions_resumed_total: () => this.sessionsResumed.samples(),
    hauberk_tickets_refused_total: () => this.ticketsRefused.samples(),
    hauberk_sessions_closed_total: () => this.sessionsClosed.samples(),
    hauberk_rekeys_total: () => this.rekeys.samples(),
    hauberk_records_total: () => this.records.samples(),
    hauberk_identity_remaining_seconds: () => single(this.#sources.identityRemainingSeconds?.()),
    hauberk_identity_reloads_total: () => this.identityReloads.samples(),
    hauberk_identity_renewals_total: () => this.identityRenewals.samples(),
    hauberk_sessions_outdated: () => byLabel('direction', this.#sources.sessionsOutdated?.()),
    hauberk_app_exposed_addresses: () => byLabel('service', this.#sources.appsExposed?.()),
    hauberk_svids_issued_total: () => this.svidsIssued.samples(),
    hauberk_svids_refused_total: () => this.svidsRefused.samples(),
    hauberk_certify_duration_seconds: () =>
      Array.from(this.certifyDuration).flatMap(({ labels, series }) =>
        series.samples('hauberk_certify_duration_seconds', labels),
      ),
    hauberk_certify_waiting: () => single(this.#sources.certifyWaiting?.()),
    hauberk_ca_remaining_seconds: () => single(this.#sources.caRemainingSeconds?.()),
    hauberk_ca_certificates: () => single(this.#sources.caCertificates?.()),
    hauberk_control_connections: () => single(this.#sources.controlConnections?.()),
    hauberk_controller_leader: () => single(this.#sources.leader?.()),
    hauberk_handshakes_total: () => this.handshakes.samples(),
    hauberk_handshake_modes_total: () => this.handshakeModes.samples(),
    hauberk_handshake_duration_seconds: () =>
      Array.from(this.handshakeDuration).flatMap(({ labels, series }) =>
        series.samples('hauberk_handshake_duration_seconds', labels),
      ),
    hauberk_handshakes_half_open: () => single(this.#sources.handshakesHalfOpen?.()),
    hauberk_peers_blocked: () => single(this.#sources.peersBlocked?.()),
    hauberk_connections_open: () => this.connectionsOpen.samples(),
    hauberk_peer_connections: () => this.peerConnections.samples(),
    hauberk_connections_total: () => this.connections.samples(),
    hauberk_connections_refused_total: () => this.refusals.samples(),
    hauberk_bytes_total: () => this.bytes.samples(),
    hauberk_connections_closed_total: () => this.connectionsClosed.samples(),
    hauberk_floods_total: () => this.floods.samples(),
    hauberk_discovery_names: () => single(this.#sources.discovery?.().names),
    hauberk_discovery_stale_seconds: () => single(this.#sources.discovery?.().staleSeconds),
    hauberk_discovery_streams: () => single(this.#sources.discoveryServer?.().streams),
    hauberk_discovery_messages_total: () => single(this.#sources.discoveryServer?.().told),
    hauberk_discovery_refusals_total: () => single(this.#sources.discoveryServer?.().refused),
    hauberk_discovery_answers_total: () => this.discoveryAnswers.samples(),
    hauberk_limit_store_up: () => {
      const state = this.#sources.limitStore?.();
      return state === undefined ? [] : [{ labels: { store: state.store }, value: state.up ? 1 : 0 }];
    },
    hauberk_limit_store_switches_total: () => this.limitStoreSwitches.samples(),
    hauberk_admissions_total: () => this.admissions.samples(),
    hauberk_admission_duration_seconds: () =>
      Array.from(this.admissionDuration).flatMap(({ labels, series }) =>
        series.samples('hauberk_admission_duration_seconds', labels),
      ),
    hauberk_webhook_certificate_remaining_seconds: () =>
      single(this.#sources.webhookCertificateRemainingSeconds?.()),
    hauberk_audit_recorded_total: () => single(this.#sources.audit?.().recorded),
    hauberk_audit_late_total: () => single(this.#sources.audit?.().late),
    hauberk_audit_queued: () => this.#adapters((adapter) => adapter.queued),
    hauberk_audit_delivered_total: () => this.#adapters((adapter) => adapter.delivered),
    hauberk_audit_dropped_total: () => this.#adapters((adapter) => adapter.dropped),
    hauberk_audit_failures_total: () => this.#adapters((adapter) => adapter.failures),
    hauberk_audit_adapter_up: () => this.#adapters((adapter) => (adapter.state === 'working' ? 1 : 0)),
    hauberk_event_loop_lag_seconds: () =>
      this.#sources.eventLoopLag?.perSecond.samples('hauberk_event_loop_lag_seconds', {}) ?? [],
    hauberk_event_loop_lag_worst_seconds: () => single(this.#sources.eventLoopLag?.worstSeconds),
    process_cpu_seconds_total: () => {
      const { user, system } = process.cpuUsage();
      return single((user + system) / 1e6);
    },
    process_resident_memory_bytes: () => single(process.memoryUsage.rss()),
    process_start_time_seconds: () => single(performance.timeOrigin / 1000),
    process_open_fds: async () =>
      single(
        await readdir('/proc/self/fd').then(
          (entries) => entries.length,
          () => undefined,
        ),
      ),
    nodejs_heap_size_used_bytes: () => single(process.memoryUsage().heapUsed),
    nodejs_external_memory_bytes: () => single(process.memoryUsage().external),
  };

  #adapters(read: (adapter: AdapterState) => number): Sample[] {
    const adapters = this.#sources.audit?.().adapters ?? [];
    return adapters.map((adapter) => ({ labels: { adapter: adapter.name }, value: read(adapter) }));
  }
}

type AdapterState = ReturnType<NonNullable<MetricSources['audit']>>['adapters'][number];

function single(value: number | undefined): Sample[] {
  return value === undefined ? [] : [{ labels: {}, value }];
}

function byLabel(label: string, values: Readonly<Record<string, number>> | undefined): Sample[] {
  return Object.entries(values ?? {}).map(([name, value]) => ({ labels: { [label]: name }, value }));
}
