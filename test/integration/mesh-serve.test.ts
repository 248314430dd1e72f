import { EventEmitter, once } from 'node:events';
import * as grpc from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { SecureMesh } from '../../src/mesh/securemesh.ts';
import { SecureMeshServer } from '../../src/mesh/securemeshserver.ts';
import { SayHello, SERVICES, serviceDefinition } from '../harness/greeter-methods.ts';
import { connect, SERVICE } from '../harness/meshscene.ts';
import { atEnd, World } from '../harness/sidecars.ts';

/* A grpc-js server of a program, behind a mesh of the same program. */

const GREETER = serviceDefinition(SERVICES.greeter);

async function makeMesh(more: object = {}): Promise<{ world: World; mesh: SecureMesh }> {
  const world = await World.make();
  await world.trust.issue(SERVICE);
  const options = { serviceId: SERVICE, keys: world.trust.dir, host: '127.0.0.1', log: 'silent' as const };
  const mesh = new SecureMesh({ ...options, port: 0, ...more });
  atEnd(() => mesh.cleanup(0));
  return { world, mesh };
}

describe('a grpc-js server in this process', () => {
  it('takes the calls of peers without a port, and its connections end with the mesh', async () => {
    const { world, mesh } = await makeMesh();
    const server = new grpc.Server();
    let seen: grpc.Metadata | undefined;
    const came = new EventEmitter();
    server.addService(GREETER, {
      SayHello(call: grpc.ServerUnaryCall<{ name: string }, unknown>, respond: grpc.sendUnaryData<unknown>) {
        seen = call.metadata;
        if (call.request.name === 'hang') {
          call.on('cancelled', () => came.emit('cancelled'));
          came.emit('called');
        } else respond(null, { message: `Hello ${call.request.name}` });
      },
    });
    mesh.serve(server);
    await mesh.start();
    const web = await connect(world, 'web', mesh.port as number);
    const { message } = await web.client.unary(SayHello, { name: 'World' });
    expect(message?.message).toBe('Hello World');
    const [session] = mesh.sessions.getSessionsByLastUsed();
    expect([seen?.get('hauberk-peer'), seen?.get('hauberk-session')]).toEqual([
      [world.spiffeId('web')],
      [session?.id],
    ]);
    const [called, cancelled] = [once(came, 'called'), once(came, 'cancelled')];
    const hanging = web.client.unary(SayHello, { name: 'hang' });
    await called;
    const ended = mesh.cleanup(200);
    expect((await hanging).code).toBe(grpc.status.UNAVAILABLE);
    await Promise.all([ended, cancelled]);
    // It would wait for connections that are still there.
    await new Promise<void>((resolve, reject) =>
      server.tryShutdown((error) => (error === undefined ? resolve() : reject(error))),
    );
  });

  it('that was shut down costs the calls, and nothing else', async () => {
    const { world, mesh } = await makeMesh();
    const came = new EventEmitter();
    const server = new grpc.Server();
    server.addService(GREETER, {
      SayHello: () => came.emit('called'),
    });
    mesh.serve(server);
    await mesh.start();
    const web = await connect(world, 'web', mesh.port as number);
    const called = once(came, 'called');
    const hanging = web.client.unary(SayHello, { name: 'hang' });
    await called;
    server.forceShutdown();
    const { code, hauberkError } = await hanging;
    expect([code, hauberkError]).toEqual([grpc.status.UNAVAILABLE, 'app-lost']);
  });

  it('is given once, before the start, to a mesh that has a port and no other app', async () => {
    const server = new grpc.Server();
    const { mesh } = await makeMesh();
    mesh.serve(server);
    expect(() => mesh.serve(server)).toThrow(/was given a server before/);
    await mesh.start();
    expect(() => mesh.serve(server)).toThrow(/before start\(\)/);
    const { mesh: other } = await makeMesh({ app: '127.0.0.1:50051' });
    expect(() => other.serve(server)).toThrow(/options.app \(127.0.0.1:50051\)/);
    const { mesh: caller } = await makeMesh({ port: undefined });
    caller.serve(server);
    await expect(caller.start()).rejects.toThrow(/options.port is missing/);
    const { mesh: foreign } = await makeMesh();
    foreign.serve({
      createConnectionInjector: () => {
        throw new TypeError('creds');
      },
    } as never);
    await expect(foreign.start()).rejects.toThrow(/another copy of @grpc\/grpc-js/);
  });
});

describe('a SecureMeshServer', () => {
  it('is made of a name, a folder and limits; starts on another port if one is taken; ends without its handlers', async () => {
    const world = await World.make();
    await world.trust.issue(SERVICE);
    await using first = new SecureMeshServer(SERVICE, world.trust.dir, { maxRequests: 10, windowMs: 1000 });
    const port = await first.start();
    await using second = new SecureMeshServer(SERVICE, world.trust.dir);
    let signal: AbortSignal | undefined;
    second
      .handle('greet', () => 'second')
      .handle('never', (_request, context) => {
        signal = context.signal;
        return new Promise(() => {});
      });
    await expect(second.start(port)).rejects.toMatchObject({ code: 'port-taken' });
    const web = await connect(world, 'web', await second.start());
    expect((await web.call('greet')).message).toBe('second');
    const never = web.call('never');
    while (signal === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
    await second.cleanup(50);
    expect([signal.aborted, (await never).code]).toEqual([true, grpc.status.UNAVAILABLE]);
    expect(() => new SecureMeshServer(SERVICE, world.trust.dir, { maxRequests: 0, windowMs: 1 })).toThrow(
      /options.rateLimit/,
    );
  });
});
