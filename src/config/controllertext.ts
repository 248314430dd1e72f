/** The part of docs/controller-configuration.md that is written by hand, line by line. */
export const CONTROLLER_INTRODUCTION: readonly string[] = `# Configuration of the controller

<!-- Generated from src/config/controllerschema.ts by: node scripts/generate-docs.mjs -->

One YAML file configures the controller of a cluster: \`hauberk controller -c controller.yaml\`. It is read as
[a sidecar's](configuration.md) is: all mistakes are reported at once, each with \`file:line:column\`, what was expected
and the cure; unknown keys are refused. Every key has a default, so that an empty file is a whole one. Values are
written [in the same way](configuration.md#how-values-are-written). What the controller does, and how its CA is replaced:
[the controller](kubernetes-controller.md).

Editors complete and check the file when its first line names the schema that comes with the package:

\`\`\`text not-run="a line for an editor"
# yaml-language-server: $schema=./node_modules/hauberk/docs/controller.schema.json
\`\`\`

## A complete file

\`\`\`yaml controller
trustDomain: cluster.local
serviceName: hauberk-controller
control: { listen: ":15010" }
issuer: { svidTtl: 24h, audience: hauberk, caSecret: hauberk-ca, caTtl: 3650d }
webhook: { listen: ":15017", configuration: hauberk-injector, tls: self, secret: hauberk-webhook-tls }
injector:
  image: ghcr.io/hauberk-mesh/hauberk:0.2.0
  captureImage: ghcr.io/hauberk-mesh/hauberk-capture:0.2.0
  mode: explicit
  policy: open
  resources:
    requests: { cpu: 50m, memory: 96Mi }
    limits: { memory: 256Mi }
  excludedNamespaces: [kube-system, kube-public, kube-node-lease]
leader: { lease: hauberk-controller, duration: 15s, renew: 10s, retry: 2s }
probes: { http: ":15020" }
monitoring: { adapters: [stdout] }
log: { level: info }
\`\`\`
`.split('\n');
