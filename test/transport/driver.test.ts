import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { ConnectionLife } from '../../src/transport/connectionlife.ts';
import { HandshakeDriver } from '../../src/transport/driver.ts';
import { transportLimits } from '../../src/transport/limits.ts';
import { Turnstile } from '../../src/transport/turnstile.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { makePair } from './world.ts';

/** A responder's driver on a real socket, behind a turnstile that others may occupy. */
async function accepted() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const client = connect(port, '127.0.0.1');
  const [socket] = (await once(server, 'connection')) as [Socket];
  const pair = await makePair();
  const clock = new FakeClock();
  const turnstile = new Turnstile();
  const remote = { remoteAddress: '127.0.0.1', remotePort: port };
  const life = new ConnectionLife({ direction: 'inbound', ...remote, clock, listener: undefined });
  const driver = new HandshakeDriver({
    ...{
      socket,
      life,
      machine: pair.responder(),
      clock,
      turnstile,
      limits: transportLimits(),
      firstFrame: true,
    },
    ...{ onChannel: () => {}, onFailed: () => {} },
  });
  onTestFinished(() => {
    client.destroy();
    socket.destroy();
    server.close();
  });
  /** Sends octets, and returns when they wait at the turnstile, behind so many others. */
  const send = async (octets: Buffer, others: number): Promise<void> => {
    const came = once(socket, 'data');
    socket.prependOnceListener('data', () => {
      for (let i = 0; i < others; i++) turnstile.pass(() => {});
    });
    client.write(octets);
    await came;
  };
  return { driver, clock, send, opening: pair.initiator().start() };
}

it('a peer whose whole message waits for its turn keeps its place, and for a moment whenever the turn is the peer’s', async () => {
  const { driver, clock, send, opening } = await accepted();
  clock.advance(499);
  expect(driver.busy).toBe(true); // it has only just come
  clock.advance(1);
  expect(driver.busy).toBe(false);
  await send(opening, 3);
  expect(driver.busy).toBe(true);
  for (let i = 0; i < 5; i++) await turn();
  expect(driver.busy).toBe(true);
  clock.advance(499);
  expect(driver.busy).toBe(true);
  clock.advance(1);
  expect(driver.busy).toBe(false);
});

it('a peer that sends its message octet by octet gives way, also while one of them waits', async () => {
  const { driver, send, opening } = await accepted();
  await send(opening.subarray(0, 1), 0);
  for (let i = 1; i < 20; i++) {
    await turn();
    expect(driver.busy).toBe(false);
    await send(opening.subarray(i, i + 1), 3);
    expect(driver.busy, `octet ${i}`).toBe(false);
    for (let k = 0; k < 5; k++) await turn();
  }
});
