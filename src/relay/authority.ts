/** A parsed `:authority` or CONNECT target; the name is in lower case, without a trailing dot. */
export interface Authority {
  readonly name: string;
  /** 0 where none is given. */
  readonly port: number;
}

/** Parses `name`, `name:port` or `[v6]:port`; undefined if it is none of them (RFC 3986 section 3.2, no userinfo). */
export function parseAuthority(text: string): Authority | undefined {
  let name = text;
  let port = 0;
  const colon = text.lastIndexOf(':');
  const bracket = text.lastIndexOf(']');
  if (colon > bracket && (bracket >= 0 || text.indexOf(':') === colon)) {
    const digits = text.slice(colon + 1);
    if (!/^[0-9]{1,5}$/.test(digits)) return undefined;
    port = Number(digits);
    if (port < 1 || port > 65_535) return undefined;
    name = text.slice(0, colon);
  } else if (colon > bracket) return undefined;
  name = name.toLowerCase();
  if (name.endsWith('.')) name = name.slice(0, -1);
  if (name === '' || name.length > 255) return undefined;
  if (bracket >= 0) return /^\[[0-9a-f:.]+\]$/.test(name) ? { name, port } : undefined;
  return /^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/.test(name) ? { name, port } : undefined;
}
