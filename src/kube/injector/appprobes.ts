// Probes of the app that kubelet cannot make: capture refuses what comes from outside to the app's ports. kubelet asks the
// sidecar instead (`/app-probe/...` on its probe port), which makes the same probe over loopback.
import { isIP } from 'node:net';
import type { InjectionPlan } from './plan.ts';
import { lastingContainers } from './plan.ts';
import { type Container, type Pod, PROBE_FIELDS, type Probe, type ProbeField } from './pod.ts';

/** An entry of `probes.apps` in the sidecar's configuration. */
export interface AppProbe {
  /** `container/livez`, `container/readyz` or `container/startupz`: the path after `/app-probe/`. */
  readonly name: string;
  readonly kind: 'http' | 'grpc' | 'tcp';
  readonly port: number;
  readonly timeout: string;
  readonly path?: string;
  readonly scheme?: 'http' | 'https';
  readonly headers?: ReadonlyArray<{ readonly name: string; readonly value: string }>;
  readonly service?: string;
}

/** A probe that was rewritten, with what it was. */
export interface RewrittenProbe {
  readonly container: string;
  readonly field: ProbeField;
  readonly probe: Probe;
}

const PATHS: Readonly<Record<ProbeField, string>> = {
  livenessProbe: 'livez',
  readinessProbe: 'readyz',
  startupProbe: 'startupz',
};
export const APP_PROBE = '/app-probe/';
const DEFAULT_TIMEOUT = 1; // seconds, Kubernetes' own

function portOf(port: number | string, { ports }: Container): number | undefined {
  return typeof port === 'number' ? port : ports?.find(({ name }) => name === port)?.containerPort;
}

/** The same probe as the sidecar makes it; undefined where kubelet can go on making it. */
function appProbe(container: Container, field: ProbeField, plan: InjectionPlan): AppProbe | undefined {
  const { httpGet, grpc, tcpSocket, timeoutSeconds } = container[field] as Probe;
  const action = httpGet ?? grpc ?? tcpSocket;
  const port = !action ? undefined : portOf(action.port, container);
  // A host of its own is not the pod, or at least not meant to be.
  const host = httpGet?.host ?? tcpSocket?.host ?? '';
  if (port === undefined || !plan.ports.includes(port) || (host !== '' && !isLoopback(host)))
    return undefined;
  const base = {
    name: `${container.name}/${PATHS[field]}`,
    port,
    timeout: `${timeoutSeconds ?? DEFAULT_TIMEOUT}s`,
  };
  if (httpGet) {
    const { path, scheme, httpHeaders } = httpGet;
    return {
      ...base,
      kind: 'http',
      path: pathOf(path ?? ''),
      scheme: scheme === 'HTTPS' ? 'https' : 'http',
      ...(!httpHeaders || httpHeaders.length === 0
        ? {}
        : { headers: httpHeaders.map(({ name, value }) => ({ name, value })) }),
    };
  }
  if (!grpc) return { ...base, kind: 'tcp' };
  return { ...base, kind: 'grpc', ...(grpc.service ? { service: grpc.service } : {}) };
}

/** As it goes over the wire: escaped, with its query. */
function pathOf(path: string): string {
  const text = `http://pod${path.startsWith('/') ? '' : '/'}${path}`;
  if (!URL.canParse(text)) return path;
  const { pathname, search } = new URL(text);
  return pathname + search;
}

const isLoopback = (host: string): boolean =>
  host === 'localhost' || (isIP(host) === 4 && host.startsWith('127.')) || host === '::1';

/** Which probes the sidecar makes, and what they were. */
export function planProbes(
  pod: Pod,
  plan: InjectionPlan,
): { probes: AppProbe[]; rewritten: RewrittenProbe[] } {
  const probes: AppProbe[] = [];
  const rewritten: RewrittenProbe[] = [];
  if (!plan.rewriteProbes) return { probes, rewritten };
  for (const container of lastingContainers(pod)) {
    for (const field of PROBE_FIELDS) {
      const probe = container[field];
      const made = probe && appProbe(container, field, plan);
      if (!made) continue;
      probes.push(made);
      rewritten.push({ container: container.name, field, probe });
    }
  }
  return { probes, rewritten };
}

/** What kubelet asks instead. Periods, thresholds and the timeout stay. */
export function rewriteProbe({ container, field, probe }: RewrittenProbe, plan: InjectionPlan): Probe {
  const { httpGet: _http, grpc: _grpc, tcpSocket: _tcp, ...timing } = probe;
  return { ...timing, httpGet: { path: `${APP_PROBE}${container}/${PATHS[field]}`, port: plan.probePort } };
}
