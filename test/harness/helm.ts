// The real Helm, both majors, and what it makes of a chart.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';
import type { KubernetesObject } from './kubernetes-schema.ts';

/** As scripts/install-test-tools.sh puts them on PATH. */
export const HELMS = ['helm4', 'helm3'] as const;
export type Helm = (typeof HELMS)[number];

export const CHART = fileURLToPath(new URL('../../helm/hauberk', import.meta.url));

export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end; a missing one throws. */
export function run(program: string, args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.code;
      if (typeof code === 'number') resolve({ code, stdout, stderr });
      else reject(error);
    });
  });
}

/** Objects of a YAML stream; two of the same kind and name in it throw. */
export function objectsOf(text: string): KubernetesObject[] {
  const objects = parseAllDocuments(text, { uniqueKeys: true, version: '1.1' })
    .map((document) => {
      if (document.errors[0] !== undefined) throw document.errors[0];
      return document.toJS() as KubernetesObject | null;
    })
    .filter((object) => object !== null);
  const keys = objects.map(({ kind, metadata }) => `${kind} ${metadata?.namespace}/${metadata?.name}`);
  const twice = keys.filter((key, at) => keys.indexOf(key) !== at);
  if (twice.length > 0) throw new Error(`rendered twice: ${twice.join(', ')}`);
  return objects;
}

/** What a chart renders to. Throws with Helm's own words where it refuses. */
export async function template(
  helm: Helm,
  args: readonly string[],
  { chart = CHART, namespace = 'hauberk-system' } = {},
): Promise<KubernetesObject[]> {
  const { code, stdout, stderr } = await run(helm, ['template', 'hauberk', chart, '-n', namespace, ...args]);
  if (code !== 0) throw new Error(stderr);
  return objectsOf(stdout);
}

export function only(objects: readonly KubernetesObject[], kind: string, name?: string): KubernetesObject {
  const found = objects.filter(
    (one) => one.kind === kind && (name === undefined || one.metadata?.name === name),
  );
  if (found.length !== 1) throw new Error(`${found.length} objects of kind ${kind}, and not one`);
  return found[0] as KubernetesObject;
}
