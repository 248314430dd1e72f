// Writes deploy/kubernetes from helm/hauberk, with `helm4` of scripts/install-test-tools.sh (or the program of HELM):
//
//   node scripts/render-manifests.mjs [DIR]      DIR: deploy/kubernetes unless given
//
// base is the chart with its defaults; an overlay is what its values.yaml changes of that, as patches.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tsImport } from 'tsx/esm/api';
import { parseAllDocuments, stringify } from 'yaml';

const { diff } = await tsImport('../src/kube/injector/jsonpatch.ts', import.meta.url);

const CHART = fileURLToPath(new URL('../helm/hauberk', import.meta.url));
const HERE = fileURLToPath(new URL('../deploy/kubernetes', import.meta.url));
const out = process.argv[2] ?? HERE;
const NOTE = '# Written by scripts/render-manifests.mjs from helm/hauberk. For Kubernetes 1.28 or later.\n';

const keyOf = ({ kind, metadata }) => `${kind} ${metadata.namespace ?? ''}/${metadata.name}`;
const yaml = (value) => stringify(value, { lineWidth: 0, aliasDuplicateObjects: false, version: '1.1' });

/** What Helm would install, by kind and name, without its own labels. */
function render(values) {
  const args = [
    'template',
    'hauberk',
    CHART,
    '-n',
    'hauberk-system',
    '--no-hooks',
    ...values.flatMap((file) => ['-f', file]),
  ];
  const text = execFileSync(process.env.HELM ?? 'helm4', args, { encoding: 'utf8', maxBuffer: 1 << 26 });
  const objects = parseAllDocuments(text)
    .map((document) => document.toJS())
    .filter((object) => object !== null);
  for (const { metadata, spec } of objects) {
    for (const labels of [metadata.labels, spec?.template?.metadata.labels]) {
      delete labels?.['helm.sh/chart'];
      delete labels?.['app.kubernetes.io/managed-by'];
    }
  }
  return new Map(objects.map((object) => [keyOf(object), object]));
}

function writeOverlay(name, base) {
  const folder = join(out, 'overlays', name);
  const own = join(HERE, 'overlays', name);
  const wanted = render([join(own, 'values.yaml')]);
  const gone = [...base.keys()].filter((key) => !wanted.has(key));
  if (gone.length > 0) throw new Error(`overlay ${name} would have to remove ${gone.join(', ')}`);
  const added = [...wanted].filter(([key]) => !base.has(key)).map(([, object]) => object);
  const patches = [...base].flatMap(([key, object]) => {
    const operations = diff(object, wanted.get(key));
    const { kind, metadata } = object;
    return operations.length === 0
      ? []
      : [{ target: { kind, name: metadata.name }, patch: yaml(operations) }];
  });
  const files = readdirSync(own).filter(
    (file) => file.endsWith('.yaml') && !['kustomization.yaml', 'values.yaml', 'added.yaml'].includes(file),
  );
  if (added.length > 0) writeFileSync(join(folder, 'added.yaml'), NOTE + added.map(yaml).join('---\n'));
  const kustomization = {
    apiVersion: 'kustomize.config.k8s.io/v1beta1',
    kind: 'Kustomization',
    resources: ['../../base', ...files, ...(added.length > 0 ? ['added.yaml'] : [])],
    ...(patches.length > 0 ? { patches } : {}),
  };
  writeFileSync(join(folder, 'kustomization.yaml'), NOTE + yaml(kustomization));
}

const base = render([]);
writeFileSync(join(out, 'base/hauberk.yaml'), NOTE + [...base.values()].map(yaml).join('---\n'));
for (const name of readdirSync(join(HERE, 'overlays'))) {
  if (existsSync(join(HERE, 'overlays', name, 'values.yaml'))) writeOverlay(name, base);
}
