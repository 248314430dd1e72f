import { describe, expect, it } from 'vitest';
import { checkedAnswer } from '../../src/control/answer.ts';
import type { ControlMethod } from '../../src/control/channel.ts';
import { DiscoveryClient } from '../../src/control/discovery.ts';
import { ControlError, type ControlErrorCode } from '../../src/control/errors.ts';
import type { EndpointMessage, EndpointsMessage, WatchRequest } from '../../src/control/messages.ts';
import type { DiscoveryAnswer } from '../../src/relay/discovery.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { contextOn, settled } from '../relay/memorywire.ts';

const endpoint = (more: Partial<EndpointMessage> = {}): EndpointMessage => ({
  address: '10.0.0.1',
  meshPort: 15008,
  targetPort: 50051,
  spiffeId: 'spiffe://shop.example/ns/shop/sa/greeter',
  zone: '',
  ready: true,
  ...more,
});

const message = (more: Partial<EndpointsMessage> = {}): EndpointsMessage => ({
  found: true,
  service: 'greeter.shop',
  port: 50051,
  endpoints: [endpoint()],
  hint: '',
  zone: '',
  ...more,
});

describe('what the controller tells', () => {
  const answerOf = (more: Partial<EndpointsMessage>) => checkedAnswer(message(more), 'shop.example');

  it('is taken as it is', () => {
    expect(answerOf({ zone: 'x', endpoints: [endpoint({ zone: 'x', ready: false })] })).toEqual({
      answer: {
        found: true,
        service: 'greeter.shop',
        hint: '',
        zone: 'x',
        endpoints: [
          {
            address: '10.0.0.1',
            meshPort: 15008,
            targetPort: 50051,
            peer: 'spiffe://shop.example/ns/shop/sa/greeter',
            zone: 'x',
            ready: false,
          },
        ],
      },
      refused: undefined,
    });
  });

  it.each([
    [{ address: 'greeter.shop' }, '"greeter.shop" is no IP address'],
    [{ address: 'fe80::1%eth0' }, '"fe80::1%eth0" is no IP address'],
    [{ address: '' }, '"" is no IP address'],
    [{ meshPort: 0 }, '"10.0.0.1" has the ports 0 and 50051'],
    [{ targetPort: 65_536 }, '"10.0.0.1" has the ports 15008 and 65536'],
    [{ spiffeId: '' }, '"10.0.0.1" has no SPIFFE ID, but ""'],
    [
      { spiffeId: 'spiffe://shop.example/a/../b' },
      '"10.0.0.1" has no SPIFFE ID, but "spiffe://shop.example/a/../b"',
    ],
    [
      { spiffeId: 'spiffe://other.example/a' },
      '"10.0.0.1" would be spiffe://other.example/a, which is not of the trust domain shop.example',
    ],
  ])('is taken without an endpoint such as %j', (bad, why) => {
    const { answer, refused } = answerOf({ endpoints: [endpoint(bad), endpoint({ address: 'fd00::1' })] });
    expect([answer.endpoints.map(({ address }) => address), refused]).toEqual([['fd00::1'], why]);
  });

  it.each(['', 'a b', 'greeter.shop:1', 'greeter.shop\r\nx: y', '-a.b', `${'a'.repeat(254)}`])(
    'is not taken for a service %j',
    (service) => {
      const { answer, refused } = answerOf({ service });
      expect(answer).toMatchObject({ found: false, endpoints: [] });
      expect(refused).toContain('is no name of a service');
    },
  );

  it('has a hint that fits into a header', () => {
    const { answer } = answerOf({ hint: `a\r\nb\u00e9${'x'.repeat(1000)}` });
    expect(answer.hint).toBe(`a??b?${'x'.repeat(495)}`);
  });

  it('is looked at up to a bound', () => {
    expect(
      answerOf({ endpoints: Array<EndpointMessage>(100_000).fill(endpoint()) }).answer.endpoints,
    ).toHaveLength(10_000);
  });
});

/** A stream that the test feeds. */
class Stream {
  readonly request: WatchRequest;
  readonly #queue: Array<EndpointsMessage | Error | undefined> = [];
  #wake: () => void = () => {};
  taken = 0;
  ended = false;

  constructor(request: WatchRequest) {
    this.request = request;
  }

  /** A message, the end, or a failure. */
  async tell(what: EndpointsMessage | Error | undefined): Promise<void> {
    this.#queue.push(what);
    this.#wake();
    await settled();
  }

  async *read(signal: AbortSignal): AsyncGenerator<EndpointsMessage> {
    signal.addEventListener('abort', () => this.#wake());
    try {
      for (;;) {
        if (signal.aborted) return;
        if (this.#queue.length === 0) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
          continue;
        }
        const next = this.#queue.shift();
        if (next === undefined) return;
        if (next instanceof Error) throw next;
        this.taken++;
        yield next;
      }
    } finally {
      this.ended = true;
    }
  }
}

function make() {
  const clock = new FakeClock();
  const streams: Stream[] = [];
  const context = contextOn(clock);
  const events: string[] = [];
  const { recorder } = context;
  const record = recorder.record.bind(recorder);
  recorder.record = (event) => {
    events.push(event.type);
    record(event);
  };
  const client = new DiscoveryClient({
    channel: {
      stream: ((_method: ControlMethod, request: WatchRequest, { signal }: { signal: AbortSignal }) => {
        const stream = new Stream(request);
        streams.push(stream);
        return stream.read(signal);
      }) as never,
    },
    trustDomain: 'shop.example',
    clock,
    recorder,
    metrics: context.metrics,
    log: context.log,
    random: () => 0.5,
    method: async () => ({}) as ControlMethod,
  });
  const watch = (authority: string) => {
    const answers: DiscoveryAnswer[] = [];
    const end = client.watch({ authority, namespace: 'shop', port: 0 }, (answer) => answers.push(answer));
    return { answers, end };
  };
  const live = (): Stream[] => streams.filter(({ ended }) => !ended);
  const metric = async (name: string): Promise<number> => {
    const { body } = await context.metrics.render();
    return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(body)?.[1]);
  };
  return { clock, client, streams, live, watch, events, metric };
}

const failed = (code: ControlErrorCode, details: { retryAfterMs?: number } = {}): ControlError =>
  new ControlError(code, `it says ${code}`, details);

describe('the client of discovery', () => {
  it('asks by a stream for each name, and hands on what it tells', async () => {
    const { watch, streams, clock } = make();
    const [a, b] = [watch('a.shop'), watch('b.shop')];
    await settled();
    expect(streams.map(({ request }) => request)).toEqual([
      { authority: 'a.shop', namespace: 'shop', port: 0 },
      { authority: 'b.shop', namespace: 'shop', port: 0 },
    ]);
    await streams[0]?.tell(message());
    expect([a.answers.length, b.answers.length]).toEqual([1, 0]);
    a.end();
    clock.advance(100);
    await settled();
    expect(streams.map(({ ended }) => ended)).toEqual([true, false]);
  });

  it('takes messages of a stream ten times a second at most', async () => {
    const { watch, streams, clock } = make();
    const { answers } = watch('a.shop');
    await settled();
    const [stream] = streams as [Stream];
    for (let i = 0; i < 50; i++) await stream.tell(message({ port: i }));
    expect(stream.taken).toBe(1);
    for (let i = 0; i < 3; i++) {
      clock.advance(100);
      await settled();
    }
    expect([stream.taken, answers.length]).toEqual([4, 4]);
  });

  it('opens a stream that the controller has ended once more', async () => {
    const { watch, streams, clock, events, client } = make();
    watch('a.shop');
    await settled();
    await streams[0]?.tell(message());
    clock.advance(100);
    await settled();
    await streams[0]?.tell(undefined);
    expect([streams.length, events, client.trouble]).toEqual([2, [], undefined]);
  });

  it('has one name try, with growing pauses, while the controller is away; the others follow when it is back', async () => {
    const { watch, streams, live, clock, client, events, metric } = make();
    const watches = ['a', 'b', 'c'].map((name) => watch(`${name}.shop`));
    await settled();
    for (const stream of [...streams]) await stream.tell(message());
    clock.advance(100);
    await settled();
    for (const stream of [...streams]) await stream.tell(failed('UNAVAILABLE'));
    expect([live().length, client.trouble]).toEqual([0, 'it says UNAVAILABLE']);
    const pauses: number[] = [];
    for (let i = 0; i < 7; i++) {
      const before = streams.length;
      let waited = 0;
      while (streams.length === before && waited < 60_000) {
        clock.advance(50);
        waited += 50;
        await settled();
      }
      expect(live()).toHaveLength(1);
      pauses.push(waited);
      await live()[0]?.tell(failed('UNAVAILABLE'));
    }
    // Half of 500 ms, doubled, up to half of 15 s.
    expect(pauses).toEqual([250, 500, 1000, 2000, 4000, 7500, 7500]);
    expect(events).toEqual(['discovery.lost']);
    expect(await metric('hauberk_discovery_stale_seconds')).toBeGreaterThan(20);
    expect(watches.map(({ answers }) => answers.length)).toEqual([1, 1, 1]);
    clock.advance(7500);
    await settled();
    await live()[0]?.tell(message());
    expect(live()).toHaveLength(3);
    expect(events).toEqual(['discovery.lost', 'discovery.restored']);
    expect([client.trouble, await metric('hauberk_discovery_stale_seconds')]).toEqual([undefined, 0]);
  });

  it('holds up no other name for one that is refused, and asks for that with growing pauses', async () => {
    const { watch, streams, clock } = make();
    watch('a.shop');
    watch('b.shop');
    await settled();
    await streams[0]?.tell(message());
    for (let i = 1; i <= 3; i++) {
      await streams.at(-1)?.tell(failed('RESOURCE_EXHAUSTED'));
      const asked = streams.length;
      clock.advance(250 * 2 ** (i - 1) - 1);
      await settled();
      expect(streams).toHaveLength(asked);
      clock.advance(1);
      await settled();
      expect(streams.at(-1)?.request.authority).toBe('b.shop');
      expect(streams).toHaveLength(asked + 1);
    }
    await streams.at(-1)?.tell(failed('RESOURCE_EXHAUSTED'));
    watch('c.shop');
    await settled();
    expect(streams.at(-1)?.request.authority).toBe('c.shop');
  });

  it('tells of a controller that goes long after one name was refused', async () => {
    const { watch, streams, clock, client, events, metric } = make();
    watch('a.shop');
    watch('b.shop');
    await settled();
    await streams[0]?.tell(message());
    await streams[1]?.tell(failed('RESOURCE_EXHAUSTED', { retryAfterMs: 86_400_000 }));
    clock.advance(3_600_000);
    await settled();
    expect([events, await metric('hauberk_discovery_stale_seconds')]).toEqual([[], 0]);
    expect(client.isAway).toBe(false);
    await streams[0]?.tell(failed('UNAVAILABLE'));
    expect(client.isAway).toBe(true);
    clock.advance(9_999);
    expect(events).toEqual([]);
    clock.advance(1);
    expect([events, await metric('hauberk_discovery_stale_seconds')]).toEqual([['discovery.lost'], 10]);
    await settled();
    await streams.at(-1)?.tell(message());
    expect(events).toEqual(['discovery.lost', 'discovery.restored']);
  });

  it('says nothing of a controller that is away for a moment', async () => {
    const { watch, streams, clock, events } = make();
    watch('a.shop');
    await settled();
    await streams[0]?.tell(failed('UNAVAILABLE'));
    clock.advance(1000);
    await settled();
    await streams[1]?.tell(message());
    clock.advance(60_000);
    await settled();
    expect(events).toEqual([]);
  });

  it('comes again when the controller says', async () => {
    const { watch, streams, clock } = make();
    watch('a.shop');
    await settled();
    await streams[0]?.tell(failed('RESOURCE_EXHAUSTED', { retryAfterMs: 5000 }));
    clock.advance(4900);
    await settled();
    expect(streams).toHaveLength(1);
    clock.advance(200);
    await settled();
    expect(streams).toHaveLength(2);
  });

  it('does not repeat what the controller does not understand', async () => {
    const { watch, streams, clock } = make();
    const { answers } = watch('a.shop');
    await settled();
    await streams[0]?.tell(failed('INVALID_ARGUMENT'));
    clock.advance(100_000);
    await settled();
    expect(streams).toHaveLength(1);
    expect(answers).toEqual([
      { found: false, service: '', endpoints: [], hint: 'it says INVALID_ARGUMENT', zone: '' },
    ]);
  });

  it('opens a hundred streams at once and fifty a second from then on, without those that nobody wants any more', async () => {
    const { watch, streams, clock } = make();
    const watches = Array.from({ length: 300 }, (_, i) => watch(`s${i}.shop`));
    await settled();
    expect(streams).toHaveLength(100);
    for (const { end } of watches.slice(100, 150)) end();
    for (let i = 0; i < 20; i++) {
      clock.advance(50);
      await settled();
    }
    expect(streams).toHaveLength(150);
    expect(streams.at(-1)?.request.authority).toBe('s199.shop');
  });

  it('ends everything when it is closed', async () => {
    const { watch, client, live, clock } = make();
    watch('a.shop');
    await settled();
    client.close();
    await settled();
    expect(live()).toEqual([]);
    clock.advance(100_000);
    await settled();
    expect(live()).toEqual([]);
  });
});
