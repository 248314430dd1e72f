/** An address that lets no TCP connection come about, like that of a host that is gone: SYNs are dropped. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { atEnd } from './sidecars.ts';

const LISTEN = `
const server = require('node:net').createServer();
server.listen({ host: '127.0.0.1', port: 0, backlog: 1 }, () => console.log(server.address().port));
`;

/** The kernel drops SYNs while a listener's queue is full: nobody takes these out of it. */
const QUEUED = 4;

/** `host:port` of a listener whose process stands still, until the end of the test file. */
export async function blackhole(): Promise<string> {
  const child = spawn(process.execPath, ['-e', LISTEN], { stdio: ['ignore', 'pipe', 'inherit'] });
  atEnd(async () => {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  });
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
  child.kill('SIGSTOP');
  const sockets = Array.from({ length: QUEUED }, () => connect(Number(line), '127.0.0.1'));
  for (const socket of sockets) socket.on('error', () => {});
  atEnd(() => {
    for (const socket of sockets) socket.destroy();
  });
  await once(sockets[0] as (typeof sockets)[0], 'connect');
  return `127.0.0.1:${line}`;
}
