import { beforeAll, describe, expect, it } from 'vitest';
import { HandshakeState } from '../../src/noise/handshakestate.ts';
import { encodeClientHello } from '../../src/transport/clienthello.ts';
import { encodeFrame, MESSAGE, RETRY, retryFrame } from '../../src/transport/frame.ts';
import type { Established } from '../../src/transport/handshake.ts';
import { resumptionPsk } from '../../src/transport/keyschedule.ts';
import { type Mode, RESUMPTION, XX, XXHFS } from '../../src/transport/mode.ts';
import { prologue } from '../../src/transport/prologue.ts';
import type { Ticket } from '../../src/transport/ticket.ts';
import { Office } from './office.ts';
import { codeOf, crypto, makePair, shake } from './world.ts';

let pair: Awaited<ReturnType<typeof makePair>>;
beforeAll(async () => {
  pair = await makePair([XX]);
});

const HELLO = 12 + 16;

/** A session that a full handshake has founded, and a ticket for it. */
function founded(modes: readonly Mode[] = [XX]) {
  const office = new Office();
  const tickets = office;
  const full = shake(pair.initiator({ tickets: true, modes }), pair.responder({ tickets, modes }));
  const { initiator, responder } = full as { initiator: Established; responder: Established };
  return { office, initiator, responder, ticket: office.issue(responder, initiator) };
}

const resume = (
  { office, ticket }: { office: Office; ticket: Ticket },
  more: { modes?: readonly Mode[]; tamper?: (bytes: Buffer, index: number) => Buffer } = {},
) => {
  const { tamper, ...options } = more;
  return shake(
    pair.initiator({ takeTicket: () => ticket, ...options }),
    pair.responder({ tickets: office, ...options }),
    tamper && { tamper },
  );
};

describe('a resumption', () => {
  it('joins the session: the same id and key, fresh traffic keys, 48 bytes each way', () => {
    const world = founded();
    const { initiator, responder, flights } = resume(world);
    for (const [end, before] of [
      [initiator, world.initiator],
      [responder, world.responder],
    ] as const) {
      expect(end?.mode).toBe(RESUMPTION);
      expect(end?.foundedIn).toBe(XX);
      expect(end?.session.id).toBe(world.initiator.session.id);
      expect(end?.session.key).toBe(before.session.key);
      expect(end?.session.key.wiped).toBe(false);
      expect(end?.peer).toBe(before.peer);
      expect(end?.peerMaxRecord).toBe(before.peerMaxRecord);
      expect(end?.tickets).toBe(true);
    }
    expect(flights.map(({ length }) => length)).toEqual([HELLO + 3 + 48, 3 + 48]);
    const sealed = initiator?.send.encryptWithAd(Buffer.alloc(0), Buffer.from('hi')) as Buffer;
    expect(responder?.receive.decrypt(sealed).toString()).toBe('hi');
    const back = responder?.send.encryptWithAd(Buffer.alloc(0), Buffer.from('ho')) as Buffer;
    expect(initiator?.receive.decrypt(back).toString()).toBe('ho');
  });

  it('is followed by others, each with a ticket of its own', () => {
    const world = founded();
    for (let n = 0; n < 5; n++) {
      const { initiator, responder } = resume(world);
      expect(initiator?.mode).toBe(RESUMPTION);
      world.ticket = world.office.issue(responder as Established, initiator as Established);
    }
  });

  it('opens with PSK = HKDF-Expand(session key, "HBK1 resume" | ticket id, 32)', () => {
    const { ticket } = founded();
    const { key } = ticket.resumable.session;
    const psk = resumptionPsk(crypto, key, ticket.id);
    const info = Buffer.concat([Buffer.from('HBK1 resume'), ticket.id]);
    // The first block of RFC 5869's Expand, by hand.
    expect(psk.bytes.equals(crypto.hmacSha256(key.bytes, info, Buffer.of(1)))).toBe(true);
  });

  it('works byte by byte', () => {
    const { office, ticket } = founded();
    const done = shake(pair.initiator({ takeTicket: () => ticket }), pair.responder({ tickets: office }), {
      pieces: 1,
    });
    expect(done.responder?.mode).toBe(RESUMPTION);
  });

  it('is offered, and tickets may be sent, only as the initiator says', () => {
    const office = new Office();
    const tickets = (initiator: boolean, responder: boolean): (boolean | undefined)[] => {
      const done = shake(
        pair.initiator({ tickets: initiator }),
        pair.responder(responder ? { tickets: office } : {}),
      );
      return [done.initiator?.tickets, done.responder?.tickets];
    };
    expect(tickets(true, true)).toEqual([true, true]);
    expect(tickets(false, true)).toEqual([false, false]);
    expect(tickets(true, false)[1]).toBe(false);
    expect(
      pair
        .initiator({ tickets: true, modes: [XX] })
        .start()
        .readUInt16BE(6),
    ).toBe(0b101);
    expect(
      pair
        .initiator({ modes: [XX] })
        .start()
        .readUInt16BE(6),
    ).toBe(0b001);
  });
});

/** Runs an attempt that must end in RETRY and a full handshake; returns the RETRY. */
function refused(run: () => ReturnType<typeof shake>, before: Established): Buffer {
  const { initiator, responder, flights } = run();
  expect(flights).toHaveLength(5);
  expect(initiator?.mode).toBe(XX);
  expect(responder?.session.id).toBe(initiator?.session.id);
  expect(initiator?.session.id).not.toBe(before.session.id);
  return flights[1] as Buffer;
}

describe('a ticket that is refused ends in the same RETRY and a full handshake', () => {
  const modes = [XX];

  it('when it has been used', () => {
    const world = founded();
    resume(world);
    expect(refused(() => resume(world), world.initiator)).toEqual(retryFrame(0));
    expect(world.office.refusals).toEqual([]);
  });

  it('when it comes from the side that issued it', () => {
    const world = founded();
    // greeter, who issued it, dials web with it; web looks among its own.
    const web = new Office();
    const ticket: Ticket = { id: world.ticket.id, resumable: world.responder };
    const attempt = () =>
      shake(
        pair.initiator({
          identity: pair.greeter,
          expectedPeer: pair.web.spiffeId,
          takeTicket: () => ticket,
          modes,
        }),
        pair.responder({ identity: pair.web, tickets: web, modes }),
      );
    // The two have swapped roles, and with them static keys; those of world.ts are by role.
    expect(refused(attempt, world.initiator)).toEqual(retryFrame(0));
    expect(world.office.tickets.size).toBe(1);
  });

  it('when the session has ended: expired, revoked, evicted', () => {
    const world = founded();
    world.office.tickets.forget(world.responder.session.id);
    expect(refused(() => resume(world), world.initiator)).toEqual(retryFrame(0));
  });

  it('when its key is wiped, whoever forgot to say so', () => {
    const world = founded();
    world.responder.session.key.wipe();
    expect(refused(() => resume(world), world.initiator)).toEqual(retryFrame(0));
  });

  it('after a restart, and by another replica', () => {
    const world = founded();
    const elsewhere = { ticket: world.ticket, office: new Office() };
    expect(refused(() => resume(elsewhere), world.initiator)).toEqual(retryFrame(0));
    // Neither keeps tickets at all.
    const none = () => shake(pair.initiator({ takeTicket: () => world.ticket }), pair.responder());
    expect(refused(none, world.initiator)).toEqual(retryFrame(0));
  });

  it('when the peer’s certificate has expired', () => {
    const world = founded();
    const responder = pair.responder({ tickets: world.office, modes });
    const late = { ...world.responder, peer: { ...world.responder.peer, notAfter: 0 } };
    world.office.tickets.forget(world.responder.session.id);
    const ticket = world.office.issue(late, world.initiator);
    expect(responder.receive(pair.initiator({ takeTicket: () => ticket, modes }).start())?.send).toEqual(
      retryFrame(0),
    );
    expect(world.office.tickets.size).toBe(1);
  });

  it('when the tag is bad, and stays valid for its holder', () => {
    const world = founded();
    for (let at = HELLO + 3; at < HELLO + 3 + 48; at++) {
      const tamper = (bytes: Buffer, index: number): Buffer => {
        const copy = Buffer.from(bytes);
        if (index === 0) copy[at] = (copy[at] as number) ^ 1;
        return copy;
      };
      // RETRY comes; that what was tried before it counts makes the second attempt fail at the changed byte.
      const responder = pair.responder({ tickets: world.office, modes });
      const opening = tamper(pair.initiator({ takeTicket: () => world.ticket, modes }).start(), 0);
      expect(responder.receive(opening)?.send).toEqual(retryFrame(0));
      expect(codeOf(() => resume(world, { modes, tamper }))).toBe('decrypt-failed');
    }
    expect(new Set(world.office.refusals)).toEqual(new Set(['forged']));
    expect(resume(world).responder?.mode).toBe(RESUMPTION);
  });

  it('when message 1 has another length', () => {
    const world = founded();
    const opening = pair.initiator({ takeTicket: () => world.ticket, modes }).start();
    const [hello, message1] = [opening.subarray(0, HELLO), opening.subarray(HELLO + 3)];
    for (const message of [
      Buffer.alloc(0),
      message1.subarray(0, -1),
      Buffer.concat([message1, Buffer.alloc(1)]),
    ]) {
      const bytes = Buffer.concat([hello, encodeFrame(MESSAGE, message)]);
      const responder = pair.responder({ tickets: world.office, modes });
      expect(responder.receive(bytes)?.send).toEqual(retryFrame(0));
    }
    expect(world.office.tickets.size).toBe(1);
  });

  it('when policy has changed: a session without ML-KEM where that is required', () => {
    const world = founded();
    const required = XXHFS;
    const responder = pair.responder({ tickets: world.office, modes: [required] });
    const opening = pair.initiator({ takeTicket: () => world.ticket, modes: [required, XX] }).start();
    expect(responder.receive(opening)?.send).toEqual(retryFrame(1));
    expect(world.office.tickets.size).toBe(1);
    // Nor does the initiator try.
    const initiator = pair.initiator({ takeTicket: () => world.ticket, modes: [required] });
    expect(initiator.start()[5]).toBe(1);
  });

  it('when it was never issued (2^16 of them: test/system/tickets.test.ts)', () => {
    const { office, initiator, ticket } = founded();
    const random = { office, ticket: { ...ticket, id: crypto.randomBytes(16) } };
    expect(refused(() => resume(random), initiator)).toEqual(retryFrame(0));
    expect(office.tickets.size).toBe(1);
  });
});

describe('a recorded resumption', () => {
  it('opens nothing: message 1 gets RETRY once it has been used', () => {
    const world = founded();
    const { flights } = resume(world);
    const again = pair.responder({ tickets: world.office, modes: [XX] }).receive(flights[0] as Buffer);
    expect(again?.send).toEqual(retryFrame(0));
    expect(again?.established).toBeUndefined();
  });

  it('that arrives first uses up the ticket, and its sender can do nothing with what comes', () => {
    const world = founded();
    const initiator = pair.initiator({ takeTicket: () => world.ticket, modes: [XX] });
    const opening = initiator.start();
    const thief = pair.responder({ tickets: world.office, modes: [XX] }).receive(opening);
    expect(thief?.established?.session.id).toBe(world.responder.session.id);
    expect(world.office.tickets.size).toBe(0);
    // The holder's own then finds it gone and goes on in full.
    const responder = pair.responder({ tickets: world.office, modes: [XX] });
    const retry = responder.receive(opening)?.send as Buffer;
    expect(retry[0]).toBe(RETRY);
    const second = initiator.receive(retry)?.send as Buffer;
    expect(responder.receive(second)?.send?.[0]).toBe(MESSAGE);
  });

  it('does not fit as an answer', () => {
    const world = founded();
    const { flights } = resume(world);
    const ticket = world.office.issue(world.responder, world.initiator);
    const initiator = pair.initiator({ takeTicket: () => ticket });
    const own = initiator.start();
    expect(codeOf(() => initiator.receive(flights[1] as Buffer))).toBe('decrypt-failed');
    const other = pair.initiator({ takeTicket: () => world.office.issue(world.responder, world.initiator) });
    const message1 = other.start().subarray(HELLO);
    expect(codeOf(() => other.receive(message1))).toBe('reflected-key');
    expect(own.length).toBe(HELLO + 3 + 48);
  });
});

describe('in mode 2', () => {
  it('every byte of either message counts', () => {
    for (const index of [0, 1]) {
      const length = index === 0 ? HELLO + 3 + 48 : 3 + 48;
      for (let at = 0; at < length; at++) {
        const world = founded();
        const tamper = (bytes: Buffer, i: number): Buffer => {
          const copy = Buffer.from(bytes);
          if (i === index) copy[at] = (copy[at] as number) ^ 1;
          return copy;
        };
        let outcome = 'waits';
        try {
          const { responder, initiator } = resume(world, { modes: [XX], tamper });
          if (responder !== undefined && initiator !== undefined) outcome = `mode ${initiator.mode.id}`;
        } catch (error) {
          outcome = (error as { code: string }).code;
        }
        expect(outcome, `byte ${at} of flight ${index}`).not.toMatch(/^mode \d|internal-error/);
      }
    }
  });

  it('a message 1 with a payload is refused, and its ticket is gone', () => {
    const world = founded();
    const hello = encodeClientHello(2, 0b101, world.ticket.id);
    const psk = resumptionPsk(crypto, world.initiator.session.key, world.ticket.id);
    const noise = new HandshakeState({
      crypto,
      protocol: RESUMPTION.protocol,
      initiator: true,
      prologue: prologue(RESUMPTION.protocol, hello),
      psks: [psk.bytes],
    });
    const message1 = encodeFrame(MESSAGE, noise.writeMessage(Buffer.from('early data')));
    const responder = pair.responder({ tickets: world.office });
    expect(codeOf(() => responder.receive(Buffer.concat([hello, message1])))).toBe('unexpected-bytes');
    expect(world.office.tickets.size).toBe(0);
  });

  it('a message 2 with a payload is refused', () => {
    const world = founded();
    const initiator = pair.initiator({ takeTicket: () => world.ticket });
    const opening = initiator.start();
    const psk = resumptionPsk(crypto, world.responder.session.key, world.ticket.id);
    const noise = new HandshakeState({
      crypto,
      protocol: RESUMPTION.protocol,
      initiator: false,
      prologue: prologue(RESUMPTION.protocol, opening.subarray(0, HELLO)),
      psks: [psk.bytes],
    });
    noise.readMessage(opening.subarray(HELLO + 3));
    const message2 = encodeFrame(MESSAGE, noise.writeMessage(Buffer.from('early data')));
    expect(codeOf(() => initiator.receive(message2))).toBe('unexpected-bytes');
  });

  it('a RETRY never names it, and an initiator takes none to it', () => {
    const world = founded();
    const initiator = pair.initiator({ takeTicket: () => world.ticket });
    initiator.start();
    expect(codeOf(() => initiator.receive(retryFrame(2)))).toBe('bad-retry');
    const full = pair.initiator({ tickets: true });
    full.start();
    expect(codeOf(() => full.receive(retryFrame(2)))).toBe('bad-retry');
  });

  it('a responder that has said RETRY takes no ticket any more', () => {
    const world = founded();
    const responder = pair.responder({ tickets: world.office, modes: [XX] });
    const bogus = encodeClientHello(2, 0b101, crypto.randomBytes(16));
    responder.receive(Buffer.concat([bogus, encodeFrame(MESSAGE, Buffer.alloc(48))]));
    const opening = pair.initiator({ takeTicket: () => world.ticket, modes: [XX] }).start();
    expect(codeOf(() => responder.receive(opening))).toBe('bad-retry');
    expect(world.office.tickets.size).toBe(1);
  });

  it('a ticket for another peer than the route expects is not sent', () => {
    const world = founded();
    const initiator = pair.initiator({ takeTicket: () => world.ticket, expectedPeer: pair.web.spiffeId });
    expect(initiator.start()[5]).not.toBe(2);
  });

  it('resumptions go on when full handshakes are refused for want of time, and are refused last', () => {
    const world = founded();
    const busy = pair.responder({ tickets: world.office, overloaded: (kind) => kind === 'full' });
    expect(busy.receive(pair.initiator({ takeTicket: () => world.ticket }).start())?.established?.mode).toBe(
      RESUMPTION,
    );
    const next = (overloaded: () => boolean, opening: Buffer) =>
      codeOf(() => pair.responder({ tickets: world.office, overloaded }).receive(opening));
    expect(
      codeOf(() =>
        pair
          .responder({ tickets: world.office, overloaded: (kind) => kind === 'full' })
          .receive(pair.initiator().start()),
      ),
    ).toBe('overloaded');
    const ticket = world.office.issue(world.responder, world.initiator);
    expect(next(() => true, pair.initiator({ takeTicket: () => ticket }).start())).toBe('overloaded');
    expect(world.office.tickets.size).toBe(1);
    // A ticket that is no good leads to a full handshake: no room for that either.
    world.office.tickets.forget(world.responder.session.id);
    expect(
      codeOf(() =>
        pair
          .responder({ tickets: world.office, overloaded: (kind) => kind === 'full' })
          .receive(pair.initiator({ takeTicket: () => ticket }).start()),
      ),
    ).toBe('overloaded');
  });
});
