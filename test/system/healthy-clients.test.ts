import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { TestClient } from '../harness/greeter-client.ts';
import { startGoInteropApp } from '../harness/grpc-go.ts';
import { beHealthy, KEEPALIVE, type Tally } from '../harness/healthy-js.ts';
import { startInteropApp } from '../harness/interop-app.ts';
import { InteropPair } from '../harness/interop-pair.ts';
import { runTool } from '../harness/nghttp2.ts';
import { atEnd } from '../harness/sidecars.ts';

const JS = 'js.shop';
const GO = 'go.shop';
const PEERS = fileURLToPath(new URL('peers/', import.meta.url));

let pair: InteropPair;
let app: string;
beforeAll(async () => {
  app = await startGoInteropApp();
  pair = await InteropPair.start({
    [JS]: { app: await startInteropApp() },
    [GO]: { app },
  });
});

const sum = (counts: Tally['counts']): number => Object.values(counts).reduce((all, n) => all + n, 0);

/** Every call ended as its client had it, on the connection that it began with. */
async function expectUndisturbed({ counts, unexpected }: Tally, calls: number): Promise<void> {
  expect(unexpected ?? []).toEqual([]);
  expect(sum(counts)).toBe(calls);
  await pair.expectCalm();
}

async function tallyOf(tool: string, args: readonly string[]): Promise<Tally> {
  const { code, stdout, stderr } = await runTool(tool, args);
  if (code !== 0) throw new Error(`${tool}: exit code ${code}\n${stderr}`);
  return JSON.parse(stdout.toString()) as Tally;
}

const TO = [
  ['grpc-js', JS],
  ['grpc-go', GO],
] as const;

describe('a busy, healthy client meets no limit', () => {
  it.each(TO)('grpc-js to %s', async (_to, service) => {
    const client = new TestClient(pair.calling.egress, { authority: service, options: KEEPALIVE });
    atEnd(() => client.close());
    await expectUndisturbed(await beHealthy(client), 5065);
  });

  describe('grpc-go to grpc-go', () => {
    let program: string;
    beforeAll(async () => {
      const folder = await mkdtemp(join(tmpdir(), 'hauberk-go-'));
      atEnd(() => rm(folder, { recursive: true, force: true }));
      program = join(folder, 'healthy');
      const built = await runTool('go', ['build', '-o', program, '.'], join(PEERS, 'go'));
      expect(built.code, built.stderr).toBe(0);
    });

    it('as fast as one session bears resets', async () => {
      await expectUndisturbed(await tallyOf(program, [`--address=${pair.upstream(GO)}`]), 9565);
    });

    it('as fast as it can: calls move to another session, and none notices', async () => {
      const hasty = await InteropPair.start({ [GO]: { app } });
      const { counts, unexpected } = await tallyOf(program, ['--hasty', `--address=${hasty.upstream(GO)}`]);
      expect(unexpected ?? []).toEqual([]);
      expect(sum(counts)).toBe(9565);
      await hasty.expectCalm({ sameSession: false });
    });
  });

  it.each(TO)('grpcio to %s', async (_to, service) => {
    const tally = await tallyOf('grpc-python', [join(PEERS, 'python/healthy.py'), pair.upstream(service)]);
    await expectUndisturbed(tally, 5033);
  });
});
