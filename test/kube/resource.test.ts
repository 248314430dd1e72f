import { expect, it } from 'vitest';
import { inClusterAccess } from '../../src/config/incluster.ts';
import { KubeError, quotable, refusal } from '../../src/kube/client/errors.ts';
import {
  actionOf,
  collectionPath,
  ENDPOINT_SLICES,
  LEASES,
  NAMESPACES,
  objectPath,
  PODS,
} from '../../src/kube/client/resource.ts';
import { retryAfterOf } from '../../src/kube/client/retryafter.ts';

it.each([
  [collectionPath(PODS), '/api/v1/pods'],
  [collectionPath(PODS, 'shop'), '/api/v1/namespaces/shop/pods'],
  [objectPath(NAMESPACES, 'shop'), '/api/v1/namespaces/shop'],
  [objectPath(LEASES, 'a', 'shop'), '/apis/coordination.k8s.io/v1/namespaces/shop/leases/a'],
])('the path %s', (path, expected) => {
  expect(path).toBe(expected);
});

it.each(['', '.', '..', 'x'.repeat(254)])('the name %j makes no path', (name) => {
  expect(() => objectPath(PODS, name, 'shop')).toThrow(KubeError);
  expect(() => objectPath(PODS, 'web', name)).toThrow(KubeError);
});

it('a name leads to no other path', () => {
  expect(objectPath(PODS, '../secrets/ca?x=#y', 'shop')).toBe(
    '/api/v1/namespaces/shop/pods/..%2Fsecrets%2Fca%3Fx%3D%23y',
  );
});

it('kinds in a namespace need one, others take none', () => {
  expect(() => objectPath(PODS, 'web')).toThrow('pods are in a namespace, but none was given');
  expect(() => objectPath(NAMESPACES, 'web', 'shop')).toThrow(
    'namespaces are not in a namespace, but one was',
  );
});

it.each([
  ['GET', collectionPath(ENDPOINT_SLICES), false, 'list', 'list endpointslices.discovery.k8s.io'],
  ['GET', collectionPath(PODS, 'shop'), true, 'watch', 'watch pods in namespace shop'],
  ['GET', '/api/v1/namespaces/shop', false, 'get', 'get namespaces shop'],
  [
    'PATCH',
    '/api/v1/namespaces/shop/pods/web/status',
    false,
    'patch',
    'patch pods/status web in namespace shop',
  ],
  ['GET', '/version', false, 'get', 'get /version'],
])('%s %s is an action in the words of RBAC', (method, path, watching, verb, text) => {
  expect(actionOf(method, path, watching)).toMatchObject({ verb, text });
});

it.each([
  ['5', 5000],
  [' 5 ', 5000],
  ['Thu, 01 Jan 1970 00:00:10 GMT', 4000],
  ['Thu, 01 Jan 1970 00:00:01 GMT', 0],
  ['999999999', 600_000],
  ['soon', undefined],
  [undefined, undefined],
])('Retry-After %j is %j ms', (field, ms) => {
  expect(retryAfterOf(field, 6000)).toBe(ms);
});

it('what a server says is one bounded line in a message', () => {
  expect(quotable('a\r\n\u2028b\u001b[31m\u0000')).toBe('a b [31m');
  expect(quotable('x'.repeat(1000))).toHaveLength(513);
  const { message, reason, retryAfterMs } = refusal(actionOf('GET', '/api/v1/pods'), 'kube:443', {
    status: 429,
    body: JSON.stringify({ reason: 'Too\nMany', message: 'a\nb', details: { retryAfterSeconds: 2 } }),
  });
  expect([reason, retryAfterMs]).toEqual(['Too Many', 2000]);
  expect(message).toBe(
    'the API server kube:443 answered 429 Too Many when asked to list pods: a b; the server is overloaded or its priority level is full; it is asked again later',
  );
});

it.each(['', 'null', '[]', '{"code":"x"}', 'not json', '{"details":{"retryAfterSeconds":"x"}}'])(
  'an error whose body is %j is still an error',
  (body) => {
    const error = refusal(actionOf('GET', '/api/v1/pods'), 'kube:443', { status: 500, body });
    expect([error.status, error.reason, error.retryAfterMs]).toEqual([500, 'InternalError', undefined]);
  },
);

it('in a cluster, the address comes from the environment', () => {
  const account = '/var/run/secrets/kubernetes.io/serviceaccount';
  const files = { ca: `${account}/ca.crt`, token: `${account}/token` };
  const at = (host?: string, port?: string) =>
    inClusterAccess({ KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port });
  expect(at('10.0.0.1', '443')).toEqual({ ...files, server: 'https://10.0.0.1:443' });
  expect(at('fd00::1', '443')).toEqual({ ...files, server: 'https://[fd00::1]:443' });
  expect(at('10.0.0.1')).toBeUndefined();
  expect(at()).toBeUndefined();
});
