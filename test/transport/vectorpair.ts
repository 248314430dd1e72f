import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import type { MlKem768 } from '../../src/crypto/mlkem.ts';
import type { CryptoProvider, X25519KeyPair } from '../../src/crypto/provider.ts';
import type { LocalIdentity } from '../../src/identity/local.ts';
import { TrustBundle } from '../../src/identity/trustbundle.ts';
import type { Established } from '../../src/transport/handshake.ts';
import { Initiator } from '../../src/transport/initiator.ts';
import { DEFAULT_HANDSHAKE_LIMITS } from '../../src/transport/limits.ts';
import { XX, XXHFS } from '../../src/transport/mode.ts';
import { Responder } from '../../src/transport/responder.ts';
import type { HandshakeVector, ProtocolVectors } from './reference/vectors.ts';
import { shake } from './world.ts';

/*
 * The machines of src/transport with the keys of test/vectors/hbk1.json.
 */

export const vectors = JSON.parse(
  readFileSync(new URL('../vectors/hbk1.json', import.meta.url), 'utf8'),
) as ProtocolVectors;
const bytes = (hex: string): Buffer => Buffer.from(hex, 'hex');
const bundle = new TrustBundle({
  trustDomain: vectors.trustDomain,
  certificates: [bytes(vectors.bundle)],
});

/** A key pair; no copy of the private key is left here. */
function keyPair(crypto: CryptoProvider, hex: string): X25519KeyPair {
  const own = bytes(hex);
  const pair = crypto.x25519FromPrivate(own);
  own.fill(0);
  return pair;
}

/** A provider whose ephemeral keys and ML-KEM randomness are those of a vector. */
function scripted(crypto: CryptoProvider, ephemerals: string[], kem: string | null): CryptoProvider {
  const left = [...ephemerals];
  const mlkem768 = crypto.mlkem768 as MlKem768;
  return {
    ...crypto,
    generateX25519: () => keyPair(crypto, left.shift() as string),
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
      assert.equal(Buffer.from(data).toString('hex'), message?.signed);
      return bytes(message?.signature as string);
    },
  };
}

/** Both sides' machines, run against one another; in mode 2 those of the vector that it resumes come first. */
export function meet(crypto: CryptoProvider, vector: HandshakeVector): ReturnType<typeof shake> {
  const { first, ticket, mode, offered } = vector;
  const tickets = (offered & 0x0004) !== 0;
  const common = (role: 'initiator' | 'responder', ephemerals: string[], kem: string | null) => {
    const { staticPrivate, maxRecord, instance } = vector[role];
    return {
      crypto: scripted(crypto, ephemerals, kem),
      staticKey: staticPrivate === null ? crypto.generateX25519() : keyPair(crypto, staticPrivate),
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
