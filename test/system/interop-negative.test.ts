import { beforeAll, describe, it } from 'vitest';
import { FramedApp } from '../harness/framed-app.ts';
import { TestClient } from '../harness/greeter-client.ts';
import { named } from '../harness/interop-cases.ts';
import { NEGATIVE_CASES, type NegativeCase } from '../harness/interop-negative.ts';
import { InteropPair } from '../harness/interop-pair.ts';
import { atEnd } from '../harness/sidecars.ts';

const TABLE = named(NEGATIVE_CASES);
const serviceOf = ({ name }: NegativeCase): string => `${name.replaceAll('_', '-')}.shop`;

let pair: InteropPair;
const apps = new Map<string, FramedApp>();
beforeAll(async () => {
  const services: Record<string, { app: string }> = {};
  for (const negative of NEGATIVE_CASES) {
    const app = await FramedApp.start(negative.script, negative.announced);
    apps.set(negative.name, app);
    services[serviceOf(negative)] = { app: app.address };
  }
  pair = await InteropPair.start(services);
});

// What the cases ask is what grpc-js does without sidecars: they know their server.
describe('grpc-js to a scripted server, without sidecars', () => {
  it.each(TABLE)('%s', async (_name, { script, announced, run }) => {
    const app = await FramedApp.start(script, announced);
    const client = new TestClient(app.address);
    atEnd(() => client.close());
    await run(client, app);
  });
});

describe('grpc-js to a scripted server', () => {
  it.each(TABLE)('%s', (name, negative) =>
    negative.run(pair.byAuthority(serviceOf(negative)).client, apps.get(name) as FramedApp),
  );

  it('met no limit', () => pair.expectCalm());
});
