import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Stream } from '../../src/http2/stream.ts';
import {
  data,
  E,
  END_HEADERS,
  END_STREAM,
  Http2Peer,
  rst,
  settings,
  settingsAck,
  T,
  windowUpdate,
} from '../harness/http2-peer.ts';

const STREAMS = 6;
const MAX_FRAME = 16_384;
const INITIAL = 65_535;

/** The octet at `at` of what stream `id` has to say. */
const octet = (id: number, at: number): number => (id * 31 + at) % 251;

const says = (id: number, from: number, length: number): Buffer =>
  Buffer.from(Array.from({ length }, (_, i) => octet(id, from + i)));

const whichStream = fc.integer({ min: 0, max: STREAMS - 1 }).map((n) => 1 + 2 * n);
const length = fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 40_000 }));

/** A plain model of what the peer has allowed, and of what has been said. */
interface SendModel {
  window: number;
  said: number;
  arrived: number;
  doneWith: number; // written at once, or told as taken
  fin: boolean;
  ended: boolean;
  over: boolean;
}

type SendCommand =
  | { do: 'send'; id: number; n: number; fin: boolean }
  | { do: 'window'; id: number; n: number }
  | { do: 'initial'; n: number }
  | { do: 'peer-resets' | 'reset'; id: number }
  | { do: 'full' | 'drain' | 'turn' };

const sendCommand: fc.Arbitrary<SendCommand> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('send' as const), id: whichStream, n: length, fin: fc.boolean() }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('window' as const),
      id: fc.oneof(fc.constant(0), whichStream),
      n: length.map((n) => n + 1),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('initial' as const), n: fc.integer({ min: 0, max: 100_000 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constantFrom('peer-resets' as const, 'reset' as const), id: whichStream }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constantFrom('full' as const, 'drain' as const, 'turn' as const) }),
  },
);

class SendRun {
  readonly peer = new Http2Peer({ window: 1e6 });
  readonly streams = new Map<number, SendModel>();
  connection = INITIAL;
  initial = INITIAL;

  constructor() {
    for (let i = 0; i < STREAMS; i++) {
      const id = 1 + 2 * i;
      this.peer.request(id, END_HEADERS);
      this.streams.set(id, {
        window: INITIAL,
        said: 0,
        arrived: 0,
        doneWith: 0,
        fin: false,
        ended: false,
        over: false,
      });
    }
    this.peer.owner.react = (event) => {
      if (event.what === 'taken') this.model(event.id).doneWith += event.n;
    };
  }

  model(id: number): SendModel {
    return this.streams.get(id) as SendModel;
  }

  /** Holds what was written against the model. */
  look(): void {
    for (const { type, flags, id, payload } of this.peer.frames()) {
      const model = this.streams.get(id);
      if (type === T.RST_STREAM) (model as SendModel).over = true;
      if (type !== T.DATA || model === undefined) continue;
      expect(model.ended || model.over).toBe(false);
      expect(payload.length).toBeLessThanOrEqual(MAX_FRAME);
      if (payload.length > 0) {
        model.window -= payload.length;
        this.connection -= payload.length;
        expect(model.window).toBeGreaterThanOrEqual(0);
        expect(this.connection).toBeGreaterThanOrEqual(0);
      }
      expect(payload.equals(says(id, model.arrived, payload.length))).toBe(true);
      model.arrived += payload.length;
      if ((flags & END_STREAM) !== 0) model.ended = true;
    }
  }

  run(command: SendCommand): void {
    const { peer } = this;
    switch (command.do) {
      case 'send': {
        const model = this.model(command.id);
        if (model.fin || model.over) return;
        const octets = says(command.id, model.said, command.n);
        model.said += command.n;
        model.fin = command.fin;
        const stream = peer.owner.streams.get(command.id) as Stream;
        model.doneWith += stream.send(octets, 0, command.n, command.fin);
        return;
      }
      case 'window':
        // What was written before the peer opened the window counts against the old one.
        this.look();
        if (command.id === 0) this.connection += command.n;
        else this.model(command.id).window += command.n;
        peer.write(windowUpdate(command.id, command.n));
        return;
      case 'initial':
        this.look();
        for (const model of this.streams.values()) model.window += command.n - this.initial;
        this.initial = command.n;
        peer.write(settings([4, command.n]));
        return;
      case 'peer-resets': {
        this.look();
        const model = this.model(command.id);
        if (model.over || (model.ended && model.fin)) return;
        model.over = true;
        peer.write(rst(command.id, E.CANCEL));
        return;
      }
      case 'reset': {
        this.look();
        const stream = peer.owner.streams.get(command.id) as Stream;
        stream.reset(E.CANCEL);
        this.model(command.id).over = true;
        return;
      }
      case 'full':
        peer.sink.writable = false;
        return;
      case 'drain':
        peer.drain();
        return;
      case 'turn':
        this.look();
    }
  }

  /** Opens all windows wide: everything must come. */
  finish(): void {
    this.peer.drain();
    for (let round = 0; round < 200; round++) {
      this.look();
      this.connection += 100_000;
      this.peer.write(windowUpdate(0, 100_000));
      for (const [id, model] of this.streams) {
        if (model.over || model.ended) continue;
        model.window += 100_000;
        this.peer.write(windowUpdate(id, 100_000));
      }
      this.look();
      if (this.peer.connection.queued === 0) break;
    }
    expect(this.peer.connection.ended).toBe(false);
    expect(this.peer.connection.queued).toBe(0);
    for (const model of this.streams.values()) {
      expect(model.doneWith).toBe(model.said);
      if (model.over) continue;
      expect(model.arrived).toBe(model.said);
      expect(model.ended).toBe(model.fin);
    }
  }
}

describe('sending on many streams', () => {
  it('stays within all windows; everything comes once, in order; every octet is accounted for', () => {
    fc.assert(
      fc.property(fc.array(sendCommand, { maxLength: 60 }), (commands) => {
        const run = new SendRun();
        for (const command of commands) run.run(command);
        run.finish();
      }),
      { numRuns: 150 },
    );
  });
});

type ReceiveCommand =
  | { do: 'data'; id: number; n: number; fin: boolean }
  | { do: 'credit'; id: number; n: number }
  | { do: 'peer-resets' | 'reset' | 'answer'; id: number }
  | { do: 'turn' | 'open' | 'sweep' | 'settings' };

const receiveCommand: fc.Arbitrary<ReceiveCommand> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('data' as const),
      id: whichStream,
      n: fc.integer({ min: 0, max: MAX_FRAME }),
      fin: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('credit' as const), id: whichStream, n: length }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constantFrom('peer-resets' as const, 'reset' as const, 'answer' as const),
      id: whichStream,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom('turn' as const, 'open' as const, 'sweep' as const, 'settings' as const),
    }),
  },
);

interface ReceiveModel {
  window: number;
  held: number;
  sent: number;
  heard: number;
  ended: boolean; // by the peer
  answered: boolean;
  over: boolean;
}

class ReceiveRun {
  static readonly WINDOW = 200_000;
  readonly peer = new Http2Peer({
    window: ReceiveRun.WINDOW,
    limits: { queueBytes: 100_000, resetBurst: 1e9 },
  });
  readonly streams = new Map<number, ReceiveModel>();
  connection = ReceiveRun.WINDOW;
  /** SETTINGS_INITIAL_WINDOW_SIZE that the peer knows, and those that it has not read yet. */
  initial = INITIAL;
  readonly unread: number[] = [];

  constructor() {
    this.peer.owner.credits = false;
    for (let i = 0; i < STREAMS; i++) this.open();
    this.peer.owner.react = (event) => {
      if (event.what !== 'data') return;
      const model = this.model(event.id);
      expect(
        Buffer.from(event.octets, 'latin1').equals(says(event.id, model.heard, event.octets.length)),
      ).toBe(true);
      model.heard += event.octets.length;
      model.held += event.octets.length;
    };
  }

  model(id: number): ReceiveModel {
    return this.streams.get(id) as ReceiveModel;
  }

  open(): void {
    const id = 1 + 2 * this.streams.size;
    this.peer.request(id, END_HEADERS);
    this.streams.set(id, {
      window: this.initial,
      held: 0,
      sent: 0,
      heard: 0,
      ended: false,
      answered: false,
      over: false,
    });
  }

  /** The peer reads the oldest SETTINGS. */
  readSettings(): void {
    const initial = this.unread.shift();
    if (initial === undefined) return;
    for (const model of this.streams.values()) model.window += initial - this.initial;
    this.initial = initial;
    this.peer.write(settingsAck());
  }

  look(): void {
    for (const { type, flags, id, payload } of this.peer.frames()) {
      if (type === T.SETTINGS && flags === 0) this.unread.push(payload.readUInt32BE(2));
      if (type !== T.WINDOW_UPDATE) continue;
      const increment = payload.readUInt32BE(0);
      expect(increment).toBeGreaterThan(0);
      if (id === 0) {
        this.connection += increment;
        expect(this.connection).toBeLessThanOrEqual(ReceiveRun.WINDOW);
      } else this.model(id).window += increment;
    }
    let held = 0;
    for (const model of this.streams.values()) held += model.held;
    expect(this.peer.connection.held).toBe(held);
  }

  run(command: ReceiveCommand): void {
    this.look();
    if (!('id' in command)) {
      if (command.do === 'open') this.open();
      if (command.do === 'sweep') this.peer.connection.sweep();
      if (command.do === 'settings') this.readSettings();
      return;
    }
    const model = this.model(command.id);
    const stream = this.peer.owner.streams.get(command.id) as Stream;
    switch (command.do) {
      case 'data': {
        const n = Math.max(0, Math.min(command.n, model.window, this.connection));
        if (model.ended || model.over || (n === 0 && !command.fin)) return;
        this.peer.write(data(command.id, says(command.id, model.sent, n), command.fin ? END_STREAM : 0));
        model.sent += n;
        model.window -= n;
        this.connection -= n;
        model.ended = command.fin;
        expect(model.heard).toBe(model.sent);
        return;
      }
      case 'credit': {
        stream.credit(command.n);
        model.held -= Math.min(model.held, command.n);
        return;
      }
      case 'answer':
        if (model.answered || model.over) return;
        stream.send(Buffer.alloc(0), 0, 0, true);
        model.answered = true;
        // An answer that is complete before the request ends the stream (section 8.1).
        if (!model.ended) {
          model.over = true;
          model.held = 0;
        }
        return;
      case 'peer-resets':
        if (model.over || (model.ended && model.answered)) return;
        this.peer.write(rst(command.id, E.CANCEL));
        model.over = true;
        model.held = 0;
        return;
      case 'reset':
        stream.reset(E.CANCEL);
        model.over = true;
        model.held = 0;
    }
  }

  /** Passes everything on: all windows must recover to more than half. */
  finish(): void {
    for (const [id, model] of this.streams) {
      (this.peer.owner.streams.get(id) as Stream).credit(model.held);
      model.held = 0;
    }
    // Narrow or wide: a stream that holds nothing may be sent on.
    this.look();
    while (this.unread.length > 0) this.readSettings();
    this.look();
    for (const model of this.streams.values()) {
      if (!model.over && !model.ended) expect(model.window).toBeGreaterThan(0);
    }
    for (let i = 0; i < 3; i++) {
      this.look();
      this.readSettings();
      this.peer.connection.sweep();
    }
    this.look();
    expect(this.initial).toBe(INITIAL);
    expect(this.peer.connection.ended).toBe(false);
    expect(this.peer.connection.held).toBe(0);
    expect(this.connection).toBeGreaterThan(ReceiveRun.WINDOW / 2);
    for (const model of this.streams.values()) {
      if (!model.over && !model.ended) expect(model.window).toBeGreaterThan(INITIAL / 2);
    }
  }
}

describe('receiving on many streams', () => {
  it('holds just what was not passed on, delivers in order, and windows recover', () => {
    fc.assert(
      fc.property(fc.array(receiveCommand, { maxLength: 80 }), (commands) => {
        const run = new ReceiveRun();
        for (const command of commands) run.run(command);
        run.finish();
      }),
      { numRuns: 150 },
    );
  });
});
