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

  hauberk_identity_remaining_seconds: gauge(
    "Until the sidecar's own certificate expires; negative once it has",
  ),
  hauberk_identity_reloads_total: counter(
    'Changes of the identity files, by result: `rotated`, or `refused`: what was good stays in use',
    'result',
  ),
  hauberk_identity_renewals_total: counter(
    'Renewals of the SVID by the sidecar itself, by result: `ok` or `failed`',
    'result',
  ),
  hauberk_sessions_outdated: gauge(
    'Sessions whose handshake was with an SVID that has been replaced since, and that are being replaced',
    'direction',
  ),

  hauberk_app_exposed_addresses: gauge(
    'Addresses of the pod at which an app was seen to answer in plaintext, past the sidecar',
    'service',
  ),
  hauberk_svids_issued_total: counter(
    'Certificates that the controller has issued, by kind of key',
    'key_type',
  ),
  hauberk_svids_refused_total: counter('Requests for certificates that the controller refused', 'reason'),
  hauberk_certify_duration_seconds: histogram(
    'From the request for a certificate to its answer, by result: `issued` or `refused`',
    'result',
  ),
  hauberk_certify_waiting: gauge('Requests for certificates that wait for their turn'),
  hauberk_ca_remaining_seconds: gauge('Until the CA that signs ends; negative once it has'),
  hauberk_ca_certificates: gauge('CA certificates in the trust bundle: more than one while a CA is replaced'),
  hauberk_control_connections: gauge('Connections of sidecars to the controller'),
  hauberk_controller_leader: gauge('1 while this replica of the controller leads, 0 while another does'),

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

  hauberk_discovery_names: gauge('Names of services that the controller is to tell of'),
  hauberk_discovery_stale_seconds: gauge(
    'For how long the controller has told nothing of services; 0 while it does. What it told last stays in use',
  ),
  hauberk_discovery_streams: gauge('Streams by which sidecars are told of services; the controller only'),
  hauberk_discovery_messages_total: counter('What the controller has told sidecars'),
  hauberk_discovery_refusals_total: counter('Streams that the controller has refused'),
  hauberk_discovery_answers_total: counter(
    'What the controller has told: `endpoints`, `none` (the service has none in the mesh), `unknown` (there is no such service), or before and not again yet: `kept`',
    'result',
  ),

  hauberk_limit_store_up: gauge('1 while the store of the limits answers, 0 while memory stands in', 'store'),
  hauberk_limit_store_switches_total: counter('Losses and returns of the store of the limits', 'state'),

  hauberk_admissions_total: counter(
    'Requests to the webhook, by result: `injected`, `unchanged` (it has its sidecar), `skipped`, `refused` or `failed`',
    'result',
  ),
  hauberk_admission_duration_seconds: histogram('From the whole of a request to the webhook to its answer'),
  hauberk_webhook_certificate_remaining_seconds: gauge("Until the webhook's certificate ends"),

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
