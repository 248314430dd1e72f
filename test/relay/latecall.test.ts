import { afterEach, describe, expect, it } from 'vitest';
import type { SessionManagerOptions } from '../../src/session/options.ts';
import type { Session } from '../../src/session/session.ts';
import { PREFACE } from '../harness/http2-peer.ts';
import { MINUTE, SECOND, setUp } from '../session/sessions.ts';
import { settled } from './memorywire.ts';
import { answer, type RawWire, Rig, type RigOptions } from './relayrig.ts';

/** Between sweeps, that is: sessions of these terms are over at 10 minutes, and nobody looks before the 14th. */
const TERMS = { idleMs: 10 * MINUTE, cleanupIntervalMs: 7 * MINUTE };

const rigs: Rig[] = [];
afterEach(() => {
  for (const rig of rigs.splice(0)) rig.close();
});

/** The called side: a session, and its connection, which ends with it. */
function called(terms: Partial<SessionManagerOptions> = TERMS) {
  const { clock, open } = setUp(terms);
  const session = open();
  const rig = make({ direction: 'ingress', clock, session });
  session.listen({
    draining: (reason) => rig.down.drain(reason),
    disposed: () => rig.down.end(session.farewell),
  });
  return { rig, clock, session };
}

function make(options: RigOptions): Rig {
  const rig = new Rig(options);
  rigs.push(rig);
  return rig;
}

const DRAINS = ['GOAWAY all NO_ERROR idle', 'PING hbkdrain'];

describe('a call that comes when its session is over, though no sweep has seen it', () => {
  it('is refused unprocessed, behind the GOAWAY; then the session ends', async () => {
    const { rig, clock, session } = called();
    clock.advance(10 * MINUTE - 1);
    await rig.request(1, 'in time');
    const app = await rig.accept();
    app.send(answer(1));
    await settled();
    expect(rig.caller.told()).toEqual(['1 HEADERS :status=200 grpc-status=0 END']);
    app.told();

    clock.advance(10 * MINUTE);
    expect(session.isDisposed).toBe(false);
    await rig.request(3, 'late');
    expect(rig.caller.told()).toEqual([...DRAINS, '3 RST REFUSED_STREAM']);
    expect(app.told()).toEqual([]);
    expect(session.counters.calls).toBe(1);
    clock.advance(0);
    expect(session.endReason).toBe('idle');
    expect(rig.caller.told()).toEqual(['GOAWAY 3 NO_ERROR idle']);
    expect(rig.caller.closed).toBe(true);
  });

  it('is refused as well while others are under way, which are cut with the session', async () => {
    const { rig, clock, session } = called({ ...TERMS, absoluteMs: 10 * MINUTE });
    await rig.request(1, 'long');
    const app = await rig.accept();
    clock.advance(10 * MINUTE);
    app.told();
    rig.caller.told();
    expect(session.isDisposed).toBe(false);
    for (const id of [3, 5]) await rig.request(id);
    const drains = ['GOAWAY all NO_ERROR expired', 'PING hbkdrain'];
    expect(rig.caller.told()).toEqual([...drains, '3 RST REFUSED_STREAM', '5 RST REFUSED_STREAM']);
    expect(app.told()).toEqual([]);
    clock.advance(0);
    expect(session.endReason).toBe('expired');
    expect(rig.caller.told()).toEqual([
      '1 HEADERS :status=200 grpc-status=14 hauberk-error=session-lost END',
      'GOAWAY 5 NO_ERROR expired',
    ]);
  });

  it('is sent again in a new session, and its caller notices nothing', async () => {
    const calling = make({ endpoints: 1, upstream: { kind: 'session' } });
    const { rig: far, clock, session } = called();
    await calling.request(1, 'in time');
    const near = await calling.accept();
    far.caller.send(near.take().subarray(PREFACE.length)); // there, the rig has sent one
    await exchange(near, far.caller);
    const app = await far.accept();
    expect(app.told()).toEqual(['1 HEADERS', '1 DATA "in time" END']);
    app.send(answer(1));
    await exchange(near, far.caller);
    expect(calling.caller.told()).toEqual(['1 HEADERS :status=200 grpc-status=0 END']);

    clock.advance(10 * MINUTE);
    await calling.request(3, 'late');
    await exchange(near, far.caller);
    expect(app.told()).toEqual([]);
    const next = await calling.accept();
    expect(next.told()).toEqual(['1 HEADERS', '1 DATA "late" END']);
    next.send(answer(1));
    await settled();
    expect(calling.caller.told()).toEqual(['3 HEADERS :status=200 grpc-status=0 END']);
    clock.advance(SECOND);
    expect(session.isDisposed).toBe(true);
  });
});

/** Carries octets between the calling and the called sidecar. */
async function exchange(near: RawWire, far: RawWire): Promise<void> {
  for (let turn = 0; turn < 4; turn++) {
    await settled();
    far.send(near.take());
    await settled();
    near.send(far.take());
  }
  await settled();
}

it('no call is put on a connection whose session is over: another is opened for it', async () => {
  const { clock, open } = setUp(TERMS);
  const sessions: Session[] = [open({ direction: 'outbound' }), open({ direction: 'outbound' })];
  // One connection at most: that of the session that is over does not count.
  const rig = make({ endpoints: 1, clock, upstream: { kind: 'session', maxConnections: 1 } });
  rig.outbound = sessions[0];
  await rig.request(1);
  const old = await rig.accept();
  old.send(answer(1));
  await settled();
  expect(old.told()).toEqual(['1 HEADERS END']);
  clock.advance(9 * MINUTE);
  sessions[1]?.touch();
  clock.advance(MINUTE);
  expect(sessions.map((session) => session.takesCalls)).toEqual([false, true]);
  await rig.request(3);
  expect(old.told()).toEqual([]);
  rig.outbound = sessions[1];
  const fresh = await rig.accept();
  expect(fresh.told()).toEqual(['1 HEADERS END']);
});
