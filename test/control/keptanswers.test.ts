import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { KeptAnswers, keptFileOf } from '../../src/control/keptanswers.ts';
import type {
  DiscoveredEndpoint,
  DiscoveryAnswer,
  DiscoveryQuery,
  DiscoverySource,
} from '../../src/relay/discovery.ts';
import { type Logger, silentLogger } from '../../src/telemetry/log.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { contextOn, settled } from '../relay/memorywire.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const CONTROLLER = 'spiffe://shop.example/ns/hauberk-system/sa/hauberk-controller';

const folders: string[] = [];
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true });
});

async function fileInFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'hauberk-kept-'));
  folders.push(folder);
  return keptFileOf(join(folder, 'svid.pem'));
}

const at = (address: string, more: Partial<DiscoveredEndpoint> = {}): DiscoveredEndpoint => ({
  address,
  meshPort: 15008,
  targetPort: 50051,
  peer: 'spiffe://shop.example/ns/shop/sa/greeter',
  zone: '',
  ready: true,
  ...more,
});

const found = (...endpoints: DiscoveredEndpoint[]): DiscoveryAnswer => ({
  found: true,
  service: 'greeter.shop',
  endpoints,
  hint: '',
  zone: 'a',
});

const UNKNOWN: DiscoveryAnswer = { found: false, service: '', endpoints: [], hint: 'no service', zone: '' };

/** Of an address of its own for each n. */
const nth = (n: number): DiscoveredEndpoint => at(`10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`);

interface Use {
  readonly answers: DiscoveryAnswer[];
  /** The controller tells. */
  tell(answer: DiscoveryAnswer): void;
  lastUsed: number;
  end(): void;
}

/** One run of a sidecar. */
class Run {
  readonly kept: KeptAnswers;
  readonly source: DiscoverySource & { isAway: boolean };
  readonly log: string[];
  readonly metric: (result: string) => Promise<number>;
  readonly #tellers: Map<string, (answer: DiscoveryAnswer) => void>;

  private constructor(
    kept: KeptAnswers,
    source: Run['source'],
    tellers: Map<string, (answer: DiscoveryAnswer) => void>,
    log: string[],
    metric: Run['metric'],
  ) {
    this.kept = kept;
    this.source = source;
    this.#tellers = tellers;
    this.log = log;
    this.metric = metric;
  }

  static async begin(
    file: string,
    clock: FakeClock,
    more: { write?: (path: string, text: string) => Promise<void>; controller?: string } = {},
  ): Promise<Run> {
    const tellers = new Map<string, (answer: DiscoveryAnswer) => void>();
    const source = {
      trouble: undefined,
      isAway: false,
      watch: ({ authority }: DiscoveryQuery, onAnswer: (answer: DiscoveryAnswer) => void) => {
        tellers.set(authority, onAnswer);
        return () => void tellers.delete(authority);
      },
    };
    const lines: string[] = [];
    const line = (level: string) => (fields: object, message: string) =>
      void lines.push(`${level} ${message} ${JSON.stringify(fields)}`);
    const log: Logger = { ...silentLogger, info: line('info'), warn: line('warn'), error: line('error') };
    const { metrics } = contextOn(clock);
    const options = { file, clock, source, log, metrics, controller: CONTROLLER, random: () => 0.5 };
    const kept = await KeptAnswers.open({ ...options, trustDomain: 'shop.example', ...more });
    const metric = async (result: string): Promise<number> => {
      const { body } = await metrics.render();
      const series = new RegExp(`^hauberk_discovery_answers_total\\{result="${result}"\\} (\\S+)$`, 'm');
      return Number(series.exec(body)?.[1] ?? 0);
    };
    return new Run(kept, source, tellers, lines, metric);
  }

  use(authority: string): Use {
    const answers: DiscoveryAnswer[] = [];
    const use: Use = {
      answers,
      lastUsed: 0,
      tell: (answer) => this.#tellers.get(authority)?.(answer),
      end: this.kept.watch(
        { authority, namespace: 'shop', port: 0 },
        (answer) => void answers.push(answer),
        () => use.lastUsed,
      ),
    };
    return use;
  }

  /** What a call of a name is told while the controller is away. */
  alone(authority: string): DiscoveryAnswer | undefined {
    this.source.isAway = true;
    const { answers, end } = this.use(authority);
    end();
    return answers[0];
  }

  get warnings(): string[] {
    return this.log.filter((line) => line.startsWith('warn'));
  }
}

/** A file that a run has left, which was told these answers, the first one used last. */
async function keep(
  clock: FakeClock,
  answers: Readonly<Record<string, DiscoveryAnswer>>,
  file?: string,
): Promise<string> {
  const path = file ?? (await fileInFolder());
  const run = await Run.begin(path, clock);
  let lastUsed = 1;
  for (const [authority, answer] of Object.entries(answers).reverse()) {
    const use = run.use(authority);
    use.lastUsed = lastUsed++;
    use.tell(answer);
  }
  await run.kept.close();
  return path;
}

describe('what discovery told before a restart', () => {
  it('is kept beside the SVID, in a file of its owner alone', async () => {
    const file = await keep(new FakeClock(), { 'greeter.shop': found(at('10.0.0.1')) });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readdir(join(file, '..'))).toEqual(['svid.discovery.json']);
  });

  it('is told at once while the controller is away, as it was', async () => {
    const clock = new FakeClock();
    const answer = found(at('10.0.0.1'), at('fd00::2', { ready: false, zone: 'b', meshPort: 1 }));
    const run = await Run.begin(await keep(clock, { 'greeter.shop': answer }), clock);
    expect(run.alone('greeter.shop')).toEqual(answer);
    expect(run.alone('other.shop')).toBeUndefined();
    expect(await run.metric('kept')).toBe(1);
    expect(run.log).toEqual([
      expect.stringMatching(/^info discovery begins with what was told before .*"names":1/),
      expect.stringMatching(/^info the controller has not answered yet; .*"service":"greeter.shop"/),
    ]);
  });

  it('is told if the controller does not answer within half a second, until it does', async () => {
    const clock = new FakeClock();
    const [old, now] = [found(at('10.0.0.1')), found(at('10.0.0.2'))];
    const run = await Run.begin(await keep(clock, { 'greeter.shop': old }), clock);
    const { answers, tell } = run.use('greeter.shop');
    clock.advance(499);
    expect(answers).toEqual([]);
    clock.advance(1);
    expect(answers).toEqual([old]);
    tell(now);
    clock.advance(10_000);
    expect(answers).toEqual([old, now]);
  });

  it('is not told once the controller has answered, or nobody asks any more', async () => {
    const clock = new FakeClock();
    const run = await Run.begin(
      await keep(clock, { a: found(at('10.0.0.1')), b: found(at('10.0.0.2')), c: found(at('10.0.0.3')) }),
      clock,
    );
    const [a, b, c] = [run.use('a'), run.use('b'), run.use('c')];
    a.tell(UNKNOWN);
    b.tell(found(at('10.0.0.4')));
    c.end();
    clock.advance(10_000);
    expect([a.answers, b.answers, c.answers]).toEqual([[UNKNOWN], [found(at('10.0.0.4'))], []]);
    expect(await run.metric('kept')).toBe(0);
  });

  it.each([
    ['is unknown', UNKNOWN],
    ['has no endpoints', { ...found(), hint: 'none in the mesh' }],
  ])('is dropped at once for a name that %s now, and for the next process, too', async (_, answer) => {
    const clock = new FakeClock();
    const file = await keep(clock, { a: found(at('10.0.0.1')), b: found(at('10.0.0.2')) });
    const run = await Run.begin(file, clock);
    const a = run.use('a');
    a.tell(answer);
    a.end();
    expect(run.alone('a')).toBeUndefined();
    await run.kept.close();
    const next = await Run.begin(file, clock);
    expect([next.alone('a'), next.alone('b')]).toEqual([undefined, found(at('10.0.0.2'))]);
  });

  it('is used for a day, and not longer', async () => {
    const clock = new FakeClock();
    const file = await keep(clock, { a: found(at('10.0.0.1')) });
    clock.advance(DAY - 1);
    const run = await Run.begin(file, clock);
    expect(run.alone('a')).toBeDefined();
    clock.advance(1);
    expect(run.alone('a')).toBeUndefined();
    expect((await Run.begin(file, clock)).alone('a')).toBeUndefined();
  });

  it('grows old over restarts: only the controller makes it new', async () => {
    const clock = new FakeClock();
    const file = await keep(clock, { a: found(at('10.0.0.1')) });
    for (let i = 0; i < 4; i++) {
      clock.advance(5 * HOUR);
      const run = await Run.begin(file, clock);
      expect(run.alone('a')).toBeDefined();
      run.use(`b${i}`).tell(found(nth(i)));
      await run.kept.close();
    }
    clock.advance(4 * HOUR);
    const last = await Run.begin(file, clock);
    expect([last.alone('a'), last.alone('b0')]).toEqual([undefined, found(nth(0))]);
  });

  it('is of no use if it is of tomorrow, but for a clock that was set by seconds', async () => {
    const clock = new FakeClock();
    const file = await keep(clock, { a: found(at('10.0.0.1')) });
    expect((await Run.begin(file, new FakeClock(clock.now() - 59_000))).alone('a')).toBeDefined();
    expect((await Run.begin(file, new FakeClock(clock.now() - 60_000))).alone('a')).toBeUndefined();
  });

  it('is there for a name that nobody has called for long', async () => {
    const clock = new FakeClock();
    const run = await Run.begin(await fileInFolder(), clock);
    const hourly = run.use('a');
    hourly.tell(found(at('10.0.0.1')));
    clock.advance(10_000);
    hourly.end();
    expect(run.alone('a')).toEqual(found(at('10.0.0.1')));
  });
});

describe('the file', () => {
  it('has the names that were used last, up to 256 KiB, over several restarts', async () => {
    const clock = new FakeClock();
    const many = Object.fromEntries(Array.from({ length: 3000 }, (_, i) => [`s${i}.shop`, found(nth(i))]));
    const file = await keep(clock, many);
    const { size } = await stat(file);
    expect(size).toBeLessThanOrEqual(262_144);
    expect(size).toBeGreaterThan(261_000);
    const { names } = JSON.parse(await readFile(file, 'utf8')) as { names: Array<{ authority: string }> };
    expect(names.map(({ authority }) => authority)).toEqual(Object.keys(many).slice(0, names.length));
    const next = await Run.begin(file, clock);
    const last = names.at(-1)?.authority as string;
    // Those that were pushed out by it are gone from memory as well.
    const newcomer = next.use('new.shop');
    newcomer.lastUsed = 1;
    newcomer.tell(found(at('10.9.9.9')));
    await next.kept.close();
    expect([next.alone('s0.shop'), next.alone(last)]).toEqual([found(nth(0)), undefined]);
    const again = await Run.begin(file, clock);
    expect([again.alone('new.shop'), again.alone('s1.shop'), again.alone(last)]).toEqual([
      found(at('10.9.9.9')),
      found(nth(1)),
      undefined,
    ]);
  });

  it('has a part of a large service, of those that are ready first, and room for others', async () => {
    const clock = new FakeClock();
    const endpoints = Array.from({ length: 10_000 }, (_, i) => ({ ...nth(i), ready: i % 100 === 0 }));
    const file = await keep(clock, { large: found(...endpoints), small: found(at('10.9.9.9')) });
    expect((await stat(file)).size).toBeLessThan(40_000);
    const run = await Run.begin(file, clock);
    const kept = run.alone('large')?.endpoints ?? [];
    expect(kept.length).toBeGreaterThan(150);
    expect(kept.filter(({ ready }) => ready)).toHaveLength(100);
    // By chance another part in each sidecar: here from the middle on.
    expect(kept[0]).toEqual(endpoints[5000]);
    expect(run.alone('small')).toEqual(found(at('10.9.9.9')));
  });

  it('is written soon after a change, every five seconds at most, and for changes only', async () => {
    const clock = new FakeClock();
    const written: number[] = [];
    const run = await Run.begin(await fileInFolder(), clock, {
      write: async () => void written.push(clock.monotonic()),
    });
    const use = run.use('a');
    const pass = async (ms: number): Promise<void> => {
      for (let i = 0; i < ms; i += 100) {
        clock.advance(100);
        await settled();
      }
    };
    await pass(1000);
    for (let i = 0; i < 50; i++) {
      use.tell(found(nth(i)));
      await pass(200);
    }
    await pass(60_000);
    expect(written).toEqual([1200, 6200, 11_200]);
    // Told again by another stream: an hour later the file is made newer.
    for (let i = 0; i < 3; i++) {
      use.tell(found(nth(49)));
      await pass(20_000);
    }
    expect(written).toHaveLength(3);
    clock.advance(HOUR);
    use.tell(found(nth(49)));
    await pass(60_000);
    expect(written).toHaveLength(4);
    use.tell(found(nth(50)));
    await run.kept.close();
    await pass(60_000);
    expect(written).toHaveLength(5);
  });

  it('has those first that were used last, also if nobody uses them now', async () => {
    const clock = new FakeClock();
    const file = await fileInFolder();
    const run = await Run.begin(file, clock);
    for (const [name, lastUsed] of Object.entries({ a: 50, b: 100 })) {
      const use = run.use(name);
      use.tell(found(at('10.0.0.1')));
      use.lastUsed = lastUsed;
      use.end();
    }
    const c = run.use('c');
    c.lastUsed = 10;
    c.tell(found(at('10.0.0.1')));
    await run.kept.close();
    const { names } = JSON.parse(await readFile(file, 'utf8')) as { names: Array<{ authority: string }> };
    expect(names.map(({ authority }) => authority)).toEqual(['b', 'a', 'c']);
  });

  it('bounds what is remembered of names that nobody uses', async () => {
    const clock = new FakeClock();
    const run = await Run.begin(await fileInFolder(), clock, { write: async () => {} });
    const uses = Array.from({ length: 3000 }, (_, i) => {
      const use = run.use(`s${i}.shop`);
      use.lastUsed = 3000 - i;
      use.tell(found(nth(i)));
      return use;
    });
    clock.advance(200);
    await settled();
    for (const { end } of uses) end();
    expect([run.alone('s0.shop'), run.alone('s2999.shop')]).toEqual([found(nth(0)), undefined]);
  });

  it('waits for the write before, however long that takes', async () => {
    const clock = new FakeClock();
    const texts: string[] = [];
    let wrote = (): void => {};
    const run = await Run.begin(await fileInFolder(), clock, {
      write: (_, text) => {
        texts.push(text);
        return new Promise<void>((resolve) => {
          wrote = resolve;
        });
      },
    });
    const use = run.use('a');
    for (let i = 0; i < 20; i++) {
      use.tell(found(nth(i)));
      clock.advance(10_000);
      await settled();
    }
    expect(texts).toHaveLength(1);
    wrote();
    await settled();
    clock.advance(200);
    await settled();
    expect([texts.length, texts[1]?.includes('"10.0.0.19"')]).toEqual([2, true]);
  });

  it('that cannot be written is tried again, and said once', async () => {
    const clock = new FakeClock();
    let tries = 0;
    const run = await Run.begin(await fileInFolder(), clock, {
      write: async () => {
        if (++tries < 4) throw new Error('no room');
      },
    });
    run.use('a').tell(found(at('10.0.0.1')));
    clock.advance(200);
    await settled();
    for (let i = 0; i < 10; i++) {
      clock.advance(59_999);
      await settled();
      expect(tries).toBe(Math.min(4, i + 1));
      clock.advance(1);
      await settled();
    }
    expect(run.warnings).toEqual([expect.stringMatching(/cannot be kept; .*no room/)]);
  });

  it('names the folder that does not exist', async () => {
    const clock = new FakeClock();
    const run = await Run.begin('/nowhere/svid.discovery.json', clock);
    run.use('a').tell(found(at('10.0.0.1')));
    await run.kept.close();
    expect(run.warnings).toEqual([
      expect.stringMatching(/cannot be kept.*svid\.discovery\.json.*mkdir -p \/nowhere/),
    ]);
  });

  it('is cleared of what a killed process has left half written', async () => {
    const clock = new FakeClock();
    const file = await keep(clock, { a: found(at('10.0.0.1')) });
    const folder = join(file, '..');
    for (const name of ['.svid.discovery.json.0a1b.tmp', '.svid.pem.0a1b.tmp'])
      await writeFile(join(folder, name), '');
    await Run.begin(file, clock);
    expect((await readdir(folder)).sort()).toEqual(['.svid.pem.0a1b.tmp', 'svid.discovery.json']);
  });

  const edited = (edit: (file: { names: Array<Record<string, unknown>> }) => unknown) => (text: string) => {
    const file = JSON.parse(text);
    return JSON.stringify(edit(file) ?? file);
  };

  it.each<[string, (text: string) => string, RegExp]>([
    ['empty', () => '', /it is not whole/],
    ['cut off', (text) => text.slice(0, -4), /it is not whole/],
    ['zeros', (text) => '\0'.repeat(text.length), /it is not whole/],
    ['something else', () => 'null', /it is not whole/],
    ['of another version', edited((file) => ({ ...file, version: 2 })), /its version is 2, and not 1/],
    ['without a version', edited(({ names }) => ({ names })), /it is not whole/],
    [
      'of another controller',
      edited((file) => ({ ...file, controller: 'spiffe://shop.example/x' })),
      /spiffe:\/\/shop\.example\/x has told it/,
    ],
    ['without names', edited((file) => ({ ...file, names: {} })), /it is not whole/],
    ['with a name that is none', edited((file) => ({ ...file, names: [...file.names, 1] })), /not whole/],
    ['without a time', edited((file) => void delete file.names[0]?.toldAt), /it is not whole/],
    [
      'with endpoints that are none',
      edited((file) => void Object.assign(file.names[0] ?? {}, { endpoints: [{ address: 1 }] })),
      /it is not whole/,
    ],
    ['too large', (text) => text.padEnd(262_145), /larger than the 262144 bytes/],
  ])('is ignored if it is %s, in one line, and written anew', async (_, damage, why) => {
    const clock = new FakeClock();
    const file = await keep(clock, { a: found(at('10.0.0.1')), b: found(at('10.0.0.2')) });
    await writeFile(file, damage(await readFile(file, 'utf8')));
    const run = await Run.begin(file, clock);
    expect([run.alone('a'), run.alone('b')]).toEqual([undefined, undefined]);
    expect(run.log).toEqual([expect.stringMatching(why)]);
    expect(run.log[0]).toContain('what discovery told before the restart is of no use');
    run.use('c').tell(found(at('10.0.0.3')));
    await run.kept.close();
    expect((await Run.begin(file, clock)).alone('c')).toEqual(found(at('10.0.0.3')));
  });

  it('is ignored if others can write it: they would say who a service is', async () => {
    const clock = new FakeClock();
    const file = await keep(clock, { a: found(at('10.0.0.1')) });
    await chmod(file, 0o620);
    const run = await Run.begin(file, clock);
    expect([run.alone('a'), run.log]).toEqual([
      undefined,
      [expect.stringMatching(/others than its owner can change it/)],
    ]);
  });

  it.each<[Record<string, unknown>, RegExp]>([
    [{ address: 'evil.example' }, /\\"evil.example\\" is no IP address/],
    [{ meshPort: 65_536 }, /has the ports 65536 and 50051/],
    [{ spiffeId: 'spiffe://other.example/a' }, /not of the trust domain shop.example/],
  ])('is checked as an answer from the wire: %j', async (bad, why) => {
    const clock = new FakeClock();
    const file = await keep(clock, {
      a: found(at('10.0.0.1'), at('10.0.0.2')),
      b: found(at('10.0.0.1')),
    });
    const text = JSON.parse(await readFile(file, 'utf8'));
    for (const { endpoints } of text.names) Object.assign(endpoints[0], bad);
    await writeFile(file, JSON.stringify(text));
    const run = await Run.begin(file, clock);
    expect([run.alone('a'), run.alone('b')]).toEqual([found(at('10.0.0.2')), undefined]);
    expect(run.warnings).toEqual([expect.stringMatching(why)]);
  });
});
