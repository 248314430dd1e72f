// What a bundle is made of: which packages, the bill of materials (CycloneDX) of just these, and their licences.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Folders of the packages of which something is in the bundle, by `name@version`, sorted. */
export function packagesOf(root, metafile) {
  const folders = new Set();
  for (const output of Object.values(metafile.outputs)) {
    for (const [path, { bytesInOutput }] of Object.entries(output.inputs)) {
      const [, folder] = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path) ?? [];
      if (folder !== undefined && bytesInOutput > 0) folders.add(join(root, folder));
    }
  }
  const packages = [...folders].map((folder) => {
    const { name, version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    return [`${name}@${version}`, folder];
  });
  return new Map(packages.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/**
 * npm's bill of materials without what is not in the bundle. The same lock file and the same bundle make the same text: its
 * serial number comes of its content, and its time from SOURCE_DATE_EPOCH, if that is set.
 */
export function billOfMaterials(root, packages) {
  const said = execFileSync('npm', ['sbom', '--sbom-format', 'cyclonedx', '--package-lock-only'], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const bill = JSON.parse(said);
  const product = bill.metadata.component;
  const known = new Map(bill.components.map((component) => [component['bom-ref'], component]));
  const missing = [...packages.keys()].filter((id) => !known.has(id));
  if (missing.length > 0) throw new Error(`not in package-lock.json: ${missing.join(', ')}`);
  const refs = new Set([product['bom-ref'], ...packages.keys()]);
  bill.metadata.component = { ...product, type: 'application', name: product['bom-ref'].split('@')[0] };
  // A package that is a development dependency of ours may be in the bundle, as one that users bring themselves otherwise.
  bill.components = [...packages.keys()].map((id) => ({ ...known.get(id), properties: [] }));
  bill.dependencies = bill.dependencies
    .filter(({ ref }) => refs.has(ref))
    .map(({ ref, dependsOn = [] }) => ({ ref, dependsOn: dependsOn.filter((id) => refs.has(id)).sort() }));
  delete bill.metadata.timestamp;
  const epoch = process.env.SOURCE_DATE_EPOCH;
  if (epoch !== undefined) bill.metadata.timestamp = new Date(Number(epoch) * 1000).toISOString();
  delete bill.serialNumber;
  const [a, b, c, d, e] = /^(.{8})(.{4})(.{3})(.{3})(.{12})/
    .exec(createHash('sha256').update(JSON.stringify(bill)).digest('hex'))
    .slice(1);
  return { ...bill, serialNumber: `urn:uuid:${a}-${b}-8${c}-8${d}-${e}` };
}

/** The texts that the licences of these packages have one pass on. */
export function licencesOf(packages) {
  return [...packages]
    .map(([id, folder]) => {
      const files = readdirSync(folder).filter((name) => /^(licen[cs]e|copying|notice)/i.test(name));
      if (files.length === 0) throw new Error(`${id} has no licence`);
      return [`== ${id}`, ...files.map((name) => readFileSync(join(folder, name), 'utf8').trim())].join(
        '\n\n',
      );
    })
    .join('\n\n');
}
