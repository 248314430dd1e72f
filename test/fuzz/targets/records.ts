import { CipherState } from '../../../src/noise/cipherstate.ts';
import { RecordError } from '../../../src/transport/errors.ts';
import { DEFAULT_RECORD_LIMITS, type RecordLimits } from '../../../src/transport/limits.ts';
import { CLOSE, DATA, PING, RecordReader, RecordWriter } from '../../../src/transport/record.ts';
import { crypto } from '../../transport/world.ts';
import { EDIT, edited, mutateScript } from '../edits.ts';
import { claim, same, type Target } from '../target.ts';

/** An input is two octets, which stream and how it is cut, and a script of edits to the stream. */
const HEAD = 2;
const LIMITS: RecordLimits = { ...DEFAULT_RECORD_LIMITS, keyUpdateRecords: 1 };

type Opened = Array<[type: number, payload: string]>;
export type Opening = (octets: Buffer, piece: number) => { opened: Opened; reason: string | undefined };

interface Sealed {
  readonly key: Buffer;
  readonly octets: Buffer;
  /** What is in it, and where each record ends. */
  readonly records: Opened;
  readonly ends: number[];
}

/** A stream of records, under a key of its own. */
function sealed(nth: number): Sealed {
  const key = Buffer.alloc(32, nth + 1);
  const writer = new RecordWriter(new CipherState(crypto, key), LIMITS);
  const octets: Buffer[] = [];
  const records: Opened = [];
  const ends: number[] = [];
  const add = (record: Buffer, type: number, payload: Buffer): void => {
    octets.push(record);
    records.push([type, payload.toString('latin1')]);
    ends.push((ends.at(-1) ?? 0) + record.length);
  };
  const seal = (type: number, payload: Buffer): void => {
    const buf = Buffer.concat([Buffer.alloc(5), payload]);
    add(writer.seal(type, buf, 5, buf.length), type, payload);
  };
  seal(PING, Buffer.from('12345678'));
  for (let i = 0; i < 2 + nth; i++) seal(DATA, Buffer.alloc(i * 60, 'data'));
  add(writer.keyUpdate(), 2, Buffer.alloc(0));
  seal(DATA, Buffer.alloc(100, 'more'));
  seal(CLOSE, Buffer.alloc(0));
  return { key, octets: Buffer.concat(octets), records, ends };
}

const STREAMS = [0, 1, 2].map(sealed);

export function openerOf(key: Buffer, limits = LIMITS): Opening {
  return (octets, piece) => {
    const opened: Opened = [];
    const sink = {
      record: (type: number, payload: Buffer) => void opened.push([type, payload.toString('latin1')]),
    };
    const reader = new RecordReader(new CipherState(crypto, key), limits, sink, () => 0);
    try {
      for (let at = 0; at < octets.length; at += piece) {
        const chunk = Buffer.from(octets.subarray(at, at + piece));
        reader.push(chunk);
        chunk.fill(0xaa);
      }
      return { opened, reason: undefined };
    } catch (error) {
      if (!(error instanceof RecordError)) throw error;
      return { opened, reason: error.reason };
    } finally {
      reader.stop();
    }
  };
}

export function checkRecords(input: Buffer, opener: (key: Buffer) => Opening): void {
  const { key, octets, records, ends } = STREAMS[(input[0] ?? 0) % STREAMS.length] as Sealed;
  const changed = edited(octets, input.subarray(HEAD));
  let alike = 0;
  while (alike < changed.length && changed[alike] === octets[alike]) alike++;
  const whole = opener(key)(changed, Number.MAX_SAFE_INTEGER);
  same(
    whole.opened,
    records.slice(0, ends.filter((end) => end <= alike).length),
    'what is opened is not what was sealed, up to the first change',
  );
  claim(whole.reason === undefined || whole.reason === 'bad-record', `it ended by ${whole.reason}`);
  same(opener(key)(changed, 1 + ((input[1] ?? 0) & 0x7f)), whole, 'cut into pieces it is not the same');
}

export const target: Target = {
  name: 'records',
  claim: 'of a changed stream of records just those before the change are opened, however it is cut',
  seeds: [
    [0, 0],
    [1, 5],
    [2, 90, 0, 128, 0, 1],
    [1, 0, 3, 64, 0, 9],
    [0, 1, 8, 0, 0, 40],
  ].map((octets) => Buffer.from(octets)),
  maxLength: HEAD + 12 * EDIT,
  mutate: (random, input, other) => mutateScript(random, input, other, HEAD, EDIT),
  run: (input) => checkRecords(input, openerOf),
};
