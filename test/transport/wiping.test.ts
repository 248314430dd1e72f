import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it, type MockInstance, vi } from 'vitest';
import { Secret } from '../../src/crypto/secret.ts';
import { SecureChannel } from '../../src/transport/channel.ts';
import { ConnectionLife } from '../../src/transport/connectionlife.ts';
import { HandshakeDriver } from '../../src/transport/driver.ts';
import type { Established } from '../../src/transport/handshake.ts';
import { transportLimits } from '../../src/transport/limits.ts';
import { XX, XXHFS } from '../../src/transport/mode.ts';
import { FakeClock } from '../harness/fake-clock.ts';
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

/** A socket that takes everything, and from which nothing comes. */
function wire(): Socket {
  const wire = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
  return Object.assign(wire, { setNoDelay: () => wire }) as unknown as Socket;
}

/** The life of a connection that nobody hears of. */
const lifeOf = (clock: FakeClock): ConnectionLife =>
  new ConnectionLife({
    direction: 'inbound',
    remoteAddress: '127.0.0.1',
    remotePort: 1,
    clock,
    listener: undefined,
  });

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
  expect(made.length).toBeGreaterThan(0);
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

  it.each([
    ['destroyed', (channel: SecureChannel) => channel.destroy('refused')],
    ['cut', (channel: SecureChannel) => channel.cut('revoked', '')],
    ['cut off by its peer', (_: SecureChannel, socket: Socket) => void socket.emit('end')],
  ] as const)('is nothing once a channel that never came up is %s', (_, end) => {
    const { web, greeter, of } = watches();
    const done = shake(
      pair.initiator({ crypto: web.crypto }),
      pair.responder({ crypto: greeter.crypto }),
    ) as Record<'initiator' | 'responder', Established>;
    for (const role of ['initiator', 'responder'] as const) {
      const socket = wire();
      const { records } = transportLimits();
      const clock = new FakeClock();
      const channel = new SecureChannel(socket, lifeOf(clock), done[role], clock, records, () => {});
      expect(of[role].left()).toHaveLength(3);
      end(channel, socket);
      expect(of[role].left()).toEqual([]);
    }
  });

  it('is nothing when its time is over', () => {
    const { web } = watches();
    const clock = new FakeClock();
    let failed = 0;
    new HandshakeDriver({
      ...{
        socket: wire(),
        machine: pair.initiator({ crypto: web.crypto }),
        clock,
        firstFrame: false,
        life: lifeOf(clock),
      },
      ...{ limits: transportLimits(), onChannel: () => {}, onFailed: () => failed++ },
    });
    expect(web.left()).not.toEqual([]);
    clock.advance(5_000);
    expect(failed).toBe(1);
    expect(web.left()).toEqual([]);
  });
});
