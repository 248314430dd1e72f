import { describe, expect, it } from 'vitest';
import {
  Chat,
  Download,
  Echo,
  ListFeatures,
  RecordRoute,
  RouteChat,
  SayHello,
} from '../harness/greeter-methods.ts';
import { startPair } from '../harness/sidecars.ts';

const PLACE = { latitude: 408122808, longitude: -743999179 };
const EVERYWHERE = {
  lo: { latitude: 400000000, longitude: -750000000 },
  hi: { latitude: 420000000, longitude: -730000000 },
};

// Native with native is what every other test runs.
describe.each([
  { web: 'native', greeter: 'noble' },
  { web: 'noble', greeter: 'native' },
  { web: 'noble', greeter: 'noble' },
])('a calling sidecar with $web and a called one with $greeter', ({ web, greeter }) => {
  it('all four kinds of call work', async () => {
    const pair = await startPair({
      web: { crypto: { provider: web } },
      greeter: { crypto: { provider: greeter } },
    });
    const { client } = pair;
    expect((await client.unary(SayHello, { name: 'Ada' })).message).toMatchObject({
      message: 'Hello Ada, from greeter',
      peer: pair.web.ready.spiffeId,
    });

    const listed = await client.serverStream(ListFeatures, EVERYWHERE).answer;
    expect([listed.code, listed.messages.length]).toEqual([0, 4]);

    const record = client.clientStream(RecordRoute);
    record.call.write(PLACE);
    record.call.write(PLACE);
    record.call.end();
    expect(await record.answer).toMatchObject({ code: 0, message: { pointCount: 2, featureCount: 2 } });

    const chat = client.bidi(RouteChat);
    for (const message of ['first', 'second']) chat.call.write({ location: PLACE, message });
    chat.call.end();
    const { code, messages } = await chat.answer;
    expect([code, messages.map(({ message }) => message)]).toEqual([0, ['first']]);

    // Over several records each way, under one session id.
    const data = Buffer.from(Array.from({ length: 200_000 }, (_, i) => i % 251));
    expect((await client.unary(Echo, { data })).message?.data.equals(data)).toBe(true);
    const both = client.bidi(Chat);
    both.call.write({ data });
    both.call.end();
    expect((await both.answer).messages.map((echo) => echo.data.equals(data))).toEqual([true]);
    const down = await client.serverStream(Download, { count: 10, size: 30_000 }).answer;
    expect(down.messages.map((message) => message.data.length)).toEqual(Array(10).fill(30_000));
    const ids = await Promise.all(
      [pair.web, pair.greeter].map(async ({ audit }) => (await audit.event('session.created')).sessionId),
    );
    expect(ids[0]).toBe(ids[1]);
  });
});
