// The configuration of an injected sidecar: the whole of it, as the text of HAUBERK_CONFIG.
import { stringify } from 'yaml';
import { configOf } from '../../config/value.ts';
import type { AppProbe } from './appprobes.ts';
import { IDENTITY_FOLDER, RUN_FOLDER, TOKEN_FOLDER } from './names.ts';
import type { InjectionPlan } from './plan.ts';
import type { InjectorSettings } from './settings.ts';

type Section = Readonly<Record<string, unknown>>;
const isSection = (value: unknown): value is Section =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** `over` wins, key by key; lists are taken whole. */
function merged(under: Section, over: Section): Section {
  const result: Record<string, unknown> = Object.create(null);
  for (const [key, value] of [...Object.entries(under), ...Object.entries(over)]) {
    if (value === undefined) continue;
    const other = result[key];
    result[key] = isSection(other) && isSection(value) ? merged(other, value) : value;
  }
  return result;
}

/** What a pod's sidecar has unless `injector.proxy` says otherwise. */
const DEFAULTS: Section = { monitoring: { adapters: ['stdout'], calls: 'failed' } };

/** In the names of the file (docs/configuration.md). */
export function sidecarConfig(
  plan: InjectionPlan,
  settings: InjectorSettings,
  probes: readonly AppProbe[],
): Section {
  const folder = plan.identity.kind === 'secret' ? IDENTITY_FOLDER : RUN_FOLDER;
  const serves = plan.ports.length > 0;
  return merged(merged(DEFAULTS, settings.proxy), {
    trustDomain: settings.trustDomain,
    identity: {
      svid: `${folder}/svid.pem`,
      key: `${folder}/svid.key`,
      bundle: `${folder}/bundle.pem`,
      issuer: plan.identity.kind === 'secret' ? 'files' : 'controller',
    },
    controller: {
      address: settings.controllerAddress,
      peer: settings.controllerPeer,
      token: `${TOKEN_FOLDER}/token`,
      bundlePem: settings.bundlePem,
    },
    egress: {
      listen: `localhost:${plan.egressPort}`,
      discovery: true,
      namespace: plan.namespace,
      routes: plan.upstreams.map(({ listen, name, port }) => ({
        service: `${name}:${port}`,
        discovery: true,
        listen: `127.0.0.1:${listen}`,
      })),
      redirects: plan.redirects.map(({ port, listen }) => ({ port, listen: `localhost:${listen}` })),
    },
    ingress: {
      listen: serves ? `:${plan.meshPort}` : 'off',
      apps: plan.ports.map((port) => ({ service: '*', address: `127.0.0.1:${port}` })),
      allow: plan.allow ?? [],
    },
    policy: plan.allow === undefined ? settings.policy : 'enforce',
    limits: plan.limits,
    probes: { http: `:${plan.probePort}`, grpc: `:${plan.healthPort}`, apps: probes },
    drain: { deadline: `${plan.drainSeconds}s` },
    log: { level: plan.logLevel },
  });
}

/** What the sidecar would say of it: it ends at once where there is anything. */
export function configProblems(config: Section): string[] {
  const result = configOf(config, '/');
  if (!('findings' in result)) return [];
  return result.findings.map(
    ({ message }) =>
      `its sidecar would refuse its configuration: ${message} (from an annotation, or injector.proxy)`,
  );
}

/** YAML, which people read in `kubectl describe pod`. A `$` is doubled, because kubelet replaces `$(NAME)` in variables. */
export function configText(config: Section): string {
  return stringify(config, { lineWidth: 0, aliasDuplicateObjects: false }).replaceAll('$', '$$$$');
}
