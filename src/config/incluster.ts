import type { Environment } from './environment.ts';

/** Where Kubernetes puts what a pod needs to speak with its API server. */
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

/** How to reach an API server. Paths, not contents: both files are replaced while the program runs. */
export interface KubeAccess {
  /** `https://host:port`. */
  readonly server: string;
  /** Path of the PEM file with the CAs of the API server's certificate. */
  readonly ca: string;
  /** Path of the file with the bearer token. */
  readonly token: string;
}

/** What a pod is given for its own API server; undefined outside a cluster. */
export function inClusterAccess(environment: Environment = process.env): KubeAccess | undefined {
  const host = environment.KUBERNETES_SERVICE_HOST;
  const port = environment.KUBERNETES_SERVICE_PORT_HTTPS ?? environment.KUBERNETES_SERVICE_PORT;
  if (host === undefined || host === '' || port === undefined || port === '') return undefined;
  return {
    server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    ca: `${SERVICE_ACCOUNT}/ca.crt`,
    token: `${SERVICE_ACCOUNT}/token`,
  };
}

/** Path of the file that names the namespace of a pod. */
export const NAMESPACE_FILE = `${SERVICE_ACCOUNT}/namespace`;
