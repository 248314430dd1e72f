import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { TestClient } from '../harness/greeter-client.ts';
import { Chat, Hang, SayHello, Trickle } from '../harness/greeter-methods.ts';
import { HealthClient } from '../harness/health-client.ts';
import { type Pair, type SidecarProcess, startPair } from '../harness/sidecars.ts';

const payload = (text: string) => ({ data: Buffer.from(text) });

/** Whether a TCP connection to `host:port` is accepted. */
async function accepts(address: string): Promise<boolean> {
  const at = address.lastIndexOf(':');
  const socket = connect(Number(address.slice(at + 1)), address.slice(0, at));
  const accepted = await Promise.race([
    once(socket, 'connect').then(() => true),
    once(socket, 'error').then(() => false),
  ]).catch(() => false);
  socket.destroy();
  return accepted;
}

/** A bidirectional call that is under way: one message has come back. */
async function underWay(pair: Pair) {
  const chat = pair.client.bidi(Chat);
  chat.call.write(payload('first'));
  await once(chat.call, 'data');
  return chat;
}

/** What the audit says of how the sidecar ended; the file is complete once the process has gone. */
async function ending(sidecar: SidecarProcess) {
  const events = await sidecar.audit.all();
  const last = events.at(-1);
  expect(events.map(({ seq }) => seq)).toEqual(events.map((_, i) => i + 1)); // none is missing
  const draining = events.find(({ type }) => type === 'sidecar.draining');
  return { draining, last };
}

describe.each(['web', 'greeter'] as const)('SIGTERM to %s', (name) => {
  it('calls under way finish, new ones are not taken, and it ends with 0', async () => {
    const pair = await startPair();
    const sidecar = pair[name];
    const chat = await underWay(pair);
    const health = new HealthClient(sidecar.ready.probes.grpc[0] as string);
    const watch = health.watch();
    expect(await watch.until(1)).toEqual(['SERVING']);

    sidecar.signal('SIGTERM');
    expect(await watch.until(2)).toEqual(['SERVING', 'NOT_SERVING']);
    expect(await sidecar.probe('/readyz')).toEqual({ status: 503, body: 'waiting for:\n  draining\n' });
    expect((await sidecar.probe('/livez')).status).toBe(200);
    expect((await sidecar.probe('/startupz')).status).toBe(200);
    expect([await accepts(sidecar.egress), await accepts(sidecar.ingress)]).toEqual([false, false]);

    // It goes on both ways, for as long as it likes.
    chat.call.write(payload('second'));
    await once(chat.call, 'data');
    chat.call.end();
    const { code, messages } = await chat.answer;
    expect([code, messages.map(({ data }) => String(data))]).toEqual([0, ['first', 'second']]);

    expect(await sidecar.exited).toEqual({ code: 0, signal: null });
    const { draining, last } = await ending(sidecar);
    expect(draining).toMatchObject({ reason: 'SIGTERM', calls: 1, deadlineMs: 22_500 });
    expect(last).toMatchObject({ type: 'sidecar.stopped', reason: 'SIGTERM', callsCut: 0 });
    const drained = await sidecar.audit.event('connection.draining');
    expect(drained).toMatchObject({ side: 'peer', reason: 'shutdown' });
    const closed = await sidecar.audit.event('connection.closed', ({ side }) => side === 'peer');
    expect(closed).toMatchObject({ sessionId: drained.sessionId, state: 'draining' });
    if (name === 'greeter') {
      expect(await pair.web.audit.event('connection.draining')).toMatchObject({ reason: 'peer-goaway' });
    }
    health.close();
  });

  it('a call that outlasts the deadline is cut: UNAVAILABLE, and exit code 7', async () => {
    const pair = await startPair({ [name]: { drain: { deadline: '200ms' } } });
    const sidecar = pair[name];
    const chat = await underWay(pair);
    const hanging = pair.client.unary(Hang, payload(''));
    await pair.app.saw('Hang', 'called');
    sidecar.signal('SIGTERM');
    expect((await chat.answer).code).toBe(14);
    const cut = await hanging;
    expect([cut.code, cut.hauberkError]).toEqual([14, 'draining']);
    expect(await sidecar.exited).toEqual({ code: 7, signal: null });
    expect((await ending(sidecar)).last).toMatchObject({ type: 'sidecar.stopped', callsCut: 2 });
    await pair.app.saw('Hang', 'cancelled'); // the app need not work on
  });

  it('a second signal ends it at once', async () => {
    const pair = await startPair();
    const chat = await underWay(pair);
    pair[name].signal('SIGTERM');
    await pair[name].audit.event('sidecar.draining');
    pair[name].signal('SIGINT');
    expect(await pair[name].exited).toEqual({ code: 130, signal: null });
    expect((await chat.answer).code).toBe(14);
  });

  it('with idle connections only it does not wait', async () => {
    // Did it wait for the deadline, the test would time out.
    const pair = await startPair({ [name]: { drain: { deadline: '10m' } } });
    expect((await pair.client.unary(SayHello, { name: 'Ada' })).code).toBe(0);
    expect(await pair[name].stop()).toBe(0);
    expect((await ending(pair[name])).draining).toMatchObject({ calls: 0 });
    const log = pair[name].log
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).message);
    expect(log.slice(-4)).toEqual(['draining', 'audit written', 'keys wiped', 'stopped']);
  });
});

it('a server stream and a unary call under way survive the drain of both sidecars', async () => {
  const pair = await startPair();
  const stream = pair.client.serverStream(Trickle, payload('drop'));
  await once(stream.call, 'data');
  pair.greeter.signal('SIGTERM');
  pair.web.signal('SIGTERM');
  await Promise.all([pair.greeter, pair.web].map((sidecar) => sidecar.audit.event('sidecar.draining')));
  stream.call.cancel();
  expect((await stream.answer).code).toBe(1);
  expect([await pair.web.exited, await pair.greeter.exited]).toEqual([
    { code: 0, signal: null },
    { code: 0, signal: null },
  ]);
});

it('Unix sockets are gone with their sidecar', async () => {
  const pair = await startPair();
  const path = join(pair.world.dir, 'egress.sock');
  const web = await pair.world.sidecar('web', { egress: { listen: `unix:${path}` } });
  expect(existsSync(path)).toBe(true);
  expect(await web.stop()).toBe(0);
  expect(existsSync(path)).toBe(false);
});

it('an app that never listens to GOAWAY, and one that has not said anything, do not hold it up for long', async () => {
  const pair = await startPair({ web: { drain: { deadline: '300ms' } } });
  const silent = connect(Number(pair.web.egress.split(':')[1]), '127.0.0.1');
  await once(silent, 'connect');
  silent.on('error', () => {});
  expect(await pair.web.stop()).toBe(0);
  silent.destroy();
});

describe('while the caller keeps calling', () => {
  /** Calls without pause from several lanes until told to stop. */
  function callers(newClient: () => TestClient, lanes: number) {
    /** How the calls ended. */
    const ends = new Map<string, number>();
    const waiting: Array<[count: number, reached: () => void]> = [];
    let going = true;
    let total = 0;
    const lane = async (): Promise<void> => {
      const client = newClient();
      while (going) {
        const { code, details, hauberkError } = await client.unary(SayHello, { name: 'Ada' });
        const end = code === 0 ? 'OK' : `${code} ${hauberkError ?? ''} ${details}`;
        ends.set(end, (ends.get(end) ?? 0) + 1);
        total++;
        for (const [count, reached] of waiting) if (total >= count) reached();
      }
    };
    const running = Promise.all(Array.from({ length: lanes }, lane));
    return {
      ends,
      /** So many calls more have ended. */
      more: (count: number) => new Promise<void>((reached) => waiting.push([total + count, reached])),
      stop: async () => {
        going = false;
        await running;
      },
    };
  }

  it('one of two called sidecars drains: no call is lost', async () => {
    const pair = await startPair();
    const { world } = pair;
    const second = await world.sidecar('greeter', {
      ingress: {
        apps: [{ service: 'greeter.shop', address: pair.app.address }],
        allow: [{ peer: world.spiffeId('*'), methods: ['/*/*'] }],
      },
    });
    const web = await world.sidecar('web', {
      egress: {
        routes: [
          {
            service: 'greeter.shop',
            endpoints: [pair.greeter.ingress, second.ingress],
            peer: world.spiffeId('greeter'),
          },
        ],
      },
    });
    const calling = callers(() => world.client(web.egress, { authority: 'greeter.shop' }), 8);
    await Promise.all([calling.more(200), second.audit.events('call.completed', 21)]);
    expect(await second.stop()).toBe(0);
    await calling.more(200);
    await calling.stop();
    expect([...calling.ends.keys()]).toEqual(['OK']);
    const { last } = await ending(second);
    expect(last).toMatchObject({ callsCut: 0 });
  });

  it('the calling sidecar drains: no call that it took is lost', async () => {
    const pair = await startPair();
    const calling = callers(pair.newClient, 8);
    await calling.more(200);
    expect(await pair.web.stop()).toBe(0);
    expect((await ending(pair.web)).last).toMatchObject({ callsCut: 0 });
    await calling.stop();
    // The others found nobody who listens, or were refused unbegun (REFUSED_STREAM, as by a stream that crossed
    // the last GOAWAY): what clients send again by themselves unless, as here, they are told not to.
    for (const end of calling.ends.keys()) {
      expect(end).toMatch(
        /^(OK$|14 {2}No connection established.*ECONNREFUSED|14 {2}Stream refused by server)/,
      );
    }
    expect(calling.ends.get('OK')).toBeGreaterThanOrEqual(200);
  });
});
