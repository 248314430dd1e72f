import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { CHART, objectsOf, run, template } from '../harness/helm.ts';
import { type KubernetesObject, schemaFaults } from '../harness/kubernetes-schema.ts';
import { podOf } from '../harness/podfaults.ts';
import { podSecurityViolations } from '../harness/podsecurity.ts';

const FOLDER = fileURLToPath(new URL('../../deploy/kubernetes/', import.meta.url));
const SCRIPT = fileURLToPath(new URL('../../scripts/render-manifests.mjs', import.meta.url));
const OVERLAYS = readdirSync(join(FOLDER, 'overlays'));

const work = mkdtempSync(join(tmpdir(), 'hauberk-manifests-'));
afterAll(() => rmSync(work, { recursive: true, force: true }));

const filesOf = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length))
    .toSorted();

it('are as scripts/render-manifests.mjs writes them', async () => {
  const copy = join(work, 'kubernetes/');
  cpSync(FOLDER, copy, { recursive: true });
  for (const file of filesOf(copy)) {
    if (/(hauberk|added|overlays\/.*\/kustomization)\.yaml$/.test(file)) rmSync(join(copy, file));
  }
  const { code, stderr } = await run(process.execPath, [SCRIPT, copy]);
  expect(code, stderr).toBe(0);
  expect(filesOf(copy)).toEqual(filesOf(FOLDER));
  for (const file of filesOf(FOLDER)) {
    const [made, here] = [join(copy, file), join(FOLDER, file)].map((path) => readFileSync(path, 'utf8'));
    expect(made === here, `${file}: run \`node scripts/render-manifests.mjs\``).toBe(true);
  }
});

async function kustomize(folder: string): Promise<KubernetesObject[]> {
  const { code, stdout, stderr } = await run('kubectl', ['kustomize', join(FOLDER, folder)]);
  if (code !== 0) throw new Error(stderr);
  return objectsOf(stdout);
}

/** As the script leaves what Helm made. */
function withoutHelm(object: KubernetesObject): KubernetesObject {
  const own = JSON.stringify(object, (key, value) =>
    key === 'helm.sh/chart' || key === 'app.kubernetes.io/managed-by' ? undefined : value,
  );
  return JSON.parse(own);
}

const byKey = (objects: readonly KubernetesObject[]) =>
  new Map(
    objects.map((object) => [
      `${object.kind} ${object.metadata?.namespace}/${object.metadata?.name}`,
      object,
    ]),
  );

describe.each(['base', ...OVERLAYS.map((name) => `overlays/${name}`)])('%s', (folder) => {
  it('is built by kubectl, right, and fits `restricted`', async () => {
    const objects = await kustomize(folder);
    expect(objects.length).toBeGreaterThan(10);
    for (const object of objects) {
      expect(schemaFaults(object), object.kind).toEqual([]);
      const pod = podOf(object);
      if (pod !== undefined) expect(podSecurityViolations(pod, 'restricted')).toEqual([]);
    }
  });

  it('is what Helm installs with the same values, and the namespaces', async () => {
    const values = folder === 'base' ? [] : ['-f', join(FOLDER, folder, 'values.yaml')];
    const wanted = byKey((await template('helm4', [...values, '--no-hooks'])).map(withoutHelm));
    const built = byKey(await kustomize(folder));
    for (const [key, object] of built) {
      if (object.kind === 'Namespace') built.delete(key);
    }
    expect(Object.fromEntries(built)).toEqual(Object.fromEntries(wanted));
  });
});

it('the overlay ha has the values of values-ha.yaml', () => {
  const [overlay, chart] = [join(FOLDER, 'overlays/ha/values.yaml'), join(CHART, 'values-ha.yaml')].map(
    (file) => parse(readFileSync(file, 'utf8')),
  );
  expect(overlay).toEqual(chart);
});
