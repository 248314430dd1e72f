import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { AuditFile } from '../harness/auditfile.ts';
import { block, frame, headers, PREFACE, settings, T, u32 } from '../harness/http2-peer.ts';
import { RawApp } from '../harness/rawh2.ts';
import { rawConnection } from '../harness/rawtcp.ts';
import { atEnd, ingressTo, SERVICE, startPair, World } from '../harness/sidecars.ts';

/*
 * The end of a sidecar around which everything hangs: a call that never ends, an app that reads nothing, a peer that
 * answers nothing, and an audit adapter that takes nothing and keeps the process alive.
 */

const DEADLINE_MS = 6000;
/** For a busy machine; without limits of their own the steps after the calls would take 9 s more. */
const EXIT_MS = 6000;

const HANGING_ADAPTER = `
const never = new Promise(() => setInterval(() => {}, 1000));
export default { write: () => never, flush: () => never, close: () => never };
`;

/** More than the sockets on the way and all windows take. */
const BODY = Buffer.alloc(32 * 1024 * 1024);

/** An app that answers with BODY whoever asks, and never comes to the end of it. */
async function endlessApp(): Promise<RawApp> {
  const app = await RawApp.start();
  app.onRequest(({ stream }) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
    stream.write(BODY);
  });
  return app;
}

/** A client that opens a stream, allows it everything, and reads nothing any more once the answer has begun. */
async function deafClient(address: string): Promise<void> {
  const socket = await rawConnection(address);
  const request = block([
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', '/shop.Raw/Download'],
    [':authority', SERVICE],
    ['content-type', 'application/grpc'],
    ['te', 'trailers'],
  ]);
  socket.write(
    Buffer.concat([
      PREFACE,
      settings([4, 0x7fff_ffff]),
      frame(T.WINDOW_UPDATE, 0, 0, u32(0x7fff_0000)),
      headers(1, request),
    ]),
  );
  for (let octets = 0; octets < 64 * 1024; ) octets += ((await once(socket, 'data')) as [Buffer])[0].length;
  socket.pause();
}

/** What the log says of the way down. */
function stepsOf(log: string): string[] {
  const lines = log.trimEnd().split('\n');
  return lines
    .map((line) => JSON.parse(line) as { message: string })
    .map(({ message }) => message)
    .filter((message) => /^(draining|an audit adapter|audit written|keys wiped|stopped)/.test(message));
}

it.each(['web', 'greeter'] as const)(
  '%s ends within drain.deadline whatever hangs: drained, written, wiped',
  async (name) => {
    const world = await World.make();
    const adapter = join(world.dir, 'hanging.mjs');
    await writeFile(adapter, HANGING_ADAPTER);
    const app = await endlessApp();
    const file = join(world.dir, 'written.jsonl');
    const ending = {
      drain: { deadline: `${DEADLINE_MS}ms` },
      monitoring: { adapters: [{ module: adapter }, { file: { path: file } }] },
      // Nothing but the adapter keeps the process alive once its connections are closed.
      probes: { http: 'off', grpc: 'off' },
    };
    const pair = await startPair({
      world,
      greeter: { ...ingressTo(world, app.address), ...(name === 'greeter' ? ending : {}) },
      web: name === 'web' ? ending : {},
    });
    await deafClient(pair.web.egress);
    const frozen = pair[name === 'web' ? 'greeter' : 'web'];
    frozen.signal('SIGSTOP');
    atEnd(() => frozen.signal('SIGCONT'));

    pair[name].signal('SIGTERM');
    const end = await Promise.race([pair[name].exited, pause(DEADLINE_MS + EXIT_MS, 'too late')]);
    expect(end).toEqual({ code: 7, signal: null });
    expect(stepsOf(pair[name].log)).toEqual([
      'draining',
      'an audit adapter never got these events',
      'audit written',
      'keys wiped',
      'stopped',
    ]);
    const events = await new AuditFile(file, `${name}'s audit`).all();
    const types: string[] = events.map(({ type }) => type);
    const order = [
      'sidecar.draining',
      'call.completed',
      'connection.closed',
      'session.closed',
      'sidecar.stopped',
    ];
    expect(types.filter((type) => order.includes(type))).toEqual(expect.arrayContaining(order));
    expect(types.indexOf('sidecar.draining')).toBeLessThan(types.indexOf('call.completed'));
    for (const type of ['call.completed', 'connection.closed', 'session.closed']) {
      expect(types.lastIndexOf(type)).toBeLessThan(types.indexOf('sidecar.stopped'));
    }
    expect(types.filter((type) => type === 'connection.opened').length).toBe(
      types.filter((type) => type === 'connection.closed').length,
    );
    expect(events.find(({ type }) => type === 'sidecar.stopped')).toMatchObject({ callsCut: 1 });
  },
);
