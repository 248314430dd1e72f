import * as grpc from '@grpc/grpc-js';
import { beforeEach, describe, expect, it } from 'vitest';
import { Recorder } from '../../src/audit/recorder.ts';
import { KubeError } from '../../src/kube/client/errors.ts';
import type { Happening } from '../../src/kube/eventrecorder.ts';
import { ExposureServer } from '../../src/kube/exposure/exposureserver.ts';
import { ReviewPostponed, type TokenOwner, type TokenRefusal } from '../../src/kube/tokenreview.ts';
import { silentLogger } from '../../src/telemetry/log.ts';
import { Collector } from '../audit/collector.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { CONTROLLER } from './issuancerig.ts';

let clock: FakeClock;
let server: ExposureServer;
let happened: Happening[];
let reviewed: string[];
let collector: Collector;
let recorder: Recorder;
let isFull: boolean;

/** Whose tokens are good: `pod.namespace`. */
const review = async (token: string, caller: string): Promise<TokenOwner | TokenRefusal> => {
  reviewed.push(`${token} ${caller}`);
  if (token === 'many') throw new ReviewPostponed('address-limit', 'too many', 1500);
  if (token === 'away') throw new KubeError('the API server is away', { reason: 'Unreachable' });
  if (token === 'broken') throw new TypeError('a bug');
  if (token === 'bad') return { accepted: false, reason: 'not-authenticated', message: 'bad token' };
  const [name = '', namespace = 'shop'] = token.split('.');
  const pod = name === 'unbound' ? undefined : { name, uid: `uid-${token}` };
  return { accepted: true, namespace, serviceAccount: 'web', uid: 'u', pod };
};

beforeEach(() => {
  clock = new FakeClock();
  [happened, reviewed, isFull] = [[], [], false];
  collector = new Collector('collector');
  const source = { instance: 'run-1', spiffeId: CONTROLLER };
  recorder = new Recorder({ clock, source, adapters: [collector] });
  const record = (happening: Happening): boolean => {
    if (!isFull) happened.push(happening);
    return !isFull;
  };
  server = new ExposureServer({
    tokens: { review },
    events: { record },
    clock,
    recorder,
    log: silentLogger,
    grpc,
  });
});

/** `taken`, or `STATUS code: details`, with the time to come again if there is one. */
async function report(token: string | undefined, exposed: number[], closed: number[] = []): Promise<string> {
  const metadata = new grpc.Metadata();
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
  const call = { metadata, request: { exposed, closed }, getPeer: () => '10.1.0.9:1234' };
  return await new Promise((resolve) => {
    server.handlers.Report(call as never, (error) => {
      if (error === null) return resolve('taken');
      const { code, details, metadata: sent } = error as grpc.StatusObject;
      const [pushback] = sent?.get('grpc-retry-pushback-ms') ?? [];
      const [reason] = sent?.get('hauberk-error') ?? [];
      resolve(
        `${grpc.status[code]} ${reason}: ${details}${pushback === undefined ? '' : ` (${pushback} ms)`}`,
      );
    });
  });
}

describe('a report', () => {
  it('is a warning at the pod that its token is bound to; that it is over is none', async () => {
    expect(await report('web-1', [50_052, 50_051], [50_053])).toBe('taken');
    const regarding = { apiVersion: 'v1', kind: 'Pod', namespace: 'shop', name: 'web-1', uid: 'uid-web-1' };
    expect(happened).toEqual([
      {
        regarding,
        type: 'Warning',
        reason: 'PlaintextExposed',
        action: 'CheckExposure',
        note: "the app answers in plaintext at ports 50051, 50052 of the pod's addresses, past its sidecar, where callers need no identity: bind the app to 127.0.0.1, or admit only the ports of the sidecar by a NetworkPolicy, which this check cannot see, or use transparent mode",
      },
      {
        regarding,
        type: 'Normal',
        reason: 'PlaintextClosed',
        action: 'CheckExposure',
        note: "the app no longer answers in plaintext at port 50053 of the pod's addresses",
      },
    ]);
    expect(reviewed).toEqual(['web-1 10.1.0.9']);
  });

  it('is whole in the note of an event, however many ports it names', async () => {
    const ports = Array.from({ length: 64 }, (_, i) => 65_472 + i);
    expect(await report('web-1', ports)).toBe('taken');
    expect(Buffer.byteLength(happened[0]?.note as string)).toBeLessThan(1024);
  });

  it.each<[string, number[], number[]]>([
    ['at least one port', [], []],
    ['0 is no port', [0], []],
    ['65536 is no port', [1], [65_536]],
    ['a report names each port once', [1, 1], []],
    ['a report names each port once', [1], [1]],
    ['at most 64 ports', Array.from({ length: 65 }, (_, i) => i + 1), []],
    ['at most 64 ports', [], Array.from({ length: 65 }, (_, i) => i + 1)],
  ])('is refused before its token is looked at: %s', async (why, exposed, closed) => {
    const answer = await report('web-1', exposed, closed);
    expect([answer, reviewed, happened]).toEqual([
      expect.stringMatching(`^INVALID_ARGUMENT bad-request: .*${why}`),
      [],
      [],
    ]);
  });

  it.each([
    [undefined, 'UNAUTHENTICATED no-token: send a service account token: authorization: Bearer ...'],
    ['bad', 'UNAUTHENTICATED not-authenticated: bad token'],
    [
      'unbound',
      'PERMISSION_DENIED not-bound: the token is not bound to a pod: send one that was mounted by a projected volume',
    ],
    ['many', 'RESOURCE_EXHAUSTED address-limit: too many (1500 ms)'],
    [
      'away',
      'UNAVAILABLE kubernetes-unavailable: the API server cannot be asked about the token now: come again later (1000 ms)',
    ],
    ['broken', "INTERNAL undefined: a bug of Hauberk; the controller's log has it"],
  ])('is refused with the token %s', async (token, answer) => {
    expect([await report(token, [1]), happened]).toEqual([answer, []]);
  });

  it('may come six times at once, and once in five minutes, from each pod', async () => {
    for (let i = 0; i < 6; i++) expect(await report('web-1', [1 + i])).toBe('taken');
    const limit =
      'RESOURCE_EXHAUSTED pod-limit: this pod has reported plaintext often enough: report what has changed later';
    expect(await report('web-1', [7])).toBe(`${limit} (300000 ms)`);
    expect(await report('web-1.other', [7])).toBe('taken');
    clock.advance(299_999);
    expect(await report('web-1', [7])).toBe(`${limit} (1 ms)`);
    clock.advance(1);
    expect(await report('web-1', [7])).toBe('taken');
    expect(happened).toHaveLength(8);
  });

  it('is to come again where more events wait than may', async () => {
    isFull = true;
    const busy =
      'RESOURCE_EXHAUSTED busy: more events wait for the API server than may: report it later (60000 ms)';
    expect([await report('web-1', [1]), await report('web-2', [], [1])]).toEqual([busy, busy]);
  });

  it('that is refused is in the audit, unless nobody who asks is at fault', async () => {
    await report('unbound', [1]);
    await report('away', [1]);
    isFull = true;
    await report('web-1', [1]);
    await recorder.flush();
    expect(collector.events).toMatchObject([
      { type: 'exposure.refused', reason: 'not-bound', remote: '10.1.0.9:1234', count: 1 },
      { type: 'exposure.refused', reason: 'busy', pod: 'shop/web-1', count: 1 },
    ]);
  });
});
