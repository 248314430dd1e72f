import { beforeEach, expect, it } from 'vitest';
import type { ControlCallOptions } from '../../src/control/channel.ts';
import { ControlError, type ControlErrorCode } from '../../src/control/errors.ts';
import { ExposureReport } from '../../src/control/exposurereport.ts';
import type { ReportRequest } from '../../src/control/messages.ts';
import type { Logger } from '../../src/telemetry/log.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { settled } from '../relay/memorywire.ts';

let clock: FakeClock;
/** What was sent, as `+exposed -closed`. */
let sent: string[];
let lines: string[];
/** What the next calls come to; those beyond are taken. */
let answers: Array<Error | Promise<void>>;
let options: ControlCallOptions | undefined;
let report: ExposureReport;

beforeEach(() => {
  clock = new FakeClock();
  [sent, lines, answers] = [[], [], []];
  const call = async (_method: object, request: object, _ms: number, given?: ControlCallOptions) => {
    const { exposed, closed } = request as ReportRequest;
    sent.push([...exposed.map((port) => `+${port}`), ...closed.map((port) => `-${port}`)].join(' '));
    options = given;
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    await answer;
    return {} as never;
  };
  report = new ExposureReport({
    channel: { call },
    clock,
    log: { warn: ({ detail }: { detail: string }) => void lines.push(detail) } as unknown as Logger,
    random: () => 1,
    method: async () => ({}) as never,
  });
});

async function tell(...ports: number[]): Promise<void> {
  report.tell(new Set(ports));
  await settled();
}

async function pass(ms: number): Promise<void> {
  clock.advance(ms);
  await settled();
}

const failure = (code: ControlErrorCode, retryAfterMs?: number): ControlError =>
  new ControlError(code, code, { retryAfterMs });

it('what changes is told once, and nothing of an app that is not exposed', async () => {
  await tell();
  await tell(1, 2);
  await tell(1, 2);
  await tell(2, 3);
  await tell();
  await tell();
  expect(sent).toEqual(['+1 +2', '+3 -1', '-2 -3']);
  expect([options?.authorize, clock.pending, lines]).toEqual([true, 0, []]);
});

it('what changes while a report is under way follows it', async () => {
  let done: () => void = () => {};
  answers.push(
    new Promise((resolve) => {
      done = resolve;
    }),
  );
  await tell(1);
  await tell(2);
  expect(sent).toEqual(['+1']);
  done();
  await settled();
  expect(sent).toEqual(['+1', '+2 -1']);
});

it('what the controller did not take is told again after pauses that grow to ten minutes, and warned of once', async () => {
  answers.push(...Array.from({ length: 20 }, () => failure('UNAVAILABLE')));
  await tell(1);
  for (const ms of [2_000, 4_000, 8_000, 16_000]) {
    await tell(1);
    const { length } = sent;
    await pass(ms - 1);
    expect(sent).toHaveLength(length);
    await pass(1);
    expect(sent).toHaveLength(length + 1);
  }
  for (let i = 0; i < 10; i++) await pass(600_000);
  expect([new Set(sent), sent.length, lines]).toEqual([new Set(['+1']), 15, ['UNAVAILABLE']]);
  for (let i = 0; i < 10; i++) await pass(600_000);
  expect([answers, sent.length, clock.pending]).toEqual([[], 21, 0]);
});

it('when and whether it is told again is the controller’s to say', async () => {
  answers.push(failure('RESOURCE_EXHAUSTED', 90_000), failure('UNIMPLEMENTED'));
  await tell(1);
  await pass(89_999);
  expect(sent).toHaveLength(1);
  await pass(1);
  expect(sent).toHaveLength(2);
  await pass(599_999);
  expect(sent).toHaveLength(2);
  await pass(1);
  expect(sent).toHaveLength(3);
});

it('what is over before it could be told is never told', async () => {
  answers.push(failure('UNAVAILABLE'));
  await tell(1);
  await tell();
  await pass(600_000);
  expect([sent, clock.pending]).toEqual([['+1'], 0]);
});

it('more ports than one report may name are told in several', async () => {
  await tell(...Array.from({ length: 150 }, (_, i) => i + 1));
  await tell();
  expect(sent.map((one) => one.split(' ').length)).toEqual([64, 64, 22, 64, 64, 22]);
});

it('after its end nothing is sent, and nothing waits', async () => {
  answers.push(failure('UNAVAILABLE'));
  await tell(1);
  report.close();
  expect(clock.pending).toBe(0);
  await tell(1, 2);
  await pass(600_000);
  expect([sent, clock.pending, options?.signal?.aborted]).toEqual([['+1'], 0, true]);
});
