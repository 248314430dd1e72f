import { expect, it } from 'vitest';
import { encodeClientHello } from '../../src/transport/clienthello.ts';
import { encodeFrame, MESSAGE, retryFrame } from '../../src/transport/frame.ts';
import type { Established } from '../../src/transport/handshake.ts';
import { RESUMPTION, XX } from '../../src/transport/mode.ts';
import { Office } from '../transport/office.ts';
import { crypto, makePair, shake } from '../transport/world.ts';

it('2^16 random tickets, each with a random message 1, all get the same RETRY; the real ones still work', async () => {
  const pair = await makePair();
  const tickets = new Office();
  const modes = [XX];
  const sessions = Array.from({ length: 16 }, () => {
    const done = shake(pair.initiator({ modes, tickets: true }), pair.responder({ modes, tickets }));
    const { initiator, responder } = done as { initiator: Established; responder: Established };
    return Array.from({ length: 4 }, () => tickets.issue(responder, initiator));
  });
  const retry = retryFrame(0);
  for (let n = 0; n < 2 ** 16; n++) {
    const hello = encodeClientHello(2, 0b101, crypto.randomBytes(16));
    const opening = Buffer.concat([hello, encodeFrame(MESSAGE, crypto.randomBytes(48))]);
    const step = pair.responder({ tickets, modes }).receive(opening);
    if (step?.established !== undefined || step?.send?.equals(retry) !== true) expect.fail(`ticket ${n}`);
  }
  expect(tickets.tickets.size).toBe(64);
  for (const ticket of sessions.flat()) {
    const done = shake(
      pair.initiator({ takeTicket: () => ticket, modes }),
      pair.responder({ tickets, modes }),
    );
    expect(done.responder?.mode).toBe(RESUMPTION);
  }
});
