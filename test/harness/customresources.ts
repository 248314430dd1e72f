// Custom resources that the chart can make, whose definitions are not part of Kubernetes' API: JSON Schema of those of
// their fields that we use, written after the Prometheus Operator's and cert-manager's references. An unknown field is
// refused.

const closed = (properties: Record<string, object>, required: readonly string[] = []): object => ({
  type: 'object',
  additionalProperties: false,
  properties,
  required,
});
const list = (items: object): object => ({ type: 'array', minItems: 1, items });
const map = { type: 'object', additionalProperties: { type: 'string' } };
const text = { type: 'string', minLength: 1 };
const duration = { type: 'string', pattern: '^([0-9]+(ms|s|m|h|d|w|y))+$' };
const metadata = closed({ name: text, namespace: text, labels: map, annotations: map }, ['name']);
const selector = closed({
  matchLabels: map,
  matchExpressions: list(closed({ key: text, operator: text, values: list(text) }, ['key', 'operator'])),
});
const relabeling = closed({
  sourceLabels: list(text),
  separator: { type: 'string' },
  targetLabel: text,
  regex: text,
  modulus: { type: 'integer' },
  replacement: { type: 'string' },
  action: text,
});

const resource = (apiVersion: string, kind: string, spec: object): object =>
  closed({ apiVersion: { const: apiVersion }, kind: { const: kind }, metadata, spec }, ['metadata', 'spec']);

/** By `apiVersion/kind`. */
export const CUSTOM_RESOURCES: Record<string, object> = {
  'monitoring.coreos.com/v1/PodMonitor': resource(
    'monitoring.coreos.com/v1',
    'PodMonitor',
    closed(
      {
        jobLabel: text,
        podTargetLabels: list(text),
        namespaceSelector: closed({ any: { type: 'boolean' }, matchNames: list(text) }),
        selector,
        podMetricsEndpoints: list(
          closed({
            port: text,
            portNumber: { type: 'integer', minimum: 1, maximum: 65_535 },
            path: text,
            scheme: { enum: ['http', 'https'] },
            interval: duration,
            scrapeTimeout: duration,
            honorLabels: { type: 'boolean' },
            filterRunning: { type: 'boolean' },
            relabelings: list(relabeling),
            metricRelabelings: list(relabeling),
          }),
        ),
      },
      ['selector', 'podMetricsEndpoints'],
    ),
  ),
  'monitoring.coreos.com/v1/PrometheusRule': resource(
    'monitoring.coreos.com/v1',
    'PrometheusRule',
    closed(
      {
        groups: list(
          closed(
            {
              name: text,
              interval: duration,
              rules: list(
                closed(
                  { alert: text, record: text, expr: text, for: duration, labels: map, annotations: map },
                  ['expr'],
                ),
              ),
            },
            ['name', 'rules'],
          ),
        ),
      },
      ['groups'],
    ),
  ),
  'cert-manager.io/v1/Certificate': resource(
    'cert-manager.io/v1',
    'Certificate',
    closed(
      {
        secretName: text,
        secretTemplate: closed({ annotations: map, labels: map }),
        commonName: text,
        dnsNames: list(text),
        duration,
        renewBefore: duration,
        usages: list(text),
        isCA: { type: 'boolean' },
        privateKey: closed({
          algorithm: { enum: ['RSA', 'ECDSA', 'Ed25519'] },
          size: { type: 'integer' },
          rotationPolicy: { enum: ['Always', 'Never'] },
        }),
        issuerRef: closed({ name: text, kind: text, group: text }, ['name']),
      },
      ['secretName', 'issuerRef'],
    ),
  ),
  'cert-manager.io/v1/Issuer': resource(
    'cert-manager.io/v1',
    'Issuer',
    closed({ selfSigned: closed({}), ca: closed({ secretName: text }, ['secretName']) }),
  ),
};
