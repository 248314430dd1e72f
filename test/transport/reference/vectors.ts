import { clientHello, identityPayload, messageFrame, prologue, retryFrame, signedData } from './encoding.ts';
import { makeTestTrust, NOW, secretOf, type TestIdentity, type TestTrust } from './identities.ts';
import {
  expand,
  type Finished,
  handshake,
  type Keys,
  type Mode,
  PROTOCOLS,
  publicOf,
  Records,
  type Role,
} from './noise.ts';

/*
 * The test vectors of HBK/1, test/vectors/hbk1.json. Byte strings are in hex there.
 */

export interface ProtocolVectors {
  readonly note: string;
  /** Milliseconds since the epoch at which the certificates are to be checked. */
  readonly now: number;
  readonly trustDomain: string;
  /** DER of the only CA. */
  readonly bundle: string;
  readonly identities: Readonly<Record<'web' | 'greeter', VectorIdentity>>;
  readonly handshakes: readonly HandshakeVector[];
}

export interface VectorIdentity {
  readonly spiffeId: string;
  /** As in TLV 0x82. */
  readonly algorithm: number;
  /** An Ed25519 seed, or a P-256 scalar whose signatures have their nonces from RFC 6979. */
  readonly privateKey: string;
  readonly chain: readonly string[];
}

export interface HandshakeVector {
  readonly name: string;
  readonly mode: Mode;
  readonly offered: number;
  readonly protocol: string;
  /** The attempt that a RETRY ended; in `flights` it is the first two. */
  readonly first: FirstAttempt | null;
  /** In mode 2: the ticket, the name of the vector whose session it resumes, and its PSK. */
  readonly ticket: { readonly id: string; readonly of: string; readonly psk: string } | null;
  readonly initiator: VectorSide;
  readonly responder: VectorSide;
  readonly prologue: string;
  readonly messages: readonly VectorMessage[];
  /** All that is sent before the records, in order. */
  readonly flights: readonly { readonly from: Role; readonly bytes: string }[];
  readonly handshakeHash: string;
  readonly k1: string;
  readonly k2: string;
  readonly exporter: string;
  readonly sessionId: string;
  readonly sessionKey: string;
  readonly records: readonly VectorRecord[];
}

interface FirstAttempt {
  readonly mode: Mode;
  readonly protocol: string;
  readonly ephemeralPrivate: string;
  readonly kem: string;
}

export interface VectorSide {
  readonly identity: 'web' | 'greeter';
  readonly ephemeralPrivate: string;
  readonly staticPrivate: string | null;
  /** In mode 1. Initiator: d | z of ML-KEM.KeyGen; responder: m of ML-KEM.Encaps. */
  readonly kem: string | null;
  readonly maxRecord: number;
  readonly instance: string | null;
}

export interface VectorMessage {
  readonly from: Role;
  readonly payload: string;
  /** What the SVID's key signs, and the signature; null without an identity payload. */
  readonly signed: string | null;
  readonly signature: string | null;
  readonly bytes: string;
}

export interface VectorRecord {
  readonly from: Role;
  readonly type: number;
  readonly payload: string;
  /** Zero bytes after the payload. */
  readonly padding: number;
  readonly key: string;
  readonly counter: number;
  readonly wire: string;
}

const NOTE =
  'Test vectors of HBK/1 (docs/protocol.md), made by scripts/generate-protocol-vectors.mjs. Every key in here is for tests only: it is public and protects nothing.';

const DATA = 0x01;
const KEY_UPDATE = 0x02;
const NEW_TICKET = 0x03;
const PING = 0x04;
const PONG = 0x05;
const CLOSE = 0x06;

const text = (words: string): Buffer => Buffer.from(words, 'latin1');
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const hexOrNull = (bytes: Uint8Array | undefined): string | null => (bytes === undefined ? null : hex(bytes));

export async function protocolVectors(): Promise<ProtocolVectors> {
  const trust = await makeTestTrust();
  const hybrid = vector(trust, { name: 'mode 1, with tickets', mode: 1, offered: 0x0007 });
  return {
    note: NOTE,
    now: NOW,
    trustDomain: trust.trustDomain,
    bundle: hex(trust.bundle),
    identities: { web: describe(trust.web), greeter: describe(trust.greeter) },
    handshakes: [
      vector(trust, { name: 'mode 0', mode: 0, offered: 0x0001 }),
      vector(trust, { name: 'mode 0 after a RETRY', mode: 0, offered: 0x0003, retried: true }),
      hybrid,
      vector(trust, { name: 'mode 2', mode: 2, offered: 0x0007, resumes: hybrid }),
    ],
  };
}

function describe({ spiffeId, algorithm, privateKey, chain }: TestIdentity): VectorIdentity {
  return { spiffeId, algorithm, privateKey: hex(privateKey), chain: chain.map(hex) };
}

interface Recipe {
  readonly name: string;
  readonly mode: Mode;
  readonly offered: number;
  /** Whether it comes after an attempt in mode 1. */
  readonly retried?: boolean;
  readonly resumes?: HandshakeVector;
}

/** What the two ends announce besides their identities. */
const ANNOUNCED = {
  initiator: { maxRecord: 65_535, instance: text('web-0001') },
  responder: { maxRecord: 16_384, instance: undefined },
} as const;

function vector(trust: TestTrust, { name, mode, offered, retried, resumes }: Recipe): HandshakeVector {
  const secret = (what: string): Buffer => secretOf(`${name}, ${what}`);
  const keys = {
    initiator: {
      ephemeral: secret('initiator ephemeral'),
      static: mode === 2 ? undefined : secret('initiator static'),
      kem: mode === 1 ? kemSeed(secret) : undefined,
    },
    responder: {
      ephemeral: secret('responder ephemeral'),
      static: mode === 2 ? undefined : secret('responder static'),
      kem: mode === 1 ? secret('ML-KEM m') : undefined,
    },
  };
  const ticket = resumes === undefined ? undefined : ticketOf(resumes);
  const first = retried === true ? firstAttempt(secret, mode, offered) : undefined;
  const hello = clientHello(mode, offered, ticket?.id);
  const before = prologue(mode, hello, first?.flights ?? []);
  const proofs: ({ signed: Buffer; signature: Buffer } | undefined)[] = [];
  const finished = handshake(mode, before, keys, ticket?.psk, (from, h, index) => {
    const own = keys[from].static;
    if (own === undefined || index === 0) {
      proofs.push(undefined);
      return Buffer.alloc(0);
    }
    const [identity, expected] =
      from === 'initiator' ? [trust.web, trust.greeter.spiffeId] : [trust.greeter, undefined];
    const signed = signedData(from, h, publicOf(own), identity.chain[0] as Buffer);
    const signature = identity.sign(signed);
    proofs.push({ signed, signature });
    const { maxRecord, instance } = ANNOUNCED[from];
    return identityPayload(identity, signature, expected, maxRecord, instance);
  });
  const flights = finished.messages.map(({ from, bytes }, index) => ({
    from,
    bytes: hex(Buffer.concat([...(index === 0 ? [hello] : []), messageFrame(bytes)])),
  }));
  return {
    name,
    mode,
    offered,
    protocol: PROTOCOLS[mode],
    first: first?.attempt ?? null,
    ticket: ticket === undefined ? null : { id: hex(ticket.id), of: ticket.of, psk: hex(ticket.psk) },
    initiator: side('web', keys.initiator, ANNOUNCED.initiator),
    responder: side('greeter', keys.responder, ANNOUNCED.responder),
    prologue: hex(before),
    messages: finished.messages.map(({ from, payload, bytes }, index) => ({
      from,
      payload: hex(payload),
      signed: hexOrNull(proofs[index]?.signed),
      signature: hexOrNull(proofs[index]?.signature),
      bytes: hex(bytes),
    })),
    flights: [
      ...(first?.flights ?? []).map((bytes, index) => ({
        from: index === 0 ? ('initiator' as const) : ('responder' as const),
        bytes: hex(bytes),
      })),
      ...flights,
    ],
    handshakeHash: hex(finished.H),
    k1: hex(finished.k1),
    k2: hex(finished.k2),
    exporter: hex(finished.exporter),
    ...(resumes === undefined
      ? session(finished)
      : { sessionId: resumes.sessionId, sessionKey: resumes.sessionKey }),
    records: records(name, finished, (offered & 0x0004) !== 0),
  };
}

function side(
  identity: 'web' | 'greeter',
  keys: Keys,
  { maxRecord, instance }: { maxRecord: number; instance: Buffer | undefined },
): VectorSide {
  return {
    identity,
    ephemeralPrivate: hex(keys.ephemeral),
    staticPrivate: hexOrNull(keys.static),
    kem: hexOrNull(keys.kem),
    maxRecord,
    instance: hexOrNull(instance),
  };
}

function kemSeed(secret: (what: string) => Buffer): Buffer {
  return Buffer.concat([secret('ML-KEM d'), secret('ML-KEM z')]);
}

/** An opening in mode 1, and the RETRY to `mode`. */
function firstAttempt(
  secret: (what: string) => Buffer,
  mode: Mode,
  offered: number,
): { attempt: FirstAttempt; flights: [Buffer, Buffer] } {
  const ephemeral = secret('first ephemeral');
  const kem = kemSeed(secret);
  const hello = clientHello(1, offered);
  const keys = { ephemeral, static: ephemeral, kem };
  // Only message 1 is of use.
  const other = { ephemeral, static: ephemeral, kem: ephemeral };
  const [message1] = handshake(
    1,
    prologue(1, hello, []),
    { initiator: keys, responder: other },
    undefined,
    () => Buffer.alloc(0),
  ).messages;
  return {
    attempt: { mode: 1, protocol: PROTOCOLS[1], ephemeralPrivate: hex(ephemeral), kem: hex(kem) },
    flights: [Buffer.concat([hello, messageFrame(message1?.bytes as Buffer)]), retryFrame(mode)],
  };
}

/** The first ticket that came in a vector. */
function ticketOf({ name, sessionKey, records }: HandshakeVector): { of: string; id: Buffer; psk: Buffer } {
  const came = records.find(({ type }) => type === NEW_TICKET) as VectorRecord;
  const id = Buffer.from(came.payload, 'hex').subarray(0, 16);
  const psk = expand(Buffer.from(sessionKey, 'hex'), Buffer.concat([text('HBK1 resume'), id]), 32);
  return { of: name, id, psk };
}

/** docs/protocol.md, section 7. */
function session({ exporter, H }: Finished): { sessionId: string; sessionKey: string } {
  const id = Buffer.from(expand(exporter, Buffer.concat([text('HBK1 session id'), H]), 16));
  id[6] = ((id[6] as number) & 0x0f) | 0x80;
  id[8] = ((id[8] as number) & 0x3f) | 0x80;
  const key = expand(exporter, Buffer.concat([text('HBK1 session key'), H]), 32);
  return {
    sessionId: hex(id).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'),
    sessionKey: hex(key),
  };
}

/** What both ends say in every vector, in the order in which it is sealed. */
function records(name: string, { k1, k2 }: Finished, tickets: boolean): VectorRecord[] {
  const directions = { initiator: new Records(k1), responder: new Records(k2) };
  const sealed: VectorRecord[] = [];
  const say = (from: Role, type: number, payload: Buffer = Buffer.alloc(0), padding = 0): void => {
    const direction = directions[from];
    const { key, counter } = direction;
    const wire = direction.seal(type, payload, padding);
    sealed.push({ from, type, payload: hex(payload), padding, key: hex(key), counter, wire: hex(wire) });
    if (type === KEY_UPDATE) direction.rekey();
  };
  say('initiator', PING, Buffer.alloc(8));
  if (tickets) {
    for (const which of ['first', 'second']) {
      const times = Buffer.from('00000e1000007080', 'hex'); // 1 hour, 8 hours
      const id = secretOf(`${name}, ${which} ticket`).subarray(0, 16);
      say('responder', NEW_TICKET, Buffer.concat([id, times]));
    }
  }
  say('responder', PONG, Buffer.alloc(8));
  say('initiator', DATA, text('from the initiator'));
  say('responder', DATA, text('from the responder'));
  say('responder', DATA, text('padded to 256 bytes'), 256 - 3 - 19);
  say('initiator', KEY_UPDATE);
  say('initiator', DATA, text('under the second key'));
  say('responder', KEY_UPDATE);
  say('responder', DATA);
  say('responder', DATA, text('under the second key'));
  say('initiator', CLOSE);
  say('responder', CLOSE);
  return sealed;
}
