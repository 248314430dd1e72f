import { KubeError } from './errors.ts';

/** A kind of object, as URLs of the API name it. */
export interface Resource {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  /** Plural, lower case. */
  readonly resource: string;
  readonly namespaced: boolean;
}

const core = (resource: string, namespaced = true): Resource => ({
  group: '',
  version: 'v1',
  resource,
  namespaced,
});

export const PODS = core('pods');
export const SERVICES = core('services');
export const SECRETS = core('secrets');
export const NAMESPACES = core('namespaces', false);
export const ENDPOINT_SLICES: Resource = {
  group: 'discovery.k8s.io',
  version: 'v1',
  resource: 'endpointslices',
  namespaced: true,
};
export const LEASES: Resource = {
  group: 'coordination.k8s.io',
  version: 'v1',
  resource: 'leases',
  namespaced: true,
};
export const EVENTS: Resource = {
  group: 'events.k8s.io',
  version: 'v1',
  resource: 'events',
  namespaced: true,
};
export const TOKEN_REVIEWS: Resource = {
  group: 'authentication.k8s.io',
  version: 'v1',
  resource: 'tokenreviews',
  namespaced: false,
};
export const MUTATING_WEBHOOKS: Resource = {
  group: 'admissionregistration.k8s.io',
  version: 'v1',
  resource: 'mutatingwebhookconfigurations',
  namespaced: false,
};

const root = ({ group, version }: Resource): string =>
  group === '' ? `/api/${version}` : `/apis/${group}/${version}`;

/** The path of all objects of a kind; of one namespace, where it is given. */
export function collectionPath(resource: Resource, namespace?: string): string {
  const within = namespace === undefined ? '' : `/namespaces/${segment(namespace, 'namespace')}`;
  return `${root(resource)}${within}/${resource.resource}`;
}

/** The path of one object. `namespace` is left out for kinds that have none. */
export function objectPath(resource: Resource, name: string, namespace?: string): string {
  if (resource.namespaced !== (namespace !== undefined)) {
    throw new KubeError(
      `${resource.resource} are ${resource.namespaced ? '' : 'not '}in a namespace, but ${namespace === undefined ? 'none' : 'one'} was given`,
      { reason: 'Malformed' },
    );
  }
  return `${collectionPath(resource, namespace)}/${segment(name, 'name')}`;
}

/** Names come from outside: none may lead to another path. */
function segment(text: string, what: string): string {
  if (text === '' || text === '.' || text === '..' || text.length > 253) {
    throw new KubeError(`${JSON.stringify(text.slice(0, 64))} cannot be the ${what} of an object`, {
      reason: 'Malformed',
    });
  }
  return encodeURIComponent(text);
}

/** A request in RBAC's words, for errors. */
export interface Action {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  /** As in "when asked to TEXT". */
  readonly text: string;
  /** As in "grant TEXT". */
  readonly grant: string;
}

const VERBS: Readonly<Record<string, string>> = {
  POST: 'create',
  PUT: 'update',
  PATCH: 'patch',
  DELETE: 'delete',
};

/** What a request asks for. Any path is taken: one that is not of the API is named as it is. */
export function actionOf(method: string, path: string, watching = false): Action {
  const steps = path.split('/').slice(1);
  const group = steps[0] === 'apis' ? (steps[1] ?? '') : '';
  let rest = steps.slice(steps[0] === 'apis' ? 3 : 2);
  let namespace: string | undefined;
  if (rest[0] === 'namespaces' && rest.length > 2) {
    namespace = rest[1];
    rest = rest.slice(2);
  }
  const [resource, name, subresource] = rest;
  const verb =
    VERBS[method] ?? (watching ? 'watch' : resource === undefined || name !== undefined ? 'get' : 'list');
  if (resource === undefined) {
    return {
      verb,
      group,
      resource: path,
      namespace,
      name,
      text: `${verb} ${path}`,
      grant: `the verb "${verb}" on ${path}`,
    };
  }
  const full = subresource === undefined ? resource : `${resource}/${subresource}`;
  const kind = group === '' ? full : `${full}.${group}`;
  const object = name === undefined ? kind : `${kind} ${name}`;
  return {
    verb,
    group,
    resource: full,
    namespace,
    name,
    text: `${verb} ${object}${namespace === undefined ? '' : ` in namespace ${namespace}`}`,
    grant:
      `the verb "${verb}" on the resource "${full}" of the API group "${group}" ` +
      (namespace === undefined
        ? 'by a ClusterRole and its binding'
        : `by a Role and its binding in namespace ${namespace}`),
  };
}
