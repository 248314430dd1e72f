import { describe, expect, it, vi } from 'vitest';
import { loadCryptoProvider } from '../../src/crypto/provider.ts';
import { Secret } from '../../src/crypto/secret.ts';
import { CipherState } from '../../src/noise/cipherstate.ts';
import { HandshakeState } from '../../src/noise/handshakestate.ts';
import { parseProtocolName } from '../../src/noise/protocolname.ts';
import { WatchedProvider } from './watchedprovider.ts';

const crypto = await loadCryptoProvider('native', { postQuantum: true });
const statics = [crypto.generateX25519(), crypto.generateX25519()];
const psk = crypto.randomBytes(32);

/** The initiator and the responder of a handshake, and who sees their secrets. */
function sides(protocol: string) {
  const { messages } = parseProtocolName(protocol);
  const usesPsk = messages.flat().includes('psk');
  return [true, false].map((initiator, index) => {
    const watch = new WatchedProvider(crypto);
    const prologue = Buffer.from('prologue');
    const keys = usesPsk ? { psks: [psk] } : { s: statics[index] as (typeof statics)[number] };
    return {
      watch,
      state: new HandshakeState({ ...{ crypto: watch.crypto, protocol, initiator, prologue }, ...keys }),
    };
  }) as [Side, Side];
}

interface Side {
  readonly watch: WatchedProvider;
  readonly state: HandshakeState;
}

describe.each([
  'Noise_XX_25519_AESGCM_SHA256',
  'Noise_XXhfs_25519+MLKEM768_AESGCM_SHA256',
  'Noise_NNpsk0_25519_AESGCM_SHA256',
])('of %s', (protocol) => {
  const count = parseProtocolName(protocol).messages.length;

  /** Both sides after `done` messages; the first is next to write. */
  function midway(done: number): [Side, Side] {
    let [next, other] = sides(protocol);
    for (let i = 0; i < done; i++) {
      other.state.readMessage(next.state.writeMessage());
      [next, other] = [other, next];
    }
    return [next, other];
  }

  it('nothing is left behind split() but what it yields, and nothing when that is wiped', () => {
    for (const { state, watch } of midway(count)) {
      const { send, receive, exporter } = state.split();
      expect(watch.known).toBeGreaterThan(8);
      expect(watch.left()).toEqual(['a cipher', 'a cipher']);
      send.wipe();
      receive.wipe();
      exporter.wipe();
      expect(watch.left()).toEqual([]);
    }
  });

  it.each(Array.from({ length: count }, (_, done) => done))(
    'nothing is left when the handshake is given up after %i messages',
    (done) => {
      for (const { state, watch } of midway(done)) {
        state.wipe();
        expect(watch.left()).toEqual([]);
      }
    },
  );

  it.each(Array.from({ length: count }, (_, done) => done))(
    'nothing is left when message %i + 1 is changed on its way',
    (done) => {
      const [next, other] = midway(done);
      const message = next.state.writeMessage();
      // A message 1 without a key in it is not authenticated: cut short it fails all the same.
      const changed = Buffer.from(message.subarray(0, -1));
      expect(() => other.state.readMessage(changed)).toThrow();
      expect(other.state.dead).toBe(true);
      expect(other.watch.left()).toEqual([]);
    },
  );
});

it('a PSK that was not used yet is wiped with the handshake that is given up', () => {
  const copies = vi.spyOn(Secret, 'copyOf');
  const [, { state }] = sides('Noise_NNpsk0_25519_AESGCM_SHA256');
  const made = copies.mock.results.map(({ value }) => value as Secret);
  copies.mockRestore();
  const copy = made.findLast((secret) => secret.bytes.equals(psk)) as Secret;
  state.wipe();
  expect(copy.wiped).toBe(true);
  expect(psk.some((byte) => byte !== 0)).toBe(true);
});

it('a rekey leaves neither the old key nor a copy of the new one', () => {
  const watch = new WatchedProvider(crypto);
  const state = new CipherState(watch.crypto, crypto.randomBytes(32));
  state.rekey();
  expect(watch.left()).toEqual(['a cipher']);
  state.wipe();
  expect(watch.left()).toEqual([]);
});
