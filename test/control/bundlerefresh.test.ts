import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { BundleRefresh } from '../../src/control/bundlerefresh.ts';
import type { ControllerIssuer } from '../../src/control/certify.ts';
import { ControlError } from '../../src/control/errors.ts';
import { IdentityError } from '../../src/identity/errors.ts';
import { FolderIssuer } from '../../src/identity/folderissuer.ts';
import { lockFor } from '../../src/identity/issuelock.ts';
import { IdentityKeeper } from '../../src/identity/keeper.ts';
import type { IdentityFiles } from '../../src/identity/load.ts';
import { Renewal } from '../../src/identity/renewal.ts';
import { writeBundle } from '../../src/identity/svidfiles.ts';
import type { Logger } from '../../src/telemetry/log.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { makeTrust, makeTrustFolder, type TrustFolder } from '../harness/trust.ts';

/** Longer than the second that vitest waits by itself: a busy machine may need that. */
const PATIENCE = { timeout: 20_000 };

const MINUTE = 60_000;

let dir: string;
let clock: FakeClock;
let folder: TrustFolder;
let files: IdentityFiles;
let keeper: IdentityKeeper;
let renewal: Renewal;
const lines: string[] = [];
const ends: Array<() => void> = [];

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'hauberk-refresh-'));
  clock = new FakeClock();
  folder = await makeTrustFolder({ dir, clock });
  files = { ...(await folder.issue('web')), trustDomain: folder.trustDomain };
  keeper = await IdentityKeeper.open({ files, clock, reloadMs: undefined });
  renewal = new Renewal({ issuer: new FolderIssuer(files, clock), clock, keeper, random: () => 0.5 });
  lines.length = 0;
});
afterEach(() => {
  for (const end of ends.splice(0)) end();
  renewal.close();
  keeper.close();
  rmSync(dir, { recursive: true });
});

/** Begins to ask; `answer` is what the controller does. */
function asking(answer: () => Promise<boolean>): { asked: number } {
  const count = { asked: 0 };
  const refreshBundle = async (): Promise<boolean> => {
    count.asked++;
    return await answer();
  };
  const log = (_fields: object, text: string): void => void lines.push(text);
  const refresh = new BundleRefresh({
    issuer: { refreshBundle } as unknown as ControllerIssuer,
    keeper,
    renewal,
    clock,
    log: { warn: log, info: log } as unknown as Logger,
    random: () => 0.5,
  });
  refresh.start();
  ends.push(() => refresh.close());
  return count;
}

/** What the controller's bundle is replaced by. */
async function put(certificates: readonly Buffer[]): Promise<boolean> {
  const lock = await lockFor(files.svid);
  await writeBundle(files, certificates, lock);
  await lock.release();
  return true;
}

it('the bundle is asked for every five minutes, and one that has changed is taken', async () => {
  const own = keeper.bundle.certificates;
  const other = await makeTrust({ clock });
  const count = asking(async () => (count.asked === 2 ? await put([...own, other.ca]) : false));
  await renewal.plan();
  const { at } = renewal;
  clock.advance(5 * MINUTE - 1);
  expect(count.asked).toBe(0);
  clock.advance(1);
  await vi.waitFor(() => expect(count.asked).toBe(1), PATIENCE);
  expect(keeper.bundle.certificates).toEqual(own);
  await vi.waitFor(() => {
    clock.advance(MINUTE);
    expect(count.asked).toBeGreaterThanOrEqual(2);
  }, PATIENCE);
  await vi.waitFor(() => expect(keeper.bundle.certificates).toEqual([...own, other.ca]), PATIENCE);
  expect(renewal.at).toBe(at);
  expect(lines).toEqual([]);
});

it('an SVID that the new bundle does not vouch for is renewed within seconds', async () => {
  const other = await makeTrust({ clock });
  asking(() => put([other.ca]));
  await renewal.plan();
  clock.advance(5 * MINUTE);
  await vi.waitFor(
    () => expect((renewal.at ?? Number.POSITIVE_INFINITY) - clock.now()).toBeLessThanOrEqual(5_000),
    PATIENCE,
  );
  expect(keeper.refusal?.code).toBe('untrusted-issuer');
  expect(keeper.bundle.certificates).toEqual([other.ca]);
});

it('that the controller is away is said once, and that it is back; a controller that does not know the question is let be', async () => {
  const away = new IdentityError('controller-unreachable', 'away');
  const unknown = new IdentityError('controller-refuses', 'no such method', {
    cause: new ControlError('UNIMPLEMENTED', 'no such method'),
  });
  const answers: Array<Error | false> = [unknown, away, away, false, false];
  const count = asking(async () => {
    const answer = answers.shift() ?? false;
    if (answer instanceof Error) throw answer;
    return answer;
  });
  const bundle = keeper.bundle;
  for (let asked = 1; asked <= 5; asked++) {
    clock.advance(5 * MINUTE);
    await vi.waitFor(() => expect(count.asked).toBe(asked), PATIENCE);
    await vi.waitFor(() => expect(clock.pending).toBe(1), PATIENCE);
  }
  expect(lines).toEqual([
    'the controller was asked in vain whom to trust; the bundle stays',
    'the controller says again whom to trust',
  ]);
  expect(keeper.bundle).toBe(bundle);
});
