import { parseAuthority } from './authority.ts';

/** An app as peers may ask for it. */
export interface ListedApp {
  readonly service: string;
  /** It takes calls for any name with this port; undefined: for its service only. */
  readonly anyNameOn: number | undefined;
}

/** Which app an `:authority` of a peer means: name and port, then the name, then the port under whatever name. */
export class AppTable<App extends ListedApp> {
  readonly #byName = new Map<string, App>();
  readonly #byPort = new Map<number, App>();

  constructor(apps: readonly App[]) {
    for (const app of apps) {
      if (app.anyNameOn === undefined) this.#byName.set(app.service, app);
      else this.#byPort.set(app.anyNameOn, app);
    }
  }

  match(text: string): App | undefined {
    const authority = parseAuthority(text);
    if (authority === undefined) return undefined;
    const { name, port } = authority;
    const named = (port > 0 ? this.#byName.get(`${name}:${port}`) : undefined) ?? this.#byName.get(name);
    if (named !== undefined) return named;
    if (port > 0) return this.#byPort.get(port);
    // Who names no port can mean no other.
    return this.#byPort.size === 1 ? this.#byPort.values().next().value : undefined;
  }

  /** What to do about an `:authority` that means none. */
  get cure(): string {
    const add = 'add it under its ingress.apps';
    if (this.#byPort.size === 0) return add;
    const ports = [...this.#byPort.keys()].sort((a, b) => a - b).join(', ');
    return `it takes any name with port ${ports}: ask for such a port, or ${add}`;
  }
}
