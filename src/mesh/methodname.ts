const NAME = /^[A-Za-z_][A-Za-z0-9_.-]{0,127}$/;

/** What a method without a schema may be called: at most 128 letters, digits, `_`, `.` and `-`, a letter or `_` first. */
export function isMethodName(name: unknown): name is string {
  return typeof name === 'string' && NAME.test(name);
}

/** Where calls of such a method go. Services have no case, methods do. */
export function methodPath(serviceId: string, method: string): string {
  return `/${serviceId.toLowerCase()}/${method}`;
}
