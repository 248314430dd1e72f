// The limits of design sections 5 and 7: every one configurable, none of them off.
import { count, duration, mapping, ratio, size } from './schemanode.ts';

/** `handshake`: what a peer may cost before it has proved who it is. */
export const HANDSHAKE = mapping(
  {
    connectTimeout: duration('100ms', '2m', {
      description: 'TCP connect to a peer.',
      default: '5s',
    }),
    firstFrameTimeout: duration('100ms', '1m', {
      description: 'Until the first frame of a new connection is complete.',
      default: '2s',
    }),
    timeout: duration('100ms', '2m', {
      description: 'The whole handshake.',
      default: '5s',
    }),
    maxFirstMessage: size('1216B', '16KiB', {
      description: 'Noise message 1.',
      default: '1536B',
    }),
    maxMessage: size('4KiB', '64512B', {
      description: 'Every other Noise message; holds the certificate chain.',
      default: '16KiB',
    }),
    maxHalfOpen: count(1, 65_536, 'connections', {
      description: 'Unfinished handshakes in all; when full, the oldest that is not under way goes.',
      default: 256,
    }),
    maxHalfOpenPerAddress: count(1, 65_536, 'connections', {
      description: 'Unfinished handshakes of one IPv4 address or IPv6 /64.',
      default: 16,
    }),
    ratePerAddress: count(1, 1_000_000, 'a second', {
      description: 'Handshakes that one address may begin.',
      default: 50,
    }),
    burstPerAddress: count(1, 1_000_000, 'handshakes', {
      description: 'Handshakes that one address may begin at once.',
      default: 100,
    }),
    maxEventLoopLag: duration('1ms', '10s', {
      description: 'While the event loop lags by more, full handshakes are refused.',
      default: '50ms',
    }),
    staticKeyLifetime: duration('1m', '24h', {
      description: 'The Noise static key, which is in memory only, is replaced after this long.',
      default: '24h',
    }),
  },
  { description: 'Limits on handshakes with peers.' },
);

/** `records`: the encrypted transport below a session. */
export const RECORDS = mapping(
  {
    timeout: duration('100ms', '5m', {
      description: 'A record whose length has come must be complete within this.',
      default: '10s',
    }),
    closeTimeout: duration('100ms', '1m', {
      description: "How long an authenticated close waits for the peer's.",
      default: '5s',
    }),
    heartbeat: duration('200ms', '1h', {
      description:
        'A peer from which nothing has come for this long is sent a PING, by either end. Heartbeats do not slide the idle expiry.',
      default: '15s',
    }),
    heartbeatTimeout: duration('200ms', '10m', {
      description:
        'If nothing comes for this long after it, the connection ends. After half of this no new call is put on it.',
      default: '10s',
    }),
    rekeyRecords: count(1_024, 2_097_152, 'records', {
      description: 'A direction changes its key after this many records, ...',
      default: 1_048_576,
    }),
    // Not less than 1,024 of the largest records: a peer refuses keys that change more often.
    rekeyBytes: size('64MiB', '64GiB', { description: '... this many bytes, ...', default: '32GiB' }),
    rekeyAfter: duration('1m', '24h', { description: '... or this long.', default: '1h' }),
    maxRecordsPerSecond: count(100, 10_000_000, 'records a second', {
      description: 'Records that one connection may bring; more end it.',
      default: 200_000,
    }),
  },
  { description: 'Limits on the encrypted records of a connection.' },
);

/** `pool`: connections that this sidecar opens to peers. */
export const POOL = mapping(
  {
    size: count(1, 64, 'connections', {
      description:
        'Connections to one address at the same time. Calls share the first; another is opened when its streams are taken or its peer has fallen silent.',
      default: 8,
    }),
    backoff: duration('10ms', '1m', {
      description:
        'After a failed dial the next waits a random time up to this, doubled with each further failure ...',
      default: '200ms',
    }),
    maxBackoff: duration('10ms', '10m', { description: '... up to this.', default: '10s' }),
    maxReconnectAttempts: count(0, 1_000_000, 'dials', {
      description:
        'A connection that broke is opened again at once, also without a call. After this many dials that failed in a row the address is down: calls there fail at once and only health checks dial it. 0: only calls dial, and no address is ever down.',
      default: 10,
    }),
    healthCheck: duration('100ms', '1h', {
      description: 'While an address is down it is dialled this often, give or take half.',
      default: '10s',
    }),
    waitTimeout: duration('100ms', '1h', {
      description:
        'A call waits this long for a connection or a free stream, then gets UNAVAILABLE. Its own deadline may be shorter.',
      default: '30s',
    }),
    maxConcurrentSessions: count(1, 1_000_000, 'sessions', {
      description:
        'Sessions that this sidecar has opened, over all addresses. When all are taken, the one longest without calls makes room; if none is, calls wait.',
      default: 1_024,
    }),
  },
  { description: 'Connections to peers, for each address of the endpoints.' },
);

/** `http2`: what apps and peers may do with HTTP/2. */
export const HTTP2 = mapping(
  {
    appStreams: count(1, 1_000_000, 'streams', {
      description: 'Concurrent calls on a connection with an app.',
      default: 1_024,
    }),
    sessionStreams: count(1, 1_000_000, 'streams', {
      description: 'Concurrent calls on a connection inside a session.',
      default: 4_096,
    }),
    queuedCalls: count(0, 1_000_000, 'calls', {
      description:
        'Calls to one endpoint that wait for a free stream, with 16 KiB of metadata each on average; further ones get UNAVAILABLE.',
      default: 1_024,
    }),
    appResetBurst: count(10, 1_000_000, 'resets', {
      description: 'Rapid reset (CVE-2023-44487): an app connection may reset this many streams at once.',
      default: 1_000,
    }),
    appResetRatio: ratio({
      description:
        'Beyond the burst, the connection ends when clearly more than this share of recent streams was reset, and faster than 100 a second. A call that was answered, waited for 1 s or was near its deadline may be given up freely.',
      default: 0.5,
    }),
    appCancelBurst: count(10, 1_000_000, 'calls', {
      description:
        'Cancelled calls that an app which is called learns of at once; further ones at the rate below, for many servers (Node among them: 1,000, then 33 a second) end connections with more. New calls then go over another connection.',
      default: 800,
    }),
    appCancelsPerSecond: count(1, 1_000_000, 'calls a second', {
      description: 'Lasting rate of cancelled calls on a connection to an app.',
      default: 30,
    }),
    sessionResetBurst: count(10, 1_000_000, 'resets', {
      description: 'Resets at once inside a session.',
      default: 1_000,
    }),
    sessionResetsPerSecond: count(1, 1_000_000, 'resets a second', {
      description: 'Lasting rate of resets inside a session.',
      default: 500,
    }),
    continuationFrames: count(1, 1_024, 'frames', {
      description: 'CONTINUATION frames of a header block.',
      default: 8,
    }),
    headerBlock: size('4KiB', '1MiB', { description: 'A header block as sent.', default: '64KiB' }),
    headerList: size('4KiB', '1MiB', {
      description: 'A header list, counted with 32 bytes a field (RFC 9113 section 6.5.2); advertised.',
      default: '64KiB',
    }),
    headerFields: count(16, 4_096, 'fields', { description: 'Fields of a header list.', default: 128 }),
    interimResponses: count(1, 1_024, 'responses', {
      description: 'Informational (1xx) responses to one call.',
      default: 16,
    }),
    appHeaderTable: size('0B', '1MiB', { description: 'HPACK table towards apps.', default: '4KiB' }),
    sessionHeaderTable: size('0B', '1MiB', {
      description: 'HPACK table inside a session.',
      default: '64KiB',
    }),
    floodFrames: count(10, 1_000_000, 'frames', {
      description:
        'PING, SETTINGS, PRIORITY, empty and unknown frames, and WINDOW_UPDATEs beyond 10 a frame of traffic: this many of a kind ...',
      default: 200,
    }),
    floodWindow: duration('1s', '10m', { description: '... in this long.', default: '10s' }),
    maxFramesPerSecond: count(1_000, 100_000_000, 'frames a second', {
      description:
        'Frames of any kind that one connection may bring; more end it. Inside a session, the calls of all apps count together.',
      default: 5_000_000,
    }),
    queuedControlFrames: count(10, 1_000_000, 'frames', {
      description: 'Control frames that wait to be sent on a connection.',
      default: 1_000,
    }),
    settingsEntries: count(6, 1_024, 'entries', {
      description: 'Entries of a SETTINGS frame.',
      default: 32,
    }),
    stallTimeout: duration('1s', '1h', {
      description:
        "A stream with queued data that makes no progress for this long is reset, but only while its connection's queue is full.",
      default: '60s',
    }),
    queuedBytes: size('256KiB', '1GiB', {
      description: 'Data that waits to be sent on a connection.',
      default: '16MiB',
    }),
    peerBytes: size('1MiB', '64GiB', {
      description:
        'Data kept here for all connections of one peer (SPIFFE ID) together; above, the connection that holds most is ended.',
      default: '256MiB',
    }),
    prefaceTimeout: duration('100ms', '5m', {
      description: 'Until the connection preface is complete.',
      default: '5s',
    }),
    settingsTimeout: duration('100ms', '5m', {
      description: 'Until the first SETTINGS frame, and until ours is acknowledged.',
      default: '5s',
    }),
    headersTimeout: duration('100ms', '5m', {
      description: 'Until a header block is complete.',
      default: '10s',
    }),
    initialWindow: size('16KiB', '16MiB', {
      description:
        "A stream's flow-control window at its begin. 8 KiB while half of `http2.queuedBytes` waits to be passed on.",
      default: '64KiB',
    }),
    maxWindow: size('16KiB', '64MiB', {
      description: 'The window doubles up to this while the far side drains.',
      default: '4MiB',
    }),
  },
  { description: 'Limits on HTTP/2 connections, with apps (`app...`) and inside sessions (`session...`).' },
);
