import { readFileSync } from 'node:fs';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import { beforeAll, describe, expect, it } from 'vitest';
import type { MlKem768 } from '../../src/crypto/mlkem.ts';
import { type CryptoProvider, loadCryptoProvider } from '../../src/crypto/provider.ts';
import type { LocalIdentity } from '../../src/identity/local.ts';
import { TrustBundle } from '../../src/identity/trustbundle.ts';
import type { Established } from '../../src/transport/handshake.ts';
import { Initiator } from '../../src/transport/initiator.ts';
import { DEFAULT_HANDSHAKE_LIMITS, DEFAULT_RECORD_LIMITS } from '../../src/transport/limits.ts';
import { XX, XXHFS } from '../../src/transport/mode.ts';
import { KEY_UPDATE, RecordReader, RecordWriter } from '../../src/transport/record.ts';
import { Responder } from '../../src/transport/responder.ts';
import { type HandshakeVector, type ProtocolVectors, protocolVectors } from './reference/vectors.ts';
import { shake } from './world.ts';

const vectors = JSON.parse(
  readFileSync(new URL('../vectors/hbk1.json', import.meta.url), 'utf8'),
) as ProtocolVectors;
const bytes = (hex: string): Buffer => Buffer.from(hex, 'hex');
const bundle = new TrustBundle({
  trustDomain: vectors.trustDomain,
  certificates: [bytes(vectors.bundle)],
});

it('test/vectors/hbk1.json is what the reference implementation makes', async () => {
  expect(await protocolVectors()).toEqual(vectors);
});

/** A provider whose ephemeral keys and ML-KEM randomness are those of a vector. */
function scripted(crypto: CryptoProvider, ephemerals: string[], kem: string | null): CryptoProvider {
  const left = ephemerals.map(bytes);
  const mlkem768 = crypto.mlkem768 as MlKem768;
  return {
    ...crypto,
    generateX25519: () => crypto.x25519FromPrivate(left.shift() as Buffer),
    mlkem768: {
      ...mlkem768,
      generate: () => mlkem768.fromSeed(bytes(kem as string)),
      encapsulate: (key) => {
        const { cipherText, sharedSecret } = ml_kem768.encapsulate(key, bytes(kem as string));
        return { ciphertext: Buffer.from(cipherText), sharedSecret: Buffer.from(sharedSecret) };
      },
    },
  };
}

/** An identity of the vectors, which signs exactly what the vector says. */
function signing(vector: HandshakeVector, role: 'initiator' | 'responder'): LocalIdentity {
  const { spiffeId, algorithm, chain } = vectors.identities[vector[role].identity];
  const message = vector.messages.find(({ from, signed }) => from === role && signed !== null);
  return {
    spiffeId,
    trustDomain: vectors.trustDomain,
    notAfter: Number.MAX_SAFE_INTEGER,
    chain: chain.map(bytes),
    signatureAlgorithm: algorithm as 0x0403 | 0x0807,
    sign: (data) => {
      expect(Buffer.from(data).toString('hex')).toBe(message?.signed);
      return bytes(message?.signature as string);
    },
  };
}

function meet(crypto: CryptoProvider, vector: HandshakeVector): ReturnType<typeof shake> {
  const { first, ticket, mode, offered } = vector;
  const tickets = (offered & 0x0004) !== 0;
  const common = (role: 'initiator' | 'responder', ephemerals: string[], kem: string | null) => {
    const { staticPrivate, maxRecord, instance } = vector[role];
    return {
      crypto: scripted(crypto, ephemerals, kem),
      staticKey:
        staticPrivate === null ? crypto.generateX25519() : crypto.x25519FromPrivate(bytes(staticPrivate)),
      identity: signing(vector, role),
      bundle,
      now: () => vectors.now,
      limits: DEFAULT_HANDSHAKE_LIMITS,
      maxRecord,
      instance: instance === null ? undefined : bytes(instance),
    };
  };
  const founding = ticket && (vectors.handshakes.find(({ name }) => name === ticket.of) as HandshakeVector);
  const founded = founding && (meet(crypto, founding) as { initiator: Established; responder: Established });
  const { initiator, responder } = vector;
  const retried = first === null ? [] : [first.ephemeralPrivate];
  return shake(
    new Initiator({
      ...common('initiator', [...retried, initiator.ephemeralPrivate], first?.kem ?? initiator.kem),
      modes: (offered & 0x0002) === 0 ? [XX] : [XXHFS, XX],
      expectedPeer: vectors.identities[responder.identity].spiffeId,
      tickets,
      ...(founded && {
        takeTicket: () => ({ id: bytes(ticket?.id as string), resumable: founded.initiator }),
      }),
    }),
    new Responder({
      ...common('responder', [responder.ephemeralPrivate], responder.kem),
      modes: mode === 0 ? [XX] : [XXHFS, XX],
      tickets: {
        find: (id) => (founded && id.toString('hex') === ticket?.id ? founded.responder : undefined),
        redeem: () => {},
        refused: () => {},
      },
    }),
  );
}

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
