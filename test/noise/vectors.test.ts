import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type CryptoProviderName, loadCryptoProvider } from '../../src/crypto/provider.ts';
import { HandshakeState } from '../../src/noise/handshakestate.ts';
import { isOneWay } from '../../src/noise/patterns.ts';
import { parseProtocolName } from '../../src/noise/protocolname.ts';

/** noise-c says `name` where cacophony and snow say `protocol_name`; snow has no handshake_hash. All values hex. */
interface NoiseVector {
  protocol_name?: string;
  name?: string;
  init_prologue: string;
  init_static?: string;
  init_ephemeral: string;
  init_remote_static?: string;
  init_psks?: string[];
  resp_prologue: string;
  resp_static?: string;
  resp_ephemeral?: string;
  resp_remote_static?: string;
  resp_psks?: string[];
  handshake_hash?: string;
  messages: { payload: string; ciphertext: string }[];
}

const FILES = ['noise-c-basic', 'noise-cacophony', 'noise-snow'];

const vectors = FILES.flatMap((file) => {
  const url = new URL(`../vectors/${file}-25519-AESGCM-SHA256.json`, import.meta.url);
  const { vectors } = JSON.parse(readFileSync(url, 'utf8')) as { vectors: NoiseVector[] };
  return vectors.map((vector) => ({
    file,
    protocol: (vector.protocol_name ?? vector.name) as string,
    vector,
  }));
});

const hex = (text: string): Buffer => Buffer.from(text, 'hex');

it('there are 79 Noise vectors', () => {
  expect(vectors).toHaveLength(79);
  expect(vectors.filter(({ vector }) => vector.handshake_hash !== undefined)).toHaveLength(51);
});

describe.each<CryptoProviderName>(['native', 'noble'])('with the %s provider', async (name) => {
  const crypto = await loadCryptoProvider(name);
  const keys = (text: string | undefined) =>
    text === undefined ? undefined : crypto.x25519FromPrivate(hex(text));

  it.each(vectors)(
    '$file $protocol: handshake, hash and transport messages match',
    ({ protocol, vector }) => {
      const pattern = parseProtocolName(protocol);
      const side = (initiator: boolean): HandshakeState => {
        const prefix = initiator ? 'init' : 'resp';
        const s = keys(vector[`${prefix}_static`]);
        const e = keys(vector[`${prefix}_ephemeral`]);
        const known = initiator ? pattern.responderKnown : pattern.initiatorKnown;
        const rs = known ? hex(vector[`${prefix}_remote_static`] as string) : undefined;
        return new HandshakeState({
          crypto,
          protocol,
          initiator,
          prologue: hex(vector[`${prefix}_prologue`]),
          ...(s && { s }),
          ...(e && { e }),
          ...(rs && { rs }),
          psks: (vector[`${prefix}_psks`] ?? []).map(hex),
        });
      };
      const initiator = side(true);
      const responder = side(false);
      const handshake = vector.messages.slice(0, pattern.messages.length);
      const transport = vector.messages.slice(pattern.messages.length);

      for (const [index, { payload, ciphertext }] of handshake.entries()) {
        const [from, to] = index % 2 === 0 ? [initiator, responder] : [responder, initiator];
        let h: Buffer | undefined;
        const message = from.writeMessage((hash) => {
          h = hash;
          return hex(payload);
        });
        expect(message.toString('hex')).toBe(ciphertext);
        const read = to.readMessage(message);
        expect(read.payload.toString('hex')).toBe(payload);
        expect(read.payloadHash).toEqual(h);
      }

      expect(initiator.finished && responder.finished).toBe(true);
      const one = initiator.split();
      const two = responder.split();
      expect(one.handshakeHash).toEqual(two.handshakeHash);
      expect(one.exporter.bytes).toEqual(two.exporter.bytes);
      if (vector.handshake_hash !== undefined) {
        expect(one.handshakeHash.toString('hex')).toBe(vector.handshake_hash);
      }

      for (const [index, { payload, ciphertext }] of transport.entries()) {
        const byInitiator = isOneWay(pattern) || (handshake.length + index) % 2 === 0;
        const [from, to] = byInitiator ? [one, two] : [two, one];
        const message = from.send.encryptWithAd(Buffer.alloc(0), hex(payload));
        expect(message.toString('hex')).toBe(ciphertext);
        expect(to.receive.decrypt(message).toString('hex')).toBe(payload);
      }
    },
  );
});
