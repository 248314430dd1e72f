import { beforeAll, describe, it } from 'vitest';
import { startInteropApp } from '../harness/interop-app.ts';
import { INTEROP_CASES, type InteropClient, named } from '../harness/interop-cases.ts';
import { COMPRESSION_CASES, startCompressingApp } from '../harness/interop-compression.ts';
import { InteropPair } from '../harness/interop-pair.ts';
import { RawClient } from '../harness/rawh2.ts';

const JS = 'js.shop';
const FRAMES = 'frames.shop';

let pair: InteropPair;
beforeAll(async () => {
  pair = await InteropPair.start({
    [JS]: { app: await startInteropApp() },
    [FRAMES]: { app: await startCompressingApp() },
  });
});

describe('grpc-js to grpc-js by :authority', () => {
  let from: InteropClient;
  beforeAll(() => {
    from = pair.byAuthority(JS);
  });

  it.each(named(INTEROP_CASES))('%s', (_name, { run }) => run(from));

  it('met no limit', () => pair.expectCalm());
});

describe('grpc-js to grpc-js by an upstream listener', () => {
  // The heaviest goes the other way only: grpc-js takes its time for it.
  it.each(named(INTEROP_CASES.filter(({ name }) => name !== 'concurrent_large_unary')))(
    '%s',
    (_name, { run }) => run(pair.byUpstream(JS)),
  );

  it('met no limit', () => pair.expectCalm());
});

describe('frames to frames', () => {
  it.each(named(COMPRESSION_CASES))('%s', (_name, { run }) =>
    run(new RawClient(pair.calling.egress, FRAMES)),
  );

  it('met no limit', () => pair.expectCalm());
});
