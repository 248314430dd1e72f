import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEFINITIONS } from '../../src/telemetry/definitions.ts';
import { EventLoopLag } from '../../src/telemetry/eventlooplag.ts';
import { Metrics } from '../../src/telemetry/metrics.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { type ParsedMetric, parseExposition } from './exposition.ts';

async function scrape(metrics: Metrics): Promise<Map<string, ParsedMetric>> {
  return parseExposition((await metrics.render()).body);
}

/** The value of one sample; undefined when there is none. */
function valueIn(
  metrics: Map<string, ParsedMetric>,
  name: string,
  labels: Record<string, string> = {},
  suffix = '',
): number | undefined {
  const wanted = JSON.stringify(Object.entries(labels).sort());
  return metrics
    .get(name)
    ?.samples.find((s) => s.name === name + suffix && JSON.stringify([...s.labels].sort()) === wanted)?.value;
}

const CALL = { direction: 'egress', service: 'greeter.shop', method: '/shop.Greeter/SayHello' };
const callsOf = (metrics: Metrics) => metrics.calls('egress', CALL.service, CALL.method);

describe('a scrape', () => {
  it('is the text format, version 0.0.4', async () => {
    const { contentType } = await new Metrics({ version: '1.2.3' }).render();
    expect(contentType).toBe('text/plain; version=0.0.4; charset=utf-8');
  });

  it('has every metric that is defined, as it is defined, and no other', async () => {
    const metrics = await scrape(new Metrics({ version: '1.2.3' }));
    const found = [...metrics].map(([name, { type, help }]) => ({ name, type, help }));
    expect(found).toEqual(
      Object.entries(DEFINITIONS).map(([name, { type, help }]) => ({ name, type, help })),
    );
  });

  it('counts calls by status and puts their durations into buckets', async () => {
    const metrics = new Metrics({ version: '1.2.3' });
    const series = callsOf(metrics);
    series.record(0, 0.0001);
    series.record(0, 0.0002);
    series.record(14, 3);
    series.record(undefined, 1000);
    series.record(99, 0);
    const text = await scrape(metrics);
    expect(valueIn(text, 'hauberk_calls_total', { ...CALL, grpc_status: 'OK' })).toBe(2);
    expect(valueIn(text, 'hauberk_calls_total', { ...CALL, grpc_status: 'UNAVAILABLE' })).toBe(1);
    expect(valueIn(text, 'hauberk_calls_total', { ...CALL, grpc_status: 'other' })).toBe(2);
    const bucket = (le: string) => valueIn(text, 'hauberk_call_duration_seconds', { ...CALL, le }, '_bucket');
    expect([
      bucket('0.0001'),
      bucket('0.00025'),
      bucket('2.5'),
      bucket('5'),
      bucket('60'),
      bucket('+Inf'),
    ]).toEqual([2, 3, 3, 4, 4, 5]);
    expect(valueIn(text, 'hauberk_call_duration_seconds', CALL, '_count')).toBe(5);
    expect(valueIn(text, 'hauberk_call_duration_seconds', CALL, '_sum')).toBeCloseTo(1003.0003);
  });

  it('reads the state of others when it happens', async () => {
    const metrics = new Metrics({ version: '1.2.3' });
    let open = 1;
    metrics.observe({
      callsOpen: () => ({ egress: open, ingress: 0 }),
      sessionsOpen: () => ({ inbound: 3, outbound: 4 }),
      handshakesHalfOpen: () => 5,
      limitStore: () => ({ store: 'redis', up: false }),
      audit: () => ({
        recorded: 10,
        late: 1,
        adapters: [
          { name: 'stdout', state: 'working', queued: 2, delivered: 7, dropped: 1, failures: 0 },
          { name: 'hook', state: 'suspended', queued: 9, delivered: 1, dropped: 0, failures: 3 },
        ],
      }),
    });
    open = 2;
    const text = await scrape(metrics);
    expect(valueIn(text, 'hauberk_calls_open', { direction: 'egress' })).toBe(2);
    expect(valueIn(text, 'hauberk_sessions_open', { direction: 'outbound' })).toBe(4);
    expect(valueIn(text, 'hauberk_handshakes_half_open')).toBe(5);
    expect(valueIn(text, 'hauberk_limit_store_up', { store: 'redis' })).toBe(0);
    expect(valueIn(text, 'hauberk_audit_recorded_total')).toBe(10);
    expect(valueIn(text, 'hauberk_audit_late_total')).toBe(1);
    expect(valueIn(text, 'hauberk_audit_queued', { adapter: 'hook' })).toBe(9);
    expect(valueIn(text, 'hauberk_audit_dropped_total', { adapter: 'stdout' })).toBe(1);
    expect(valueIn(text, 'hauberk_audit_adapter_up', { adapter: 'stdout' })).toBe(1);
    expect(valueIn(text, 'hauberk_audit_adapter_up', { adapter: 'hook' })).toBe(0);
  });

  it('shows every counter with its labels', async () => {
    const metrics = new Metrics({ version: '1.2.3' });
    metrics.denied.of('greeter.shop').inc();
    metrics.limited.of('peer').inc();
    metrics.errors.of('no-route').inc();
    metrics.sessionsCreated.of('inbound').inc();
    metrics.sessionsClosed.of('idle').inc();
    metrics.rekeys.of('out').inc();
    metrics.records.of('in').inc(3);
    metrics.handshakes.of('inbound', 'expired').inc();
    metrics.handshakeModes.of('inbound', '1').inc();
    metrics.handshakeDuration.of('inbound').observe(0.002);
    metrics.connections.of('app').inc();
    metrics.connectionsOpen.of('app').inc();
    metrics.connectionsOpen.of('app').dec();
    metrics.refusals.of('mesh', 'half-open-full').inc();
    metrics.bytes.of('peer', 'out').inc(1234);
    metrics.floods.of('app', 'rapid-reset').inc();
    metrics.limitStoreSwitches.of('lost').inc();
    const text = await scrape(metrics);
    expect(valueIn(text, 'hauberk_calls_denied_total', { service: 'greeter.shop' })).toBe(1);
    expect(valueIn(text, 'hauberk_calls_limited_total', { scope: 'peer' })).toBe(1);
    expect(valueIn(text, 'hauberk_errors_total', { code: 'no-route' })).toBe(1);
    expect(valueIn(text, 'hauberk_sessions_created_total', { direction: 'inbound' })).toBe(1);
    expect(valueIn(text, 'hauberk_sessions_closed_total', { reason: 'idle' })).toBe(1);
    expect(valueIn(text, 'hauberk_rekeys_total', { flow: 'out' })).toBe(1);
    expect(valueIn(text, 'hauberk_records_total', { flow: 'in' })).toBe(3);
    expect(valueIn(text, 'hauberk_handshakes_total', { direction: 'inbound', result: 'expired' })).toBe(1);
    expect(valueIn(text, 'hauberk_handshake_modes_total', { direction: 'inbound', mode: '1' })).toBe(1);
    expect(
      valueIn(text, 'hauberk_handshake_duration_seconds', { direction: 'inbound', le: '0.0025' }, '_bucket'),
    ).toBe(1);
    expect(valueIn(text, 'hauberk_connections_total', { side: 'app' })).toBe(1);
    expect(valueIn(text, 'hauberk_connections_open', { side: 'app' })).toBe(0);
    expect(
      valueIn(text, 'hauberk_connections_refused_total', { listener: 'mesh', reason: 'half-open-full' }),
    ).toBe(1);
    expect(valueIn(text, 'hauberk_bytes_total', { side: 'peer', flow: 'out' })).toBe(1234);
    expect(valueIn(text, 'hauberk_floods_total', { side: 'app', kind: 'rapid-reset' })).toBe(1);
    expect(valueIn(text, 'hauberk_limit_store_switches_total', { state: 'lost' })).toBe(1);
  });

  it('names what runs and what the process uses', async () => {
    const text = await scrape(new Metrics({ version: '1.2.3' }));
    const build = { version: '1.2.3', runtime: `node ${process.versions.node}` };
    expect(valueIn(text, 'hauberk_build_info', build)).toBe(1);
    expect(valueIn(text, 'process_resident_memory_bytes')).toBeGreaterThan(1 << 20);
    expect(valueIn(text, 'process_cpu_seconds_total')).toBeGreaterThan(0);
    expect(valueIn(text, 'nodejs_heap_size_used_bytes')).toBeGreaterThan(1 << 20);
  });
});

describe('cardinality', () => {
  it('calls of methods beyond the bound are counted under `other`, none is lost', async () => {
    const metrics = new Metrics({ version: '1.2.3', maxCallSeries: 5 });
    for (let i = 0; i < 50; i++) metrics.calls('ingress', 'web.shop', `/m/${i}`).record(0, 0.001);
    const samples = (await scrape(metrics)).get('hauberk_calls_total')?.samples ?? [];
    expect(samples).toHaveLength(6);
    expect(samples.find((s) => s.labels.get('method') === 'other')?.value).toBe(45);
    expect(samples.find((s) => s.labels.get('method') === 'other')?.labels.get('service')).toBe('web.shop');
  });

  it('so are services, should there be too many even of those', async () => {
    const metrics = new Metrics({ version: '1.2.3', maxCallSeries: 5 });
    for (let i = 0; i < 50; i++) metrics.calls('ingress', `s${i}`, '/m').record(0, 0.001);
    const samples = (await scrape(metrics)).get('hauberk_calls_total')?.samples ?? [];
    expect(samples).toHaveLength(11);
    expect(samples.reduce((sum, { value }) => sum + value, 0)).toBe(50);
  });

  it('the default bound is 500 methods', async () => {
    const metrics = new Metrics({ version: '1.2.3' });
    for (let i = 0; i < 600; i++) metrics.calls('ingress', 'web.shop', `/m/${i}`).record(0, 0.001);
    expect((await scrape(metrics)).get('hauberk_calls_total')?.samples).toHaveLength(501);
  });

  it('a series is the same whenever it is asked for', () => {
    const metrics = new Metrics({ version: '1.2.3' });
    expect(callsOf(metrics)).toBe(callsOf(metrics));
  });
});

it('no label value, however hostile, breaks the text', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ unit: 'binary', maxLength: 200 }), { maxLength: 8 }),
      async (methods) => {
        const metrics = new Metrics({ version: '1.2.3' });
        for (const method of methods) metrics.calls('ingress', method, method).record(0, 0.001);
        const samples = (await scrape(metrics)).get('hauberk_calls_total')?.samples ?? [];
        expect(samples.reduce((sum, { value }) => sum + value, 0)).toBe(methods.length);
        for (const { labels } of samples) expect(labels.get('method')?.length).toBeLessThanOrEqual(128);
      },
    ),
  );
});

it('the lag of the event loop is the longest delay beyond the timer period in each second', async () => {
  const clock = new FakeClock();
  const monitor = {
    max: 20e6,
    mean: Number.NaN,
    resets: 0,
    disabled: false,
    reset: () => void monitor.resets++,
    disable: () => {},
  };
  monitor.disable = () => {
    monitor.disabled = true;
  };
  const lag = new EventLoopLag(clock, monitor);
  expect(lag.currentMs).toBe(0);
  monitor.max = 320e6;
  monitor.mean = 28e6;
  clock.advance(1000);
  expect(lag.currentMs).toBeCloseTo(8); // one pause is no reason to refuse handshakes for a second
  monitor.max = 150e6;
  monitor.mean = 120e6;
  clock.advance(1000);
  expect(lag.currentMs).toBeCloseTo(100);
  monitor.max = 15e6;
  monitor.mean = 15e6;
  clock.advance(1000);
  expect(lag.currentMs).toBe(0);
  expect(lag.worstSeconds).toBeCloseTo(0.3);

  const metrics = new Metrics({ version: '1.2.3' });
  metrics.observe({ eventLoopLag: lag });
  const text = await scrape(metrics);
  expect(valueIn(text, 'hauberk_event_loop_lag_worst_seconds')).toBeCloseTo(0.3);
  expect(valueIn(text, 'hauberk_event_loop_lag_seconds', { le: '0.25' }, '_bucket')).toBe(2);
  expect(valueIn(text, 'hauberk_event_loop_lag_seconds', {}, '_count')).toBe(3);

  clock.advance(14_000);
  expect(lag.worstSeconds).toBe(0);
  lag.stop();
  expect(clock.pending).toBe(0);
  expect(monitor).toMatchObject({ resets: 17, disabled: true });
});

it('docs/metrics.md lists every metric as it is defined, and no other', () => {
  const page = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8');
  const rows = page
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.slice(2, -2).split(' | '));
  const expected = Object.entries(DEFINITIONS).map(([name, { type, labels, help }]) => [
    `\`${name}\``,
    type,
    labels.map((label) => `\`${label}\``).join(' '),
    help,
  ]);
  expect(rows).toEqual(expected);
});
