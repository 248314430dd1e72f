import { afterEach, beforeEach, describe, expect, it, type MockInstance, vi } from 'vitest';
import { Secret } from '../../src/crypto/secret.ts';
import type { Established } from '../../src/transport/handshake.ts';
import { XX, XXHFS } from '../../src/transport/mode.ts';
import { WatchedProvider } from '../noise/watchedprovider.ts';
import { Office } from './office.ts';
import { codeOf, crypto, makePair, shake } from './world.ts';

const pair = await makePair();

/** The secrets of both ends of a handshake. */
function watches() {
  const web = new WatchedProvider(crypto);
  const greeter = new WatchedProvider(crypto);
  return { web, greeter, of: { initiator: web, responder: greeter } };
}

/** What an established connection is left with; nothing, once it is wiped. */
function expectOnly(end: Established, watch: WatchedProvider, ownsKey: boolean): void {
  const ciphers = ['a cipher', 'a cipher'];
  expect(watch.left()).toEqual(ownsKey ? ['an output of HKDF', ...ciphers] : ciphers);
  end.send.wipe();
  end.receive.wipe();
  if (ownsKey) end.session.key.wipe();
  expect(watch.left()).toEqual([]);
}

/** Every Secret that a test's handshakes copy: chaining keys, PSKs and exporters. */
let copies: MockInstance<typeof Secret.copyOf>;
beforeEach(() => {
  copies = vi.spyOn(Secret, 'copyOf');
});
afterEach(() => {
  const made = copies.mock.results.map(({ value }) => value as Secret);
  copies.mockRestore();
  expect(made.length).toBeGreaterThan(4);
  expect(made.filter((secret) => !secret.wiped && secret.bytes.some((byte) => byte !== 0))).toEqual([]);
});

describe('what a handshake leaves in memory', () => {
  it.each([
    ['mode 0', [XX], [XX]],
    ['mode 1', [XXHFS], [XXHFS]],
    ['a RETRY', [XXHFS, XX], [XX]],
  ] as const)('is, after %s, the traffic keys and the session key', (_, offered, allowed) => {
    const { web, greeter, of } = watches();
    const done = shake(
      pair.initiator({ crypto: web.crypto, modes: offered }),
      pair.responder({ crypto: greeter.crypto, modes: allowed }),
    );
    for (const role of ['initiator', 'responder'] as const) {
      expectOnly(done[role] as Established, of[role], true);
    }
  });

  it('is, after a resumption, the traffic keys', () => {
    const office = new Office();
    const full = shake(pair.initiator({ tickets: true }), pair.responder({ tickets: office }));
    const ticket = office.issue(full.responder as Established, full.initiator as Established);
    const { web, greeter, of } = watches();
    const done = shake(
      pair.initiator({ crypto: web.crypto, takeTicket: () => ticket }),
      pair.responder({ crypto: greeter.crypto, tickets: office }),
    );
    for (const role of ['initiator', 'responder'] as const) {
      expect(done[role]?.mode.id).toBe(2);
      expectOnly(done[role] as Established, of[role], false);
    }
  });

  it.each([
    [
      'the initiator, who found another peer',
      'wrong-peer',
      'web',
      { expectedPeer: 'spiffe://shop.example/other' },
      {},
    ],
    ['the responder, whose peer is blocked', 'peer-blocked', 'greeter', {}, { isBlocked: () => true }],
  ] as const)('is nothing with %s', (_, code, whose, left, right) => {
    const seen = watches();
    const initiator = pair.initiator({ crypto: seen.web.crypto, ...left });
    const responder = pair.responder({ crypto: seen.greeter.crypto, ...right });
    expect(codeOf(() => shake(initiator, responder))).toBe(code);
    expect(seen[whose].known).toBeGreaterThan(8);
    expect(seen[whose].left()).toEqual([]);
    // The other end hears of it from its socket.
    (whose === 'web' ? responder : initiator).abort();
  });
});
