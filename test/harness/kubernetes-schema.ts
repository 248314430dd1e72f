// Kubernetes objects held against the API's own OpenAPI document (test/vectors/kubernetes), as strictly as a server with
// `fieldValidation=Strict` does, and a little more: what a server ignores or drops is a fault here.
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import { CUSTOM_RESOURCES } from './customresources.ts';
import { podFaults, podOf } from './podfaults.ts';

/** What every object has; the rest is as its kind has it. */
export interface KubernetesObject {
  apiVersion: string;
  kind: string;
  metadata?: { name?: string; namespace?: string; [key: string]: unknown };
  [key: string]: unknown;
}

interface Definition {
  properties?: Record<string, unknown>;
  additionalProperties?: unknown;
  'x-kubernetes-group-version-kind'?: Array<{ group: string; version: string; kind: string }>;
  [key: string]: unknown;
}

const FILE = new URL('../vectors/kubernetes/openapi-v2.json.gz', import.meta.url);
const QUANTITY = '^[+-]?([0-9]+|[0-9]+\\.[0-9]*|\\.[0-9]+)(([KMGTPE]i)|[numkMGTPE]|[eE][+-]?[0-9]+)?$';

/** Definitions that say less than the server checks. */
const SHARPER: Record<string, Definition> = {
  'io.k8s.apimachinery.pkg.util.intstr.IntOrString': { type: ['integer', 'string'] },
  'io.k8s.apimachinery.pkg.api.resource.Quantity': { type: ['number', 'string'], pattern: QUANTITY },
};

/** By `apiVersion/kind`; `v1/Pod` of the core group. */
const names = new Map<string, string>();
const compiled = new Map<string, ValidateFunction>();
let loaded: Ajv | undefined;

const keyOf = ({ apiVersion, kind }: KubernetesObject): string => `${apiVersion}/${kind}`;

function ajv(): Ajv {
  if (loaded !== undefined) return loaded;
  const { definitions } = JSON.parse(gunzipSync(readFileSync(FILE)).toString('utf8')) as {
    definitions: Record<string, Definition>;
  };
  for (const [name, definition] of Object.entries(definitions)) {
    Object.assign(definition, SHARPER[name]);
    if (definition.properties !== undefined) definition.additionalProperties ??= false;
    for (const { group, version, kind } of definition['x-kubernetes-group-version-kind'] ?? []) {
      names.set(`${group === '' ? version : `${group}/${version}`}/${kind}`, `api#/definitions/${name}`);
    }
  }
  loaded = new Ajv({ strict: false, allErrors: true, verbose: true });
  for (const format of ['int32', 'int64'])
    loaded.addFormat(format, { type: 'number', validate: Number.isInteger });
  loaded.addFormat('double', { type: 'number', validate: () => true });
  loaded.addFormat('int-or-string', true);
  loaded.addFormat('byte', /^[A-Za-z0-9+/]*={0,2}$/);
  loaded.addFormat('date-time', (text) => !Number.isNaN(Date.parse(text)));
  loaded.addKeyword({ keyword: 'x-kubernetes-list-map-keys', type: 'array', validate: uniqueBy });
  loaded.addSchema({ $id: 'api', definitions });
  for (const [key, schema] of Object.entries(CUSTOM_RESOURCES)) {
    loaded.addSchema({ $id: key, ...schema });
    names.set(key, key);
  }
  return loaded;
}

/** Two items of a list must differ in these keys; a port's protocol is TCP unless it says another. */
function uniqueBy(keys: readonly string[], items: ReadonlyArray<Record<string, unknown>>): boolean {
  const seen = items.map((item) =>
    JSON.stringify(keys.map((key) => item[key] ?? (key === 'protocol' ? 'TCP' : undefined))),
  );
  return new Set(seen).size === seen.length;
}

function validatorOf(object: KubernetesObject): ValidateFunction | undefined {
  const instance = ajv();
  const key = keyOf(object);
  const name = names.get(key);
  if (name === undefined) return undefined;
  let validate = compiled.get(key);
  if (validate === undefined) {
    validate = instance.compile({ $ref: name });
    compiled.set(key, validate);
  }
  return validate;
}

function sentence({ instancePath, keyword, params, message, data }: ErrorObject): string {
  const where = instancePath === '' ? '/' : instancePath;
  if (keyword === 'additionalProperties')
    return `${where}: unknown field ${params.additionalProperty as string}`;
  if (keyword === 'x-kubernetes-list-map-keys') return `${where}: two items with the same key`;
  return `${where}: ${message} (is ${JSON.stringify(data)?.slice(0, 80)})`;
}

/**
 * What is wrong with an object, one sentence a fault, each beginning with a JSON pointer; none if it is right. Fields that
 * the API has not, values of another type, and `null` are faults, as are unknown kinds and what `podFaults` finds in a pod.
 */
export function schemaFaults(object: KubernetesObject): string[] {
  const validate = validatorOf(object);
  if (validate === undefined) return [`/: no such kind: ${keyOf(object)}`];
  if (!validate(object)) return (validate.errors ?? []).map(sentence);
  const pod = podOf(object);
  if (pod === undefined) return metadataFaults(object);
  const template = object.kind === 'Pod' ? [] : metadataFaults({ kind: 'Pod', ...pod });
  return [...metadataFaults(object), ...template, ...podFaults(pod.spec)];
}

const LABEL_VALUE = /^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$/;
const QUALIFIED_NAME =
  /^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;
const OBJECT_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
/** Kinds whose names may have other characters. */
const ANY_NAME = /^(Cluster)?Role(Binding)?$/;

/** Names and labels, whose syntax the document does not tell. */
function metadataFaults({ kind, metadata = {} }: { kind: string; metadata?: object }): string[] {
  const faults: string[] = [];
  const {
    name,
    labels = {},
    annotations = {},
  } = metadata as {
    name?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  if (name !== undefined && !ANY_NAME.test(kind) && !OBJECT_NAME.test(name)) {
    faults.push(`/metadata/name: ${JSON.stringify(name)} is no name`);
  }
  for (const [key, value] of Object.entries(labels)) {
    if (!QUALIFIED_NAME.test(key))
      faults.push(`/metadata/labels: ${JSON.stringify(key)} is no key of a label`);
    if (!LABEL_VALUE.test(value))
      faults.push(`/metadata/labels/${key}: ${JSON.stringify(value)} is no value of a label`);
  }
  for (const key of Object.keys(annotations)) {
    if (!QUALIFIED_NAME.test(key))
      faults.push(`/metadata/annotations: ${JSON.stringify(key)} is no key of an annotation`);
  }
  return faults;
}
