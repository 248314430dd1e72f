// The values of helm/hauberk: those of the chart itself, and under `config` the controller's own configuration, from its own
// schema. generate-docs.mjs writes values.yaml, values.schema.json and the table of README.md from this.
import { WRITTEN_BY_INJECTOR } from '../../src/config/controllerform.ts';
import { CONTROLLER_SCHEMA } from '../../src/config/controllerschema.ts';
import { SCHEMA } from '../../src/config/schema.ts';
import { choice, count, flag, kind, list, type SchemaNode } from '../../src/config/schemanode.ts';

const node = (schema: unknown): SchemaNode => schema as SchemaNode;

/** A mapping with these keys and no others; all may be missing but those that are named. */
function section(
  description: string,
  properties: Record<string, unknown>,
  required: string[] = [],
): SchemaNode {
  return {
    type: 'object',
    additionalProperties: false,
    properties: properties as Record<string, SchemaNode>,
    description,
    ...(required.length === 0 ? { default: {} } : { required }),
  };
}

/** A mapping without some of its keys, given as `a` or `a.b`. */
function without(schema: SchemaNode, keys: readonly string[]): SchemaNode {
  const properties: Record<string, SchemaNode> = {};
  for (const [name, child] of Object.entries(schema.properties ?? {})) {
    const below = keys.filter((key) => key.startsWith(`${name}.`)).map((key) => key.slice(name.length + 1));
    if (!keys.includes(name)) properties[name] = below.length === 0 ? child : without(child, below);
  }
  return { ...schema, properties };
}

/** What the chart sets, because other objects depend on it: names, ports, images, and what only tests need. */
const SET_BY_THE_CHART = [
  'namespace',
  'serviceName',
  'kubernetes',
  'webhook',
  'probes',
  'control.listen',
  'injector.image',
  'injector.captureImage',
];

/** The key at a path, as `a.b`. */
function at(schema: SchemaNode, path: string): SchemaNode {
  const found = path
    .split('.')
    .reduce<SchemaNode | undefined>((node, name) => node?.properties?.[name], schema);
  if (found === undefined) throw new Error(`the schema has no ${path}`);
  return found;
}

/** A copy in which the key at a path, as `a.b`, has other fields too. */
function changed(schema: SchemaNode, path: string, fields: Partial<SchemaNode>): SchemaNode {
  const [name = '', ...rest] = path.split('.');
  const child = at(schema, name);
  const to = rest.length === 0 ? { ...child, ...fields } : changed(child, rest.join('.'), fields);
  return { ...schema, properties: { ...schema.properties, [name]: to } };
}

/** Where a cluster is better served by another default than a file that somebody writes. */
const DEFAULTS: Record<string, unknown> = {
  'injector.resources.requests': { cpu: '50m', memory: '96Mi' },
  'injector.resources.limits': { memory: '256Mi' },
  'monitoring.adapters': ['stdout'],
};

/** Written without quotes they are numbers; the chart writes them as text. */
const QUANTITIES = ['requests', 'limits'].flatMap((sort) =>
  ['cpu', 'memory'].map((what) => `injector.resources.${sort}.${what}`),
);

function config(): SchemaNode {
  const kept = without(node(CONTROLLER_SCHEMA), SET_BY_THE_CHART);
  const numbers = QUANTITIES.reduce(
    (made, path) => changed(made, path, { type: ['string', 'number'] }),
    kept,
  );
  const schema = Object.entries(DEFAULTS).reduce(
    (made, [path, preset]) => changed(made, path, { default: preset }),
    numbers,
  );
  const { required: _none, default: _empty, ...sidecar } = without(node(SCHEMA), WRITTEN_BY_INJECTOR);
  const { description, default: preset } = at(schema, 'injector.proxy');
  return {
    ...changed(schema, 'injector.proxy', { ...sidecar, description, default: preset, examples: [] }),
    description:
      "The controller's configuration, as docs/controller-configuration.md has it; the names, ports and images in it are the chart's to write.",
  };
}

const webhookKey = (name: string): SchemaNode => at(node(CONTROLLER_SCHEMA), `webhook.${name}`);

const text = (description: string, preset: string, example?: string): SchemaNode => ({
  type: 'string',
  description,
  default: preset,
  ...(example === undefined ? {} : { examples: [example] }),
});

/** Labels or annotations. */
const labels = (description: string, preset: Record<string, string> = {}) => ({
  type: 'object',
  additionalProperties: { type: 'string' },
  description,
  default: preset,
});

const quantities = (description: string, preset: Record<string, string>) => ({
  type: 'object',
  additionalProperties: { type: ['string', 'number'] },
  description,
  default: preset,
});

/** Whether objects of the Prometheus Operator are made. */
const whenThere = (what: string) => ({
  type: ['boolean', 'string'],
  enum: [true, false, 'auto'],
  description: `${what}; \`auto\`: where the cluster knows the Prometheus Operator's API.`,
  default: 'auto',
});

const image = (description: string, repository: string, more: Record<string, unknown>): SchemaNode =>
  section(description, {
    registry: text('Registry, such as your mirror.', 'ghcr.io'),
    repository: text('Name in it.', repository),
    tag: text("Tag; without one the chart's `appVersion`.", '', '0.2.0'),
    digest: {
      ...text('Digest instead of a tag.', '', `sha256:${'0'.repeat(64)}`),
      pattern: '^(sha256:[0-9a-f]{64})?$',
    },
    ...more,
  });

const port = (description: string, preset: number) =>
  count(1_024, 65_535, 'port', { description, default: preset });

const WEBHOOK = section('The injector, as the API server reaches it.', {
  configuration: webhookKey('configuration'),
  failurePolicy: choice(['Fail', 'Ignore'], {
    description:
      '`Fail`: while no replica answers, pods that ask for a sidecar are not created. `Ignore`: they start without one, and their calls are not protected.',
    default: 'Fail',
  }),
  timeoutSeconds: count(1, 30, 'seconds', {
    description: 'How long the API server waits for an answer.',
    default: 10,
  }),
  tls: webhookKey('tls'),
  secret: webhookKey('secret'),
  tlsSecret: text(
    'With `tls: files` or `external`: the Secret of `tls.crt` and `tls.key`.',
    '',
    'hauberk-webhook-cert',
  ),
  caBundle: text(
    'With `tls: files`: the CA certificates that the API server is to trust, PEM (`--set-file`).',
    '',
  ),
  clientCa: text(
    'The CA certificates that sign what API servers show to webhooks, PEM (`--set-file`): nobody else is answered then. Tell API servers to show one first (docs/kubernetes.md).',
    '',
  ),
  certManager: section('With `tls: external`: what cert-manager is asked for.', {
    issuerRef: section("The issuer of the webhook's certificate.", {
      name: text('Its name; the chart then makes a Certificate.', '', 'ca-issuer'),
      kind: choice(['Issuer', 'ClusterIssuer'], { description: 'Its kind.', default: 'Issuer' }),
      group: text('Its API group.', 'cert-manager.io'),
    }),
    certificate: {
      ...text('Or a Certificate that there is, as NAMESPACE/NAME.', '', 'hauberk-system/hauberk-webhook'),
      pattern: '^([a-z0-9.-]+/[a-z0-9.-]+)?$',
    },
  }),
});

/** Keys without a default are left out of values.yaml, and may be missing. */
export const CHART_VALUES: SchemaNode = section('Values of the chart helm/hauberk.', {
  replicas: count(1, 100, 'pods', {
    description:
      'Controllers. Each of them injects, certifies and answers; one of them leads, which rotates certificates.',
    default: 2,
  }),
  image: image('The image of the controller and of the sidecars.', 'hauberk-mesh/hauberk', {
    pullPolicy: choice(['IfNotPresent', 'Always', 'Never'], {
      description: '`imagePullPolicy` of the controller; that of pods is `config.injector.pullPolicy`.',
      default: 'IfNotPresent',
    }),
  }),
  captureImage: image(
    'The image of the init container that `mode: transparent` needs.',
    'hauberk-mesh/hauberk-capture',
    {},
  ),
  imagePullSecrets: list(
    section('A Secret.', { name: kind('kube-name', { description: 'Its name.' }) }, ['name']) as never,
    {
      description: 'Secrets with which the controller is pulled. Pods use their own.',
      default: [],
      example: [{ name: 'registry' }],
    },
  ),
  acceptCutOff: flag({
    description:
      'Lets an upgrade change `config.trustDomain`, `fullnameOverride`, `ports.control` or `config.issuer.audience`, which cuts off every pod that has a sidecar until it is restarted.',
    default: false,
  }),
  fullnameOverride: {
    ...text(
      "Name of the controller's Deployment, Service, service account and ConfigMap, instead of `hauberk-controller`. Pods that run keep the old one: see `acceptCutOff`.",
      '',
      'hauberk',
    ),
    pattern: '^([a-z]([a-z0-9-]{0,51}[a-z0-9])?)?$',
  },
  config: config(),
  webhook: WEBHOOK,
  ports: section('Ports of the controller.', {
    control: port('gRPC for sidecars. Pods that run keep the old one: see `acceptCutOff`.', 15_010),
    webhook: port('HTTPS for the API server; the Service has it at 443.', 15_017),
    probes: port('HTTP probes and metrics.', 15_020),
  }),
  resources: section('What a controller may use.', {
    requests: quantities('At least.', { cpu: '100m', memory: '128Mi' }),
    limits: quantities('At most.', { memory: '512Mi' }),
  }),
  podDisruptionBudget: section('What a drain of nodes does to the controllers.', {
    enabled: flag({ description: 'Makes a PodDisruptionBudget.', default: true }),
    maxUnavailable: count(1, 100, 'pods', {
      description: 'Controllers that a drain may take away at a time; 1 unless `minAvailable` is set.',
      example: 1,
    }),
    minAvailable: count(1, 100, 'pods', {
      description: 'Or those that it must leave, fewer than `replicas`.',
      example: 2,
    }),
  }),
  priorityClass: section('The priority of the controllers: apps need them to start.', {
    create: flag({ description: 'Makes the PriorityClass.', default: true }),
    name: text('Its name; empty for none.', 'hauberk-controller'),
    value: count(-2_147_483_648, 1_000_000_000, 'priority', {
      description: 'The priority. Kubernetes lets nobody change it: give another one another name.',
      default: 1_000_000,
    }),
  }),
  podAntiAffinity: choice(['preferred', 'required', 'off'], {
    description: 'Whether controllers keep to different nodes.',
    default: 'preferred',
  }),
  topologySpread: list(
    section(
      'A constraint.',
      {
        topologyKey: text('Label of nodes.', 'topology.kubernetes.io/zone'),
        maxSkew: count(1, 100, 'pods', { description: 'How uneven it may be.', default: 1 }),
        whenUnsatisfiable: choice(['ScheduleAnyway', 'DoNotSchedule'], {
          description: 'What becomes of a pod that fits nowhere.',
          default: 'ScheduleAnyway',
        }),
      },
      ['topologyKey', 'maxSkew', 'whenUnsatisfiable'],
    ) as never,
    {
      description: 'How controllers are spread, over zones for example.',
      default: [],
      example: [
        { topologyKey: 'topology.kubernetes.io/zone', maxSkew: 1, whenUnsatisfiable: 'ScheduleAnyway' },
      ],
    },
  ),
  nodeSelector: labels('Labels that the nodes of the controllers must have.'),
  tolerations: {
    type: 'array',
    items: { type: 'object' },
    description: 'Taints that controllers bear.',
    default: [],
    examples: [[{ key: 'dedicated', operator: 'Exists' }]],
  },
  terminationGracePeriodSeconds: count(1, 3_600, 'seconds', {
    description: 'How long a controller may take to end; longer than `config.drain.deadline`.',
    default: 30,
  }),
  serviceAccount: section("The controller's service account.", {
    annotations: labels('Its annotations.'),
  }),
  podAnnotations: labels("Annotations of the controller's pods."),
  podLabels: labels("Labels of the controller's pods."),
  commonLabels: labels('Labels of every object of the chart.'),
  networkPolicy: section('Who reaches the controller.', {
    enabled: flag({
      description: 'Makes a NetworkPolicy: of the controller, only its ports are reached.',
      default: true,
    }),
  }),
  appNetworkPolicies: section('NetworkPolicies before apps, so that nobody goes past the sidecar.', {
    namespaces: list(kind('namespace', { description: 'A namespace.' }), {
      description:
        'Namespaces in which pods with a sidecar are reached at their mesh and probe ports only, whoever calls.',
      default: [],
      example: ['shop'],
    }),
    ports: list(count(1, 65_535, 'port', { description: 'A port.' }), {
      description:
        'Those ports; more where pods have the annotation `hauberk.mesh/mesh-port` or `hauberk.mesh/probe-port`.',
      default: [15_008, 15_020, 15_021],
    }),
  }),
  podMonitor: section('Metrics, for the Prometheus Operator.', {
    enabled: whenThere('PodMonitors of the controllers and of all sidecars'),
    interval: { ...text('How often they are asked.', '30s'), pattern: '^[0-9]+(ms|s|m|h)$' },
    labels: labels('Labels by which your Prometheus selects them.'),
  }),
  prometheusRule: section('Alerts, for the Prometheus Operator.', {
    enabled: whenThere('A PrometheusRule'),
    labels: labels('Labels by which your Prometheus selects it.'),
  }),
  dashboards: section('Dashboards for Grafana.', {
    enabled: flag({ description: 'Makes a ConfigMap for each.', default: false }),
    labels: labels("Labels by which Grafana's sidecar finds them.", { grafana_dashboard: '1' }),
    annotations: labels('Their annotations, such as a folder.'),
  }),
  global: {
    type: 'object',
    additionalProperties: true,
    description: 'What a parent chart shares with all of its charts; unused here.',
  },
  enabled: {
    type: 'boolean',
    description: 'The condition by which a parent chart has this one or not; unused here.',
  },
});
