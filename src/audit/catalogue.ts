import type { AuditEventFields, AuditEventType, AuditStamp } from './event.ts';

const SESSION = 'UUID of the session, the same at both ends';
const PEER = 'SPIFFE ID of the sidecar at the other end';
const OPENED_BY = '`inbound`: the peer dialled; `outbound`: this sidecar did';
const REMOTE = 'Address and port at the other end, or the path of the Unix socket';
const LISTENER = 'The listener it came in at';
const CALL_SIDE = '`egress`: from the own app; `ingress`: from a peer';
const SERVICE = 'Canonical service name of the route or app';
const METHOD = '`:path` of the call, `/package.Service/Method`';
const SIDE = '`app` (calls through us), `peer` (another sidecar) or `local-app` (called through us)';

const ADMIN_CALLER = 'Address and port of the caller, or the Unix socket: who may open that is in its mode';

const IDENTITY_CAUSE =
  '`files`: they were seen to have changed; `command`: SIGHUP or the program asked; `renewal`: the sidecar renewed its SVID';

const POD_NAMESPACE = 'Namespace of the pod';
const POD_NAME = 'Its name, or the beginning of the one that it will get';
const POD_USER = 'Who creates it, as whoever is at `remote` says, and so is all else but `remote`';
const ADMISSION_REMOTE =
  'Address and port that the request came from: an API server, or somebody who says so';
const DRY_RUN = 'True if nothing is to be created at all';

const SESSION_END = {
  sessionId: SESSION,
  peer: PEER,
  direction: OPENED_BY,
  reason: 'Why, in a word: `idle`, `expired`, `peer-closed`, `truncated`, `flood`, `shutdown`, ...',
  calls: 'Calls since the session began',
  bytesIn: 'DATA bytes of its calls from the peer',
  bytesOut: 'DATA bytes of its calls to the peer',
};

/** What each field that every event has means. */
export const STAMP_MEANINGS: { readonly [K in keyof AuditStamp | 'type']: string } = {
  time: 'When it was recorded: ISO 8601, UTC, milliseconds',
  seq: 'Counts from 1 in each run, over all events; a gap at one adapter is a loss there, a repetition is a retry',
  type: 'The event, one of the names below',
  sidecar: 'SPIFFE ID of the sidecar, or the controller, that recorded the event',
  instance: 'Names the run of the sidecar: another value after every restart',
};

/**
 * Every event type with its meaning and that of its fields. Typed so that a type or field missing here, or
 * one too many, does not compile; docs/audit-events.md is held against it by a test.
 */
export const CATALOGUE: {
  readonly [T in AuditEventType]: {
    readonly means: string;
    readonly fields: { readonly [K in keyof Required<AuditEventFields[T]>]: string };
  };
} = {
  'sidecar.started': {
    means: 'The process began; nothing listens yet',
    fields: {
      version: "Hauberk's version",
      runtime: 'Name and version of the JavaScript runtime',
      pid: 'Process id',
    },
  },
  'sidecar.ready': {
    means: 'All listeners are open and calls are taken',
    fields: { listeners: 'What is bound, each as `name=address`' },
  },
  'sidecar.draining': {
    means: 'The end was asked for: no new calls, those in flight may finish',
    fields: {
      reason: 'Who asked, such as the name of the signal',
      calls: 'Calls in flight',
      deadlineMs: 'How long they have',
    },
  },
  'sidecar.stopped': {
    means: 'The last event of a run that ended in order',
    fields: { reason: 'Why it ended', callsCut: 'Calls that were still open at the deadline' },
  },
  'config.loaded': {
    means: 'A configuration file was read and is in force',
    fields: {
      file: 'Path of the file',
      sha256: 'SHA-256 of its bytes, hexadecimal',
      policy: '`enforce`, or `open`: whoever no rule names may call',
    },
  },
  'identity.loaded': {
    means: "The sidecar's own certificate and trust bundle were read and verified",
    fields: {
      spiffeId: 'Who this sidecar is',
      notAfter: 'When the first certificate of the chain expires',
      leafSha256: 'SHA-256 of the leaf certificate, hexadecimal',
      bundleGeneration: 'Counts the trust bundles of this run',
    },
  },
  'identity.rotated': {
    means:
      'A renewed SVID or a changed trust bundle has taken the place of the one before; no call is lost by it',
    fields: {
      spiffeId: 'Who this sidecar is; a rotation never changes that',
      notAfter: 'When the first certificate of the chain expires',
      leafSha256: 'SHA-256 of the leaf certificate, hexadecimal',
      bundleGeneration: 'Counts the trust bundles of this run',
      changed: '`svid`, `bundle` or `both`',
      cause: IDENTITY_CAUSE,
      sessions: 'Sessions that live: each gets a successor, or has its peer verified again',
    },
  },
  'identity.reload-failed': {
    means:
      'The files of the identity changed and were refused; what was good stays in use. Told once for the same fault of the same files',
    fields: {
      reason: 'Stable code of the fault',
      detail: 'The same in a sentence, with the file and the cure',
      cause: IDENTITY_CAUSE,
      notAfter: 'When the certificate that stays in use expires',
    },
  },
  'identity.renewed': {
    means: 'The sidecar has a new SVID: of the CA key beside its bundle, or of the controller',
    fields: { svid: 'Path of the file', notAfter: 'When the new one expires' },
  },
  'identity.renewal-failed': {
    means: 'The sidecar could not get a new SVID; the one it has stays in use, and it tries again',
    fields: {
      reason: 'Stable code of the fault',
      detail: 'The same in a sentence, with the file and the cure',
      attempts: 'Failures in a row',
      retryMs: 'How long until it is tried again',
      notAfter: 'When the certificate that is in use expires',
    },
  },
  'identity.expired': {
    means:
      "The sidecar's own certificate has expired: it is not ready, and has no session until it has a new one",
    fields: { spiffeId: 'Who this sidecar is', notAfter: 'When it expired' },
  },
  'controller.started': {
    means: 'The process of a controller began; nothing listens yet',
    fields: {
      version: "Hauberk's version",
      runtime: 'Name and version of the JavaScript runtime',
      pid: 'Process id',
      namespace: 'The namespace that it runs in',
    },
  },
  'controller.ready': {
    means: 'A controller has a CA, and all of its listeners are open',
    fields: {
      listeners: 'What is bound, each as `name=address`',
    },
  },
  'controller.draining': {
    means: 'The end of a controller was asked for: no new connections, requests under way may finish',
    fields: {
      reason: 'Who asked, such as the name of the signal',
      deadlineMs: 'How long they have',
    },
  },
  'controller.stopped': {
    means: 'The last event of a run of a controller that ended in order',
    fields: {
      reason: 'Why it ended',
    },
  },
  'controller.leading': {
    means: 'Of the replicas, this controller has become the leader, or is it no longer',
    fields: {
      lease: 'The Lease by which they choose, as `namespace/name`',
      state: '`leading` or `following`',
    },
  },
  'ca.taken': {
    means: 'A CA is in force: SVIDs are issued by it, and its bundle is what sidecars are told to trust',
    fields: {
      secret: 'The Secret that it is in, as `namespace/name`',
      cause:
        '`made`: by this controller, for there was none; `found`: at its start; `replaced`: the Secret was changed',
      caSha256: 'SHA-256 of the certificate that signs, hexadecimal',
      notAfter: 'When that one ends',
      certificates: 'How many CA certificates the bundle has',
      overlaps: 'False if the bundle lacks the CA that signed until now: its SVIDs are trusted no longer',
    },
  },
  'ca.refused': {
    means:
      'The Secret of the CA was changed to something that cannot be used; the CA that was in force stays. Told once for the same contents',
    fields: {
      secret: 'The Secret, as `namespace/name`',
      reason: 'Stable code of the fault',
      detail: 'The same in a sentence, with the cure',
    },
  },
  'svid.issued': {
    means: 'A certificate was issued',
    fields: {
      spiffeId: 'For whom',
      pod: 'The pod that its proof was bound to; absent for the controller itself',
      podUid: 'The UID of that pod',
      remote: 'Address and port at the other end; absent for the controller itself',
      keyType: 'Kind of its key: `p256` or `ed25519`',
      leafSha256: 'SHA-256 of the certificate, hexadecimal',
      caSha256: 'SHA-256 of the CA certificate that signed it, hexadecimal',
      notAfter: 'When it expires',
    },
  },
  'svid.refused': {
    means: 'A request for a certificate was refused',
    fields: {
      reason: 'Stable code, as the table of docs/kubernetes-controller.md has it',
      detail: 'The same in a sentence',
      remote: 'Address and port at the other end',
      spiffeId: 'Who had been proved, when it came that far',
      pod: 'The pod that the proof was bound to, when it came that far',
      count:
        'How many requests this stands for: the first for a reason is told at once, those that follow from the same address once a second',
    },
  },
  'app.exposed': {
    means:
      'An app of this sidecar answers in plaintext on an address of the pod: who reaches it there needs no identity',
    fields: { service: 'Of `ingress.apps`', address: 'Where it was seen, `host:port`' },
  },
  'app.unexposed': {
    means: 'It does not any more',
    fields: { service: 'Of `ingress.apps`', address: 'Where it had been seen, `host:port`' },
  },
  'session.created': {
    means: 'A handshake completed with a peer that proved its identity',
    fields: {
      sessionId: SESSION,
      peer: PEER,
      direction: OPENED_BY,
      mode: 'Handshake mode: 0 X25519, 1 with ML-KEM-768',
      expiresAt: 'The latest end: idle, absolute age or the first certificate to expire',
    },
  },
  'session.resumed': {
    means: 'A new connection joined a session with a ticket; everything was checked again',
    fields: {
      sessionId: SESSION,
      peer: PEER,
      direction: OPENED_BY,
      connections: 'Connections that the session has now: 1 if it had none',
      expiresAt: 'The latest end: idle, absolute age or the first certificate to expire',
    },
  },
  'session.closed': { means: 'A session ended in order or was cut', fields: SESSION_END },
  'session.expired': { means: 'A session reached its idle or absolute end', fields: SESSION_END },
  'session.evicted': { means: 'A session without calls made room for another', fields: SESSION_END },
  'session.revoked': {
    means:
      'An operator cut a session here; its keys are wiped. The peer records `session.closed` for the reason `revoked`',
    fields: {
      ...SESSION_END,
      reason: 'Why, as the operator said',
      mayReturn: 'False if the peer is blocked',
      callsCut: 'Calls that were under way',
      recordsAccepted: 'Records of the peer that were accepted in its life, on all connections',
      lastRecords:
        'For each connection that was open, `ADDRESS NUMBER`: the last record that was accepted, the first being 0',
      cutMicros: 'Microseconds from the command to the cut',
    },
  },
  'session.rekeyed': {
    means: 'One direction went over to its next key',
    fields: {
      sessionId: SESSION,
      direction: '`send` or `receive`',
      cause: 'What made the key old: records, bytes, age, or the peer',
    },
  },
  'peer.blocked': {
    means: 'An operator has blocked a peer: no session with it, in either direction',
    fields: {
      peer: 'SPIFFE ID of the peer',
      since: 'When it was blocked, the first time if it was already',
      reason: 'Why, as the operator said',
      sessions: 'How many sessions with it were cut',
      holdsUntil: '`allowed`: until it is allowed again; `restart`: not longer than this process',
      detail: 'Why it holds no longer than this process, if so',
    },
  },
  'peer.allowed': {
    means: 'An operator has allowed a blocked peer again',
    fields: { peer: 'SPIFFE ID of the peer', blockedSince: 'When it was blocked' },
  },
  'connection.opened': {
    means: 'A TCP or Unix connection came up',
    fields: {
      side: SIDE,
      remote: REMOTE,
      sessionId: `${SESSION}; with peers only`,
      direction: `${OPENED_BY}; with peers only`,
    },
  },
  'connection.draining': {
    means:
      'A connection between sidecars is coming to its end: GOAWAY goes out or has come, calls under way may finish',
    fields: {
      side: '`peer`',
      remote: REMOTE,
      sessionId: SESSION,
      reason: 'Why, in a word: `peer-goaway`, `expired`, `evicted`, `worn-out`, `flood`, `shutdown`, ...',
    },
  },
  'connection.closed': {
    means: 'A connection ended',
    fields: {
      side: SIDE,
      remote: REMOTE,
      sessionId: `${SESSION}; with peers only`,
      state: 'The state that it left, `open` or `draining`; with peers only',
      reason: 'Why, in a word: `peer-closed`, `truncated`, `bad-record`, `record-timeout`, ...',
      detail: 'The same in a sentence',
    },
  },
  'connection.refused': {
    means: 'A connection was closed before it could ask for anything',
    fields: {
      listener: LISTENER,
      remote: REMOTE,
      reason: 'Why, in a word',
      detail: 'The same in a sentence',
    },
  },
  'handshake.failed': {
    means: 'No session came of a connection between sidecars',
    fields: {
      direction: OPENED_BY,
      remote: REMOTE,
      state:
        'The state that it left: `connecting`, `handshaking`, or `open` if it got no session; absent if it was turned away unread',
      reason: 'Stable code of the failure',
      detail: 'The same in a sentence, with the cure',
      peer: 'SPIFFE ID that the other end claimed or proved, when it came that far',
    },
  },
  'endpoint.down': {
    means: 'An address of a route has been given up, but for health checks',
    fields: {
      service: 'The route',
      remote: REMOTE,
      attempts: 'Dials that failed in a row',
      detail: 'Why the last one failed',
    },
  },
  'endpoint.up': {
    means: 'An address that had been given up is back',
    fields: {
      service: 'The route',
      remote: REMOTE,
      attempts: 'Dials that had failed in a row',
    },
  },
  'discovery.lost': {
    means: 'The controller tells nothing of services any more; the endpoints that it told last stay in use',
    fields: { detail: 'Why', services: 'Names that are to be told of' },
  },
  'discovery.restored': {
    means: 'The controller tells of services again',
    fields: { downMs: 'How long it did not', services: 'Names that are to be told of' },
  },
  'discovery.refused': {
    means: 'A sidecar that asked the controller where a service is was turned away',
    fields: {
      reason: 'A code, also sent as `hauberk-error`',
      detail: 'What it was told',
      remote: REMOTE,
      pod: '`namespace/name`, if its token has proved that',
      count: 'How many; of those that come together the first is told at once, the others once a second',
    },
  },
  'exposure.refused': {
    means:
      'A sidecar that told the controller of an app in plaintext was turned away: there is no event of Kubernetes',
    fields: {
      reason: 'A code, also sent as `hauberk-error`',
      detail: 'What it was told',
      remote: REMOTE,
      pod: '`namespace/name`, if its token has proved that',
      count: 'How many; of those that come together the first is told at once, the others once a second',
    },
  },
  'call.completed': {
    means: 'A call ended, well or not (which calls are recorded: `monitoring.calls`)',
    fields: {
      direction: CALL_SIDE,
      sessionId: `${SESSION}; absent when the call never reached a session`,
      peer: `${PEER}; absent when the call never reached a session`,
      service: SERVICE,
      method: METHOD,
      grpcStatus: 'gRPC status code, 0 to 16; absent when the call is not gRPC or ended without one',
      httpStatus: 'HTTP status; absent when the call ended without one',
      durationMs: 'From the first byte of the request headers to the end of the stream',
      requestBytes: 'DATA bytes from the caller',
      responseBytes: 'DATA bytes to the caller',
      error: '`hauberk-error` code, when a sidecar made the answer',
    },
  },
  'call.denied': {
    means: 'No rule allows the peer this method, or one forbids it',
    fields: {
      direction: CALL_SIDE,
      sessionId: SESSION,
      peer: PEER,
      service: SERVICE,
      method: METHOD,
      rule: 'Index of the rule that decided, from 0; absent when none matched',
      auditOnly: 'True when the rule only reports: the call went on',
    },
  },
  'call.limited': {
    means: 'A limit on use was reached; the call never reached the app',
    fields: {
      direction: CALL_SIDE,
      sessionId: SESSION,
      peer: PEER,
      service: SERVICE,
      method: METHOD,
      scope: 'Whose limit: `session` or `peer`',
      limit: 'Calls allowed in a window',
      windowMs: 'Length of the window',
      retryAfterMs: 'When the window ends',
    },
  },
  'flood.detected': {
    means: 'A connection crossed a limit against abuse, and it or one of its streams was ended',
    fields: {
      side: SIDE,
      remote: REMOTE,
      sessionId: `${SESSION}; with peers only`,
      peer: `${PEER}; with peers only`,
      kind: 'Which limit: `rapid-reset`, `ping`, `settings`, `continuation`, ...; those of streams once a connection',
      detail: 'The figures, in a sentence',
    },
  },
  'admin.command': {
    means: 'Somebody asked the admin API to change something; what only looks is no event',
    fields: {
      method: 'What was asked: `RevokeSessions`, `BlockPeer`, `AllowPeer`, `SetFrameLogging`, `Drain`',
      caller: ADMIN_CALLER,
      request: 'The request as JSON: whole, unless it was malformed; of those the first 1,024 characters',
      outcome: '`OK`, or the gRPC status that it got',
      detail: 'What came of it, in a sentence',
    },
  },
  'admin.refused': {
    means: 'A caller of the admin API was turned away; nothing was done',
    fields: {
      method: 'What was asked',
      caller: ADMIN_CALLER,
      reason: '`no-token` or `wrong-token`',
      count: 'How many calls this stands for: the first is told at once, those that follow once a second',
    },
  },
  'limit.store': {
    means: 'The store of the limits was lost or came back; meanwhile memory counts',
    fields: { store: 'The kind of store', state: '`lost` or `restored`', detail: 'The error behind it' },
  },
  'pod.injected': {
    means: 'A new pod gets a sidecar; whether it is created is decided later',
    fields: {
      namespace: POD_NAMESPACE,
      pod: POD_NAME,
      user: POD_USER,
      remote: ADMISSION_REMOTE,
      dryRun: DRY_RUN,
      version: 'Version of the sidecar',
    },
  },
  'pod.refused': {
    means: 'A new pod wants a sidecar and cannot have one as it is; it is not created',
    fields: {
      namespace: POD_NAMESPACE,
      pod: POD_NAME,
      user: POD_USER,
      remote: ADMISSION_REMOTE,
      dryRun: DRY_RUN,
      detail: 'What its author was told',
    },
  },
  'webhook.certificate': {
    means: 'The webhook shows this certificate from now on',
    fields: {
      source: '`webhook.tls` of the configuration',
      cause: '`made` by this replica, `found`, or `rotated`: in the place of the one before',
      notAfter: 'When it ends',
    },
  },
  'webhook.published': {
    means:
      'A replica has written the CA of its webhook into the configuration, for the first time, for a rotation, or because somebody had taken it out; or the leader has taken out what no replica shows any more',
    fields: {
      configuration: 'Name of the MutatingWebhookConfiguration',
      webhooks: 'How many of its webhooks were changed',
    },
  },
  'tls.detected': {
    means: 'An app spoke TLS to a listener that takes plaintext HTTP/2',
    fields: { listener: LISTENER, remote: REMOTE, cure: 'What to change in the app' },
  },
  'audit.dropped': {
    means: "An adapter's queue was full; these events are missing there",
    fields: {
      adapter: 'Name of the adapter',
      count: 'Events that it did not get',
      since: 'When the first of them was dropped',
      until: 'When the last of them was dropped',
    },
  },
  'audit.adapter-failed': {
    means: 'An adapter threw, rejected or did not answer in time; its events wait in its queue',
    fields: {
      adapter: 'Name of the adapter',
      error: 'What it said',
      retryMs: 'How long until it is tried again',
    },
  },
  'audit.adapter-recovered': {
    means: 'The adapter takes events again',
    fields: { adapter: 'Name of the adapter', downMs: 'How long it did not' },
  },
};

export const AUDIT_EVENT_TYPES = Object.keys(CATALOGUE) as readonly AuditEventType[];
