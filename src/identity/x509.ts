/*
 * The library that makes certificates, loaded at its first use: a running sidecar never needs it.
 *
 * @peculiar/x509 is wired with tsyringe, which refuses to load without the three functions of the Reflect
 * metadata proposal that it calls. They are few enough to stand here instead of a dependency for the purpose.
 */

type Metadata = Map<unknown, unknown>;

interface ReflectMetadata {
  defineMetadata?: (key: unknown, value: unknown, target: object) => void;
  getOwnMetadata?: (key: unknown, target: object) => unknown;
  getMetadata?: (key: unknown, target: object) => unknown;
}

function provideReflectMetadata(): void {
  const reflect = Reflect as ReflectMetadata;
  if (reflect.getMetadata !== undefined) return;
  const byTarget = new WeakMap<object, Metadata>();
  const own = (key: unknown, target: object): unknown => byTarget.get(target)?.get(key);
  reflect.defineMetadata = (key, value, target) => {
    const metadata = byTarget.get(target) ?? new Map<unknown, unknown>();
    byTarget.set(target, metadata.set(key, value));
  };
  reflect.getOwnMetadata = own;
  reflect.getMetadata = (key, target) => {
    for (let at: object | null = target; at !== null; at = Object.getPrototypeOf(at)) {
      const value = own(key, at);
      if (value !== undefined) return value;
    }
    return undefined;
  };
}

export type X509 = typeof import('@peculiar/x509');

export async function loadX509(): Promise<X509> {
  provideReflectMetadata();
  return import('@peculiar/x509');
}
