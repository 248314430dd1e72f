import { setTimeout as sleep } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import { beforeAll, describe, expect, it } from 'vitest';
import type { CallContext } from '../../src/mesh/callcontext.ts';
import { CallError } from '../../src/mesh/callerror.ts';
import type { SecureMeshServer } from '../../src/mesh/securemeshserver.ts';
import { envelopeMethod, NULL, Raw } from '../harness/envelope-methods.ts';
import { ListFeatures, SayHello, SERVICES, serviceDefinition } from '../harness/greeter-methods.ts';
import { type Caller, connected, type MeshScene, meshScene, SERVICE } from '../harness/meshscene.ts';

/* A program's handlers, called from another process through a sidecar of its own. */

const LIMIT = 150;

let scene: MeshScene;
let web: Caller;
/** The contexts of calls, the last one last. */
const contexts: CallContext[] = [];
const lastContext = (): CallContext => contexts.at(-1) as CallContext;
/** What generators did, in order. */
const log: string[] = [];

const method = (name: string) => envelopeMethod<unknown, unknown>(SERVICE, name);
const condition = async (met: () => boolean): Promise<void> => {
  while (!met()) await sleep(5);
};

function prepare(server: SecureMeshServer): void {
  server
    .handle('echo', (value) => value)
    .handle('note', (value, context) => {
      contexts.push(context);
      const before = context.session.metadata.note ?? null;
      context.session.metadata.note = value;
      return before;
    })
    .handle('wordy', (_request, context) => {
      context.sendMetadata({ 'x-early': 'first', 'x-octets-bin': Buffer.from([1, 2]) });
      context.trailers.set('x-late', 'last');
      return context.metadata.get('x-given');
    })
    .handle('refuse', ({ code, details }: { code: number; details: string }, context) => {
      context.trailers.set('x-late', 'last');
      const metadata = new grpc.Metadata();
      metadata.set('hauberk-error', 'denied');
      metadata.set('x-why', 'because');
      throw new CallError(code, details, { metadata });
    })
    .handle('break', () => {
      throw new Error('the password is swordfish');
    })
    .handle('bigint', () => 10n)
    .handle('hang', async (_request, context) => {
      contexts.push(context);
      await new Promise((_resolve, reject) => {
        context.signal.addEventListener('abort', () => reject(context.signal.reason));
      });
    })
    .handle('late', async (ms: number, context) => {
      contexts.push(context);
      const { signal } = context;
      await sleep(ms);
      return signal.aborted;
    })
    .handleServerStream('count', async function* (to: number, context) {
      contexts.push(context);
      context.trailers.set('x-late', 'last');
      try {
        for (let n = 1; n <= to; n++) {
          log.push(`made ${n}`);
          yield n;
        }
      } finally {
        log.push('count left');
      }
    })
    .handleServerStream('list', () => [1, 'two', null])
    .handleServerStream('nothing', () => undefined as never)
    .handleServerStream('fails', async function* () {
      yield 1;
      throw new CallError('DATA_LOSS', 'half of it is gone');
    })
    .handleServerStream('cannot', async function* () {
      try {
        yield 1;
        yield 10n;
      } finally {
        log.push('cannot left');
      }
    })
    .handleServerStream('large', async function* (octets: number) {
      try {
        for (let n = 0; n < 100; n++) {
          log.push('large');
          yield Buffer.alloc(octets);
        }
      } finally {
        log.push('large left');
      }
    })
    .handleClientStream('sum', async (numbers: AsyncIterable<number>) => {
      let sum = 0;
      for await (const number of numbers) sum += number;
      return sum;
    })
    .handleClientStream('first', async (values) => {
      for await (const value of values) return value;
      return 'none';
    })
    .handleClientStream('slow', async (values, context) => {
      contexts.push(context);
      for await (const value of values) {
        log.push(`took ${(value as Buffer).length}`);
        await new Promise((_resolve, reject) => {
          context.signal.addEventListener('abort', () => reject(context.signal.reason));
        });
      }
    })
    .handleBidiStream('double', async function* (numbers: AsyncIterable<number>, context) {
      contexts.push(context);
      try {
        for await (const number of numbers) yield number * 2;
        log.push('double done');
      } finally {
        log.push('double left');
      }
    });
}

beforeAll(async () => {
  scene = await meshScene(prepare, {
    allow: ['web'],
    rateLimit: [{ maxRequests: LIMIT, windowMs: 600_000 }],
  });
  web = await scene.caller('web');
});

describe('a handler', () => {
  it.each([
    ['JSON', { a: [1, null, 'ü'], b: { c: true } }],
    ['octets', Buffer.from([0, 1, 255])],
    ['null', null],
  ])('takes and gives %s', async (_what, value) => {
    const { code, message } = await web.call('echo', value);
    expect([code, message]).toEqual([0, value ?? NULL]);
  });

  it('of each kind of stream is served', async () => {
    const count = web.client.serverStream(method('count'), 3);
    const list = web.client.serverStream(method('list'), null);
    const sum = web.client.clientStream(method('sum'));
    for (const n of [1, 2, 3]) sum.call.write(n);
    sum.call.end();
    const first = web.client.clientStream(method('first'));
    first.call.write('one');
    const double = web.client.bidi(method('double'));
    for (const n of [1, 2, 3]) double.call.write(n);
    double.call.end();
    const answers = await Promise.all([count, list, sum, first, double].map(({ answer }) => answer));
    expect(answers.map(({ code, messages }) => [code, messages])).toEqual([
      [0, [1, 2, 3]],
      [0, [1, 'two', NULL]],
      [0, [6]],
      [0, ['one']],
      [0, [2, 4, 6]],
    ]);
    expect(answers[0]?.trailers.get('x-late')).toEqual(['last']);
    expect(log).toContain('double done');
  });

  it('may be added while the server runs', async () => {
    expect((await web.call('new')).code).toBe(grpc.status.UNIMPLEMENTED);
    scene.server.handle('new', () => 'here');
    expect((await web.call('new')).message).toBe('here');
  });

  it('sends metadata ahead of the answer, and trailers after it', async () => {
    const { message, headers, trailers } = await web.call('wordy', null, {
      metadata: { 'x-given': 'that' },
    });
    expect(message).toEqual(['that']);
    expect([headers?.get('x-early'), headers?.get('x-octets-bin')]).toEqual([
      ['first'],
      [Buffer.from([1, 2])],
    ]);
    expect(trailers.get('x-late')).toEqual(['last']);
  });
});

describe('the context of a call', () => {
  it('has the session that the handshake made, which its caller cannot choose', async () => {
    const { message } = await web.call('note', 1, {
      metadata: {
        'hauberk-session': 'another',
        'hauberk-peer': 'spiffe://shop.example/ns/default/sa/admin',
        hauberk_peer: 'x',
      },
    });
    expect(message).toBe(NULL);
    const { session, peer, service, method: name, metadata, deadline } = lastContext();
    const [mine] = scene.server.mesh.sessions.getSessionsByLastUsed();
    expect([session.id, session.peer, peer]).toEqual([mine?.id, scene.world.spiffeId('web'), session.peer]);
    expect([metadata.get('hauberk-session'), metadata.get('hauberk-peer')]).toEqual([[session.id], [peer]]);
    expect([service, name, deadline, session.ended]).toEqual([SERVICE, 'note', undefined, false]);
    expect(session.createdAt.getTime()).toBeLessThanOrEqual(Date.now());
    expect(session.expiresAt.getTime()).toBeGreaterThan(Date.now());
    expect(() => JSON.stringify(session)).not.toThrow();
  });

  it('finds what earlier calls of the session have left', async () => {
    await web.call('note', 'left');
    expect((await web.call('note', 'more')).message).toBe('left');
  });

  it('tells what the limits leave, which each call takes one of', async () => {
    await web.call('note');
    const [before] = lastContext().session.limits;
    const { calls } = lastContext().session.counters;
    await web.call('note');
    const [after] = lastContext().session.limits;
    expect(before).toMatchObject({ scope: 'session', maxRequests: LIMIT, windowMs: 600_000 });
    expect(after?.remaining).toBe((before?.remaining as number) - 1);
    expect(after?.resetMs).toBeLessThanOrEqual(600_000);
    expect(lastContext().session.counters.calls).toBe(calls + 1);
  });

  it('has the deadline, and aborts at it', async () => {
    const count = contexts.length;
    // On a busy machine a call may need more time to come here at all.
    for (let deadlineMs = 200; contexts.length === count; deadlineMs *= 2) {
      const { code } = await web.call('hang', null, { deadlineMs });
      expect(code).toBe(grpc.status.DEADLINE_EXCEEDED);
    }
    const { deadline, signal } = lastContext();
    expect(Math.abs((deadline?.getTime() ?? 0) - Date.now())).toBeLessThan(5000);
    await condition(() => signal.aborted);
    expect(['DEADLINE_EXCEEDED', 'CANCELLED']).toContain((signal.reason as CallError).status);
  });

  it('aborts when the caller cancels, and not when the answer was given', async () => {
    const count = contexts.length;
    const hanging = web.call('hang');
    await condition(() => contexts.length > count);
    hanging.call.cancel();
    await condition(() => lastContext().signal.aborted);
    expect((lastContext().signal.reason as CallError).status).toBe('CANCELLED');
    expect((await web.call('late', 1)).message).toBe(false);
    await sleep(20);
    expect(lastContext().signal.aborted).toBe(false);
    expect(scene.errors).toEqual([]);
  });
});

describe('a handler that fails', () => {
  it('with a CallError answers so, without what other sidecars have said to it', async () => {
    const { code, details, trailers, hauberkError } = await web.call('refuse', {
      code: 9,
      details: 'not yet: ü €',
    });
    expect([code, details, hauberkError]).toEqual([9, 'not yet: ü €', undefined]);
    expect([trailers.get('x-late'), trailers.get('x-why')]).toEqual([['last'], ['because']]);
  });

  it.each(['\ud800 alone', 'x'.repeat(100_000), 'a\r\nb%41'])(
    'answers with whatever details it gives',
    async (given) => {
      const { code, details } = await web.call('refuse', { code: 5, details: given });
      expect([code, details]).toEqual([5, given.slice(0, 4096).replace('\ud800', '\ufffd')]);
    },
  );

  it.each(['break', 'bigint'])(
    'tells the caller nothing of itself, and the program all: %s',
    async (name) => {
      const { code, details } = await web.call(name);
      expect([code, details]).toEqual([
        13,
        `the handler of ${name} failed; the log of the called program says how`,
      ]);
      const { error, context } = scene.errors.pop() ?? {};
      expect([error instanceof Error, context?.method]).toEqual([true, name]);
      expect(scene.errors).toEqual([]);
    },
  );

  it('in the middle of a stream ends it so', async () => {
    const [fails, cannot, nothing] = await Promise.all(
      ['fails', 'cannot', 'nothing'].map((name) => web.client.serverStream(method(name), null).answer),
    );
    expect([fails?.code, fails?.details, fails?.messages]).toEqual([15, 'half of it is gone', [1]]);
    expect([cannot?.code, cannot?.messages, nothing?.code]).toEqual([13, [1], 13]);
    expect(log).toContain('cannot left');
    expect(
      scene.errors
        .splice(0)
        .map(({ context }) => context.method)
        .sort(),
    ).toEqual(['cannot', 'nothing']);
  });
});

describe('what a caller sends', () => {
  const json = (text: string): Raw =>
    new Raw(Buffer.concat([Buffer.from([0x0a, text.length]), Buffer.from(text)]));

  it.each([
    ['no Envelope', new Raw(Buffer.from('hello'))],
    ['nothing', new Raw(Buffer.alloc(0))],
    ['no JSON', json('{')],
    ['a key that reaches prototypes', json('{"__proto__":{"polluted":1}}')],
  ])('is refused if it is %s, and no handler runs', async (_what, raw) => {
    const { code, details } = await web.call('note', raw);
    expect(code).toBe(grpc.status.INVALID_ARGUMENT);
    expect(details).toMatch(/^the request cannot be read: /);
    const { code: inStream } = await sumOf(raw);
    expect(inStream).toBe(grpc.status.INVALID_ARGUMENT);
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  const sumOf = (value: unknown) => {
    const { call, answer } = web.client.clientStream(method('sum'));
    call.write(value);
    return answer;
  };

  it('is refused above 4 MiB', async () => {
    expect((await web.call('echo', Buffer.alloc(4 * 1024 * 1024 + 1))).code).toBe(
      grpc.status.RESOURCE_EXHAUSTED,
    );
  });

  it('may nest as deep as it likes', async () => {
    const text = '['.repeat(200_000) + ']'.repeat(200_000);
    const length = Buffer.from([0x0a, 0x80, 0xb5, 0x18]);
    const { code } = await web.call('echo', new Raw(Buffer.concat([length, Buffer.from(text)])));
    // It is read, and cannot be written again.
    expect([code, scene.errors.pop()?.context.method]).toEqual([13, 'echo']);
  });

  it.each(['__proto__', 'constructor', 'toString', '%5f'])('may call %j in vain', async (name) => {
    expect((await web.call(name)).code).toBe(grpc.status.UNIMPLEMENTED);
  });

  it.each(['a/b', '', '../greeter/echo'])('may not call %j, which no rule allows', async (name) => {
    expect((await web.call(name)).code).toBe(grpc.status.PERMISSION_DENIED);
  });
});

describe('a stream', () => {
  it('is made as its caller takes it: a generator waits, and leaves when the caller does', async () => {
    log.length = 0;
    const { call } = web.client.serverStream(method('large'), 1_048_576, { paused: true });
    // grpc-js reads on and on for a caller who has never read.
    call.on('data', () => call.pause());
    await condition(() => log.length > 5);
    let made = 0;
    while (made < log.length) {
      made = log.length;
      await sleep(100);
    }
    // What is under way, of 100 MiB: windows of three connections (4 MiB each), and what grpc-js and the relay hold.
    expect(made).toBeLessThan(40);
    call.cancel();
    await condition(() => log.includes('large left'));
    expect(log.length).toBeLessThan(40);
  });

  it('that is cancelled runs the generator to its end', async () => {
    log.length = 0;
    const counting = web.client.serverStream(method('count'), 1_000_000);
    const doubling = web.client.bidi(method('double'));
    await condition(() => log.length > 10);
    counting.call.cancel();
    doubling.call.write(1);
    await new Promise((resolve) => doubling.call.once('data', resolve));
    doubling.call.cancel();
    await condition(() => log.includes('count left') && log.includes('double left'));
    expect(scene.errors).toEqual([]);
  });

  it('is read as the handler asks: a slow one has read no more than it took', async () => {
    log.length = 0;
    const { call, answer } = web.client.clientStream(method('slow'));
    let written = 0;
    for (let n = 0; n < 200; n++) call.write(Buffer.alloc(65_536), () => void written++);
    await condition(() => log.length > 0);
    let before = -1;
    while (before < written) {
      before = written;
      await sleep(100);
    }
    expect(log).toEqual(['took 65536']);
    expect(written).toBeLessThan(200);
    call.cancel();
    expect((await answer).code).toBe(grpc.status.CANCELLED);
    await condition(() => lastContext().signal.aborted);
  });
});

describe('a service with a definition of its own', () => {
  it('is served as grpc-js has it, with a context, and with handlers that may reject', async () => {
    let context: CallContext | undefined;
    scene.server.addService(serviceDefinition(SERVICES.greeter), {
      SayHello: async (
        call: grpc.ServerUnaryCall<{ name: string }, unknown>,
        respond: grpc.sendUnaryData<unknown>,
      ) => {
        context = scene.server.contextOf(call);
        context.trailers.set('x-late', 'last');
        if (call.request.name === 'nobody') throw new CallError('NOT_FOUND', 'nobody is here');
        if (call.request.name === 'broken') throw new Error('the password is swordfish');
        respond(null, { message: `Hello ${call.request.name}` });
      },
    });
    const hello = (name: string) => web.client.unary(SayHello, { name });
    const { message, trailers } = await hello('World');
    expect([message?.message, trailers.get('x-late')]).toEqual(['Hello World', ['last']]);
    expect([context?.peer, context?.method, context?.service]).toEqual([
      scene.world.spiffeId('web'),
      'SayHello',
      'hauberk.demo.v1.Greeter',
    ]);
    const nobody = await hello('nobody');
    expect([nobody.code, nobody.details, nobody.trailers.get('x-late')]).toEqual([
      5,
      'nobody is here',
      ['last'],
    ]);
    expect((await hello('broken')).code).toBe(13);
    expect(String(scene.errors.pop()?.error)).toBe('Error: the password is swordfish');
    expect(() => scene.server.contextOf({})).toThrow(/contextOf\(\) wants the call/);
  });

  it('may stream, too', async () => {
    scene.server.addService(serviceDefinition(SERVICES.routeGuide), {
      async ListFeatures(call: grpc.ServerWritableStream<unknown, unknown>) {
        scene.server.contextOf(call).trailers.set('x-late', 'last');
        call.write({ name: 'one' });
        call.end();
      },
    });
    const { code, messages, trailers } = await web.client.serverStream(ListFeatures, {} as never).answer;
    expect([code, messages.length, trailers.get('x-late')]).toEqual([0, 1, ['last']]);
  });
});

describe('registrations', () => {
  it.each([
    ['a/b', () => 1, /not a method's name/],
    ['', () => 1, /not a method's name/],
    ['a b', () => 1, /not a method's name/],
    ['echo', () => 1, /has a handler already/],
    ['x', 'no function' as never, /is not a function/],
  ])('%j is refused', (name, handler, message) => {
    expect(() => scene.server.handle(name, handler)).toThrow(message);
  });

  it('of what is no service are refused', () => {
    const { server } = scene;
    expect(() => server.addService({} as never, {})).toThrow(/wants a service definition/);
    expect(() => server.addService(serviceDefinition(SERVICES.hooks), { echoo: () => {} })).toThrow(
      /none of the functions of the service: echo, fail/,
    );
  });

  it('may be of names that objects have anyway', async () => {
    scene.server.handle('__proto__', () => 'mine').handle('constructor', () => 'mine, too');
    expect((await web.call('__proto__')).message).toBe('mine');
    expect((await web.call('constructor')).message).toBe('mine, too');
  });
});

describe('a caller', () => {
  it('that no rule allows is refused, and told what to do', async () => {
    const evil = await scene.caller('evil');
    const { code, details, hauberkError } = await evil.call('echo', 1);
    expect([code, hauberkError]).toEqual([grpc.status.PERMISSION_DENIED, 'denied']);
    expect(details).toContain(scene.world.spiffeId('evil'));
    expect(details).toMatch(/allow/);
  });

  it('whose session is revoked has its calls end, and its handlers told', async () => {
    const count = contexts.length;
    const hanging = web.call('hang');
    const counting = web.client.bidi(method('double'));
    await condition(() => contexts.length >= count + 2);
    log.length = 0;
    const context = contexts.find(({ method: name }, i) => i >= count && name === 'hang') as CallContext;
    await scene.server.mesh.revocation.revoke({ ids: [context.session.id] }, { reason: 'test' });
    const { code, hauberkError } = await hanging;
    expect([code, hauberkError]).toEqual([grpc.status.UNAVAILABLE, 'session-revoked']);
    expect(context.signal.aborted).toBe(true);
    expect((context.signal.reason as CallError).status).toBe('UNAVAILABLE');
    expect([context.session.ended, context.session.limits, context.session.peer]).toEqual([
      true,
      [],
      context.peer,
    ]);
    expect(context.session.expiresAt.getTime()).toBeLessThanOrEqual(Date.now());
    await counting.answer;
    await condition(() => log.includes('double left'));
    expect(scene.errors).toEqual([]);
    await connected(web);
    expect((await web.call('echo', 'back')).message).toBe('back');
  });

  it('above its limit is refused, and told when to come back', async () => {
    let last = await web.call('echo');
    for (let n = 0; last.code === 0 && n < LIMIT; n++) last = await web.call('echo');
    expect([last.code, last.hauberkError]).toEqual([grpc.status.RESOURCE_EXHAUSTED, 'limited']);
    expect(Number(last.trailers.get('grpc-retry-pushback-ms')[0])).toBeGreaterThan(500_000);
  });
});

describe('the end', () => {
  it('is of its sessions, too, and nothing is served after it', async () => {
    const { server } = scene;
    const { session } = lastContext();
    await server.cleanup(100);
    expect(session.ended).toBe(true);
    expect(() => server.handle('later', () => 1)).toThrow(/has ended/);
    await expect(server.start()).rejects.toMatchObject({ code: 'ended' });
  });
});
