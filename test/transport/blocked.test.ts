import { beforeAll, describe, expect, it } from 'vitest';
import { XX, XXHFS } from '../../src/transport/mode.ts';
import { makePair, shake } from './world.ts';

describe.each([XX, XXHFS])('a peer that is blocked, mode $id', (mode) => {
  let pair: Awaited<ReturnType<typeof makePair>>;
  beforeAll(async () => {
    pair = await makePair([mode]);
  });

  it('is refused as the initiator, once it has proven who it is and not before', () => {
    const asked: string[] = [];
    const responder = pair.responder({
      isBlocked: (spiffeId) => {
        asked.push(spiffeId);
        return true;
      },
    });
    const initiator = pair.initiator();
    const message2 = responder.receive(initiator.start())?.send as Buffer;
    expect(asked).toEqual([]);
    const message3 = initiator.receive(message2)?.send as Buffer;
    let refusal: unknown;
    try {
      responder.receive(message3);
    } catch (error) {
      refusal = error;
    }
    expect(refusal).toMatchObject({ code: 'peer-blocked', peer: pair.web.spiffeId, alert: undefined });
    expect(asked).toEqual([pair.web.spiffeId]);
  });

  it('is another than the one that is not', () => {
    const isBlocked = (spiffeId: string) => spiffeId === pair.greeter.spiffeId;
    const { responder } = shake(pair.initiator(), pair.responder({ isBlocked }));
    expect(responder?.peer.spiffeId).toBe(pair.web.spiffeId);
  });
});
