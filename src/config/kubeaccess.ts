import { readFile } from 'node:fs/promises';
import type { ControllerConfig } from './controllerconfig.ts';
import type { Environment } from './environment.ts';
import { ConfigError } from './errors.ts';
import { inClusterAccess, type KubeAccess, NAMESPACE_FILE } from './incluster.ts';
import { parseNamespace } from './kubekinds.ts';

/**
 * How the controller reaches its API server: what the file says, and what it does not say as a pod finds it. `source` is the
 * file, for messages. Throws ConfigError where neither says it.
 */
export function kubeAccessOf(
  { kubernetes }: Pick<ControllerConfig, 'kubernetes'>,
  source: string,
  env: Environment = process.env,
): KubeAccess {
  const found = inClusterAccess(env);
  const given = (key: 'server' | 'ca' | 'token'): string => {
    const value = kubernetes[key] ?? found?.[key];
    if (value !== undefined) return value;
    throw missing(
      source,
      `kubernetes.${key}`,
      `kubernetes.${key} is missing, and this is no pod of a cluster (KUBERNETES_SERVICE_HOST is not set): run the controller in a pod, or set server, ca and token`,
    );
  };
  return { server: given('server'), ca: given('ca'), token: given('token') };
}

/** The controller's own namespace, likewise. */
export async function namespaceOf(
  { namespace }: Pick<ControllerConfig, 'namespace'>,
  source: string,
  file = NAMESPACE_FILE,
): Promise<string> {
  if (namespace !== undefined) return namespace;
  try {
    return parseNamespace((await readFile(file, 'utf8')).trim());
  } catch (cause) {
    throw missing(
      source,
      'namespace',
      `namespace is missing, and ${file}, where a pod finds its own, cannot be used: set it, as in hauberk-system`,
      cause,
    );
  }
}

function missing(source: string, key: string, message: string, cause?: unknown): ConfigError {
  return new ConfigError(source, [{ code: 'missing-key', key, message }], cause);
}
