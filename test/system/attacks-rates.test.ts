/**
 * Floods of good frames and records, at sidecars whose limits are low; and traffic as fast as it goes through sidecars
 * with the defaults, which never meets them. docs/limits.md has the table.
 */
import { afterAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock/clock.ts';
import { loadIdentity } from '../../src/identity/load.ts';
import { DATA } from '../../src/transport/record.ts';
import { Attacker, eventually, opening, type PeerOptions, rogueRecords } from '../harness/attacker.ts';
import { Download } from '../harness/greeter-methods.ts';
import { block, data, E, END_HEADERS, headers, settingsAck } from '../harness/http2-peer.ts';
import { type Pair, SERVICE, type SidecarProcess, startPair, World } from '../harness/sidecars.ts';

const FRAMES = 1000; // a second, the least that can be configured
const RECORDS = 100;
const ENOUGH = 100_000;

const measured: string[] = [];
afterAll(() => console.info(measured.join('\n')));

const world = await World.make();
const low = { http2: { maxFramesPerSecond: FRAMES }, records: { maxRecordsPerSecond: RECORDS } };
const pair = await startPair({ world, web: low, greeter: low });

const files = await world.trust.issue('evil');
const evil = await loadIdentity({ ...files, trustDomain: 'shop.example' }, systemClock);
const self: PeerOptions = {
  identity: evil.identity,
  bundle: evil.bundle,
  expectedPeer: world.spiffeId('greeter'),
};

const UPLOAD = headers(
  1,
  block([
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', '/hauberk.test.v1.Hooks/Chat'],
    [':authority', SERVICE],
    ['te', 'trailers'],
    ['content-type', 'application/grpc'],
  ]),
  END_HEADERS,
);
/** A gRPC message without content, in a frame of its own. */
const MESSAGE = data(1, Buffer.alloc(5));

const crossed = (sidecar: SidecarProcess, side: 'app' | 'peer', kind: string): Promise<number> =>
  sidecar.metric('hauberk_floods_total', { side, kind });

/** `before`: what crossed() was. An attacker of an earlier test may have crossed this limit, too, while it was being ended. */
async function told(
  sidecar: SidecarProcess,
  side: 'app' | 'peer',
  kind: string,
  before: number,
): Promise<void> {
  const event = await sidecar.audit.event(
    'flood.detected',
    (flood) => flood.side === side && flood.kind === kind,
  );
  await sidecar.audit.event(
    'connection.closed',
    (closed) => closed.side === side && closed.reason === 'flood',
  );
  expect(await crossed(sidecar, side, kind)).toBe(before + 1);
  measured.push(`${side} | ${kind} | ${event.detail}`);
}

describe('more than may come in a second', () => {
  it('of an app’s frames end its connection, and nobody else’s', async () => {
    const before = await crossed(pair.web, 'app', 'frames');
    const attacker = await (await Attacker.app(pair.web.egress)).ready();
    attacker.write(UPLOAD);
    const sent = await attacker.flood(() => MESSAGE, ENOUGH);
    await attacker.end();
    expect(attacker.goaway).toBe(E.ENHANCE_YOUR_CALM);
    expect(sent).toBeLessThan(ENOUGH);
    await told(pair.web, 'app', 'frames', before);
  });

  it('of a peer’s frames end its connection', async () => {
    const before = await crossed(pair.greeter, 'peer', 'frames');
    const attacker = await (await Attacker.peer(pair.greeter.ingress, self)).ready();
    attacker.write(UPLOAD);
    // Many in a record, so that frames are too many before records are.
    await attacker.flood(() => MESSAGE, ENOUGH, 500);
    await attacker.end();
    expect(attacker.goaway).toBe(E.ENHANCE_YOUR_CALM);
    await told(pair.greeter, 'peer', 'frames', before);
  });

  it('of a peer’s records cut it off without a word', async () => {
    const before = await crossed(pair.greeter, 'peer', 'records');
    const rogue = await rogueRecords(pair.greeter.ingress, self);
    let closed = false;
    const over = (): void => {
      closed = true;
    };
    rogue.socket.on('end', over).on('close', over).on('error', over);
    rogue.send(DATA, Buffer.concat([opening(), settingsAck(), UPLOAD]));
    for (let i = 0; i < 3 * RECORDS; i++) rogue.send(DATA, MESSAGE);
    await eventually(() => closed);
    await told(pair.greeter, 'peer', 'records', before);
  });
});

describe('with the defaults', () => {
  const floods = async ({ web, greeter }: Pair): Promise<number> =>
    (await web.metric('hauberk_floods_total')) + (await greeter.metric('hauberk_floods_total'));

  it('a bulk transfer meets no limit', async () => {
    const bulk = await startPair({ world });
    const started = performance.now();
    const { code, messages } = await bulk.client.serverStream(Download, { count: 256, size: 1 << 20 }).answer;
    const seconds = (performance.now() - started) / 1000;
    expect([code, messages.length]).toEqual([0, 256]);
    expect(await floods(bulk)).toBe(0);
    measured.push(`256 MiB in ${seconds.toFixed(2)} s`);
  });
});
