import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { cryptoProvider } from '../../src/crypto/provider.ts';
import { encodeClientHello, VERSION } from '../../src/transport/clienthello.ts';
import { CLOSE_REASONS, HANDSHAKE_ERROR_CODES } from '../../src/transport/errors.ts';
import { ALERT, alertFrame, MESSAGE, RETRY, UNKNOWN_VERSION } from '../../src/transport/frame.ts';
import {
  encodeIdentityPayload,
  INSTANCE_LENGTH,
  MIN_MAX_RECORD,
} from '../../src/transport/identitypayload.ts';
import { signedData } from '../../src/transport/identityproof.ts';
import { DEFAULT_HANDSHAKE_LIMITS, DEFAULT_RECORD_LIMITS } from '../../src/transport/limits.ts';
import { MODES, RESUMPTION } from '../../src/transport/mode.ts';
import {
  ALERT as ALERT_RECORD,
  CLOSE,
  DATA,
  IGNORABLE,
  KEY_UPDATE,
  MAX_LENGTH,
  MAX_PAYLOAD,
  MIN_LENGTH,
  NEW_TICKET,
  PING,
  PONG,
  SUCCESSOR,
} from '../../src/transport/record.ts';
import {
  encodeTicket,
  TICKET_ID_LENGTH,
  TICKETS_A_HANDSHAKE,
  TICKETS_A_SESSION,
} from '../../src/transport/ticket.ts';
import type { ProtocolVectors } from './reference/vectors.ts';

const text = readFileSync(new URL('../../docs/protocol.md', import.meta.url), 'utf8');
const section = (number: number): string => {
  const start = text.indexOf(`\n## ${number}. `);
  const end = text.indexOf('\n## ', start + 1);
  return text.slice(start, end === -1 ? undefined : end);
};
const quoted = (part: string): string[] =>
  [...part.matchAll(/`([a-z-]+)`/g)].map((match) => match[1] as string);

describe('docs/protocol.md', () => {
  it('names every handshake error code, and no other, in the table of section 12', () => {
    const rows = section(12)
      .split('\n')
      .filter((line) => line.startsWith('| `'));
    const named = rows.flatMap((row) => quoted(row.split('|')[1] as string));
    expect(named.toSorted()).toEqual([...HANDSHAKE_ERROR_CODES].toSorted());
  });

  it('names every reason for which a channel ends, and no other', () => {
    const after = section(12).slice(section(12).indexOf('An open channel'));
    expect(quoted(after).toSorted()).toEqual([...CLOSE_REASONS].toSorted());
  });

  it('has every mode that is spoken in the table of section 4, with the sizes of its messages', () => {
    for (const { id, protocol, overhead } of [...MODES, RESUMPTION]) {
      const full = id !== RESUMPTION.id;
      const sizes = overhead.map((bytes, i) => (full && i > 0 ? `${bytes}+P` : `${bytes}`)).join(' / ');
      expect(section(4)).toContain(`| ${id} | \`${protocol}\` | ${sizes} |`);
    }
  });

  it('has the opening of an initiator in mode 0, and the alert, to the byte', () => {
    const hello = encodeClientHello(0, 0x0001).toString('hex');
    const alert = alertFrame(UNKNOWN_VERSION, VERSION).toString('hex');
    expect(bytesIn(section(2))).toContain(hello);
    expect(bytesIn(section(3))).toContain(alert);
  });

  it('numbers frames and records as they are', () => {
    expect(rowsOf(3).map(([type, name]) => [Number(type), name])).toEqual([
      [MESSAGE, 'MESSAGE'],
      [RETRY, 'RETRY'],
      [ALERT, 'ALERT'],
    ]);
    const types = { DATA, KEY_UPDATE, NEW_TICKET, PING, PONG, CLOSE, ALERT: ALERT_RECORD, SUCCESSOR };
    const named = rowsOf(8).filter(([, name]) => name !== '' && name !== 'name');
    expect(Object.fromEntries(named.map(([type, name]) => [name, Number(type)]))).toEqual(types);
    expect(SUCCESSOR).toBe(IGNORABLE);
    expect(section(8)).toContain(`| 0x${(SUCCESSOR + 1).toString(16)} to 0xff |`);
    expect(section(8)).toContain(`0 to ${grouped(MAX_PAYLOAD)} bytes`);
    expect(section(8)).toContain(`${MIN_LENGTH} to ${grouped(MAX_LENGTH)}`);
  });

  it('has the TLVs of the identity payload, in their order', () => {
    const sent = encodeIdentityPayload({
      chain: [Buffer.of(1)],
      signatureAlgorithm: 0x0807,
      signature: Buffer.of(1),
      expectedPeer: 'x',
      maxRecord: MIN_MAX_RECORD,
      instance: Buffer.alloc(INSTANCE_LENGTH),
    });
    const types: number[] = [];
    for (let at = 0; at < sent.length; at += 3 + sent.readUInt16BE(at + 1)) types.push(sent[at] as number);
    expect(rowsOf(6).map(([type]) => Number(type))).toEqual(types);
    expect(section(6)).toContain(`u16, at least ${grouped(MIN_MAX_RECORD)}`);
    expect(section(6)).toContain(`${INSTANCE_LENGTH} bytes that name the sender's process`);
  });

  it('says how long what is signed and a ticket are', () => {
    const part = Buffer.alloc(32);
    const { length } = signedData(cryptoProvider('native'), 'initiator', part, part, part);
    expect(section(6)).toContain(`which is ${length} bytes`);
    const ticket = encodeTicket({ id: Buffer.alloc(TICKET_ID_LENGTH), idleSeconds: 0, absoluteSeconds: 0 });
    expect(section(8)).toContain(`| 0x03 | NEW_TICKET | ${ticket.length} bytes, section 14`);
    expect(section(14)).toContain(`at most ${TICKETS_A_SESSION} of a session`);
    expect(section(11)).toContain(
      `of a session, at either side | ${TICKETS_A_HANDSHAKE}; ${TICKETS_A_SESSION} |`,
    );
  });

  it('has the limits that are in force', () => {
    const h = DEFAULT_HANDSHAKE_LIMITS;
    const r = DEFAULT_RECORD_LIMITS;
    const seconds = (ms: number): string => `${ms / 1000} s`;
    for (const [words, value] of [
      ['TCP connect', seconds(h.connectTimeoutMs)],
      ['CLIENT_HELLO and message 1 complete', seconds(h.firstFrameTimeoutMs)],
      ['the whole handshake', seconds(h.timeoutMs)],
      ['half-open handshakes', `${h.maxHalfOpen} in all, ${h.maxHalfOpenPerAddress} an address`],
      ['handshakes (responder)', `${h.ratePerAddress} a second an address, burst ${h.burstPerAddress}`],
      ['a record, from its first byte on', seconds(r.timeoutMs)],
      ['records of any kind', `${grouped(r.maxRecordsPerSecond)} a second`],
      ['PINGs', `${r.idleRecords} in ${seconds(r.idleWindowMs)}`],
      ['PONGs, empty DATA', `${r.idleRecords} together in ${seconds(r.idleWindowMs)}`],
      ['write backlog from which on', `${r.backlog / 1024} KiB`],
      ['write backlog above which', `${r.maxBacklog / 2 ** 20} MiB`],
    ] as const) {
      const row = rowsOf(11).find(([what]) => what?.startsWith(words));
      expect(row?.[1], words).toContain(value);
    }
    expect(section(11)).toContain(`lags more than ${h.maxEventLoopLagMs} ms`);
    const first = `first message of a hello: at most ${grouped(h.maxFirstMessageSize)}`;
    expect(section(3)).toContain(`${first}; others: at most ${grouped(h.maxMessageSize)}`);
    const power = (n: number): string => `2^${Math.log2(n)}`;
    const hours = r.rekeyAfterMs / 3_600_000;
    const due = `${power(r.rekeyRecords)} records or ${r.rekeyBytes / 2 ** 30} GiB (sum of the length fields), or is ${hours} hour old`;
    expect(section(9)).toContain(due);
    expect(section(9)).toContain(`at the ${power(r.maxKeyRecords)}nd record under one key`);
    expect(section(9)).toContain(`less than ${seconds(r.keyUpdateMs)} after the one before`);
    expect(section(9)).toContain(`the ${power(r.keyUpdateRecords)}th record after it`);
    expect(section(10)).toContain(`at most ${seconds(r.closeTimeoutMs)}`);
  });

  it('works its example out as the test vectors do', () => {
    const vectors = readFileSync(new URL('../vectors/hbk1.json', import.meta.url), 'utf8');
    const [example] = (JSON.parse(vectors) as ProtocolVectors).handshakes;
    const known = JSON.stringify(example);
    const shown = [...section(15).matchAll(/^.*? {2,}((?:[0-9a-f]{2}){3,})$/gm)].map(
      ([, hex]) => hex as string,
    );
    expect(shown.length).toBeGreaterThan(30);
    expect(shown.filter((hex) => !known.includes(hex))).toEqual([]);
    expect(section(15)).toContain(example?.sessionId);
  });
});

const grouped = (n: number): string => n.toLocaleString('en-US');

/** The bytes of what stands in backquotes as groups of hex. */
function bytesIn(part: string): string[] {
  return [...part.matchAll(/`([0-9a-f]{2,}(?: [0-9a-f]{2,})*)`/g)].map(([, hex]) =>
    (hex as string).replaceAll(' ', ''),
  );
}

/** The cells of the tables' rows in a section that begin with a number, or in section 11 all. */
function rowsOf(number: number): string[][] {
  const rows = section(number)
    .split('\n')
    .filter((line) => line.startsWith('| ') && (number === 11 || /^\| (0x)?[0-9a-f]+ \|/.test(line)));
  return rows.map((row) => row.split(' | ').map((cell) => cell.replace(/^\| | \|$/g, '').trim()));
}
