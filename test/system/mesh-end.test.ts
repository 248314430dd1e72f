import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:http2';
import { promisify } from 'node:util';
import * as grpc from '@grpc/grpc-js';
import { expect, it } from 'vitest';
import { SecureMesh } from '../../src/mesh/securemesh.ts';
import { SecureMeshServer } from '../../src/mesh/securemeshserver.ts';
import { GreeterClient } from '../fixtures/generated/ts-proto/hauberk/demo/v1/greeter.ts';
import { atEnd, World } from '../harness/sidecars.ts';

/* What is open in a program when its mesh ends: connections that nobody uses, a call under way, and one that comes too late. */

it('cleanup waits for a call under way, and for nothing that is idle', async () => {
  const world = await World.make();
  await world.identityFiles('greeter');
  await world.identityFiles('web');
  const keys = world.trust.dir;
  const server = new SecureMeshServer({ serviceId: 'greeter', keys, host: '127.0.0.1', log: 'silent' });
  let answer = (): void => {};
  server.handle(
    'slow',
    () =>
      new Promise((resolve) => {
        answer = () => resolve('at last');
      }),
  );
  const port = await server.start();
  atEnd(() => server.cleanup(0));
  const mesh = new SecureMesh({
    serviceId: 'web',
    keys,
    log: 'silent',
    services: { greeter: `127.0.0.1:${port}` },
  });
  await mesh.start();
  atEnd(() => mesh.cleanup(0));

  const silent = mesh.socket('greeter').resume(); // speaks no HTTP/2 at all
  const unread = mesh.socket('greeter'); // nor does it read
  const session = connect('http://greeter', { createConnection: () => mesh.socket('greeter') });
  await once(session, 'remoteSettings');
  const client = mesh.client(GreeterClient, 'greeter');
  const reply = mesh.connect('greeter').call('slow', null);
  const idle = new Promise((resolve) => client.sayHello({ name: 'x' }, (error) => resolve(error?.code)));
  expect(await idle).toBe(grpc.status.UNIMPLEMENTED);

  const ends = Promise.all([once(silent, 'close'), once(session, 'close')]);
  const cleanup = mesh.cleanup(600_000);
  await ends; // while the call is under way
  const late = await new Promise((resolve) =>
    client.sayHello({ name: 'x' }, (error) => resolve(error?.code)),
  );
  expect(late).toBe(grpc.status.UNAVAILABLE);
  answer();
  expect(await reply).toBe('at last');
  await cleanup;
  unread.destroy();
});

it('a program that reached nobody lives until its mesh has ended', async () => {
  const world = await World.make();
  await world.identityFiles('web');
  const options = { serviceId: 'web', keys: world.trust.dir, services: { gone: '127.0.0.1:1' } };
  const program = `
    import { SecureMesh } from '${new URL('../../dist/index.js', import.meta.url)}';
    const mesh = await new SecureMesh(${JSON.stringify(options)}).start();
    await mesh.connect('gone').call('echo', 1).catch((error) => console.log(error.reason));
    await mesh.cleanup();
    console.log(mesh.state);
  `;
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [
    '--input-type=module',
    '--eval',
    program,
  ]);
  expect({ stdout, stderr }).toEqual({ stdout: 'peer-unreachable\nended\n', stderr: '' });
});
