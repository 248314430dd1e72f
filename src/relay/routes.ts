import type { RouteConfig } from '../config/config.ts';
import { type Authority, parseAuthority } from './authority.ts';

const CLUSTER_SUFFIXES = ['.svc', '.svc.cluster.local'];

/** A service `name.namespace`, and the port that one of discovery may have. */
function kubernetesName(service: string): { name: string; short: string; port: string } | undefined {
  const [, name = '', short = '', port = ''] = /^(([^.:]+)\.[^.:]+)(:[0-9]+)?$/.exec(service) ?? [];
  return name === '' ? undefined : { name, short, port };
}

/** The forms in which Kubernetes' clients write the name of a service `name.namespace`. */
function kubernetesForms(service: string): string[] {
  const found = kubernetesName(service);
  return found === undefined ? [] : CLUSTER_SUFFIXES.map((suffix) => found.name + suffix + found.port);
}

/**
 * Which route an `:authority` names (design section 7): case-insensitive, port optional, exact before
 * wildcard, a longer wildcard before a shorter. The table is made once and never changed.
 */
export class RouteTable<T> {
  readonly #exact = new Map<string, T>();
  /** Wildcards `*.suffix`, longest first, with a port or 0 for any. */
  readonly #wildcards: Array<{ suffix: string; port: number; route: T }> = [];

  constructor(entries: Iterable<readonly [config: Pick<RouteConfig, 'service' | 'authorities'>, route: T]>) {
    const list = [...entries];
    // What a file says outright comes before the forms that we derive.
    for (const [config, route] of list) this.#add(config.service, route);
    for (const [config, route] of list)
      for (const authority of config.authorities) this.#add(authority, route);
    for (const [config, route] of list)
      for (const form of kubernetesForms(config.service)) this.#add(form, route);
    this.#addShortNames(list);
    this.#wildcards.sort((a, b) => b.suffix.length - a.suffix.length || b.port - a.port);
  }

  #add(authority: string, route: T): void {
    const text = authority.toLowerCase();
    if (text === '*') this.#wildcards.push({ suffix: '', port: 0, route });
    else if (text.startsWith('*.')) {
      const parsed = parseAuthority(text.slice(2));
      if (parsed !== undefined) this.#wildcards.push({ suffix: `.${parsed.name}`, port: parsed.port, route });
    } else if (!this.#exact.has(text)) this.#exact.set(text, route);
  }

  /** `greeter` for `greeter.shop`, unless two services have that short name. */
  #addShortNames(list: ReadonlyArray<readonly [Pick<RouteConfig, 'service'>, T]>): void {
    const owners = new Map<string, T | undefined>();
    for (const [{ service }, route] of list) {
      const found = kubernetesName(service);
      if (found === undefined) continue;
      const short = found.short + found.port;
      owners.set(short, owners.has(short) ? undefined : route);
    }
    for (const [short, route] of owners) if (route !== undefined) this.#add(short, route);
  }

  match({ name, port }: Authority): T | undefined {
    const exact = (port > 0 ? this.#exact.get(`${name}:${port}`) : undefined) ?? this.#exact.get(name);
    if (exact !== undefined) return exact;
    for (const wildcard of this.#wildcards) {
      if ((wildcard.port === 0 || wildcard.port === port) && name.endsWith(wildcard.suffix))
        return wildcard.route;
    }
    return undefined;
  }

  /** The exact names, for error messages. */
  get names(): string[] {
    return [...this.#exact.keys()];
  }
}
