/** The part of docs/configuration.md that is written by hand, line by line. */
export const INTRODUCTION: readonly string[] = `# Configuration

<!-- Generated from src/config/schema.ts by: node scripts/generate-docs.mjs -->

One YAML file configures a sidecar: \`hauberk run -c sidecar.yaml\`. \`hauberk check-config\` reads it in the same way
and starts nothing. All mistakes are reported at once, each with \`file:line:column\`, what was expected and the cure;
unknown keys are refused, and a file with a mistake changes nothing.

Without \`-c\` the text of the file is taken from the variable \`HAUBERK_CONFIG\`, and mistakes are told as
\`HAUBERK_CONFIG:line:column\`; relative paths are then below the working directory. That is how a sidecar gets its
configuration in a pod into which it was injected. Both at once are refused.

Editors complete and check the file when its first line names the schema that comes with the package:

\`\`\`text not-run="a line for an editor"
# yaml-language-server: $schema=./node_modules/hauberk/docs/sidecar.schema.json
\`\`\`

## A complete file

\`\`\`yaml
trustDomain: shop.example
identity: { svid: keys/web.pem, key: keys/web.key, bundle: keys/bundle.pem }
egress:
  listen: 127.0.0.1:15001
  routes:
    - service: greeter.shop
      authorities: [greeter, "greeter.shop.svc.cluster.local:50051"]
      endpoints: ["10.1.2.3:15008", "greeter-mesh.shop:15008"]
      peer: spiffe://shop.example/ns/shop/sa/greeter
      listen: 127.0.0.1:50061          # optional: an upstream port of its own
ingress:
  listen: 0.0.0.0:15008
  apps: [{ service: web.shop, address: 127.0.0.1:50051 }]
  allow: [{ peer: "spiffe://shop.example/ns/shop/sa/*", methods: ["/shop.Greeter/*"] }]
session: { idle: 1h, absolute: 8h, max: 10000 }
limits: [{ scope: session, maxRequests: 1000, window: 60s }, { scope: peer, maxRequests: 5000, window: 60s }]
monitoring: { adapters: [stdout, { file: { path: audit.jsonl } }] }
\`\`\`

Only \`trustDomain\` and \`identity\` are required. A section that would be empty is left out: a key without a value is
a mistake.

## How values are written

| type | written | means |
|---|---|---|
| duration | a number and \`ms\`, \`s\`, \`m\`, \`h\` or \`d\`: \`500ms\`, \`60s\`, \`1.5h\` | a plain number is refused: it does not say of what |
| size | a number and \`B\`, \`KiB\`, \`MiB\`, \`GiB\` or \`TiB\`, or a plain number of bytes | powers of 1024 |
| path | relative to the folder of the configuration file, or absolute | also in environment variables |
| module | a path that begins with \`./\`, \`../\` or \`/\`, or the name of an installed package | JavaScript; it runs with all rights of the sidecar |
| address to listen on | \`ip:port\`, \`[ipv6]:port\`, \`unix:/path\` | port 0 picks a free port, which the ready line names |
| | \`localhost:port\` | 127.0.0.1 and ::1 (for a route's \`listen\`: 127.0.0.1) |
| | \`:port\` | all addresses, IPv4 (0.0.0.0) and IPv6 (::) |
| | \`off\` | nothing |
| address to dial | \`ip:port\`, \`[ipv6]:port\`, \`dns-name:port\` | an app's address may be \`unix:/path\` too |
| authority | \`name\`, \`name:port\`, \`*.suffix\`, \`*.suffix:port\`, \`*\` | without a port it matches every port |
| glob | \`*\` is any run of characters, even none, but \`/\` | \`spiffe://shop.example/ns/*/sa/web\`, \`/shop.Greeter/*\` |

Anchors and aliases (\`&name\`, \`*name\`) work, within bounds; merge keys (\`<<\`) do not. The file is UTF-8, at most
1 MiB, and one YAML document.

## Authorization

Ingress asks \`ingress.allow\` about each call: the peer's proven SPIFFE ID and the method must both match a rule.

- **Deny beats allow, whatever the order**: a call that any \`deny\` rule matches is refused. Otherwise any \`allow\` rule
  lets it pass. Otherwise any \`audit\` rule lets it pass and records that nothing else would have.
- A call that no rule matches is denied. With \`policy: open\` it passes; rules that deny still hold.
- \`*\` never crosses a \`/\`: \`spiffe://shop.example/ns/shop/*\` matches no ID with \`/sa/...\` behind it, and \`/*/*\` is every
  gRPC method.
- Methods are compared without a query. A path that a server may read as another (\`%44rop\` as \`Drop\`, \`a/../b\`, \`//a\`, a
  fragment, a slash at the end) must be allowed as both; servers that also ignore case are protected by rules that allow.

## Exposure

Egress takes plaintext calls and sends them on under the sidecar's identity, and ingress delivers them in plaintext, so
both keep to loopback and Unix sockets. \`egress.allowNonLoopback\` and \`ingress.allowRemoteApps\` lift that, each with its
own name, for networks in which the wire between app and sidecar is trusted.
`.split('\n');
