/** The admin API of live sidecars: over a Unix socket (greeter) and over loopback with a token (web). */
import { once } from 'node:events';
import { chmod, stat, writeFile } from 'node:fs/promises';
import * as http2 from 'node:http2';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import { expect, it } from 'vitest';
import type {
  ListSessionsResponse,
  RevokeResponse,
  SessionMessage,
  StatusMessage,
} from '../../src/admin/messages.ts';
import type { AuditEventOf } from '../../src/audit/event.ts';
import { AdminClient, type WatchMessage } from '../harness/admin-client.ts';
import { Chat, SayHello } from '../harness/greeter-methods.ts';
import { atEnd, startPair, World } from '../harness/sidecars.ts';

const TOKEN = 'correct-horse-battery-staple-'.repeat(2);

const world = await World.make();
const socket = join(world.dir, 'admin.sock');
const tokenFile = join(world.dir, 'admin.token');
await writeFile(tokenFile, `${TOKEN}\n`);
await chmod(tokenFile, 0o600);
const pair = await startPair({
  world,
  greeter: { admin: { listen: `unix:${socket}` } },
  web: { admin: { listen: '127.0.0.1:0', token: tokenFile } },
});
const { web, greeter, client } = pair;
const webAddress = web.ready.admin[0] as string;

function connect(address: string, authorization?: string): AdminClient {
  const made = new AdminClient(address, authorization);
  atEnd(() => made.close());
  return made;
}

const local = connect(`unix:${socket}`);
const remote = connect(webAddress, `Bearer ${TOKEN}`);

async function hello(): Promise<string> {
  const { code, message } = await client.unary(SayHello, { name: 'Ada' });
  expect(code).toBe(0);
  return message?.session as string;
}

/** Waits until so many calls have been refused for want of a token; the events that say so. */
async function refusals(calls: number): Promise<ReadonlyArray<AuditEventOf<'admin.refused'>>> {
  for (let i = 0; i < 500; i++) {
    const events = await web.audit.of('admin.refused');
    if (events.reduce((sum, { count }) => sum + Number(count), 0) === calls) return events;
    await pause(10);
  }
  throw new Error(`not told of ${calls} calls: ${JSON.stringify(await web.audit.of('admin.refused'))}`);
}

/** Waits until a line of a sidecar's log says so. */
async function logged(log: () => string, fits: RegExp): Promise<void> {
  for (let i = 0; i < 500 && !fits.test(log()); i++) await pause(10);
  expect(log()).toMatch(fits);
}

it('the socket is for its owner only, and the ready line names what is bound', async () => {
  expect(greeter.ready.admin).toEqual([`unix:${socket}`]);
  expect(webAddress).toMatch(/^127\.0\.0\.1:[1-9]\d*$/);
  expect((await stat(socket)).mode & 0o777).toBe(0o600);
});

it('both ends show the same session, and a status that counts it', async () => {
  const id = await hello();
  const [at, of] = await Promise.all([local, remote].map((api) => api.call<StatusMessage>('GetStatus')));
  expect(at).toMatchObject({
    pid: greeter.pid,
    spiffeId: world.spiffeId('greeter'),
    ready: true,
    draining: false,
  });
  expect(at?.sessions).toMatchObject({ active: 1, inbound: 1, outbound: 0, peers: 1 });
  expect(of?.sessions).toMatchObject({ active: 1, inbound: 0, outbound: 1 });
  expect(at?.listeners).toContainEqual({ name: 'admin', address: `unix:${socket}` });
  expect(at?.auditAdapters[0]).toMatchObject({ state: 'working', dropped: 0 });
  const inbound = await local.call<SessionMessage>('GetSession', { id });
  const outbound = await remote.call<SessionMessage>('GetSession', { id });
  expect(inbound).toMatchObject({ id, peer: world.spiffeId('web'), direction: 'INBOUND', connections: 1 });
  expect(inbound.openConnections).toMatchObject([{ direction: 'INBOUND', state: 'open' }]);
  expect(outbound.openConnections).toMatchObject([{ direction: 'OUTBOUND', state: 'open' }]);
  expect(outbound).toMatchObject({ id, direction: 'OUTBOUND', service: 'greeter.shop' });
  expect([inbound.counters.calls, outbound.counters.calls]).toEqual([1, 1]);
  const filter = { peer: world.spiffeId('*'), direction: 'INBOUND' };
  const page = await local.call<ListSessionsResponse>('ListSessions', { filter });
  expect(page).toMatchObject({ totalSize: 1, nextPageToken: '' });
  expect(page.sessions.map((session) => session.id)).toEqual([id]);
});

it('over TCP nobody does anything without the token; the refusal is audited', async () => {
  const strangers = [undefined, 'Bearer wrong', `Basic ${TOKEN}`, `Bearer ${TOKEN}x`];
  const methods = ['GetStatus', 'ListSessions', 'RevokeSessions', 'Drain'];
  for (const authorization of strangers) {
    const api = connect(webAddress, authorization);
    const answers = await Promise.all(methods.map((name) => api.status(name, { all: true, reason: 'x' })));
    expect(answers).toEqual(methods.map(() => 'UNAUTHENTICATED'));
    const [error] = (await once(api.watch(), 'error')) as [grpc.ServiceError];
    expect(error.code).toBe(grpc.status.UNAUTHENTICATED);
  }
  const refused = await refusals(strangers.length * 5);
  expect(refused.every(({ reason }) => reason === 'no-token' || reason === 'wrong-token')).toBe(true);
  // Whoever asks in vain again and again does not fill the audit: one event, then one a second.
  expect(refused.length).toBeLessThan(10);
  expect(refused[0]?.caller).toMatch(/^127\.0\.0\.1:\d+$/);
  expect(await web.audit.of('admin.command')).toEqual([]);
  expect((await remote.call<StatusMessage>('GetStatus')).sessions.active).toBe(1);
  expect(web.log + JSON.stringify(await web.audit.all())).not.toContain('horse');
});

it('over TCP a stranger is answered before its request is read, whatever the method', async () => {
  const session = http2.connect(`http://${webAddress}`);
  atEnd(() => session.destroy());
  const stream = session.request({
    ':method': 'POST',
    ':path': '/hauberk.admin.v1.Admin/RevokeSessions',
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  // The head of a message of 60,000 octets, and never its end.
  stream.write(Buffer.from('000000ea60', 'hex'));
  const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders];
  expect(headers['grpc-status']).toBe(`${grpc.status.UNAUTHENTICATED}`);
  stream.destroy();
});

it('hostile requests are refused one by one, and harm nothing', async () => {
  const long = 'x'.repeat(70_000);
  const answers = await Promise.all([
    local.status('ListSessions', { filter: { peer: long } }),
    local.status('ListSessions', { filter: { peer: 'spiffe://a/'.repeat(40) } }),
    local.status('ListSessions', { pageToken: 'bm9uZQ' }),
    local.status('ListSessions', { pageSize: -5 }),
    local.status('GetSession', { id: '../../etc/passwd' }),
    local.status('GetSession', { id: '00000000-0000-8000-8000-000000000000' }),
    local.status('SetFrameLogging', { sessionId: 'x', enabled: true }),
    local.status('RevokeSessions', { reason: 'none named' }),
    local.status('RevokeSessions', { filter: {}, reason: 'names nothing' }),
    local.status('RevokeSessions', { all: true, ids: ['x'], reason: 'both' }),
    local.status('RevokeSessions', { all: true }),
    local.status('BlockPeer', { peer: 'spiffe://shop.example/*', reason: 'all' }),
    local.status('Drain', { deadlineMs: -1 }),
    local.status('Drain', { deadlineMs: 2 ** 60 }),
  ]);
  const refused = 'INVALID_ARGUMENT';
  expect(answers).toEqual([
    'RESOURCE_EXHAUSTED',
    ...[refused, refused, refused, refused],
    'NOT_FOUND',
    ...Array.from({ length: 8 }, () => refused),
  ]);
  // Everything that would have changed something is in the audit all the same.
  const commands = await greeter.audit.events('admin.command', 8);
  expect(commands.map(({ outcome }) => outcome)).toEqual(commands.map(() => refused));
  expect(new Set(commands.map(({ caller }) => caller))).toEqual(new Set([`unix:${socket}`]));
  for (const octets of [
    'GET / HTTP/1.1\r\n\r\n',
    '\x16\x03\x01\x00\x05hello',
    `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${long}`,
  ]) {
    const stranger = createConnection(socket).on('error', () => {});
    stranger.resume().end(octets);
    await once(stranger, 'close');
  }
  expect((await local.call<StatusMessage>('GetStatus')).sessions.active).toBe(1);
  await hello();
});

/** The message of a call: 5 octets of gRPC, and `Ada` in 5. */
const FRAME =
  /"remote":"127\.0\.0\.1:\d+","direction":"in","frame":"DATA","flags":"END_STREAM","streamId":(\d+),"length":10/;

it('the frames of a session are logged while that is switched on, and nothing that they carry', async () => {
  const id = await hello();
  const before = greeter.log.length;
  const log = (): string => greeter.log.slice(before);
  expect(await local.call('SetFrameLogging', { sessionId: id, enabled: true })).toEqual({
    wasEnabled: false,
  });
  expect(await local.call('SetFrameLogging', { sessionId: id, enabled: true })).toEqual({ wasEnabled: true });
  expect((await local.call<SessionMessage>('GetSession', { id })).flags.frameLogging).toBe(true);
  expect((await remote.call<SessionMessage>('GetSession', { id })).flags.frameLogging).toBe(false);
  await hello();
  await logged(log, /"direction":"in","frame":"HEADERS"/);
  await logged(log, FRAME);
  await logged(log, /"direction":"out","frame":"HEADERS"/);
  expect(log()).toContain(`"sessionId":"${id}"`);
  expect(log()).not.toMatch(/Ada|SayHello|application\/grpc/);
  expect(await local.call('SetFrameLogging', { sessionId: id, enabled: false })).toEqual({
    wasEnabled: true,
  });
  await hello();
  await local.call('SetFrameLogging', { sessionId: id, enabled: true });
  await hello();
  // The log is written in its own time, but in order: once the third call is there, so would be the second.
  const calls = (): number[] =>
    [...log().matchAll(new RegExp(FRAME, 'g'))].map(([, streamId]) => Number(streamId));
  await expect.poll(() => calls().length, { timeout: 20_000 }).toBeGreaterThanOrEqual(2);
  const [first = 0] = calls();
  expect(calls()).toEqual([first, first + 4]);
  await local.call('SetFrameLogging', { sessionId: id, enabled: false });
});

it('a revoked session is cut with a receipt, and its calls with it', async () => {
  const id = await hello();
  const open = client.bidi(Chat);
  open.call.write({ data: Buffer.from('first') });
  await once(open.call, 'data');
  const unknown = '00000000-0000-8000-8000-000000000000';
  const receipt = await local.call<RevokeResponse>('RevokeSessions', {
    ids: [id, unknown],
    reason: 'laptop lost',
  });
  expect(receipt).toMatchObject({
    sessionsCut: 1,
    unknownIds: [unknown],
    blocked: [],
    hold: 'HOLD_UNSPECIFIED',
  });
  const [cut] = receipt.sessions;
  expect(cut).toMatchObject({ sessionId: id, peer: world.spiffeId('web'), mayReturn: true, callsCut: 1 });
  expect(cut?.recordsAccepted).toBeGreaterThan(3);
  expect(cut?.connections).toEqual([
    { remote: expect.stringMatching(/^127\.0\.0\.1:\d+$/), lastRecord: (cut?.recordsAccepted as number) - 1 },
  ]);
  expect(cut?.cutMicros).toBeGreaterThan(0);
  const cutCall = await open.answer;
  expect([cutCall.code, cutCall.hauberkError]).toEqual([grpc.status.UNAVAILABLE, 'session-revoked']);
  expect(cutCall.details).toContain(`an operator ended session ${id} with ${world.spiffeId('web')}`);
  const event = await greeter.audit.event('session.revoked', ({ sessionId }) => sessionId === id);
  expect(event).toMatchObject({ recordsAccepted: cut?.recordsAccepted, cutMicros: cut?.cutMicros });
  const command = await greeter.audit.event(
    'admin.command',
    ({ method, outcome }) => method === 'RevokeSessions' && outcome === 'OK',
  );
  expect(command).toMatchObject({
    caller: `unix:${socket}`,
    detail: '1 sessions cut, 1 ids unknown, 0 peers blocked',
  });
  expect(JSON.parse(command.request)).toMatchObject({ reason: 'laptop lost' });
  expect(await local.status('GetSession', { id })).toBe('NOT_FOUND');
  expect(await hello()).not.toBe(id);
});

it('a blocked peer stays out until it is allowed again', async () => {
  const peer = world.spiffeId('web');
  const receipt = await local.call<RevokeResponse>('BlockPeer', { peer, reason: 'key leaked' });
  expect(receipt).toMatchObject({
    sessionsCut: 1,
    hold: 'UNTIL_RESTART',
    holdDetail: 'revocation.file is not configured',
  });
  expect((await local.call<StatusMessage>('GetStatus')).peersBlocked).toBe(1);
  expect(receipt.sessions[0]?.mayReturn).toBe(false);
  expect((await client.unary(SayHello, { name: 'Ada' })).code).not.toBe(0);
  expect(await local.call('ListBlockedPeers')).toMatchObject({ blocked: [{ peer, reason: 'key leaked' }] });
  expect(await local.call('AllowPeer', { peer })).toMatchObject({ was: { peer } });
  expect(await local.call('AllowPeer', { peer })).toEqual({ was: null });
  let code = -1;
  for (let i = 0; i < 100 && code !== 0; i++) {
    code = (await client.unary(SayHello, { name: 'Ada' })).code;
    if (code !== 0) await pause(50); // the next dial waits for its backoff
  }
  expect(code).toBe(0);
});

it('what was asked stands whole in the audit, unless it was malformed', async () => {
  const ids = Array.from({ length: 1000 }, (_, i) => `00000000-0000-8000-8000-${`${i}`.padStart(12, '0')}`);
  await local.call('RevokeSessions', { ids, reason: 'drill' });
  const whole = await greeter.audit.event('admin.command', ({ request }) => request.includes('drill'));
  expect(JSON.parse(whole.request)).toMatchObject({ ids, reason: 'drill', blockPeers: false });
  expect(await local.status('BlockPeer', { peer: 'x'.repeat(60_000), reason: 'long' })).toBe(
    'INVALID_ARGUMENT',
  );
  const cut = await greeter.audit.event('admin.command', ({ request }) => request.includes('xxxx'));
  expect(cut.request).toHaveLength(1024);
  expect(cut.request).toMatch(/x…$/);
});

it('who watches and does not read is told what was dropped, and holds up nobody', async () => {
  const [idle, reader] = [local.watch({ types: ['call.*'] }), local.watch({ types: ['call.*'] })];
  const read: WatchMessage[] = [];
  const end = (watch: typeof idle): void => void watch.on('error', () => {}).cancel();
  reader.on('data', (message: WatchMessage) => read.push(message));
  await Promise.all([once(reader, 'data'), once(idle, 'readable')]);
  const calls = 3000;
  for (let done = 0; done < calls; done += 100) await Promise.all(Array.from({ length: 100 }, hello));
  for (let i = 0; i < 500 && read.length <= calls; i++) await pause(10);
  expect(read.map(({ what }) => what)).toEqual(['watching', ...Array.from({ length: calls }, () => 'event')]);
  const seen: WatchMessage[] = [];
  idle.on('data', (message: WatchMessage) => seen.push(message));
  const dropped = (): number => seen.reduce((sum, message) => sum + (message.dropped ?? 0), 0);
  const events = (): number => seen.filter(({ what }) => what === 'event').length;
  for (let i = 0; i < 500 && events() + dropped() < calls; i++) await pause(10);
  expect(events() + dropped()).toBe(calls);
  expect(dropped()).toBeGreaterThan(500);
  end(idle);
  end(reader);
});

it('16 may watch at a time', async () => {
  const api = connect(`unix:${socket}`);
  const watches = Array.from({ length: 16 }, () => api.watch());
  await Promise.all(watches.map((watch) => once(watch, 'data')));
  const [error] = (await once(api.watch(), 'error')) as [grpc.ServiceError];
  expect(error.code).toBe(grpc.status.RESOURCE_EXHAUSTED);
  for (const watch of watches) watch.on('error', () => {}).cancel();
  let code = -1;
  for (let i = 0; i < 200 && code !== 0; i++) {
    const again = api.watch();
    code = await Promise.race([
      once(again, 'data').then(() => 0),
      once(again, 'error').then(([refused]) => (refused as grpc.ServiceError).code),
    ]).catch(({ code: refused }: grpc.ServiceError) => refused);
    again.on('error', () => {}).cancel();
  }
  expect(code).toBe(0);
});

it('a drain is begun once, and the process stays until its signal; watchers hear the last event', async () => {
  const types: string[] = [];
  const watch = local.watch({ types: ['sidecar.*'] });
  watch.on('data', ({ event }: WatchMessage) => void (event && types.push(event.type))).on('error', () => {});
  await once(watch, 'data');
  expect(await local.call('Drain', { deadlineMs: 10_000 })).toEqual({ wasDraining: false, callsOpen: 0 });
  expect(await local.call('Drain')).toMatchObject({ wasDraining: true });
  expect(await local.call<StatusMessage>('GetStatus')).toMatchObject({
    ready: false,
    draining: true,
    pending: ['draining'],
  });
  expect((await greeter.probe('/readyz')).status).toBe(503);
  const ended = once(watch, 'end');
  expect(await greeter.stop()).toBe(0);
  await ended;
  expect(types).toEqual(['sidecar.draining', 'sidecar.stopped']);
  await expect(stat(socket)).rejects.toMatchObject({ code: 'ENOENT' });
});
