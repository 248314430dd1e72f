// The fields of a pod that the injector reads or writes; all others pass through untouched.
import { quote } from '../../config/pointer.ts';
import { InjectionError } from './errors.ts';

/** Any field of Kubernetes that we hand on as it is. */
type Rest = { [field: string]: unknown };

export interface EnvVar extends Rest {
  name: string;
  value?: string;
}

export interface ContainerPort extends Rest {
  containerPort: number;
  name?: string;
  protocol?: string;
}

/** `port` of an HTTP or TCP action may be the name of a container port; that of gRPC is a number. */
export interface Probe extends Rest {
  httpGet?: {
    port: number | string;
    path?: string;
    scheme?: string;
    host?: string;
    httpHeaders?: Array<{ name: string; value: string }>;
  };
  grpc?: { port: number; service?: string };
  tcpSocket?: { port: number | string; host?: string };
  timeoutSeconds?: number;
}

export const PROBE_FIELDS = ['livenessProbe', 'readinessProbe', 'startupProbe'] as const;
export type ProbeField = (typeof PROBE_FIELDS)[number];

export interface Container extends Rest {
  name: string;
  env?: EnvVar[];
  ports?: ContainerPort[];
  volumeMounts?: Array<Rest & { name: string; mountPath: string }>;
  restartPolicy?: string;
  securityContext?: Rest & { runAsUser?: number };
  livenessProbe?: Probe;
  readinessProbe?: Probe;
  startupProbe?: Probe;
  lifecycle?: { postStart?: Probe; preStop?: Probe };
}

export interface Volume extends Rest {
  name: string;
}

export interface PodSpec extends Rest {
  containers: Container[];
  initContainers?: Container[];
  ephemeralContainers?: Container[];
  volumes?: Volume[];
  restartPolicy?: string;
  hostNetwork?: boolean;
  shareProcessNamespace?: boolean;
  os?: { name?: string };
  nodeSelector?: Record<string, string>;
  securityContext?: Rest & { runAsUser?: number };
  terminationGracePeriodSeconds?: number;
}

export interface Pod extends Rest {
  metadata: Rest & {
    name?: string;
    generateName?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  spec: PodSpec;
}

const isMapping = (value: unknown): value is Rest =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

type Check = (value: unknown) => boolean;
const isText: Check = (value) => typeof value === 'string';
const isNumber: Check = (value) => typeof value === 'number';
const isPort: Check = (value) => typeof value === 'number' || typeof value === 'string';
const isFlag: Check = (value) => typeof value === 'boolean';
const texts: Check = (value) => isMapping(value) && Object.values(value).every(isText);
const some =
  (fields: Readonly<Record<string, Check>>, required: readonly string[] = []): Check =>
  (value) =>
    isMapping(value) &&
    required.every((field) => Object.hasOwn(value, field)) &&
    Object.entries(fields).every(([field, check]) => value[field] == null || check(value[field])) &&
    required.every((field) => value[field] != null);
const listOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);

const HTTP_GET = some(
  {
    port: isPort,
    path: isText,
    scheme: isText,
    host: isText,
    httpHeaders: listOf(some({ name: isText, value: isText }, ['name'])),
  },
  ['port'],
);
const HANDLER = some({
  httpGet: HTTP_GET,
  grpc: some({ port: isNumber, service: isText }, ['port']),
  tcpSocket: some({ port: isPort, host: isText }, ['port']),
  timeoutSeconds: isNumber,
});
const CONTAINER: Readonly<Record<string, Check>> = {
  name: isText,
  env: listOf(some({ name: isText, value: isText }, ['name'])),
  ports: listOf(some({ containerPort: isNumber, name: isText, protocol: isText }, ['containerPort'])),
  volumeMounts: listOf(some({ name: isText, mountPath: isText }, ['name', 'mountPath'])),
  restartPolicy: isText,
  securityContext: some({ runAsUser: isNumber }),
  livenessProbe: HANDLER,
  readinessProbe: HANDLER,
  startupProbe: HANDLER,
  lifecycle: some({ postStart: HANDLER, preStop: HANDLER }),
};
const CONTAINERS = listOf(some(CONTAINER, ['name']));
const SPEC: Readonly<Record<string, Check>> = {
  containers: CONTAINERS,
  initContainers: CONTAINERS,
  ephemeralContainers: CONTAINERS,
  volumes: listOf(some({ name: isText }, ['name'])),
  restartPolicy: isText,
  hostNetwork: isFlag,
  shareProcessNamespace: isFlag,
  os: some({ name: isText }),
  nodeSelector: texts,
  securityContext: some({ runAsUser: isNumber }),
  terminationGracePeriodSeconds: isNumber,
};
const METADATA: Readonly<Record<string, Check>> = {
  name: isText,
  generateName: isText,
  labels: texts,
  annotations: texts,
};

/** What is wrong with a mapping's fields: the name of the first. */
function wrongField(value: Rest, fields: Readonly<Record<string, Check>>): string | undefined {
  return Object.entries(fields).find(([field, check]) => value[field] != null && !check(value[field]))?.[0];
}

/**
 * A copy of the pod that somebody has sent, who need not be an API server. Throws InjectionError where a field that the
 * injector reads has another shape than Kubernetes gives it.
 */
export function readPod(object: unknown): Pod {
  if (!isMapping(object) || !isMapping(object.metadata) || !isMapping(object.spec)) {
    throw new InjectionError('the object is not a pod: it has no metadata or no spec');
  }
  const { metadata, spec } = object;
  const wrong = wrongField(metadata, METADATA);
  if (wrong !== undefined)
    throw new InjectionError(`the object is not a pod: metadata.${wrong} is malformed`);
  if (!Array.isArray(spec.containers)) {
    throw new InjectionError('the object is not a pod: spec.containers is not a list');
  }
  const field = wrongField(spec, SPEC);
  if (field !== undefined) throw new InjectionError(`the object is not a pod: spec.${field} is malformed`);
  return withoutNulls(object) as Pod;
}

/** A copy; null stands for a field that is not there. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (!isMapping(value)) return value;
  const fields = Object.entries(value).filter(([, field]) => field !== null);
  return Object.fromEntries(fields.map(([name, field]) => [name, withoutNulls(field)]));
}

/** The name that an object has or will begin with, whatever it is. */
export function readPodName(object: unknown): string {
  const metadata = isMapping(object) && isMapping(object.metadata) ? object.metadata : {};
  const { name, generateName } = metadata;
  if (typeof name === 'string' && name !== '') return name;
  return typeof generateName === 'string' ? generateName : '';
}

/** For sentences: pods of a ReplicaSet have no name yet. */
export function podName({ metadata: { name, generateName } }: Pod): string {
  if (name !== undefined && name !== '') return quote(name);
  return generateName === undefined || generateName === '' ? 'without a name' : quote(`${generateName}...`);
}

/** Runs beside the app from its place among the init containers on (Kubernetes 1.29). */
export const isSidecar = ({ restartPolicy }: Container): boolean => restartPolicy === 'Always';
