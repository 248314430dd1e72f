import { describe, expect, it } from 'vitest';
import { data, E, END_HEADERS, Http2Peer, settingsAck, T } from '../harness/http2-peer.ts';

const KIB = 1024;
const MIB = KIB * KIB;
const WIDE = 64 * KIB;
const NARROW = 8 * KIB;
const FRAME = 16 * KIB;

/** A peer that keeps its own account of what it may send. */
class Sender {
  readonly peer: Http2Peer;
  readonly windows = new Map<number, number>();
  connection: number;
  /** SETTINGS that it has seen: its streams begin with the last one. */
  initial = WIDE;
  changes: number[] = [];
  acknowledges = true;
  #last = -1;

  constructor(window: number, queueBytes: number) {
    this.peer = new Http2Peer({ window, settings: { initialWindowSize: WIDE }, limits: { queueBytes } });
    this.peer.owner.credits = false;
    this.connection = window;
  }

  open(): number {
    this.#last += 2;
    this.peer.request(this.#last, END_HEADERS);
    this.windows.set(this.#last, this.initial);
    return this.#last;
  }

  window(id: number): number {
    return this.windows.get(id) as number;
  }

  look(): void {
    for (const { type, flags, id, payload } of this.peer.frames()) {
      if (type === T.WINDOW_UPDATE) {
        const increment = payload.readUInt32BE(0);
        if (id === 0) this.connection += increment;
        else this.windows.set(id, this.window(id) + increment);
      } else if (type === T.SETTINGS && flags === 0) {
        expect(payload.readUInt16BE(0)).toBe(4);
        this.#move(payload.readUInt32BE(2));
      }
    }
  }

  #move(initial: number): void {
    this.changes.push(initial);
    if (!this.acknowledges) return;
    for (const [id, window] of this.windows) this.windows.set(id, window + initial - this.initial);
    this.initial = initial;
    this.peer.write(settingsAck());
  }

  /** Sends as much as it may on a stream, but at most `most`. */
  send(id: number, most = Number.POSITIVE_INFINITY): number {
    let sent = 0;
    for (;;) {
      const n = Math.min(most - sent, FRAME, this.window(id), this.connection);
      if (n <= 0) return sent;
      this.windows.set(id, this.window(id) - n);
      this.connection -= n;
      sent += n;
      this.peer.write(data(id, Buffer.alloc(n)));
      this.peer.owner.take();
      this.look();
    }
  }

  /** The owner passes on all that it holds of a stream. */
  pass(id: number): void {
    const stream = this.peer.owner.streams.get(id);
    stream?.credit(stream.held);
    this.look();
  }

  reset(id: number): void {
    this.peer.owner.streams.get(id)?.reset(E.CANCEL);
    this.windows.delete(id);
  }

  sweep(): void {
    this.peer.connection.sweep();
    this.look();
  }
}

describe('when half of queueBytes is held', () => {
  it('streams have narrow windows, so that 4,096 of them may stall within three times queueBytes', () => {
    const sender = new Sender(16 * MIB, 16 * MIB);
    for (let i = 0; i < 4096; i++) sender.send(sender.open());
    expect(sender.changes).toEqual([NARROW]);
    expect(sender.peer.connection.held).toBeLessThan(48 * MIB);
    const id = sender.open();
    for (let i = 0; i < 100; i++) {
      expect(sender.send(id), 'the 4,097th').toBe(NARROW);
      sender.pass(id);
    }
    expect(sender.peer.connection.ended).toBe(false);
  });

  it('a stream that is drained has its wide window again, unless queueBytes are held', () => {
    const sender = new Sender(16 * MIB, 16 * MIB);
    for (let i = 0; i < 1000; i++) sender.send(sender.open());
    expect(sender.changes).toEqual([NARROW]);
    expect(sender.peer.connection.held).toBeLessThan(16 * MIB);
    const id = sender.open();
    expect(sender.window(id)).toBe(NARROW);
    for (let i = 0; i < 20; i++) {
      sender.send(id);
      sender.pass(id);
    }
    expect(sender.window(id)).toBeGreaterThanOrEqual(WIDE);
  });

  it('windows of which more was used are below zero, and nothing may come before they are above', () => {
    const sender = new Sender(16 * MIB, 256 * KIB);
    const [first, second, third] = [sender.open(), sender.open(), sender.open()];
    sender.send(first, 60 * KIB);
    sender.send(second, 60 * KIB);
    sender.send(third, 16 * KIB);
    expect([first, second, third].map((id) => sender.window(id))).toEqual([
      NARROW - 60 * KIB,
      NARROW - 60 * KIB,
      NARROW - 16 * KIB,
    ]);
    const stream = sender.peer.owner.streams.get(first);
    stream?.credit(51 * KIB);
    sender.look();
    expect(sender.window(first)).toBe(-KIB);
    sender.peer.write(data(first, Buffer.alloc(1)));
    expect(sender.peer.owner.take()).toContainEqual({
      what: 'reset',
      id: first,
      code: E.FLOW_CONTROL_ERROR,
      origin: 'local',
    });
    expect(sender.peer.connection.ended).toBe(false);
  });

  it('a stream that was drained, and owed credit of less than half a wide window, is paid and goes on', () => {
    const sender = new Sender(16 * MIB, 256 * KIB);
    const drained = sender.open();
    sender.send(drained, 20 * KIB);
    sender.pass(drained);
    expect(sender.window(drained)).toBe(WIDE - 20 * KIB);
    for (let i = 0; i < 4; i++) sender.send(sender.open());
    expect(sender.changes).toEqual([NARROW]);
    expect(sender.window(drained)).toBeGreaterThanOrEqual(NARROW);
    expect(sender.send(drained)).toBeGreaterThan(0);
  });

  it('they are wide again at the sweep after less than a quarter is held', () => {
    const sender = new Sender(16 * MIB, 256 * KIB);
    const ids = [sender.open(), sender.open(), sender.open()];
    for (const id of ids) sender.send(id, 60 * KIB);
    sender.pass(ids[0] as number);
    sender.pass(ids[1] as number);
    expect(sender.changes).toEqual([NARROW]);
    sender.sweep();
    expect(sender.changes).toEqual([NARROW, WIDE]);
    expect(sender.window(sender.open())).toBe(WIDE);
    sender.pass(ids[2] as number);
    for (const id of ids) expect(sender.window(id)).toBeGreaterThan(WIDE / 2);
    sender.sweep();
    expect(sender.changes).toEqual([NARROW, WIDE]);
  });

  it('windows double as before once it is over, as often as it was', () => {
    const sender = new Sender(16 * MIB, MIB);
    for (let round = 0; round < 20; round++) {
      const ids = Array.from({ length: 20 }, () => sender.open());
      for (const id of ids) sender.send(id, 40 * KIB);
      for (const id of ids) sender.reset(id);
      sender.sweep();
    }
    expect(sender.changes).toHaveLength(40);
    const id = sender.open();
    for (let i = 0; i < 20; i++) {
      sender.send(id);
      sender.pass(id);
    }
    expect(sender.window(id)).toBeGreaterThan(MIB / 2);
  });

  it('a peer that has not acknowledged may use what it had, and hears of one change at a time', () => {
    const sender = new Sender(16 * MIB, 256 * KIB);
    sender.acknowledges = false;
    const ids = Array.from({ length: 4 }, () => sender.open());
    for (const id of ids) expect(sender.send(id)).toBe(WIDE);
    expect(sender.changes).toEqual([NARROW]);
    for (const id of ids) sender.pass(id);
    sender.sweep();
    expect(sender.changes).toEqual([NARROW]);
    expect(sender.send(sender.open())).toBe(WIDE);
    sender.peer.write(settingsAck());
    sender.pass(9);
    sender.sweep();
    expect(sender.changes).toEqual([NARROW, WIDE]);
    expect(sender.peer.connection.ended).toBe(false);
  });
});

it('ACKs of SETTINGS that were not sent are a flood', () => {
  const { peer } = new Sender(16 * MIB, 256 * KIB);
  for (let i = 0; i < 201; i++) peer.write(settingsAck());
  expect(peer.goawayCode()).toBe(E.ENHANCE_YOUR_CALM);
});
