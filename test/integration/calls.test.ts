import { beforeAll, describe, expect, it } from 'vitest';
import { ListFeatures, RecordRoute, RouteChat, SayHello } from '../harness/greeter-methods.ts';
import { type Pair, startPair } from '../harness/sidecars.ts';

let pair: Pair;
beforeAll(async () => {
  pair = await startPair();
});

const BERKSHIRE = { latitude: 408122808, longitude: -743999179 };
const POHATCONG = { latitude: 407838351, longitude: -746143763 };

describe('all four kinds of call', () => {
  it('a unary call crosses two sidecars', async () => {
    const answer = await pair.client.unary(SayHello, { name: 'Ada' });
    expect(answer).toMatchObject({ code: 0, message: { message: 'Hello Ada, from greeter' } });
    expect(answer.message?.peer).toBe(pair.web.ready.spiffeId);
  });

  it('a server-streaming call brings every message in order', async () => {
    const { answer } = pair.client.serverStream(ListFeatures, {
      lo: { latitude: 400000000, longitude: -750000000 },
      hi: { latitude: 420000000, longitude: -730000000 },
    });
    const { code, messages } = await answer;
    expect(code).toBe(0);
    expect(messages.map(({ name }) => name)).toEqual([
      'New York',
      'Pohatcong Mountain',
      'Berkshire Valley',
      'Patriots Path',
    ]);
  });

  it('a client-streaming call is answered once its last message was sent', async () => {
    const { call, answer } = pair.client.clientStream(RecordRoute);
    call.write(BERKSHIRE);
    call.write(POHATCONG);
    call.end();
    expect(await answer).toMatchObject({
      code: 0,
      message: { pointCount: 2, featureCount: 2, distance: 18_327 },
    });
  });

  it('a bidirectional call goes both ways at the same time', async () => {
    const { call, answer } = pair.client.bidi(RouteChat);
    const note = (message: string) => ({ location: BERKSHIRE, message });
    call.write(note('first'));
    call.write(note('second'));
    await new Promise((resolve) => call.once('data', resolve)); // an answer before our half-close
    call.write(note('third'));
    call.end();
    const { code, messages } = await answer;
    expect(code).toBe(0);
    expect(messages.map(({ message }) => message)).toEqual(['first', 'first', 'second']);
  });
});
