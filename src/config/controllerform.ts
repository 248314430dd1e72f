import { adapterOf } from './build.ts';
import type { ListenAddress } from './config.ts';
import type { ControllerConfig, WebhookTls } from './controllerconfig.ts';
import { CONTROLLER_SCHEMA, type ParsedControllerFile } from './controllerschema.ts';
import type { Form } from './form.ts';
import { below } from './pointer.ts';
import { formatDuration } from './quantity.ts';
import { adapters, boundOnce, type NamedListener, type Rule, type RuleContext } from './rules.ts';
import type { SchemaNode } from './schemanode.ts';
import { SIDECAR_FORM } from './sidecarform.ts';
import { checkValue } from './value.ts';

type Context = RuleContext<ParsedControllerFile>;

function addresses(context: Context): void {
  const { file, pointerOf } = context;
  const listeners: NamedListener[] = [];
  const add = (given: readonly unknown[] | undefined, name: string): void => {
    for (const address of (given ?? []) as ListenAddress[]) {
      listeners.push({ address, pointer: pointerOf(address), name });
    }
  };
  add(file.control?.listen, 'control.listen');
  add(file.webhook?.listen, 'webhook.listen');
  add(file.probes?.http, 'probes.http');
  boundOnce(context, listeners);
  if (file.control?.listen?.length === 0) {
    context.conflict(
      '/control/listen',
      'a controller without it has nothing to do: give an address, as in :15010',
    );
  }
}

function webhookTls({ file, conflict }: Context): void {
  const { tls } = file.webhook ?? {};
  if (tls === undefined) return;
  for (const key of ['cert', 'key'] as const) {
    const path = file.webhook?.[key];
    if (tls === 'self' && path !== undefined) {
      conflict(
        `/webhook/${key}`,
        'with tls: self the controller makes its own: remove it, or set webhook.tls: files',
      );
    }
    if ((tls === 'files' || tls === 'external') && path === undefined) {
      conflict(
        '/webhook/tls',
        `${tls} needs webhook.${key}, a file such as /etc/hauberk/webhook/tls.${key === 'cert' ? 'crt' : 'key'}`,
      );
    }
  }
}

function caBundle({ file, conflict }: Context): void {
  const { tls, caBundle } = file.webhook ?? {};
  if (caBundle === undefined || tls === undefined || tls === 'files') return;
  conflict(
    '/webhook/caBundle',
    `with tls: ${tls} ${tls === 'self' ? 'the controller writes its own CA' : "cert-manager's cainjector writes it"}: remove it, or set webhook.tls: files`,
  );
}

const SECRETS = ['issuer.caSecret', 'webhook.secret'] as const;

function secrets({ file, conflict, given }: Context): void {
  const own = file.issuer?.caSecret;
  if (own === undefined || own !== file.webhook?.secret || file.webhook?.tls !== 'self') return;
  const blamed = given('/issuer/caSecret') ? SECRETS[0] : SECRETS[1];
  conflict(
    `/${blamed.replace('.', '/')}`,
    `${SECRETS.join(' and ')} are the same Secret, ${own}: give each its own`,
  );
}

export const RENEW_OVER_RETRY = 2.5;

function lease({ file, conflict, given }: Context): void {
  const { duration, renew, retry } = file.leader ?? {};
  const ordered = (
    low: [string, number | undefined],
    high: [string, number | undefined],
    least: number,
  ): void => {
    if (low[1] === undefined || high[1] === undefined || low[1] * least < high[1]) return;
    const at = given(`/leader/${low[0]}`) ? low[0] : high[0];
    conflict(
      `/leader/${at}`,
      `leader.${low[0]} (${formatDuration(low[1])}) is not below ${least > 1 ? 'two fifths of ' : ''}leader.${high[0]} (${formatDuration(high[1])}): lower it, or raise the other`,
    );
  };
  ordered(['retry', retry], ['renew', renew], RENEW_OVER_RETRY); // replicas wait for more than twice as long, at random
  ordered(['renew', renew], ['duration', duration], 1);
}

/** Keys of a sidecar's configuration that the injector writes for each pod. */
export const WRITTEN_BY_INJECTOR: readonly string[] = [
  'trustDomain',
  'identity',
  'controller',
  'egress',
  'ingress',
  'probes',
  'log',
  'policy',
  'limits',
];

function proxy({ file, conflict }: Context): void {
  const given = file.injector?.proxy as Record<string, unknown> | undefined;
  if (given === undefined) return;
  const own = Object.keys(given).filter((key) => WRITTEN_BY_INJECTOR.includes(key));
  for (const key of own) {
    conflict(
      below('/injector/proxy', key),
      'the injector writes this key for each pod: use its own settings and the annotations of pods, and remove it here',
    );
  }
  const rest = Object.fromEntries(
    Object.entries(given).filter(([key]) => !WRITTEN_BY_INJECTOR.includes(key)),
  );
  const { findings } = checkValue(SIDECAR_FORM, { ...LEAST_SIDECAR(), ...structuredClone(rest) }, '/', {
    given: () => true,
    line: () => undefined,
  });
  for (const { pointer, message } of findings) conflict(`/injector/proxy${pointer}`, message);
}

const LEAST_SIDECAR = (): object => ({
  trustDomain: 'cluster.local',
  identity: { svid: 'svid.pem', key: 'svid.key', bundle: 'bundle.pem' },
});

const RULES: readonly Rule<ParsedControllerFile>[] = [
  addresses,
  webhookTls,
  caBundle,
  secrets,
  lease,
  adapters,
  proxy,
];

function webhookTlsOf({ tls, secret, cert, key, caBundle }: ParsedControllerFile['webhook']): WebhookTls {
  return tls === 'self' || cert === undefined || key === undefined
    ? { source: 'self', secret }
    : { source: tls, cert, key, caBundle };
}

/** From the file's names to those of `ControllerConfig`, which carry their units. */
function build(file: ParsedControllerFile): ControllerConfig {
  const { issuer, webhook, injector, leader, kubernetes, monitoring } = file;
  return {
    trustDomain: file.trustDomain,
    clusterDomain: file.clusterDomain,
    namespace: file.namespace,
    serviceName: file.serviceName,
    control: file.control,
    issuer: {
      svidTtlMs: issuer.svidTtl,
      audience: issuer.audience,
      caSecret: issuer.caSecret,
      caTtlMs: issuer.caTtl,
      maxConcurrent: issuer.maxConcurrent,
      maxWaiting: issuer.maxWaiting,
      maxPerSecond: issuer.maxPerSecond,
      maxPerAddress: issuer.maxPerAddress,
      maxPerPod: issuer.maxPerPod,
    },
    webhook: {
      listen: webhook.listen,
      configuration: webhook.configuration,
      tls: webhookTlsOf(webhook),
      clientCa: webhook.clientCa,
    },
    injector: { ...injector, image: injector.image, captureImage: injector.captureImage },
    leader: {
      lease: leader.lease,
      durationMs: leader.duration,
      renewMs: leader.renew,
      retryMs: leader.retry,
    },
    kubernetes: { server: kubernetes.server, ca: kubernetes.ca, token: kubernetes.token },
    probes: file.probes,
    monitoring: { adapters: monitoring.adapters.map(adapterOf), queue: monitoring.queue },
    log: file.log,
    drain: { deadlineMs: file.drain.deadline },
  };
}

/** The file of `hauberk controller`. */
export const CONTROLLER_FORM: Form<ParsedControllerFile, ControllerConfig> = {
  schema: CONTROLLER_SCHEMA as unknown as SchemaNode,
  rules: RULES,
  build,
};
