import { inspect } from 'node:util';
import { expect, it, vi } from 'vitest';
import { AdminClient } from '../harness/admin-client.ts';
import { recording } from '../harness/recordingprovider.ts';
import { Scene, SESSIONS } from '../harness/scene.ts';

/* Whatever Hauberk writes, answers, prints or throws, none of the secrets of its sessions is in it. */

vi.mock('../../src/crypto/provider.ts', async (original) => recording(await original()));

const PASSWORD = 'correct-horse-battery-staple';

/** All that a program can be brought to print of a value. */
function printed(value: unknown): string {
  return [
    inspect(value, { depth: 12, showHidden: true, maxArrayLength: null, maxStringLength: null }),
    inspect(value, { depth: 12, customInspect: false, maxArrayLength: null }),
    JSON.stringify(value, acyclic()),
    String(value),
  ].join('\n');
}

function acyclic(): (key: string, value: unknown) => unknown {
  const seen = new Set<unknown>();
  return (_, value) => {
    if (typeof value === 'bigint') return String(value);
    if (typeof value !== 'object' || value === null) return value;
    if (seen.has(value)) return undefined;
    seen.add(value);
    return value;
  };
}

function thrownBy(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

it('no secret is in logs, events, answers of the admin API, metrics, reports, errors or public objects', async () => {
  const scene = await Scene.make({
    subject: {
      log: { level: 'debug' },
      limits: [{ scope: 'peer', maxRequests: 1000, window: '60s' }],
      limitStore: { type: 'redis' },
    },
    env: { HAUBERK_LIMIT_STORE_URL: `redis://:${PASSWORD}@127.0.0.1:1`, TEST_INSIDER_REPORT: 'yes' },
  });
  const { sidecar, peer } = scene;
  const api = new AdminClient(sidecar.ready.admin[0] as string);
  const answers: unknown[] = [];
  const ask = async (method: string, request: object = {}): Promise<void> =>
    void answers.push(await api.call(method, request));
  const events: unknown[] = [];
  const watch = api.watch();
  watch.on('data', (event) => events.push(event));
  watch.on('error', () => {});

  await scene.call(2);
  for (const { id } of peer.sidecar.sessions.getSessionsByLastUsed()) {
    await ask('SetFrameLogging', { sessionId: id, enabled: true });
  }
  scene.cut();
  await scene.call(2);
  await ask('GetStatus');
  await ask('ListSessions');
  const sessions = peer.sidecar.sessions.getSessionsByLastUsed();
  const [session] = sessions as [(typeof sessions)[number]];
  for (const { id } of sessions) await ask('GetSession', { id });
  const objects = printed({ ...peer, sessions });
  const metrics = (await sidecar.probe('/metrics')).body;
  const key = inspect(session.sessionKey.bytes);
  await ask('RevokeSessions', { all: true, reason: 'test' });
  await expect.poll(() => session.isDisposed, { timeout: 10_000 }).toBe(true);
  const { sessions: manager } = peer.sidecar;
  const errors = [
    thrownBy(() => session.callStarted()),
    thrownBy(() => session.sessionKey.bytes),
    thrownBy(() => manager.createSession('other.shop', Buffer.alloc(31, 7))),
    await manager.executeInSession(session.id, () => {}).catch((error: unknown) => error),
  ];
  const report = await scene.report();
  await sidecar.stop();

  const secrets = await scene.secrets();
  secrets.addBytes('password', 'text', Buffer.from(PASSWORD));
  // What is looked for is found where it is.
  expect(secrets.findInText(key)).not.toEqual([]);
  expect(secrets.findInText(PASSWORD)).not.toEqual([]);
  const audit = JSON.stringify([await sidecar.audit.all(), await peer.audit.all()]);
  expect(events.length).toBeGreaterThan(SESSIONS);
  expect(sidecar.log).toContain('"frame"');
  expect(report).toContain('environmentVariables');
  const texts = {
    ...{ log: sidecar.log, stdout: sidecar.stdout.join('\n'), audit, metrics, report, objects },
    ...{ answers: printed(answers), events: printed(events), errors: errors.map(printed).join('\n') },
  };
  for (const [where, text] of Object.entries(texts)) {
    expect(text.length, where).toBeGreaterThan(100);
    expect(secrets.findInText(text), where).toEqual([]);
  }
  api.close();
});
