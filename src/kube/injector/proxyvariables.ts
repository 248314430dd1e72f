// What the app's containers know their sidecar by: the variables `grpc_proxy` and `no_grpc_proxy` of gRPC's clients.
import type { InjectionPlan } from './plan.ts';
import type { Container, EnvVar } from './pod.ts';

/** Names that are called without a proxy: the app's own. */
const LOOPBACK = ['localhost', '127.0.0.1', '::1'] as const;
const EXEMPT = 'no_grpc_proxy';

/** Hosts that every container calls directly; undefined where none gets a proxy. */
export const exemptHosts = ({ grpcProxy, noGrpcProxy }: InjectionPlan): readonly string[] | undefined =>
  grpcProxy
    ? [...LOOPBACK, ...noGrpcProxy.filter((host) => !LOOPBACK.some((own) => own === host))]
    : undefined;

const last = (env: readonly EnvVar[] | undefined, wanted: string): EnvVar | undefined =>
  env?.findLast(({ name }) => name === wanted);

/** Nobody knows here what a reference holds, and an empty entry of a list would exempt all. */
const textOf = ({ value = '', valueFrom }: EnvVar): string | undefined =>
  valueFrom === undefined && !value.includes('$(') ? value : undefined;

/** The app's own choice of a proxy, which stands; `own` are variables that an injection has added. */
const hasProxy = (env: readonly EnvVar[], own: readonly string[]): boolean =>
  env.some(({ name }) => /^grpc_proxy$/i.test(name)) && !own.includes('grpc_proxy');

/** Gives a container what it lacks. `own` are the names of its variables that an earlier injection has added. */
export function addVariables(container: Container, plan: InjectionPlan, own: readonly string[]): void {
  const hosts = exemptHosts(plan);
  const env = container.env ?? [];
  if (hosts === undefined || hasProxy(env, own)) return;
  if (last(env, 'grpc_proxy') === undefined) {
    env.push({ name: 'grpc_proxy', value: `http://127.0.0.1:${plan.egressPort}` });
  }
  const exempt = last(env, EXEMPT);
  const value = exempt === undefined ? exemptOf(env, hosts) : undefined;
  if (value !== undefined) env.push({ name: EXEMPT, value });
  if (exempt !== undefined && !own.includes(EXEMPT)) {
    const text = textOf(exempt);
    if (text !== undefined) exempt.value = appended(text, hosts);
  }
  container.env = env;
}

/** Clients that find no_grpc_proxy do not look at no_proxy: what that exempts has to stay exempt. */
function exemptOf(env: readonly EnvVar[], hosts: readonly string[]): string | undefined {
  const general = last(env, 'no_proxy');
  if (general === undefined) return hosts.join(',');
  const names = textOf(general)?.split(',');
  return names && [...hosts, ...names.filter((name) => name.trim() !== '')].join(',');
}

/** A list with the hosts that it lacks. Entries are compared as clients do, which know no blanks. */
function appended(text: string, hosts: readonly string[]): string {
  const entries = text.split(',');
  const missing = hosts.filter((host) => !entries.includes(host));
  if (missing.length === 0) return text;
  return `${text}${text === '' || text.endsWith(',') ? '' : ','}${missing.join(',')}`;
}

/** What has been appended to the container's own list, given how that was: undefined if nothing. */
export function appendedTo(container: Container, before: Container | undefined): string | undefined {
  const exempt = last(before?.env, EXEMPT);
  const { value: was = '' } = exempt ?? {};
  const { value: is = '' } = last(container.env, EXEMPT) ?? {};
  return exempt === undefined || is === was || !is.startsWith(was) ? undefined : is.slice(was.length);
}

/** Takes away what `appendedTo` has told of an earlier injection. */
export function withoutAppended(container: Container, added: string | undefined): void {
  const exempt = last(container.env, EXEMPT);
  if (added === undefined || added === '' || exempt?.value?.endsWith(added) !== true) return;
  exempt.value = exempt.value.slice(0, -added.length);
}

/** The variable by which a container as it was exempts hosts, if nothing can be added to it. */
export function closedList({ env = [] }: Container): string | undefined {
  if (hasProxy(env, [])) return undefined;
  const exempt = last(env, EXEMPT) ?? last(env, 'no_proxy');
  return exempt !== undefined && textOf(exempt) === undefined ? exempt.name : undefined;
}
