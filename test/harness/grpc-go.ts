/** Grpc-go's interop client and server. A tool that is missing fails the test that needs it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { freePorts } from '../../bench/peers/port.ts';
import { runTool } from './nghttp2.ts';
import { atEnd } from './sidecars.ts';

const SERVER = 'grpc-interop-server';
const CLIENT = 'grpc-interop-client';

/** Starts its server; returns where it listens. It ends with the test file. */
export async function startGoInteropApp(): Promise<string> {
  const [port] = (await freePorts(1)) as [number];
  const server = spawn(SERVER, [`--port=${port}`, '--use_tls=false'], { stdio: 'ignore' });
  await once(server, 'spawn').catch((cause: unknown) => {
    throw new Error(`${SERVER} could not be run; .ci/run installs it`, { cause });
  });
  atEnd(() => stop(server));
  await listening(server, port);
  return `127.0.0.1:${port}`;
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

async function listening(server: ChildProcess, port: number): Promise<void> {
  for (;;) {
    if (server.exitCode !== null) throw new Error(`${SERVER} ended before it listened`);
    const socket = connect(port, '127.0.0.1');
    const open = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
    });
    socket.destroy();
    if (open) return;
    await pause(10);
  }
}

/** Runs a case of its client against `address`, `host:port`. Rejects with what the client said where the case fails. */
export async function runGoInteropCase(
  name: string,
  address: string,
  args: readonly string[] = [],
): Promise<void> {
  const colon = address.lastIndexOf(':');
  const { code, stdout, stderr } = await runTool(CLIENT, [
    `--test_case=${name}`,
    '--use_tls=false',
    `--server_host=${address.slice(0, colon)}`,
    `--server_port=${address.slice(colon + 1)}`,
    ...args,
  ]);
  if (code !== 0) throw new Error(`${name} of ${CLIENT}: exit code ${code}\n${stdout}${stderr}`);
}
