import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { CipherState } from '../../src/noise/cipherstate.ts';
import { giveBuffer, RECORD_BUFFER, takeBuffer } from '../../src/transport/bufferpool.ts';
import { RecordError } from '../../src/transport/errors.ts';
import { DEFAULT_RECORD_LIMITS, type RecordLimits } from '../../src/transport/limits.ts';
import {
  DATA,
  KEY_UPDATE,
  MAX_PAYLOAD,
  PING,
  RecordReader,
  RecordWriter,
} from '../../src/transport/record.ts';
import { cipherPair, codeOf } from './world.ts';

interface Line {
  writer: RecordWriter;
  reader: RecordReader;
  /** The writer's cipher, to seal what a writer would not. */
  cipher: CipherState;
  got: Array<{ type: number; text: string }>;
  time: { now: number };
  onRecord: ((type: number) => void) | undefined;
}

function line(overrides: Partial<RecordLimits> = {}, writers: Partial<RecordLimits> = overrides): Line {
  const limits = { ...DEFAULT_RECORD_LIMITS, ...overrides };
  const [cipher, opener] = cipherPair();
  const got: Line['got'] = [];
  const time = { now: 0 };
  const sink = {
    record(type: number, payload: Buffer) {
      got.push({ type, text: payload.toString('latin1') });
      made.onRecord?.(type);
    },
  };
  const reader = new RecordReader(opener, limits, sink, () => time.now);
  const made: Line = {
    writer: new RecordWriter(cipher, { ...limits, ...writers }),
    reader,
    cipher,
    got,
    time,
    onRecord: undefined,
  };
  return made;
}

function data(writer: RecordWriter, text: string | Buffer, type = DATA): Buffer {
  const payload = Buffer.from(text);
  const buf = Buffer.concat([Buffer.alloc(5), payload]);
  return writer.seal(type, buf, 5, buf.length);
}

/** A record with any plaintext. */
function raw(cipher: CipherState, plaintext: Buffer): Buffer {
  const out = Buffer.alloc(2 + plaintext.length + 16);
  out.writeUInt16BE(plaintext.length + 16);
  cipher.encryptInto(plaintext, out, 2);
  return out;
}

describe('records', () => {
  it('of any kind are a flood beyond what a second may bring, and the clock is not asked before', () => {
    const { writer, reader, time } = line({ maxRecordsPerSecond: 100 });
    const send = (count: number): void => {
      for (let i = 0; i < count; i++) reader.push(data(writer, 'x', i % 2 === 0 ? DATA : PING));
    };
    send(100);
    for (let second = 0; second < 5; second++) {
      time.now += 1000;
      send(100);
    }
    time.now += 999;
    expect(codeOf(() => send(1))).toBe('flood');
  });

  it('are length, then type, payload length and payload under the cipher', () => {
    const { writer, reader, got } = line();
    const record = data(writer, 'hello');
    expect(record.length).toBe(2 + 3 + 5 + 16);
    expect(record.readUInt16BE(0)).toBe(24);
    expect(record.includes('hello')).toBe(false);
    reader.push(record);
    expect(got).toEqual([{ type: DATA, text: 'hello' }]);
  });

  it('are the same whether sealed in place or copied', () => {
    const limits = DEFAULT_RECORD_LIMITS;
    const [one, two] = cipherPair();
    const buf = Buffer.alloc(200, 7);
    const copied = new RecordWriter(one, limits).seal(DATA, Buffer.from(buf), 10, 100);
    expect(new RecordWriter(two, limits).sealInPlace(DATA, buf, 10, 100).equals(copied)).toBe(true);
    expect(buf.subarray(0, 5).equals(Buffer.alloc(5, 7))).toBe(true);
    expect(buf.subarray(116).equals(Buffer.alloc(84, 7))).toBe(true);
  });

  it('come out the same however the bytes are cut', () => {
    const payloads = fc.array(fc.uint8Array({ maxLength: 600 }), { maxLength: 12 });
    fc.assert(
      fc.property(payloads, fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1 }), (texts, cuts) => {
        const { writer, reader, got } = line({ rekeyRecords: 3, keyUpdateRecords: 1 });
        const sealed: Buffer[] = [];
        for (const text of texts) {
          sealed.push(data(writer, Buffer.from(text)));
          if (writer.due !== undefined) sealed.push(writer.keyUpdate());
        }
        const wire = Buffer.concat(sealed);
        for (let at = 0, i = 0; at < wire.length; i++) {
          const size = cuts[i % cuts.length] as number;
          reader.push(wire.subarray(at, at + size));
          at += size;
        }
        const payloads = got.filter(({ type }) => type === DATA).map(({ text }) => text);
        expect(payloads).toEqual(texts.map((text) => Buffer.from(text).toString('latin1')));
        expect(reader.waiting).toBe(0);
      }),
    );
  });

  it('of the largest size pass, in one piece and in single bytes', () => {
    const { writer, reader, got } = line();
    const large = Buffer.alloc(MAX_PAYLOAD, 0x61);
    const records = [data(writer, large), data(writer, large)];
    expect(records[0]?.readUInt16BE(0)).toBe(65_535);
    reader.push(records[0] as Buffer);
    for (const byte of records[1] as Buffer) reader.push(Buffer.of(byte));
    expect(got.map(({ text }) => text.length)).toEqual([MAX_PAYLOAD, MAX_PAYLOAD]);
  });

  it('with an empty payload pass', () => {
    const { writer, reader, got } = line();
    reader.push(data(writer, ''));
    expect(got).toEqual([{ type: DATA, text: '' }]);
  });
});

describe('every byte of a record counts', () => {
  it('a flipped bit anywhere is found, or the record never completes', () => {
    const length = 2 + 3 + 40 + 16;
    for (let at = 0; at < length; at++) {
      const { writer, reader, got } = line();
      const record = data(writer, 'x'.repeat(40));
      record[at] = (record[at] as number) ^ 1;
      const code = codeOf(() => reader.push(record));
      if (code === 'nothing was thrown') expect(reader.waiting, `byte ${at}`).not.toBe(0);
      else expect(code).toBe('bad-record');
      expect(got).toEqual([]);
    }
  });

  it('dropped, repeated, reordered, shortened and foreign records are found', () => {
    const attempts: Array<(records: Buffer[], other: Buffer) => Buffer[]> = [
      ([, b]) => [b as Buffer],
      ([a]) => [a as Buffer, a as Buffer],
      ([a, b]) => [b as Buffer, a as Buffer],
      (_, other) => [other],
      ([a, b]) => [(a as Buffer).subarray(0, -1), b as Buffer],
      ([a, b]) => [(a as Buffer).subarray(0, 2), (a as Buffer).subarray(3), b as Buffer],
    ];
    for (const attempt of attempts) {
      const { writer, reader } = line();
      const records = [data(writer, 'first'), data(writer, 'second')];
      const wire = Buffer.concat(attempt(records, data(line().writer, 'foreign')));
      expect(codeOf(() => reader.push(wire))).toBe('bad-record');
    }
  });

  it('a length below 19 or above what was announced is refused by the length alone', () => {
    for (const length of [0, 1, 18, 4097, 65_535]) {
      const { reader } = line({ maxLength: 4096 });
      expect(codeOf(() => reader.push(Buffer.of(length >> 8, length & 0xff)))).toBe('bad-record');
      const { reader: split } = line({ maxLength: 4096 });
      split.push(Buffer.of(length >> 8));
      expect(codeOf(() => split.push(Buffer.of(length & 0xff)))).toBe('bad-record');
    }
  });

  it('padding must be zero and the inner length must fit', () => {
    const ok = line();
    ok.reader.push(raw(ok.cipher, Buffer.from('0100026869' + '00'.repeat(250), 'hex')));
    expect(ok.got).toEqual([{ type: DATA, text: 'hi' }]);
    const one = line();
    one.reader.push(raw(one.cipher, Buffer.from('010002686900', 'hex')));
    expect(one.got).toEqual([{ type: DATA, text: 'hi' }]);
    for (const hex of [
      '010002686901',
      '01000268690001',
      '01000268690100',
      '0100036869',
      '01ffff6869',
      '010001686900',
    ]) {
      const { reader, cipher, got } = line();
      expect(
        codeOf(() => reader.push(raw(cipher, Buffer.from(hex, 'hex')))),
        hex,
      ).toBe('bad-record');
      expect(got).toEqual([]);
    }
  });

  it('any bytes end in records that the key has sealed or a RecordError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const { reader, got } = line();
        try {
          reader.push(Buffer.from(bytes));
        } catch (error) {
          expect(error).toBeInstanceOf(RecordError);
        }
        expect(got).toEqual([]);
      }),
    );
  });

  it('any authentic plaintext ends in a record or a RecordError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 3, maxLength: 300 }), (plaintext) => {
        const { reader, cipher, got } = line();
        try {
          reader.push(raw(cipher, Buffer.from(plaintext)));
          expect(got).toHaveLength(1);
        } catch (error) {
          expect(error).toBeInstanceOf(RecordError);
        }
      }),
    );
  });
});

describe('rekeying', () => {
  it('is due after so many records or bytes', () => {
    const byRecords = line({ rekeyRecords: 2 }).writer;
    data(byRecords, 'a');
    expect(byRecords.due).toBeUndefined();
    data(byRecords, 'a');
    expect(byRecords.due).toBe('records');
    byRecords.keyUpdate();
    expect(byRecords.due).toBeUndefined();
    const byBytes = line({ rekeyBytes: 100 }).writer;
    data(byBytes, 'a'.repeat(81));
    expect(byBytes.due).toBe('bytes');
    byBytes.keyUpdate();
    expect(byBytes.due).toBeUndefined();
  });

  it('keeps the counter and changes the key', () => {
    const { writer, reader, cipher, got } = line();
    reader.push(data(writer, 'before'));
    reader.push(writer.keyUpdate());
    expect(cipher.n).toBe(2);
    reader.push(data(writer, 'after'));
    expect(got.map(({ text }) => text)).toEqual(['before', '', 'after']);
  });

  it('is followed by nothing under the old key', () => {
    const { reader, cipher } = line();
    reader.push(raw(cipher, Buffer.of(KEY_UPDATE, 0, 0)));
    expect(codeOf(() => reader.push(raw(cipher, Buffer.of(DATA, 0, 0))))).toBe('bad-record');
  });

  it('carries no payload', () => {
    const { reader, cipher } = line();
    expect(codeOf(() => reader.push(raw(cipher, Buffer.of(KEY_UPDATE, 0, 1, 0))))).toBe('protocol-error');
  });

  it('too often is a flood, unless a second lies between', () => {
    const slow = line();
    for (let i = 0; i < 5; i++) {
      slow.time.now += 1_000;
      slow.reader.push(slow.writer.keyUpdate());
    }
    const fast = line();
    fast.time.now += 10_000; // not the first second of all
    fast.reader.push(fast.writer.keyUpdate());
    fast.time.now += 999;
    expect(codeOf(() => fast.reader.push(fast.writer.keyUpdate()))).toBe('flood');
    const busy = line();
    for (let round = 0; round < 3; round++) {
      busy.reader.push(busy.writer.keyUpdate());
      for (let i = 0; i < 1023; i++) busy.reader.push(data(busy.writer, ''));
    }
    const early = line();
    early.reader.push(early.writer.keyUpdate());
    for (let i = 0; i < 1022; i++) early.reader.push(data(early.writer, ''));
    expect(codeOf(() => early.reader.push(early.writer.keyUpdate()))).toBe('flood');
  });

  it('is insisted on: the last record that a key may not have is refused', () => {
    const { writer, reader, got } = line({ maxKeyRecords: 4 }, { maxKeyRecords: 5 });
    for (let i = 0; i < 3; i++) reader.push(data(writer, 'ok'));
    expect(codeOf(() => reader.push(data(writer, 'one too many')))).toBe('key-exhausted');
    expect(got).toHaveLength(3);
    const obedient = line({ maxKeyRecords: 4 });
    for (let i = 0; i < 9; i++) {
      obedient.reader.push(data(obedient.writer, 'a'));
      obedient.time.now += 1_000;
      obedient.reader.push(obedient.writer.keyUpdate());
    }
    expect(obedient.got).toHaveLength(18);
  });

  it('the sender seals no record that the receiver would refuse, not even KEY_UPDATE', () => {
    const { writer, reader, got } = line({ maxKeyRecords: 4 });
    for (let i = 0; i < 3; i++) reader.push(data(writer, 'ok'));
    expect(writer.exhausted).toBe(true);
    expect(codeOf(() => data(writer, 'one too many'))).toBe('key-exhausted');
    expect(codeOf(() => writer.keyUpdate())).toBe('key-exhausted');
    expect([writer.sealed, got.length]).toEqual([3, 3]);
  });

  it('the sender seals nothing more once a key has sealed too many bytes', () => {
    const { writer, reader, time } = line({ maxKeyBytes: 3 * 119 });
    for (let i = 0; i < 6; i++) {
      time.now += 1_000;
      // The last record of its key may be KEY_UPDATE: below the limit by 19 bytes at least.
      for (let n = 0; n < 2; n++) reader.push(data(writer, Buffer.alloc(100)));
      expect(writer.exhausted).toBe(false);
      reader.push(writer.keyUpdate());
    }
    for (let n = 0; n < 3; n++) reader.push(data(writer, Buffer.alloc(100)));
    expect(codeOf(() => data(writer, ''))).toBe('key-exhausted');
    expect(codeOf(() => writer.keyUpdate())).toBe('key-exhausted');
  });

  it("limits lower the sender's bounds and cannot raise them", () => {
    const wide = { rekeyRecords: 2 ** 40, rekeyBytes: 2 ** 50, maxKeyRecords: 2 ** 40, maxKeyBytes: 2 ** 50 };
    const [cipher] = cipherPair();
    const free: Pick<CipherState, 'encryptInto' | 'n'> = {
      n: 0,
      encryptInto: (_plaintext, out, at) => at + out.length,
    };
    Object.setPrototypeOf(free, Object.getPrototypeOf(cipher));
    const writer = new RecordWriter(free as CipherState, { ...DEFAULT_RECORD_LIMITS, ...wide });
    let sealed = 0;
    const small = Buffer.alloc(64);
    for (; !writer.exhausted; sealed++) writer.sealInPlace(DATA, small, 5, 5);
    expect(sealed).toBe(2 ** 22 - 1);
    expect(codeOf(() => writer.sealInPlace(DATA, small, 5, 5))).toBe('key-exhausted');
    const other = new RecordWriter(free as CipherState, { ...DEFAULT_RECORD_LIMITS, ...wide });
    const large = Buffer.alloc(RECORD_BUFFER);
    for (sealed = 0; !other.exhausted; sealed++) other.sealInPlace(DATA, large, 5, 5 + MAX_PAYLOAD);
    expect(sealed).toBe(Math.ceil(2 ** 37 / (MAX_PAYLOAD + 19)));
  });
});

describe('a reader', () => {
  it('delivers nothing once it has been stopped, not even from the same chunk', () => {
    const made = line();
    made.onRecord = () => made.reader.stop();
    made.reader.push(Buffer.concat([data(made.writer, 'one'), data(made.writer, 'two')]));
    made.reader.push(data(made.writer, 'three'));
    expect(made.got.map(({ text }) => text)).toEqual(['one']);
  });

  it('holds back what comes while it is paused, and goes on in order', () => {
    const made = line();
    made.onRecord = (type) => {
      if (type === PING) made.reader.pause();
    };
    const wire = [data(made.writer, '12345678', PING), data(made.writer, 'a'), data(made.writer, 'b')];
    made.reader.push(Buffer.concat([...wire.slice(0, 2), (wire[2] as Buffer).subarray(0, 4)]));
    made.reader.push((wire[2] as Buffer).subarray(4));
    expect(made.got).toHaveLength(1);
    made.reader.resume();
    expect(made.got.map(({ text }) => text)).toEqual(['12345678', 'a', 'b']);
  });

  it('tells one waiting record from the next', () => {
    const { writer, reader } = line();
    const wire = Buffer.concat([data(writer, 'a'), data(writer, 'b')]);
    expect(reader.waiting).toBe(0);
    reader.push(wire.subarray(0, 1));
    const first = reader.waiting;
    expect(first).not.toBe(0);
    reader.push(wire.subarray(1, 10));
    expect(reader.waiting).toBe(first);
    reader.push(wire.subarray(10, 30));
    expect(reader.waiting).not.toBe(first);
    expect(reader.waiting).not.toBe(0);
    reader.push(wire.subarray(30));
    expect(reader.waiting).toBe(0);
  });
});

describe('the buffer pool', () => {
  it('gives small buffers of their own and takes back only its own size', () => {
    expect(takeBuffer(100).length).toBe(100);
    const large = takeBuffer(60_000);
    expect(large.length).toBe(RECORD_BUFFER);
    giveBuffer(large);
    giveBuffer(Buffer.alloc(10));
    expect(takeBuffer(20_000)).toBe(large);
  });
});
