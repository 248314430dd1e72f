import { ConfigError, type ConfigIssue } from '../../src/config/errors.ts';
import { parseConfig } from '../../src/config/parse.ts';

/** The least that a file needs. Two lines: what a test adds begins at line 3. */
export const LEAST = `trustDomain: shop.example
identity: { svid: keys/web.pem, key: keys/web.key, bundle: keys/bundle.pem }
`;

/** The complete file of the design, section 7. */
export const COMPLETE = `trustDomain: shop.example
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
`;

/** The issues of a text, without the file's name; empty when it is accepted. */
export function issuesOf(text: string, env: Record<string, string> = {}): readonly ConfigIssue[] {
  try {
    parseConfig(text, { file: '/etc/hauberk/sidecar.yaml', env });
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.issues;
    throw error;
  }
}

/** Issues as `line:column code message`, for tables. */
export function linesOf(text: string, env: Record<string, string> = {}): string[] {
  return issuesOf(text, env).map(
    ({ line, column, code, message, variable }) => `${variable ?? `${line}:${column}`} ${code} ${message}`,
  );
}
