import * as grpc from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { SayHello } from '../harness/greeter-methods.ts';
import { answerOf, fieldOf, RawClient } from '../harness/rawh2.ts';
import { ingressTo, SERVICE, startPair, World } from '../harness/sidecars.ts';

const HOUR = '1h';

describe('a limit on a session', () => {
  it('refuses the call after the last allowed one; the app never sees it', async () => {
    const limits = [{ scope: 'session', maxRequests: 5, window: HOUR }];
    const { client, app, greeter, web } = await startPair({ greeter: { limits } });
    for (let i = 0; i < 5; i++) expect((await client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
    const over = await client.unary(SayHello, { name: 'Ada' });
    expect(over).toMatchObject({ code: grpc.status.RESOURCE_EXHAUSTED, hauberkError: 'limited' });
    expect(over.headers).toBeUndefined(); // trailers-only
    const pushback = Number(over.trailers.get('grpc-retry-pushback-ms')[0]);
    expect(pushback).toBeGreaterThan(0);
    expect(pushback).toBeLessThanOrEqual(3_600_000);
    expect(over.details).toContain('5 requests in 3600 s for this session');
    expect(app.calls()).toBe(5);
    const { sessionId } = await web.audit.event('session.created');
    expect(await greeter.audit.event('call.limited')).toMatchObject({
      sessionId,
      peer: web.ready.spiffeId,
      service: SERVICE,
      method: SayHello.path,
      scope: 'session',
      limit: 5,
      windowMs: 3_600_000,
      retryAfterMs: pushback,
    });
    expect(await greeter.metric('hauberk_calls_limited_total', { scope: 'session' })).toBe(1);
  });

  it('is exact under a burst', async () => {
    const limits = [{ scope: 'session', maxRequests: 100, window: HOUR }];
    const { client, app } = await startPair({ greeter: { limits } });
    const answers = await Promise.all(
      Array.from({ length: 250 }, () => client.unary(SayHello, { name: 'Ada' })),
    );
    expect(answers.filter(({ code }) => code === 0)).toHaveLength(100);
    expect(answers.filter(({ hauberkError }) => hauberkError === 'limited')).toHaveLength(150);
    expect(app.calls()).toBe(100);
  });

  it('answers HTTP/2 that is not gRPC with 429 and retry-after', async () => {
    const limits = [{ scope: 'session', maxRequests: 1, window: HOUR }];
    const { web } = await startPair({ greeter: { limits } });
    const client = new RawClient(web.egress, SERVICE);
    await answerOf(client.request({ ':path': '/' }));
    const { headers, body } = await answerOf(client.request({ ':path': '/' }));
    expect(fieldOf(headers, ':status')).toBe('429');
    expect(Number(fieldOf(headers, 'retry-after'))).toBeGreaterThan(0);
    expect(body.toString()).toContain('over the limit');
  });

  it('holds again in the next window', async () => {
    const limits = [{ scope: 'session', maxRequests: 2, window: '1s' }];
    const { client, app } = await startPair({ greeter: { limits } });
    let over = await client.unary(SayHello, { name: 'Ada' });
    while (over.code === 0) over = await client.unary(SayHello, { name: 'Ada' });
    const before = app.calls();
    // As a well-behaved client would: it waits as long as it is told to. (A timer may be a millisecond early.)
    for (let tries = 0; over.code !== 0 && tries < 3; tries++) {
      const pushback = Number(over.trailers.get('grpc-retry-pushback-ms')[0]);
      await new Promise((resolve) => setTimeout(resolve, pushback));
      over = await client.unary(SayHello, { name: 'Ada' });
    }
    expect(over.code).toBe(0);
    expect(app.calls()).toBe(before + 1);
  });
});

describe('a limit on a peer', () => {
  it('is not escaped by ten fresh handshakes', async () => {
    const world = await World.make();
    const app = await world.app();
    const greeter = await world.sidecar('greeter', {
      ...ingressTo(world, app.address),
      limits: [
        { scope: 'session', maxRequests: 4, window: HOUR },
        { scope: 'peer', maxRequests: 7, window: HOUR },
      ],
    });
    const route = { service: SERVICE, endpoints: [greeter.ingress], peer: world.spiffeId('greeter') };
    const codes: string[] = [];
    for (let i = 0; i < 10; i++) {
      const web = await world.sidecar('web', { egress: { routes: [route] } });
      const client = world.client(web.egress, { authority: SERVICE });
      for (let n = 0; n < 2; n++) {
        const { code, trailers } = await client.unary(SayHello, { name: 'Ada' });
        codes.push(code === 0 ? 'ok' : String(trailers.get('hauberk-error')[0]));
      }
      client.close();
      await web.kill();
    }
    expect(codes).toEqual([...Array(7).fill('ok'), ...Array(13).fill('limited')]);
    expect(
      new Set((await greeter.audit.events('session.created', 10)).map(({ sessionId }) => sessionId)).size,
    ).toBe(10);
    const limited = await greeter.audit.events('call.limited', 13);
    expect(new Set(limited.map(({ scope }) => scope))).toEqual(new Set(['peer']));
    expect(app.calls()).toBe(7);
  });

  it('leaves other peers theirs', async () => {
    const world = await World.make();
    const limits = [{ scope: 'peer', maxRequests: 1, window: HOUR }];
    const { client, greeter, app } = await startPair({ world, greeter: { limits } });
    await client.unary(SayHello, { name: 'Ada' });
    expect((await client.unary(SayHello, { name: 'Ada' })).hauberkError).toBe('limited');
    const route = { service: SERVICE, endpoints: [greeter.ingress], peer: world.spiffeId('greeter') };
    const other = await world.sidecar('other', { egress: { routes: [route] } });
    expect(
      (await world.client(other.egress, { authority: SERVICE }).unary(SayHello, { name: 'Bob' })).code,
    ).toBe(0);
    expect(app.calls()).toBe(2);
  });
});
