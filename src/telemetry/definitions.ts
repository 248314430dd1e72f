/** What a metric is, as the scrape and docs/metrics.md show it. */
export interface MetricDefinition {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  readonly help: string;
}

const counter = (help: string, ...labels: string[]): MetricDefinition => ({ type: 'counter', labels, help });
const gauge = (help: string, ...labels: string[]): MetricDefinition => ({ type: 'gauge', labels, help });
const histogram = (help: string, ...labels: string[]): MetricDefinition => ({
  type: 'histogram',
  labels,
  help,
});

/** Every metric there is; docs/metrics.md is held against it by a test. Base units: seconds and bytes. */
export const DEFINITIONS = {
  hauberk_build_info: gauge('Always 1; its labels name what runs', 'version', 'runtime'),

  hauberk_calls_total: counter(
    'Calls that ended, by gRPC status name; `other` is not a gRPC status',
    'direction',
    'service',
    'method',
    'grpc_status',
  ),
  hauberk_call_duration_seconds: histogram(
    'From the first byte of the request headers to the end of the stream',
    'direction',
    'service',
    'method',
  ),
  hauberk_calls_open: gauge('Calls in flight', 'direction'),
  hauberk_calls_denied_total: counter('Calls that authorization refused', 'service'),
  hauberk_calls_limited_total: counter('Calls that a limit on use refused', 'scope'),
  hauberk_calls_retried_total: counter(
    'Calls sent once more, because they were refused unprocessed',
    'direction',
  ),
  hauberk_errors_total: counter('Answers made by this sidecar, by `hauberk-error` code', 'code'),

  hauberk_sessions_open: gauge('Sessions now', 'direction'),
  hauberk_sessions_disconnected: gauge(
    'Those of them without a connection, which wait to be resumed or for their end',
    'direction',
  ),
  hauberk_sessions_created_total: counter('Sessions that came of a handshake', 'direction'),
  hauberk_sessions_resumed_total: counter('Connections that joined a session with a ticket', 'direction'),
  hauberk_tickets_refused_total: counter(
    'Tickets that led to a full handshake: of peers (`unknown`, `policy`, `forged`), or our own (`declined`)',
    'direction',
    'reason',
  ),
  hauberk_sessions_closed_total: counter('Sessions that ended, by reason', 'reason'),
  hauberk_rekeys_total: counter('Changes to the next key', 'flow'),
  hauberk_records_total: counter('Encrypted records', 'flow'),

  hauberk_handshakes_total: counter(
    'Handshakes between sidecars, by result: `ok` or the code of the failure',
    'direction',
    'result',
  ),
  hauberk_handshake_modes_total: counter(
    'Handshakes that succeeded, by mode: 0 X25519, 1 with ML-KEM-768, 2 resumed',
    'direction',
    'mode',
  ),
  hauberk_handshake_duration_seconds: histogram('Handshakes that succeeded', 'direction'),
  hauberk_handshakes_half_open: gauge('Handshakes of peers that are under way'),

  hauberk_peers_blocked: gauge('Peers that an operator has blocked'),

  hauberk_connections_open: gauge('Connections now', 'side'),
  hauberk_peer_connections: gauge(
    'Connections between sidecars, by state: `connecting`, `handshaking`, `open`, `draining`',
    'direction',
    'state',
  ),
  hauberk_connections_total: counter('Connections that came up', 'side'),
  hauberk_connections_refused_total: counter(
    'Connections closed before they could ask for anything',
    'listener',
    'reason',
  ),
  hauberk_bytes_total: counter('Bytes read from (`in`) and written to (`out`) sockets', 'side', 'flow'),
  hauberk_connections_closed_total: counter('Connections that ended, by reason', 'side', 'reason'),
  hauberk_floods_total: counter(
    'Connections and streams that were ended for a limit against abuse',
    'side',
    'kind',
  ),

  hauberk_limit_store_up: gauge('1 while the store of the limits answers, 0 while memory stands in', 'store'),
  hauberk_limit_store_switches_total: counter('Losses and returns of the store of the limits', 'state'),

  hauberk_audit_recorded_total: counter('Audit events recorded'),
  hauberk_audit_late_total: counter('Audit events that came after the recorder had closed, and are lost'),
  hauberk_audit_queued: gauge('Audit events that wait for an adapter', 'adapter'),
  hauberk_audit_delivered_total: counter('Audit events that an adapter took', 'adapter'),
  hauberk_audit_dropped_total: counter('Audit events that an adapter will never get', 'adapter'),
  hauberk_audit_failures_total: counter('Writes of an adapter that failed', 'adapter'),
  hauberk_audit_adapter_up: gauge('1 while the adapter takes events, 0 while it is suspended', 'adapter'),

  hauberk_event_loop_lag_seconds: histogram('The longest delay of the event loop in each second'),
  hauberk_event_loop_lag_worst_seconds: gauge('The longest delay of the event loop in the last 15 seconds'),

  process_cpu_seconds_total: counter('User and system CPU time'),
  process_resident_memory_bytes: gauge('Resident memory'),
  process_start_time_seconds: gauge('Start of the process, in seconds since the epoch'),
  process_open_fds: gauge('Open file descriptors; Linux only'),
  nodejs_heap_size_used_bytes: gauge('JavaScript heap in use'),
  nodejs_external_memory_bytes: gauge('Memory of buffers outside the JavaScript heap'),
} as const satisfies Readonly<Record<string, MetricDefinition>>;

export type MetricName = keyof typeof DEFINITIONS;
