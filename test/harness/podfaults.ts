// What the API server checks of a pod beyond the types of its fields: that names in it lead somewhere, and are told apart.

type Fields = Record<string, unknown>;

interface Named extends Fields {
  name: string;
}

interface Container extends Named {
  ports?: Array<{ name?: string; containerPort: number; protocol?: string }>;
  volumeMounts?: Named[];
  env?: Array<{ name: string; value?: string; valueFrom?: Fields }>;
}

export interface PodSpec extends Fields {
  containers: Container[];
  initContainers?: Container[];
  ephemeralContainers?: Container[];
  volumes?: Named[];
}

export interface Pod {
  metadata?: Fields;
  spec: PodSpec;
}

/** The pod in an object, if it has one: itself, or its template. */
export function podOf(object: { kind: string; [key: string]: unknown }): Pod | undefined {
  if (object.kind === 'Pod') return object as unknown as Pod;
  const spec = object.spec as Fields | undefined;
  const job = object.kind === 'CronJob' ? ((spec?.jobTemplate as Fields)?.spec as Fields) : spec;
  return job?.template as Pod | undefined;
}

const DNS_LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const PORT_NAME = /^(?=.*[a-z])(?!.*--)[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$/;
const VARIABLE = /^[-._a-zA-Z][-._a-zA-Z0-9]*$/;
const PROBES = ['startupProbe', 'livenessProbe', 'readinessProbe'] as const;
const HANDLERS = ['httpGet', 'tcpSocket', 'exec', 'grpc', 'sleep'];

const twice = (names: readonly string[]): string[] => names.filter((name, at) => names.indexOf(name) !== at);

/** What is wrong with a pod, one sentence a fault; none if it is right. */
export function podFaults(pod: PodSpec): string[] {
  const { containers, initContainers = [], ephemeralContainers = [], volumes = [] } = pod;
  const all = [...initContainers, ...containers, ...ephemeralContainers];
  const faults = [
    ...twice(all.map(({ name }) => name)).map((name) => `two containers are called ${name}`),
    ...twice(volumes.map(({ name }) => name)).map((name) => `two volumes are called ${name}`),
    ...twice(
      [...containers, ...initContainers].flatMap(({ ports = [] }) =>
        ports.map(({ containerPort, protocol = 'TCP' }) => `${containerPort}/${protocol}`),
      ),
    ).map((port) => `two containers have port ${port}`),
    ...volumes.flatMap(volumeFaults),
    ...all.flatMap((container) => containerFaults(container, volumes)),
    ...initContainers.flatMap((container) => initFaults(container)),
    ...containers.flatMap(({ name, restartPolicy, restartPolicyRules }) =>
      restartPolicy !== undefined && restartPolicy !== 'Always' && restartPolicyRules === undefined
        ? [`${name}: restartPolicy ${String(restartPolicy)} of a container that is no init container`]
        : [],
    ),
  ];
  return faults.map((fault) => `/spec: ${fault}`);
}

function volumeFaults({ name, ...sources }: Named): string[] {
  const faults = DNS_LABEL.test(name) ? [] : [`volume ${name}: no name for a volume`];
  const count = Object.keys(sources).length;
  if (count !== 1) faults.push(`volume ${name}: has ${count} sources, and not one`);
  return faults;
}

function initFaults(container: Container): string[] {
  if (container.restartPolicy === 'Always') return [];
  return [...PROBES, 'lifecycle']
    .filter((key) => container[key] !== undefined)
    .map((key) => `${container.name}: an init container that ends may have no ${key}`);
}

function containerFaults(container: Container, volumes: Named[]): string[] {
  const { name, ports = [], volumeMounts = [], env = [], image } = container;
  const faults: string[] = [];
  const fault = (text: string): void => void faults.push(`container ${name}: ${text}`);
  if (!DNS_LABEL.test(name)) fault('no name for a container');
  if (typeof image !== 'string' || image.trim() !== image || image === '') fault('no image');
  for (const mount of volumeMounts) {
    if (!volumes.some((volume) => volume.name === mount.name))
      fault(`mounts ${mount.name}, which is no volume`);
  }
  for (const port of ports) {
    if (port.name !== undefined && !PORT_NAME.test(port.name)) fault(`${port.name} is no name for a port`);
    if (!isPort(port.containerPort)) fault(`${port.containerPort} is no port`);
  }
  for (const port of twice(ports.flatMap((port) => port.name ?? []))) fault(`two ports are called ${port}`);
  for (const variable of env) {
    if (!VARIABLE.test(variable.name)) fault(`${variable.name} is no name for a variable`);
    if (variable.value !== undefined && variable.valueFrom !== undefined) {
      fault(`variable ${variable.name} has a value and valueFrom`);
    }
  }
  for (const key of PROBES) {
    const probe = container[key] as Record<string, { port?: number | string }> | undefined;
    if (probe === undefined) continue;
    const handlers = HANDLERS.filter((handler) => probe[handler] !== undefined);
    if (handlers.length !== 1) fault(`${key} has ${handlers.length} handlers, and not one`);
    for (const handler of handlers) {
      const port = probe[handler]?.port;
      if (typeof port === 'string' && !ports.some((one) => one.name === port))
        fault(`${key}: no port ${port}`);
      if (typeof port === 'number' && !isPort(port)) fault(`${key}: ${port} is no port`);
    }
  }
  return [...faults, ...resourceFaults(container)];
}

const isPort = (port: number): boolean => Number.isInteger(port) && port >= 1 && port <= 65_535;

const FACTORS: Record<string, number> = {
  '': 1,
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  k: 1e3,
  K: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

/** A quantity as a number, e.g. `100m` as 0.1. */
function quantity(value: unknown): number {
  const [, digits, suffix] = /^([0-9.eE+-]+)([A-Za-z]*)$/.exec(String(value)) ?? [];
  return Number(digits) * (FACTORS[suffix ?? ''] ?? Number.NaN);
}

function resourceFaults({ name, resources }: Container): string[] {
  const { requests = {}, limits = {} } = (resources ?? {}) as Record<string, Record<string, unknown>>;
  return Object.entries(requests).flatMap(([key, request]) =>
    limits[key] !== undefined && !(quantity(request) <= quantity(limits[key]))
      ? [
          `container ${name}: requests more ${key} (${String(request)}) than its limit (${String(limits[key])})`,
        ]
      : [],
  );
}
