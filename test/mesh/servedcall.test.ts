import { EventEmitter } from 'node:events';
import { Metadata } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import type { CallError } from '../../src/mesh/callerror.ts';
import { type GrpcServerCall, ServedCall } from '../../src/mesh/servedcall.ts';
import { SessionManager } from '../../src/session/manager.ts';
import { FakeClock } from '../harness/fake-clock.ts';

/** What grpc-js gives to a handler. */
class Call extends EventEmitter implements GrpcServerCall {
  readonly metadata = new Metadata();
  cancelled = false;
  deadline: Date | number = Number.POSITIVE_INFINITY;
  sent: Metadata | undefined;

  getPath(): string {
    return '/greeter/greet';
  }

  getDeadline(): Date | number {
    return this.deadline;
  }

  sendMetadata(metadata: Metadata): void {
    this.sent = metadata;
  }

  /** As grpc-js does it also after each answer. */
  cancel(): void {
    this.cancelled = true;
    this.emit('cancelled');
  }
}

function begin() {
  const clock = new FakeClock();
  const sessions = new SessionManager({ clock });
  const session = sessions.createSession('greeter', Buffer.alloc(32, 1), { from: 'test' });
  const call = new Call();
  const limits = [{ scope: 'session', maxRequests: 5, windowMs: 1000, remaining: 4, resetMs: 900 }] as const;
  const served = new ServedCall(
    { clock, makeMetadata: () => new Metadata(), limitsOf: () => limits },
    call,
    session,
  );
  return { clock, session, call, served, limits };
}

const statusOf = ({ signal }: ServedCall): string => (signal.reason as CallError).status;

describe('the signal of a call', () => {
  it('aborts when the caller cancels', () => {
    const { call, served } = begin();
    expect(served.signal.aborted).toBe(false);
    call.cancel();
    expect([served.signal.aborted, statusOf(served)]).toEqual([true, 'CANCELLED']);
  });

  it('aborts when the session ends, whether or not the caller was told', () => {
    const { session, call, served } = begin();
    expect(served.signal.aborted).toBe(false);
    session.end('revoked');
    expect([served.signal.aborted, statusOf(served)]).toEqual([true, 'UNAVAILABLE']);
    call.cancel();
    expect(statusOf(served)).toBe('UNAVAILABLE');
  });

  it('says that it was the deadline if that is over', () => {
    const { clock, call, served } = begin();
    call.deadline = new Date(clock.now() + 100);
    expect(served.signal.aborted).toBe(false);
    clock.advance(100);
    call.cancel();
    expect([statusOf(served), served.deadline]).toEqual(['DEADLINE_EXCEEDED', call.deadline]);
  });

  it('that is asked for too late has aborted', () => {
    const cancelled = begin();
    cancelled.call.cancel();
    expect(statusOf(cancelled.served)).toBe('CANCELLED');
    const ended = begin();
    ended.session.end('expired');
    expect(statusOf(ended.served)).toBe('UNAVAILABLE');
  });

  it('never aborts after the answer, and nothing of the call stays with its session', () => {
    const { session, call, served } = begin();
    let heard = 0;
    const { signal } = served;
    served.onEnd(() => heard++);
    let listening = 0;
    const listen = session.listen.bind(session);
    session.listen = (listener) => {
      listening++;
      const stop = listen(listener);
      return () => {
        listening--;
        stop();
      };
    };
    const other = new ServedCall(
      { clock: new FakeClock(), makeMetadata: () => new Metadata(), limitsOf: () => [] },
      new Call(),
      session,
    );
    expect([other.signal.aborted, listening]).toEqual([false, 1]);
    other.answered();
    expect(listening).toBe(0);
    served.answered();
    call.cancel();
    session.end('revoked');
    expect([signal.aborted, heard, served.over, served.reason]).toEqual([false, 0, true, undefined]);
  });
});

describe('the session of a call', () => {
  it('is looked at as it is, also once it has ended', () => {
    const { clock, session, served, limits } = begin();
    const view = served.session;
    expect([view.id, view.peer, view.ended, view.limits]).toEqual([session.id, 'greeter', false, limits]);
    expect([view.createdAt.getTime(), view.expiresAt.getTime()]).toEqual([
      session.createdAt,
      session.expiresAt,
    ]);
    view.metadata.note = 'kept';
    expect(session.metadata).toEqual({ from: 'test', note: 'kept' });
    clock.advance(1000);
    session.end('revoked');
    const endedAt = clock.now();
    expect([view.ended, view.limits, view.id, view.expiresAt.getTime()]).toEqual([
      true,
      [],
      session.id,
      endedAt,
    ]);
    clock.advance(1000);
    expect([view.expiresAt.getTime(), view.metadata.note]).toEqual([endedAt, 'kept']);
    expect(JSON.parse(JSON.stringify(view))).toMatchObject({ id: session.id, ended: true });
  });
});

describe('the metadata of an answer', () => {
  it('is given as grpc-js has it, or as an object', () => {
    const { call, served } = begin();
    served.sendMetadata({ 'x-a': 'one', 'x-b-bin': Buffer.from('two') });
    expect(call.sent?.toJSON()).toEqual({ 'x-a': ['one'], 'x-b-bin': [Buffer.from('two')] });
    const own = new Metadata();
    served.sendMetadata(own);
    expect(call.sent).toBe(own);
    expect([served.service, served.method, served.deadline]).toEqual(['greeter', 'greet', undefined]);
  });
});
