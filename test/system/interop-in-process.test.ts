import { beforeAll, describe, expect, it } from 'vitest';
import { startInteropApp } from '../harness/interop-app.ts';
import { INTEROP_CASES, named } from '../harness/interop-cases.ts';
import { type MeshSide, meshSide } from '../harness/meshside.ts';
import { World } from '../harness/sidecars.ts';

/* The interop cases over a MeshChannel: grpc-js's client on this project's HTTP/2, without a port on the calling side. */

let side: MeshSide;
beforeAll(async () => {
  side = await meshSide(await World.make(), await startInteropApp(), {
    caller: { monitoring: { calls: 'none' } },
    called: { monitoring: { calls: 'none' } },
  });
});

describe('grpc-js over memory to grpc-js', () => {
  it.each(named(INTEROP_CASES))('%s', (_name, { run }) =>
    run({ client: side.client(), newClient: () => side.client() }),
  );

  it('met no limit', async () => {
    for (const { audit } of [side.caller, side.called]) {
      const events = await audit.all();
      const ended = events.filter(
        ({ type }) => type === 'flood.detected' || type === 'session.closed' || type === 'call.limited',
      );
      expect(ended).toEqual([]);
      expect(events.some(({ type }) => type === 'session.created')).toBe(true);
    }
  });
});
