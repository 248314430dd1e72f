import { beforeAll, describe, expect, it } from 'vitest';
import type { Established } from '../../src/transport/handshake.ts';
import { DEFAULT_RECORD_LIMITS } from '../../src/transport/limits.ts';
import { modesOf } from '../../src/transport/mode.ts';
import { RecordReader, RecordWriter } from '../../src/transport/record.ts';
import { Twin } from './twin.ts';
import { makePair } from './world.ts';

let pair: Awaited<ReturnType<typeof makePair>>;
beforeAll(async () => {
  pair = await makePair();
});

function meet(twin: Twin, retry: boolean): Established {
  const responder = pair.responder({ modes: modesOf(retry ? 'off' : 'preferred') });
  let opening = twin.start();
  if (retry) opening = twin.retry(responder.receive(twin.startInMode1())?.send as Buffer);
  const message2 = responder.receive(opening)?.send as Buffer;
  return responder.receive(twin.message2(message2))?.established as Established;
}

describe('a second implementation, written from docs/protocol.md', () => {
  for (const retry of [false, true]) {
    it(`agrees with this one ${retry ? 'after a RETRY' : 'in mode 0'}`, () => {
      const twin = new Twin(pair.web, pair.greeter.spiffeId);
      const { peer, session } = meet(twin, retry);
      expect(peer.spiffeId).toBe(pair.web.spiffeId);
      expect(session.id).toBe(twin.sessionId);
      expect(session.key.bytes.equals(twin.sessionKey)).toBe(true);
    });
  }

  it('exchanges records with it, over rekeys and with padding', () => {
    const twin = new Twin(pair.web, pair.greeter.spiffeId);
    const { send, receive } = meet(twin, false);
    const got: string[] = [];
    const sink = {
      record: (type: number, payload: Buffer) => void got.push(`${type} ${payload}`),
    };
    const reader = new RecordReader(receive, DEFAULT_RECORD_LIMITS, sink, () => 0);
    reader.push(twin.send.seal(0x04, Buffer.from('12345678')));
    reader.push(twin.send.seal(0x01, Buffer.from('padded'), 247));
    reader.push(twin.send.seal(0x02));
    reader.push(twin.send.seal(0x01, Buffer.from('under the new key')));
    expect(got).toEqual(['4 12345678', '1 padded', '2 ', '1 under the new key']);

    const writer = new RecordWriter(send, DEFAULT_RECORD_LIMITS);
    const data = (text: string): Buffer => {
      const buf = Buffer.from(`.....${text}`);
      return writer.seal(0x01, buf, 5, buf.length);
    };
    const wire = Buffer.concat([
      data('one'),
      writer.keyUpdate(),
      data('two'),
      writer.keyUpdate(),
      data('three'),
    ]);
    const records = twin.receive.open(wire).map(({ type, payload }) => `${type} ${payload}`);
    expect(records).toEqual(['1 one', '2 ', '1 two', '2 ', '1 three']);
  });
});
