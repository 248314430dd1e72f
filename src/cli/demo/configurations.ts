/** The configurations of the demo's sidecars. */
export const DOMAIN = 'demo.example';
export const SERVICE = 'greeter.demo';
/** Calls of a session in 10 s. */
export const LIMIT = 200;

/** The called side. `port` is the app's. */
export function greeterYaml(keys: string, port: number): string {
  return `trustDomain: ${DOMAIN}
identity: { svid: ${keys}/greeter.pem, key: ${keys}/greeter.key, bundle: ${keys}/bundle.pem }
egress: { listen: "127.0.0.1:0" }
ingress:
  listen: 127.0.0.1:0
  apps: [{ service: ${SERVICE}, address: "127.0.0.1:${port}" }]
  allow: [{ peer: "spiffe://${DOMAIN}/ns/default/sa/web", methods: ["/hauberk.demo.v1.*/*"] }]
limits: [{ scope: session, maxRequests: ${LIMIT}, window: 10s }]
probes: { http: "127.0.0.1:0", grpc: "127.0.0.1:0" }
log: { level: error }
`;
}

/** The calling side. `port` is where it finds the called one. */
export function webYaml(keys: string, port: number, bundle = `${keys}/bundle.pem`): string {
  return `trustDomain: ${DOMAIN}
identity: { svid: ${keys}/web.pem, key: ${keys}/web.key, bundle: ${bundle} }
egress:
  listen: 127.0.0.1:0
  routes:
    - service: ${SERVICE}
      endpoints: ["127.0.0.1:${port}"]
      peer: spiffe://${DOMAIN}/ns/default/sa/greeter
ingress: { listen: "127.0.0.1:0" }
probes: { http: "127.0.0.1:0", grpc: "127.0.0.1:0" }
log: { level: error }
`;
}
