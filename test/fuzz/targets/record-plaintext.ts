import { CipherState } from '../../../src/noise/cipherstate.ts';
import { DEFAULT_RECORD_LIMITS } from '../../../src/transport/limits.ts';
import { KEY_UPDATE } from '../../../src/transport/record.ts';
import { crypto } from '../../transport/world.ts';
import { mutateScript } from '../edits.ts';
import { same, type Target } from '../target.ts';
import { type Opening, openerOf } from './records.ts';

/*
 * A peer that has the key and no manners. An input is an octet, how the stream is cut, then records: type u8 | payload
 * length u16, as it claims | octets there are u8 | what follows the header u8, repeated.
 */
const HEAD = 1;
const RECORD = 5;
const KEY = Buffer.alloc(32, 7);
const LIMITS = { ...DEFAULT_RECORD_LIMITS, keyUpdateRecords: 3, maxKeyRecords: 6, maxLength: 250 };

interface Plain {
  type: number;
  claimed: number;
  octets: Buffer;
}

function plainOf(input: Buffer): Plain[] {
  const records: Plain[] = [];
  for (let at = HEAD; at + RECORD <= input.length; at += RECORD) {
    records.push({
      type: input[at] as number,
      claimed: input.readUInt16BE(at + 1),
      octets: Buffer.alloc(input[at + 3] as number, input[at + 4] as number),
    });
  }
  return records;
}

/** docs/protocol.md, "Records", as plainly as can be. */
function expected(records: readonly Plain[]): ReturnType<Opening> {
  const opened: Array<[number, string]> = [];
  let underKey = 0;
  let updates = 0;
  for (const { type, claimed, octets } of records) {
    const end = (reason: string): ReturnType<Opening> => ({ opened, reason });
    if (3 + octets.length + 16 > LIMITS.maxLength) return end('bad-record');
    if (++underKey >= LIMITS.maxKeyRecords) return end('key-exhausted');
    if (claimed > octets.length) return end('bad-record');
    if (octets.subarray(claimed).some((octet) => octet !== 0)) return end('bad-record');
    if (type === KEY_UPDATE) {
      if (claimed !== 0) return end('protocol-error');
      if (updates++ > 0 && underKey < LIMITS.keyUpdateRecords) return end('flood');
      underKey = 0;
    }
    opened.push([type, octets.toString('latin1', 0, claimed)]);
  }
  return { opened, reason: undefined };
}

function sealedBy(records: readonly Plain[]): Buffer {
  const cipher = new CipherState(crypto, KEY);
  return Buffer.concat(
    records.map(({ type, claimed, octets }) => {
      const head = Buffer.from([type, claimed >> 8, claimed & 255]);
      const record = cipher.encryptWithAd(Buffer.alloc(0), Buffer.concat([head, octets]));
      if (type === KEY_UPDATE) cipher.rekey();
      return Buffer.concat([Buffer.from([record.length >> 8, record.length & 255]), record]);
    }),
  );
}

export function checkPlaintext(input: Buffer, opener: Opening): void {
  const records = plainOf(input);
  const octets = sealedBy(records);
  const wanted = expected(records);
  same(opener(octets, Number.MAX_SAFE_INTEGER), wanted, 'a reader and the document differ');
  same(opener(octets, 1 + (input[0] ?? 0)), wanted, 'a reader and the document differ, in pieces');
}

export const plaintextOpener = openerOf(KEY, LIMITS);

const record = (type: number, claimed: number, octets: number, fill: number): number[] => [
  type,
  claimed >> 8,
  claimed & 255,
  octets,
  fill,
];

export const target: Target = {
  name: 'record-plaintext',
  claim: 'records of a peer that has the key are taken and refused as the protocol’s document says',
  seeds: [
    [0, ...record(1, 5, 5, 65), ...record(2, 0, 0, 0), ...record(4, 8, 8, 1), ...record(6, 0, 0, 0)],
    [3, ...record(1, 5, 20, 0), ...record(1, 5, 20, 1)],
    [3, ...record(2, 0, 0, 0), ...record(1, 0, 1, 0), ...record(2, 0, 0, 0)],
    [9, ...record(2, 1, 1, 0), ...record(0x80, 231, 231, 7)],
  ].map((octets) => Buffer.from(octets)),
  maxLength: HEAD + 16 * RECORD,
  mutate: (random, input, other) => mutateScript(random, input, other, HEAD, RECORD),
  run: (input) => checkPlaintext(input, plaintextOpener),
};
