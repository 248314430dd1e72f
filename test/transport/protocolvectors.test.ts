import { beforeAll, describe, expect, it } from 'vitest';
import { type CryptoProvider, loadCryptoProvider } from '../../src/crypto/provider.ts';
import type { Established } from '../../src/transport/handshake.ts';
import { DEFAULT_RECORD_LIMITS } from '../../src/transport/limits.ts';
import { KEY_UPDATE, RecordReader, RecordWriter } from '../../src/transport/record.ts';
import { type HandshakeVector, protocolVectors } from './reference/vectors.ts';
import { meet, vectors } from './vectorpair.ts';

const bytes = (hex: string): Buffer => Buffer.from(hex, 'hex');

it('test/vectors/hbk1.json is what the reference implementation makes', async () => {
  expect(await protocolVectors()).toEqual(vectors);
});

describe.each(['native', 'noble'] as const)('with %s', (name) => {
  let crypto: CryptoProvider;
  beforeAll(async () => {
    crypto = await loadCryptoProvider(name, { postQuantum: true });
  });

  describe.each(vectors.handshakes)('$name', (vector) => {
    it('has the flights, the session and the records of the vector', () => {
      const { flights, initiator, responder } = meet(crypto, vector);
      expect(flights.map((flight) => flight.toString('hex'))).toEqual(vector.flights.map((f) => f.bytes));
      const ends = [initiator, responder] as [Established, Established];
      for (const { session } of ends) {
        expect(session.id).toBe(vector.sessionId);
        expect(session.key.bytes.toString('hex')).toBe(vector.sessionKey);
      }
      records(vector, ...ends);
    });
  });
});

/** Each side seals what it sends, and opens what the other sends. */
function records(vector: HandshakeVector, initiator: Established, responder: Established): void {
  for (const [from, ends] of [
    ['initiator', [initiator, responder]],
    ['responder', [responder, initiator]],
  ] as const) {
    const [sender, receiver] = ends;
    const writer = new RecordWriter(sender.send, DEFAULT_RECORD_LIMITS);
    const opened: string[] = [];
    const sink = {
      record: (type: number, payload: Buffer) => void opened.push(`${type} ${payload.toString('hex')}`),
    };
    const reader = new RecordReader(receiver.receive, DEFAULT_RECORD_LIMITS, sink, () => 0);
    const sent = vector.records.filter((record) => record.from === from);
    for (const { type, payload, padding, wire } of sent) {
      // This implementation never pads: a padded record is only opened, and the writer's own takes its number.
      const plain = Buffer.concat([Buffer.alloc(3), bytes(payload)]);
      const record = type === KEY_UPDATE ? writer.keyUpdate() : writer.seal(type, plain, 3, plain.length);
      if (padding === 0) expect(record.toString('hex')).toBe(wire);
      reader.push(bytes(wire));
    }
    expect(opened).toEqual(sent.map(({ type, payload }) => `${type} ${payload}`));
  }
}
