import { afterEach, beforeEach, expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import type { KubeClient } from '../../src/kube/client/client.ts';
import { openKubeClient } from '../../src/kube/client/httpsclient.ts';
import { EventRecorder, type Happening } from '../../src/kube/eventrecorder.ts';
import type { KubeEvent } from '../../src/kube/objects.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { KubeApi } from '../harness/kubeapi.ts';

const COLLECTION = '/apis/events.k8s.io/v1/events';

const happening = (name: string, more: Partial<Happening> = {}): Happening => ({
  regarding: { apiVersion: 'v1', kind: 'Pod', namespace: 'shop', name, uid: `uid-${name}` },
  type: 'Warning',
  reason: 'PlaintextExposed',
  action: 'Check',
  note: 'the app answers in plaintext; bind it to localhost',
  ...more,
});

let api: KubeApi;
let client: KubeClient;
let clock: FakeClock;
let recorder: EventRecorder;

beforeEach(async () => {
  api = await KubeApi.start();
  clock = new FakeClock();
  // The recorder's time stands still, that of its requests does not.
  client = openKubeClient({ access: api.access, clock: systemClock });
  recorder = new EventRecorder({ client, clock, instance: 'controller-1' });
});

afterEach(async () => {
  await recorder.stop();
  client.close();
  await api.end();
});

const events = (): KubeEvent[] => api.store.all(COLLECTION) as KubeEvent[];
const asked = (): string[] => api.asked.map(({ verb }) => verb);

/** All that is due is told, and answered. */
async function told(requests: number): Promise<void> {
  await expect
    .poll(() => {
      clock.advance(0);
      return api.asked.length;
    })
    .toBe(requests);
  await expect.poll(() => recorder.idle).toBe(true);
}

it('tells what happened as an event of the API, in the namespace of its object', async () => {
  recorder.record(happening('web'));
  await told(1);
  const [event] = events();
  expect(event).toMatchObject({
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    metadata: { namespace: 'shop', name: expect.stringMatching(/^web\.[0-9a-f]{16}$/) },
    eventTime: '2026-01-01T00:00:00.000000Z',
    type: 'Warning',
    reason: 'PlaintextExposed',
    action: 'Check',
    note: 'the app answers in plaintext; bind it to localhost',
    regarding: { kind: 'Pod', name: 'web', uid: 'uid-web' },
    reportingController: 'hauberk.mesh/controller',
    reportingInstance: 'controller-1',
  });
  expect(event).not.toHaveProperty('series');
});

it('of an object without a namespace, in the namespace default', async () => {
  recorder.record(happening('', { regarding: { kind: 'Namespace', name: 'shop' } }));
  await told(1);
  expect(events()[0]?.metadata.namespace).toBe('default');
});

it('what repeats is counted, and told again once a minute', async () => {
  recorder.record(happening('web'));
  await told(1);
  for (let i = 0; i < 500; i++) recorder.record(happening('web'));
  clock.advance(59_999);
  expect(asked()).toEqual(['create']);
  recorder.record(happening('web'));
  clock.advance(1);
  await told(2);
  expect(asked()).toEqual(['create', 'patch']);
  expect(events()).toHaveLength(1);
  expect(events()[0]?.series).toEqual({ count: 502, lastObservedTime: '2026-01-01T00:00:59.999000Z' });
  clock.advance(600_000);
  expect(asked()).toHaveLength(2);
});

it('what differs in anything is another event', async () => {
  recorder.record(happening('a'));
  recorder.record(happening('b'));
  recorder.record(happening('a', { reason: 'Other' }));
  recorder.record(happening('a', { note: 'other' }));
  recorder.record(happening('a', { type: 'Normal' }));
  await told(5);
  expect(new Set(asked())).toEqual(new Set(['create']));
});

it('after six minutes without it, it is a new event', async () => {
  recorder.record(happening('web'));
  await told(1);
  clock.advance(360_000);
  recorder.record(happening('web'));
  await told(2);
  expect(events()).toHaveLength(2);
});

it('an event that the server has forgotten is made anew, with its count', async () => {
  recorder.record(happening('web'));
  await told(1);
  recorder.record(happening('web'));
  api.remove(`/apis/events.k8s.io/v1/namespaces/shop/events/${events()[0]?.metadata.name}`);
  clock.advance(60_000);
  await told(3);
  expect(events()).toMatchObject([{ series: { count: 2 } }]);
});

it('ten at once, then one a second', async () => {
  for (let i = 0; i < 15; i++) recorder.record(happening(`web-${i}`));
  await told(10);
  for (let more = 1; more <= 5; more++) {
    clock.advance(999);
    expect(asked()).toHaveLength(9 + more);
    clock.advance(1);
    await told(10 + more);
  }
});

it('what would wait too long is dropped and counted, and whoever recorded it is told', () => {
  for (let i = 0; i < 300; i++) expect(recorder.record(happening(`web-${i}`))).toBe(i < 256);
  expect(recorder.record(happening('web-0'))).toBe(true);
  expect(recorder.dropped).toBe(300 - 256);
});

it('a server that is away is asked three times, later and later, then the event is dropped', async () => {
  api.fail({ status: 503, times: 10 });
  recorder.record(happening('web'));
  await told(1);
  clock.advance(3999);
  expect(asked()).toHaveLength(1);
  clock.advance(1);
  await told(2);
  clock.advance(16_000);
  await told(3);
  expect(recorder.dropped).toBe(1);
  clock.advance(600_000);
  expect(asked()).toHaveLength(3);
});

it('what is not allowed is dropped at once, and asked for once a minute however often it happens', async () => {
  api.deny('create events');
  recorder.record(happening('web'));
  await told(1);
  for (let i = 0; i < 100; i++) recorder.record(happening('web'));
  clock.advance(59_999);
  expect([recorder.dropped, asked().length]).toEqual([1, 1]);
  clock.advance(1);
  await told(2);
  expect(recorder.dropped).toBe(2);
});

it('notes and words are cut to what the API takes, in whole characters', async () => {
  const long = '€'.repeat(600);
  recorder.record(happening('web', { note: long, reason: 'R'.repeat(200), action: 'A'.repeat(200) }));
  await told(1);
  const [event] = events();
  expect([event?.reason?.length, event?.action?.length]).toEqual([128, 128]);
  expect(Buffer.byteLength(event?.note ?? '')).toBeLessThanOrEqual(1024);
  expect(event?.note).toMatch(/^€{300,}$/);
});

it('when it stops, it tells what is due, and nothing after it', async () => {
  for (let i = 0; i < 12; i++) recorder.record(happening(`web-${i}`));
  await recorder.stop();
  expect(asked()).toHaveLength(10);
  expect(recorder.dropped).toBe(2);
  expect(recorder.record(happening('late'))).toBe(false);
  clock.advance(60_000);
  expect([asked().length, clock.pending]).toEqual([10, 0]);
});

it('stopping does not wait for a server that is away', async () => {
  api.fail({ status: 503, times: 100 });
  for (let i = 0; i < 5; i++) recorder.record(happening(`web-${i}`));
  await recorder.stop();
  expect([asked().length, recorder.dropped]).toEqual([1, 5]);
});
