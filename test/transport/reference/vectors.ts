import { clientHello, identityPayload, messageFrame, prologue, signedData } from './encoding.ts';
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

export interface VectorSide {
  readonly identity: 'web' | 'greeter';
  readonly ephemeralPrivate: string;
  readonly staticPrivate: string | null;
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
const PING = 0x04;
const PONG = 0x05;
const CLOSE = 0x06;

const text = (words: string): Buffer => Buffer.from(words, 'latin1');
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const hexOrNull = (bytes: Uint8Array | undefined): string | null => (bytes === undefined ? null : hex(bytes));

export async function protocolVectors(): Promise<ProtocolVectors> {
  const trust = await makeTestTrust();
  return {
    note: NOTE,
    now: NOW,
    trustDomain: trust.trustDomain,
    bundle: hex(trust.bundle),
    identities: { web: describe(trust.web), greeter: describe(trust.greeter) },
    handshakes: [vector(trust, { name: 'mode 0', mode: 0, offered: 0x0001 })],
  };
}

function describe({ spiffeId, algorithm, privateKey, chain }: TestIdentity): VectorIdentity {
  return { spiffeId, algorithm, privateKey: hex(privateKey), chain: chain.map(hex) };
}

interface Recipe {
  readonly name: string;
  readonly mode: Mode;
  readonly offered: number;
}

/** What the two ends announce besides their identities. */
const ANNOUNCED = {
  initiator: { maxRecord: 65_535, instance: text('web-0001') },
  responder: { maxRecord: 16_384, instance: undefined },
} as const;

function vector(trust: TestTrust, { name, mode, offered }: Recipe): HandshakeVector {
  const secret = (what: string): Buffer => secretOf(`${name}, ${what}`);
  const sideKeys = (role: Role): Keys => ({
    ephemeral: secret(`${role} ephemeral`),
    static: secret(`${role} static`),
  });
  const keys = { initiator: sideKeys('initiator'), responder: sideKeys('responder') };
  const hello = clientHello(mode, offered);
  const proofs: { signed: Buffer; signature: Buffer }[] = [];
  const prove = (from: Role, h: Buffer, index: number): Buffer => {
    if (index === 0) return Buffer.alloc(0);
    const [identity, expected] =
      from === 'initiator' ? [trust.web, trust.greeter.spiffeId] : [trust.greeter, undefined];
    const staticPublic = publicOf(keys[from].static as Buffer);
    const signed = signedData(from, h, staticPublic, identity.chain[0] as Buffer);
    const signature = identity.sign(signed);
    proofs.push({ signed, signature });
    const { maxRecord, instance } = ANNOUNCED[from];
    return identityPayload(identity, signature, expected, maxRecord, instance);
  };
  const before = prologue(mode, hello, []);
  const finished = handshake(mode, before, keys, undefined, prove);
  const flights = finished.messages.map(({ from, bytes }, index) => ({
    from,
    bytes: hex(Buffer.concat([...(index === 0 ? [hello] : []), messageFrame(bytes)])),
  }));
  const side = (role: Role, identity: 'web' | 'greeter'): VectorSide => ({
    identity,
    ephemeralPrivate: hex(keys[role].ephemeral),
    staticPrivate: hexOrNull(keys[role].static),
    maxRecord: ANNOUNCED[role].maxRecord,
    instance: hexOrNull(ANNOUNCED[role].instance),
  });
  return {
    name,
    mode,
    offered,
    protocol: PROTOCOLS[mode],
    initiator: side('initiator', 'web'),
    responder: side('responder', 'greeter'),
    prologue: hex(before),
    messages: finished.messages.map(({ from, payload, bytes }, index) => ({
      from,
      payload: hex(payload),
      signed: hexOrNull(proofs[index - 1]?.signed),
      signature: hexOrNull(proofs[index - 1]?.signature),
      bytes: hex(bytes),
    })),
    flights,
    handshakeHash: hex(finished.H),
    k1: hex(finished.k1),
    k2: hex(finished.k2),
    exporter: hex(finished.exporter),
    ...session(finished),
    records: records(finished),
  };
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
function records({ k1, k2 }: Finished): VectorRecord[] {
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
