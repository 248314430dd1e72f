/** What the stub API server holds: objects by collection, their history, selectors. */
import { randomUUID } from 'node:crypto';
import type { KubeObject } from '../../src/kube/objects.ts';

/** Any fields besides those that are known. */
export type AnyObject = KubeObject & Record<string, unknown>;

export interface Change {
  readonly version: number;
  /** Path of the collection in all namespaces, as `/api/v1/pods`. */
  readonly collection: string;
  readonly before: AnyObject | undefined;
  readonly after: AnyObject | undefined;
}

/** A refusal in the API's words. */
export class Refusal extends Error {
  readonly status: number;
  readonly reason: string;

  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

export class KubeStore {
  readonly #collections = new Map<string, Map<string, AnyObject>>();
  #history: Change[] = [];
  readonly #listeners = new Set<(change: Change) => void>();
  #version = 1000;
  /** Watches from before it have expired. */
  #oldest = 1000;

  get version(): string {
    return String(this.#version);
  }

  /** Forgets the history: what is watched from before now is answered with 410. */
  compact(): void {
    this.#version++;
    this.#oldest = this.#version;
    this.#history = [];
  }

  get(collection: string, key: string): AnyObject | undefined {
    return this.#collections.get(collection)?.get(key);
  }

  /** In the order of their keys, as etcd has them. */
  all(collection: string): AnyObject[] {
    const entries = [...(this.#collections.get(collection) ?? [])];
    return entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([, object]) => object);
  }

  create(collection: string, object: AnyObject, namespace: string | undefined): AnyObject {
    const { generateName, name = generateName && `${generateName}${randomUUID().slice(0, 5)}` } =
      object.metadata;
    if (name === undefined) throw new Refusal(422, 'Invalid', 'name or generateName is required');
    if (namespace !== undefined && (object.metadata.namespace ?? namespace) !== namespace) {
      throw new Refusal(400, 'BadRequest', 'the namespace of the object is not that of the request');
    }
    const key = keyOf(namespace, name);
    if (this.get(collection, key) !== undefined) {
      throw new Refusal(409, 'AlreadyExists', `${nameOf(collection)} "${name}" already exists`);
    }
    const metadata = {
      ...object.metadata,
      name,
      ...(namespace !== undefined && { namespace }),
      uid: object.metadata.uid ?? randomUUID(),
      creationTimestamp: new Date().toISOString(),
    };
    return this.#commit(collection, key, { ...object, metadata });
  }

  replace(collection: string, key: string, object: AnyObject): AnyObject {
    const before = this.#existing(collection, key);
    const { resourceVersion } = object.metadata;
    if (resourceVersion !== undefined && resourceVersion !== before.metadata.resourceVersion) {
      throw new Refusal(
        409,
        'Conflict',
        `Operation cannot be fulfilled on ${nameOf(collection)} "${before.metadata.name}": the object has been modified; please apply your changes to the latest version and try again`,
      );
    }
    const { name, namespace, uid, creationTimestamp } = before.metadata;
    const kept = { name, ...(namespace !== undefined && { namespace }), uid, creationTimestamp };
    return this.#commit(collection, key, {
      ...object,
      metadata: { ...object.metadata, ...kept } as AnyObject['metadata'],
    });
  }

  delete(collection: string, key: string): AnyObject {
    const before = this.#existing(collection, key);
    this.#collections.get(collection)?.delete(key);
    this.#tell({ version: ++this.#version, collection, before, after: undefined });
    return before;
  }

  /** What came after a version; undefined if that is not known any more. */
  since(version: number): readonly Change[] | undefined {
    return version < this.#oldest ? undefined : this.#history.filter((change) => change.version > version);
  }

  onChange(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #existing(collection: string, key: string): AnyObject {
    const object = this.get(collection, key);
    if (object !== undefined) return object;
    throw new Refusal(404, 'NotFound', `${nameOf(collection)} "${key.split('/').at(-1)}" not found`);
  }

  #commit(collection: string, key: string, object: AnyObject): AnyObject {
    const before = this.get(collection, key);
    const version = ++this.#version;
    const after: AnyObject = {
      ...object,
      metadata: { ...object.metadata, resourceVersion: String(version) },
    };
    if (!this.#collections.has(collection)) this.#collections.set(collection, new Map());
    this.#collections.get(collection)?.set(key, after);
    this.#tell({ version, collection, before, after });
    return after;
  }

  #tell(change: Change): void {
    this.#history.push(change);
    for (const listener of this.#listeners) listener(change);
  }
}

export const keyOf = (namespace: string | undefined, name: string): string =>
  namespace === undefined ? name : `${namespace}/${name}`;

const nameOf = (collection: string): string => collection.split('/').at(-1) as string;

/** Label and field selectors, as far as the tests use them: `a=b`, `a==b`, `a!=b`, `a`, `!a`, `a in (b,c)`. */
export function selects(object: AnyObject, labelSelector: string, fieldSelector: string): boolean {
  const labels = object.metadata.labels ?? {};
  const fields = (path: string): string => {
    let at: unknown = object;
    for (const step of path.split('.')) at = (at as Record<string, unknown> | undefined)?.[step];
    return String(at ?? '');
  };
  return (
    requirements(labelSelector).every((one) => meets(one, (name) => labels[name])) &&
    requirements(fieldSelector).every((one) => meets(one, fields))
  );
}

const requirements = (selector: string): string[] =>
  selector === '' ? [] : selector.split(/,(?![^(]*\))/).map((text) => text.trim());

function meets(requirement: string, lookUp: (name: string) => string | undefined): boolean {
  const set = /^(\S+) (in|notin) \((.*)\)$/.exec(requirement);
  if (set !== null) {
    const values = (set[3] as string).split(',').map((text) => text.trim());
    return values.includes(lookUp(set[1] as string) ?? '') === (set[2] === 'in');
  }
  const equal = /^([^=!]+)(=|==|!=)(.*)$/.exec(requirement);
  if (equal !== null) return (lookUp(equal[1] as string) === equal[3]) === (equal[2] !== '!=');
  if (requirement.startsWith('!')) return lookUp(requirement.slice(1)) === undefined;
  return lookUp(requirement) !== undefined;
}
