import { expect, it } from 'vitest';
import { freePorts } from '../../bench/peers/port.ts';
import { systemClock } from '../../src/clock/clock.ts';
import { IdentityError } from '../../src/identity/errors.ts';
import type { SidecarOptions } from '../../src/sidecar/options.ts';
import { WaitingRoom } from '../../src/sidecar/waitingroom.ts';
import { silentLogger } from '../../src/telemetry/log.ts';

const OFF = { listen: [], groupAccess: false };

it('without an identity nothing is started or ready, whatever is said of it, and how often', async () => {
  const [port] = (await freePorts(1)) as [number];
  const probes = { http: [{ kind: 'tcp', host: '127.0.0.1', port }], grpc: [] };
  const options = { config: { probes, admin: OFF }, version: '0' } as unknown as SidecarOptions;
  const room = await WaitingRoom.open(options, systemClock, silentLogger);
  const ask = async (path: string): Promise<[number, string]> => {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: 'close' } });
    return [answer.status, await answer.text()];
  };
  for (const reason of ['no address', 'no address', 'bad token', 'no address', 'no address']) {
    room.tell(new IdentityError('controller-refuses', reason));
    for (const path of ['/startupz', '/readyz']) {
      const [status, text] = await ask(path);
      expect([path, status]).toEqual([path, 503]);
      expect(text).toContain(reason);
    }
  }
  await room.close();
});
