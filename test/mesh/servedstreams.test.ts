import { describe, expect, it } from 'vitest';
import { CallError } from '../../src/mesh/callerror.ts';
import { ReplyOutlet } from '../../src/mesh/replyoutlet.ts';
import { RequestInbox, type RequestSource } from '../../src/mesh/requestinbox.ts';

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A grpc-js call whose caller has sent messages, and then ended (null) or been lost. */
class Source implements RequestSource<string> {
  asked = 0;
  onLost: () => void = () => {};
  readonly #sent: Array<string | null>;

  constructor(...sent: Array<string | null>) {
    this.#sent = sent;
  }

  push(_message: string | null): boolean {
    throw new Error('nobody took over');
  }

  _read(): void {
    this.asked++;
    const message = this.#sent.shift();
    if (message !== undefined) this.push(message);
    else process.nextTick(() => this.onLost());
  }

  send(message: string | null): void {
    this.push(message);
  }
}

const decode = (message: string): string => {
  if (message === 'bad') throw new CallError('INVALID_ARGUMENT', 'bad');
  return message.toUpperCase();
};
const cancelled = new CallError('CANCELLED', 'gone');

describe('the requests of a call', () => {
  it('are read one by one as they are asked for', async () => {
    const source = new Source('a', 'b', null);
    const inbox = new RequestInbox(source, decode);
    await settled();
    expect(source.asked).toBe(0);
    expect(await inbox.next()).toEqual({ done: false, value: 'A' });
    await settled();
    expect(source.asked).toBe(1);
    const rest: string[] = [];
    for await (const value of inbox) rest.push(value);
    expect(rest).toEqual(['B']);
    expect(await inbox.next()).toEqual({ done: true, value: undefined });
  });

  it('come in order to those who ask at once', async () => {
    const source = new Source();
    const inbox = new RequestInbox(source, decode);
    const asked = [inbox.next(), inbox.next(), inbox.next(), inbox.next()];
    expect(source.asked).toBe(1);
    source.send('a');
    expect(source.asked).toBe(2);
    source.send('b');
    expect(source.asked).toBe(3);
    source.send(null);
    expect((await Promise.all(asked)).map(({ value }) => value)).toEqual(['A', 'B', undefined, undefined]);
  });

  it('that are cut off do not end as if they were all', async () => {
    const source = new Source('a', null);
    const inbox = new RequestInbox(source, decode);
    source.onLost = () => inbox.fail(cancelled);
    await inbox.next();
    await expect(inbox.next()).rejects.toBe(cancelled);
    expect(await inbox.next()).toEqual({ done: true, value: undefined });
  });

  it('that nobody waits for fail when the next is asked for, once', async () => {
    const inbox = new RequestInbox(new Source('a'), decode);
    inbox.fail(cancelled);
    inbox.fail(new CallError('UNAVAILABLE', 'later'));
    await expect(inbox.next()).rejects.toBe(cancelled);
    expect(await inbox.next()).toEqual({ done: true, value: undefined });
  });

  it('end with one that cannot be read', async () => {
    const source = new Source('bad', 'a');
    const inbox = new RequestInbox(source, decode);
    await expect(inbox.next()).rejects.toMatchObject({ status: 'INVALID_ARGUMENT' });
    expect(await inbox.next()).toEqual({ done: true, value: undefined });
    expect(source.asked).toBe(1);
  });

  it('are not read on when the handler wants no more', async () => {
    const source = new Source('a', 'b', 'c');
    const inbox = new RequestInbox(source, decode);
    for await (const value of inbox) if (value === 'A') break;
    source.send('late');
    inbox.fail(cancelled);
    expect(await inbox.next()).toEqual({ done: true, value: undefined });
    expect(source.asked).toBe(1);
  });
});

describe('the replies of a call', () => {
  /** What was written and not confirmed. */
  const outletOn = () => {
    const pending: Array<() => void> = [];
    const outlet = new ReplyOutlet({ write: (_message, written) => pending.push(written) > 0 });
    return { pending, outlet };
  };

  it('wait once a window of octets is under way', async () => {
    const { pending, outlet } = outletOn();
    expect(outlet.write(Buffer.alloc(65_535))).toBeUndefined();
    let goesOn = false;
    const room = outlet.write(Buffer.alloc(65_536))?.then(() => {
      goesOn = true;
    });
    await settled();
    expect(goesOn).toBe(false);
    pending.shift()?.();
    await settled();
    expect(goesOn).toBe(false);
    pending.shift()?.();
    await room;
    expect(goesOn).toBe(true);
  });

  it('wait once there are many of them, however small', () => {
    const { outlet } = outletOn();
    let free = 0;
    while (outlet.write(Buffer.alloc(0)) === undefined) free++;
    expect(free).toBe(63);
  });

  it('wait no longer when nobody takes them', async () => {
    const { outlet } = outletOn();
    const room = outlet.write(Buffer.alloc(100_000));
    outlet.end();
    await room;
  });
});
