import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { type Clock, systemClock } from '../../src/clock/clock.ts';
import { loadIdentity } from '../../src/identity/load.ts';
import type { Session } from '../../src/session/session.ts';
import type { Established } from '../../src/transport/handshake.ts';
import { Initiator } from '../../src/transport/initiator.ts';
import { DEFAULT_HANDSHAKE_LIMITS } from '../../src/transport/limits.ts';
import { MODES } from '../../src/transport/mode.ts';
import { CLOSE, DATA, MAX_LENGTH, PING } from '../../src/transport/record.ts';
import { type Embedded, embed, embedAgain } from '../harness/embedded.ts';
import type { TestClient } from '../harness/greeter-client.ts';
import { Chat, SayHello } from '../harness/greeter-methods.ts';
import { block, data, END_STREAM, headers, PREFACE, settings, settingsAck } from '../harness/http2-peer.ts';
import { atEnd, ingressTo, SERVICE, type SidecarProcess, World } from '../harness/sidecars.ts';
import { Rogue } from '../transport/wire.ts';
import { crypto } from '../transport/world.ts';

/** The called sidecar is in this process, the calling one a process of its own. */
async function callee(config: object = {}) {
  const world = await World.make();
  const app = await world.app();
  const greeter = await embed(world, 'greeter', { ...ingressTo(world, app.address), ...config });
  const web = await world.sidecar('web', routeTo(world, greeter.ingress));
  return { world, app, greeter, web, client: world.client(web.egress, { authority: SERVICE }) };
}

/** The calling sidecar is in this process, the called one a process of its own. */
async function caller() {
  const world = await World.make();
  const app = await world.app();
  const greeter = await world.sidecar('greeter', ingressTo(world, app.address));
  const web = await embed(world, 'web', routeTo(world, greeter.ingress));
  return { world, app, greeter, web, client: world.client(web.egress, { authority: SERVICE }) };
}

const routeTo = (world: World, endpoint: string) => ({
  egress: { routes: [{ service: SERVICE, endpoints: [endpoint], peer: world.spiffeId('greeter') }] },
});

/** A bidirectional call of which one message has come back. */
async function underWay(client: TestClient) {
  const chat = client.bidi(Chat);
  const back = once(chat.call, 'data');
  chat.call.write({ data: Buffer.from('first') });
  await back;
  return chat;
}

async function outcome(client: TestClient): Promise<[number, string | undefined]> {
  const { code, hauberkError } = await client.unary(SayHello, { name: 'Ada' });
  return [code, hauberkError];
}

/** Calls until one succeeds: a caller that was refused holds back for a moment. */
async function untilOk(client: TestClient): Promise<void> {
  while ((await outcome(client))[0] !== 0) await pause(20);
}

const { OK, UNAVAILABLE, PERMISSION_DENIED } = grpc.status;

describe.concurrent('a session that is revoked', () => {
  it('ends in the middle of its streams, at the called side; its peer is told, and may come back', async () => {
    const { world, greeter, web, client } = await callee();
    const chats = [await underWay(client), await underWay(client)];
    const { sessionId } = await web.audit.event('session.created');

    const receipt = await greeter.sidecar.revocation.revoke(
      { ids: [sessionId, 'no-such'] },
      { reason: 'drill' },
    );
    for (const { answer } of chats) {
      const { code, hauberkError } = await answer;
      expect([code, hauberkError]).toEqual([UNAVAILABLE, 'session-revoked']);
    }
    expect(receipt).toMatchObject({ reason: 'drill', unknown: ['no-such'], blocked: [], hold: undefined });
    const [one] = receipt.sessions;
    expect(receipt.sessions).toHaveLength(1);
    expect(one).toMatchObject({
      sessionId,
      peer: world.spiffeId('web'),
      direction: 'inbound',
      mayReturn: true,
      callsCut: 2,
    });
    const [connection] = one?.connections ?? [];
    expect(one?.connections).toHaveLength(1);
    expect(connection?.lastRecord).toBe((connection?.records as number) - 1);
    expect(one?.recordsAccepted).toBe(connection?.records);
    expect(one?.cutMicros).toBeGreaterThan(0);
    expect(receipt.cutMicros).toBeGreaterThanOrEqual(one?.cutMicros as number);

    expect(await greeter.audit.event('session.revoked')).toMatchObject({
      sessionId,
      reason: 'drill',
      mayReturn: true,
      calls: 2,
      callsCut: 2,
      recordsAccepted: one?.recordsAccepted,
      lastRecords: [`${connection?.remote} ${connection?.lastRecord}`],
      cutMicros: one?.cutMicros,
    });
    expect(await greeter.audit.event('connection.closed', (e) => e.side === 'peer')).toMatchObject({
      sessionId,
      reason: 'revoked',
      detail: 'drill',
    });
    // The operator's words stay here.
    expect(await web.audit.event('session.closed')).toMatchObject({ sessionId, reason: 'revoked' });
    expect(await web.audit.event('connection.closed', (e) => e.side === 'peer')).toMatchObject({
      reason: 'peer-closed',
    });
    expect(JSON.stringify(await web.audit.all())).not.toContain('drill');

    expect(await outcome(client)).toEqual([OK, undefined]);
    const next = await web.audit.event('session.created', (event) => event.sessionId !== sessionId);
    expect(next.peer).toBe(world.spiffeId('greeter'));
    expect(await greeter.audit.of('session.closed')).toEqual([]);
  });

  it('ends at the calling side as well, and the called one is told', async () => {
    const { world, greeter, web, client } = await caller();
    const { answer } = await underWay(client);
    const where = { service: SERVICE, direction: 'outbound' as const };
    const { sessions } = await web.sidecar.revocation.revoke({ where }, { reason: 'drill' });
    const { code, hauberkError } = await answer;
    expect([code, hauberkError]).toEqual([UNAVAILABLE, 'session-revoked']);
    expect(sessions).toMatchObject([{ peer: world.spiffeId('greeter'), callsCut: 1, serviceId: SERVICE }]);
    const { sessionId } = sessions[0] as { sessionId: string };
    expect(await greeter.audit.event('session.closed')).toMatchObject({ sessionId, reason: 'revoked' });
    expect(await outcome(client)).toEqual([OK, undefined]);
  });

  it('fits a filter over metadata, or none is revoked', async () => {
    const { greeter, web, client } = await callee();
    expect(await outcome(client)).toEqual([OK, undefined]);
    const { revocation } = greeter.sidecar;
    const none = await revocation.revoke({ where: { metadata: { tenant: 'acme' } } }, { reason: 'drill' });
    expect(none.sessions).toEqual([]);
    expect(() => revocation.revoke({ where: {} }, { reason: 'drill' })).toThrow(/\{ all: true \}/);
    expect(() => revocation.revoke({ all: true }, { reason: '' })).toThrow(/a reason has/);
    await revocation.revoke(
      {
        where: (session) => {
          session.metadata.tenant = 'acme';
          return false;
        },
      },
      { reason: 'marks them' },
    );
    const one = await revocation.revoke({ where: { metadata: { tenant: 'acme' } } }, { reason: 'drill' });
    expect(one.sessions).toHaveLength(1);
    expect(await web.audit.event('session.closed')).toMatchObject({ reason: 'revoked' });
  });
});

describe.concurrent('a peer that is blocked', () => {
  it('is cut, and refused once it has proven who it is, until it is allowed', async () => {
    const { world, greeter, web, client } = await callee();
    const { answer } = await underWay(client);
    const { sessionId } = await web.audit.event('session.created');
    const receipt = await greeter.sidecar.revocation.revoke(
      { ids: [sessionId] },
      { mayReturn: false, reason: 'key leaked' },
    );
    const peer = world.spiffeId('web');
    expect(receipt).toMatchObject({
      sessions: [{ sessionId, mayReturn: false }],
      blocked: [{ peer, reason: 'key leaked' }],
      hold: { until: 'restart', why: 'revocation.file is not configured' },
    });
    const { code, hauberkError } = await answer;
    expect([code, hauberkError]).toEqual([PERMISSION_DENIED, 'peer-blocked']);
    expect(await web.audit.event('session.closed')).toMatchObject({ sessionId, reason: 'revoked' });

    expect(await outcome(client)).toEqual([UNAVAILABLE, 'handshake-refused']);
    expect(await greeter.audit.event('handshake.failed')).toMatchObject({
      direction: 'inbound',
      reason: 'peer-blocked',
      peer,
    });
    expect(await greeter.audit.of('session.created')).toHaveLength(1);
    expect(await greeter.audit.event('peer.blocked')).toMatchObject({
      peer,
      reason: 'key leaked',
      sessions: 1,
      holdsUntil: 'restart',
    });

    expect(greeter.sidecar.revocation.blocked()).toMatchObject([{ peer, reason: 'key leaked' }]);
    expect(await greeter.sidecar.revocation.allow(peer)).toMatchObject({
      peer,
      was: { reason: 'key leaked' },
    });
    await untilOk(client);
    expect(await greeter.audit.event('peer.allowed')).toMatchObject({ peer });
    expect(await greeter.sidecar.revocation.allow(peer)).toEqual({ peer, was: undefined });
  });

  it('is not called either, from the first call on, and at once again when it is allowed', async () => {
    const { world, greeter, web, client } = await caller();
    const { answer } = await underWay(client);
    const peer = world.spiffeId('greeter');
    const { revocation } = web.sidecar;
    expect((await revocation.block(peer, 'drill')).sessions).toMatchObject([{ peer, mayReturn: false }]);
    const { code, hauberkError } = await answer;
    expect([code, hauberkError]).toEqual([PERMISSION_DENIED, 'peer-blocked']);
    for (let i = 0; i < 3; i++) expect(await outcome(client)).toEqual([PERMISSION_DENIED, 'peer-blocked']);
    // Nobody has even tried.
    expect(await web.audit.of('handshake.failed')).toEqual([]);
    expect(await greeter.audit.of('session.created')).toHaveLength(1);
    await revocation.allow(peer);
    expect(await outcome(client)).toEqual([OK, undefined]);
  });

  it('stays so over a restart; a file that is damaged stops the sidecar', async () => {
    const { world, greeter, client } = await callee({ revocation: { file: 'blocked.jsonl' } });
    await untilOk(client);
    const peer = world.spiffeId('web');
    const { hold } = await greeter.sidecar.revocation.block(peer, 'key leaked');
    expect(hold).toEqual({ until: 'allowed' });
    await greeter.sidecar.stop('restart');

    const again: Embedded = await embedAgain('greeter', greeter.files);
    const web = await world.sidecar('web', routeTo(world, again.ingress));
    const other = world.client(web.egress, { authority: SERVICE });
    expect(await outcome(other)).toEqual([UNAVAILABLE, 'handshake-refused']);
    expect(again.sidecar.revocation.blocked()).toMatchObject([{ peer, reason: 'key leaked' }]);
    await again.sidecar.revocation.allow(peer);
    await untilOk(other);
    await again.sidecar.revocation.block(peer, 'key leaked');
    await again.sidecar.stop('restart');

    const file = join(dirname(greeter.files.config), 'blocked.jsonl');
    await writeFile(file, (await readFile(file, 'utf8')).replace('sa/web', 'sa/wob'));
    const started: Promise<SidecarProcess> = world.run('greeter', greeter.files);
    const { message } = (await started.catch((error: unknown) => error)) as Error;
    expect(message).toContain('ended before it was ready (8)');
    expect(message).toContain(`hauberk: ${file}: line 3: the checksum does not fit`);
    expect(message).toContain('restore it from a copy');
  });
});

describe.concurrent('a block that comes in the middle of a handshake', () => {
  it('refuses a peer that has sent its last message and not yet its first record', async () => {
    const world = await World.make();
    const greeter = await embed(world, 'greeter');
    const rogue = await intruder(world, greeter.ingress, { silent: true });
    // A later handshake is over: this one's last message, which was sent before it began, has been read.
    (await intruder(world, greeter.ingress)).socket.destroy();
    await greeter.audit.event('connection.closed');
    await greeter.sidecar.revocation.block(world.spiffeId('web'), 'drill');
    const closed = once(rogue.socket, 'close');
    rogue.send(PING, Buffer.alloc(8));
    rogue.socket.resume();
    rogue.socket.once('end', () => rogue.socket.destroy());
    await closed;
    expect(await greeter.audit.event('handshake.failed')).toMatchObject({
      reason: 'peer-blocked',
      peer: world.spiffeId('web'),
    });
    // Only that of the other handshake.
    expect(await greeter.audit.of('session.created')).toHaveLength(1);
  });

  it('of ours fails the calls that wait for it, and no other endpoint is tried', async () => {
    const world = await World.make();
    const app = await world.app();
    const greeter = await world.sidecar('greeter', ingressTo(world, app.address));
    const held = await Promise.all([holding(greeter.ingress), holding(greeter.ingress)]);
    const peer = world.spiffeId('greeter');
    const endpoints = held.map(({ address }) => address);
    const web = await embed(world, 'web', { egress: { routes: [{ service: SERVICE, endpoints, peer }] } });
    const client = world.client(web.egress, { authority: SERVICE });
    const waiting = outcome(client);
    const connections = () => held.reduce((sum, relay) => sum + relay.connections, 0);
    while (connections() === 0) await pause(1);
    await web.sidecar.revocation.block(peer, 'drill');
    for (const relay of held) relay.release();
    expect(await waiting).toEqual([PERMISSION_DENIED, 'peer-blocked']);
    expect(connections()).toBe(1);
    expect(await web.audit.of('session.created')).toEqual([]);
    expect(await web.audit.event('handshake.failed')).toMatchObject({
      direction: 'outbound',
      reason: 'peer-blocked',
      peer,
    });
  });
});

/** A relay that passes on what is called, and holds back the answers until they are released. */
async function holding(target: string) {
  const sockets = new Set<Socket>();
  const held: Array<() => void> = [];
  let connections = 0;
  const server = createServer((client) => {
    connections++;
    const colon = target.lastIndexOf(':');
    const upstream = connect(Number(target.slice(colon + 1)), target.slice(0, colon));
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => [client, upstream].forEach((each) => void each.destroy()));
    }
    client.pipe(upstream);
    held.push(() => void upstream.pipe(client));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  atEnd(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    get connections() {
      return connections;
    },
    release: () => {
      for (const pass of held) pass();
    },
  };
}

describe.concurrent('a session that rests, and is revoked', () => {
  it.each([true, false])(
    'is not resumed with the tickets that its peer still has; the peer may return: %s',
    async (mayReturn) => {
      const world = await World.make();
      const app = await world.app();
      const greeter = await embed(world, 'greeter', ingressTo(world, app.address));
      const relay = await breakable(greeter.ingress);
      const web = await world.sidecar('web', routeTo(world, relay.address));
      const client = world.client(web.egress, { authority: SERVICE });
      expect(await outcome(client)).toEqual([OK, undefined]);
      const { sessionId } = await web.audit.event('session.created');
      // It is resumable: without a revocation it comes back.
      relay.cut();
      await untilOk(client);
      expect(await greeter.audit.event('session.resumed')).toMatchObject({ sessionId });

      relay.open = false;
      relay.cut();
      const { revocation } = greeter.sidecar;
      const resting = async (): Promise<boolean> => {
        let rests = false;
        const where = ({ connections }: { connections: number }): boolean => {
          rests = connections === 0;
          return false;
        };
        await revocation.revoke({ where }, { reason: 'only looks' });
        return rests;
      };
      while (!(await resting())) await pause(5);
      const receipt = await revocation.revoke({ ids: [sessionId] }, { mayReturn, reason: 'drill' });
      expect(receipt.sessions).toMatchObject([{ sessionId, mayReturn, connections: [], callsCut: 0 }]);
      expect(receipt.sessions[0]?.recordsAccepted).toBeGreaterThan(0);
      relay.open = true;

      if (mayReturn) {
        await untilOk(client);
        const created = await greeter.audit.events('session.created', 2);
        expect(created[1]?.sessionId).not.toBe(sessionId);
      } else {
        expect(await greeter.audit.event('handshake.failed', refusedAsBlocked)).toMatchObject({
          peer: world.spiffeId('web'),
        });
        expect((await outcome(client))[0]).toBe(UNAVAILABLE);
        expect(await greeter.audit.of('session.created')).toHaveLength(1);
      }
      expect(await greeter.audit.of('session.resumed')).toHaveLength(1);
    },
  );
});

const refusedAsBlocked = ({ reason }: { reason: string }) => reason === 'peer-blocked';

/** A relay whose connections can be cut, and that takes new ones only while it is open. */
async function breakable(target: string) {
  const sockets = new Set<Socket>();
  const relay = {
    address: '',
    open: true,
    cut: () => {
      for (const socket of sockets) socket.destroy();
    },
  };
  const server = createServer((client) => {
    sockets.add(client);
    client.on('error', () => {});
    client.on('close', () => sockets.delete(client));
    if (!relay.open) {
      client.destroy();
      return;
    }
    const colon = target.lastIndexOf(':');
    const upstream = connect(Number(target.slice(colon + 1)), target.slice(0, colon));
    upstream.on('error', () => {});
    client.on('close', () => upstream.destroy());
    upstream.on('close', () => client.destroy());
    client.pipe(upstream).pipe(client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  relay.address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  atEnd(() => {
    server.close();
    relay.cut();
  });
  return relay;
}

describe('a peer that goes on', () => {
  it('sending after its session was cut: nothing above the last number in the receipt is processed', async () => {
    const world = await World.make();
    const app = await world.app();
    const greeter = await embed(world, 'greeter', ingressTo(world, app.address));
    const rogue = await intruder(world, greeter.ingress);
    const BEFORE = 2; // the PING, and a record with the preface and SETTINGS
    rogue.send(DATA, Buffer.concat([PREFACE, settings(), settingsAck()]));

    // A request in each record, which names the record's number; GOAWAY and CLOSE change nothing.
    let sent = BEFORE;
    const request = () => {
      const id = 2 * (sent - BEFORE) + 1;
      const fields = block([
        [':method', 'POST'],
        [':scheme', 'http'],
        [':path', SayHello.path],
        [':authority', SERVICE],
        ['content-type', 'application/grpc'],
        ['te', 'trailers'],
        ['x-record', String(sent++)],
      ]);
      rogue.send(DATA, Buffer.concat([headers(id, fields), data(id, Buffer.alloc(5), END_STREAM)]));
    };
    let over = false;
    const pump = (async () => {
      while (!over) {
        for (let i = 0; i < 20; i++) request();
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    while (app.calls() < 50) await pause(1);
    const sentBefore = sent;
    const receipt = await greeter.sidecar.revocation.revoke({ all: true }, { reason: 'drill' });
    // At least a thousand records more, all of them sealed as they must be.
    while (sent < sentBefore + 1000) await pause(1);
    over = true;
    await pump;

    const [session] = receipt.sessions;
    const lastRecord = session?.connections[0]?.lastRecord as number;
    expect(lastRecord).toBeLessThan(sent - 900);
    expect(session?.recordsAccepted).toBe(lastRecord + 1);
    // Each record up to the last was a call, and none after.
    const revoked = await greeter.audit.event('session.revoked');
    expect(revoked.calls).toBe(lastRecord + 1 - BEFORE);
    await greeter.sidecar.stop('end of test');
    expect(await greeter.audit.of('call.completed')).toHaveLength(lastRecord + 1 - BEFORE);
    const seen = app.sightings.flatMap(({ metadata }) => metadata.get('x-record')).map(Number);
    expect(seen.length).toBeGreaterThanOrEqual(50);
    expect(Math.max(...seen)).toBeLessThanOrEqual(lastRecord);
    // It was told, and CLOSE was the last that it was sent.
    const received: Array<{ type: number; payload: Buffer }> = [];
    while (rogue.records.length > 0) received.push(await rogue.records.next());
    expect(received.at(-1)?.type).toBe(CLOSE);
    const goaways = received.filter(({ payload }) => payload.includes('revoked'));
    expect(goaways.map(({ type }) => type)).toEqual([DATA]);
  });

  it('is not heard from the command on, though others are cut before it', async () => {
    const world = await World.make();
    // The turns between the slices of a long revocation come when the test says so.
    const later: Array<() => void> = [];
    let hold = false;
    const clock: Clock = {
      ...systemClock,
      after: (ms, run) => (hold && ms === 0 ? later.push(run) : systemClock.after(ms, run)),
    };
    const greeter = await embed(world, 'greeter', ingressTo(world, '127.0.0.1:9'), clock);
    const { sessions, revocation } = greeter.sidecar;
    const rogues: Rogue[] = [];
    for (let n = 0; n < 2; n++) {
      rogues.push(await intruder(world, greeter.ingress));
      while (sessions.size <= n) await pause(1);
    }
    const [first, second] = sessions.getSessionsByLastUsed() as [Session, Session];
    const send = (): void => {
      for (const rogue of rogues) rogue.send(PING, Buffer.alloc(8));
    };
    send();
    while (Math.min(first.counters.recordsIn, second.counters.recordsIn) < 2) await pause(1);

    // The end of the first takes a slice.
    first.listen({
      disposed: () => {
        for (const until = performance.now() + 10; performance.now() < until; );
      },
    });
    hold = true;
    const command = revocation.revoke({ all: true }, { reason: 'drill' });
    expect([first.state, second.state, later.length]).toEqual(['disposed', 'connected', 1]);
    for (let n = 0; n < 20; n++) {
      send();
      await pause(1);
    }
    expect([second.state, second.counters.recordsIn]).toEqual(['connected', 2]);
    hold = false;
    for (const run of later) run();
    const receipt = await command;
    const told = receipt.sessions.map(({ sessionId, recordsAccepted }) => [sessionId, recordsAccepted]);
    expect(told).toEqual([
      [first.id, 2],
      [second.id, 2],
    ]);
    expect(receipt.sessions[1]?.connections).toMatchObject([{ records: 2, lastRecord: 1 }]);
    expect(second.state).toBe('disposed');
  });
});

/** A peer with web's identity that has done its handshake, and now does what it likes. */
async function intruder(world: World, address: string, { silent = false } = {}): Promise<Rogue> {
  const files = await world.identityFiles('web');
  const { identity, bundle } = await loadIdentity(
    { ...files, trustDomain: world.trust.trustDomain },
    systemClock,
  );
  const colon = address.lastIndexOf(':');
  const socket = connect({
    host: address.slice(0, colon),
    port: Number(address.slice(colon + 1)),
    allowHalfOpen: true,
  });
  socket.on('error', () => {});
  atEnd(() => void socket.destroy());
  await once(socket, 'connect');
  const machine = new Initiator({
    crypto,
    modes: MODES,
    staticKey: crypto.generateX25519(),
    identity,
    bundle,
    now: () => systemClock.now(),
    limits: DEFAULT_HANDSHAKE_LIMITS,
    maxRecord: MAX_LENGTH,
    instance: undefined,
    expectedPeer: world.spiffeId('greeter'),
  });
  socket.write(machine.start());
  const established = await new Promise<Established>((resolve) => {
    socket.on('data', function shake(chunk: Buffer) {
      const step = machine.receive(chunk);
      if (step?.send !== undefined) socket.write(step.send);
      if (step?.established === undefined) return;
      socket.off('data', shake);
      resolve(step.established);
    });
  });
  const rogue = new Rogue(socket, established);
  if (!silent) rogue.send(PING, Buffer.alloc(8));
  return rogue;
}
