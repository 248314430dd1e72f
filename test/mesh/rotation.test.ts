import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { initTrustDomain, issueSvid } from '../../src/identity/authority.ts';
import type { SecureMeshOptions } from '../../src/mesh/options.ts';
import { SecureMesh } from '../../src/mesh/securemesh.ts';

const PATIENCE = { timeout: 20_000, interval: 20 };

let dir: string;
let web: SecureMesh;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'hauberk-mesh-'));
  await initTrustDomain({ dir, trustDomain: 'shop.example' });
});
afterEach(async () => {
  await web.cleanup();
  await rm(dir, { recursive: true });
});

const issue = (ttlMs?: number) => issueSvid({ dir, name: 'web', ...(ttlMs === undefined ? {} : { ttlMs }) });

function mesh(options: Partial<SecureMeshOptions>): { rotations: number[] } {
  const rotations: number[] = [];
  web = new SecureMesh({ serviceId: 'web', keys: dir, log: 'silent', ...options });
  web.on('rotated', ({ identity }) => void rotations.push(identity.notAfter));
  return { rotations };
}

describe('the identity of a mesh', () => {
  it('is renewed by the program itself, which hears of it', async () => {
    const before = Date.now();
    await issue(3_000);
    const { rotations } = mesh({});
    await web.start();
    const { notAfter, leafSha256, renewsAt } = web.identity;
    expect(renewsAt).toBeGreaterThan(before);
    expect(renewsAt).toBeLessThan(notAfter);
    await vi.waitFor(() => expect(web.identity.leafSha256).not.toBe(leafSha256), PATIENCE);
    expect(rotations.length).toBeGreaterThan(0);
    expect(web.getStats().identity.rotations).toBeGreaterThan(0);
  });

  it('is renewed before the start if it has expired meanwhile', async () => {
    const { notAfter } = await issue(1_000);
    await vi.waitFor(() => expect(Date.now()).toBeGreaterThan(notAfter), PATIENCE);
    mesh({});
    await web.start();
    expect(web.identity.notAfter).toBeGreaterThan(Date.now());
  });

  it('follows its files at the interval that was said, and alone if `renew` is false', async () => {
    await issue(3_600_000);
    const { rotations } = mesh({ rotation: { checkInterval: 100, renew: false } });
    await web.start();
    expect(web.identity.renewsAt).toBeUndefined();
    const { notAfter } = await issue();
    await vi.waitFor(() => expect(rotations).toEqual([notAfter]), PATIENCE);
  });

  it('stays as it is with `rotation: false`, unless the program asks', async () => {
    await issue(3_600_000);
    const { rotations } = mesh({ rotation: false });
    await web.start();
    expect(web.identity.renewsAt).toBeUndefined();
    const late: number[] = [];
    const stop = web.on('rotated', ({ identity }) => void late.push(identity.rotations));
    await issue();
    expect(await web.reloadIdentity()).toBe(true);
    expect([rotations.length, late]).toEqual([1, [1]]);
    stop();
    await issue();
    expect(await web.reloadIdentity()).toBe(true);
    expect([rotations.length, late]).toEqual([2, [1]]);
    expect(await web.reloadIdentity()).toBe(false);
  });
});

it.each([
  [{ checkInterval: '5' }, 'options.rotation.checkInterval'],
  [{ checkInterval: 10 }, 'options.rotation.checkInterval'],
  [{ interval: 10 }, 'options.rotation.interval'],
  ['off', 'options.rotation: expected true, false, or { checkInterval, renew }'],
])('a rotation of %j is refused by its name', async (rotation, name) => {
  expect(() => mesh({ rotation } as Partial<SecureMeshOptions>)).toThrow(name);
});
