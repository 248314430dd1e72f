import { IdentityError, quoted } from './errors.ts';

// SPIFFE-ID, sections 2 and 2.3
const SCHEME = 'spiffe://';
const MAX_ID_BYTES = 2048;
const MAX_TRUST_DOMAIN_BYTES = 255;
const TRUST_DOMAIN = /^[a-z0-9._-]+$/;
const PATH_SEGMENT = /^[A-Za-z0-9._-]+$/;

export interface SpiffeId {
  /** The whole ID, as it was given: a valid ID has one spelling only. */
  readonly id: string;
  readonly trustDomain: string;
  /** Empty, or `/segment[/segment...]` without a trailing slash. */
  readonly path: string;
}

/**
 * The name of a trust domain: lower-case letters, digits, `.`, `-` and `_`, 1 to 255 bytes (SPIFFE-ID 2.1).
 * Also takes the form `spiffe://name`. Throws IdentityError `invalid-trust-domain`.
 */
export function parseTrustDomain(text: string): string {
  const name = text.startsWith(SCHEME) ? text.slice(SCHEME.length) : text;
  if (name.length > MAX_TRUST_DOMAIN_BYTES || !TRUST_DOMAIN.test(name)) {
    throw new IdentityError('invalid-trust-domain', `${quoted(text)} is not the name of a trust domain`, {
      cure: `use 1 to ${MAX_TRUST_DOMAIN_BYTES} lower-case letters, digits, ".", "-" or "_", such as shop.example`,
    });
  }
  return name;
}

/**
 * Parses a SPIFFE ID (SPIFFE-ID 2): exactly `spiffe://trust-domain[/path]`, nothing percent-encoded, no port,
 * user, query or fragment, no empty, `.` or `..` segment, at most 2048 bytes.
 * Throws IdentityError `invalid-spiffe-id`.
 */
export function parseSpiffeId(text: string): SpiffeId {
  const refuse = (why: string): never => {
    throw new IdentityError('invalid-spiffe-id', `${quoted(text)} is not a SPIFFE ID: ${why}`);
  };
  if (text.length > MAX_ID_BYTES) refuse(`longer than ${MAX_ID_BYTES} bytes`);
  if (!text.startsWith(SCHEME)) refuse(`it must begin with ${SCHEME}`);
  const slash = text.indexOf('/', SCHEME.length);
  const trustDomain = slash < 0 ? text.slice(SCHEME.length) : text.slice(SCHEME.length, slash);
  const path = slash < 0 ? '' : text.slice(slash);
  if (trustDomain === '') refuse('the trust domain is missing');
  if (trustDomain.length > MAX_TRUST_DOMAIN_BYTES || !TRUST_DOMAIN.test(trustDomain)) {
    refuse('the trust domain may hold lower-case letters, digits, ".", "-" and "_" only');
  }
  if (path !== '') {
    for (const segment of path.slice(1).split('/')) {
      if (segment === '') refuse('the path has an empty segment or a trailing slash');
      if (segment === '.' || segment === '..') refuse('the path has a relative segment');
      if (!PATH_SEGMENT.test(segment)) {
        refuse('a path segment may hold letters, digits, ".", "-" and "_" only');
      }
    }
  }
  return { id: text, trustDomain, path };
}

/**
 * The SPIFFE ID that a short NAME stands for: `greeter` is `spiffe://D/ns/default/sa/greeter`, `shop/greeter`
 * is `spiffe://D/ns/shop/sa/greeter`; a full ID of trust domain D stands for itself.
 * Throws IdentityError `invalid-name`, `invalid-spiffe-id` or `wrong-trust-domain`.
 */
export function spiffeIdForName(name: string, trustDomain: string): SpiffeId {
  if (name.startsWith(SCHEME)) {
    const id = parseSpiffeId(name);
    if (id.trustDomain !== trustDomain) {
      throw new IdentityError('wrong-trust-domain', `${quoted(name)} is not of trust domain ${trustDomain}`, {
        cure: `use an ID that begins with ${SCHEME}${trustDomain}/`,
      });
    }
    if (id.path === '') {
      throw new IdentityError(
        'invalid-name',
        `${quoted(name)} names the trust domain itself, not a service`,
        {
          cure: `add a path, such as ${SCHEME}${trustDomain}/ns/default/sa/greeter`,
        },
      );
    }
    return id;
  }
  const parts = name.split('/');
  if (parts.length > 2 || !parts.every((part) => PATH_SEGMENT.test(part) && part !== '.' && part !== '..')) {
    throw new IdentityError('invalid-name', `${quoted(name)} is not a name that an SVID can be issued for`, {
      cure: 'use NAME, NAMESPACE/NAME or a full spiffe:// ID; letters, digits, ".", "-" and "_" only',
    });
  }
  const [namespace, account] = parts.length === 2 ? parts : ['default', parts[0]];
  return parseSpiffeId(`${SCHEME}${trustDomain}/ns/${namespace}/sa/${account}`);
}

/** Names that `hauberk init` uses itself in the same folder; compared without case, as some file systems do. */
const RESERVED = new Set(['ca', 'bundle']);

/**
 * The base name of the files of an SVID: `greeter` in namespace default, `shop.greeter` in others, and the
 * segments joined by dots for an ID of another shape. Throws IdentityError `invalid-name` for a reserved one.
 */
export function fileNameFor(id: SpiffeId): string {
  const [, first, namespace, second, account, ...rest] = id.path.split('/');
  const conventional = first === 'ns' && second === 'sa' && account !== undefined && rest.length === 0;
  let base = id.path.slice(1).replaceAll('/', '.');
  if (conventional) base = namespace === 'default' ? account : `${namespace}.${account}`;
  if (RESERVED.has(base.toLowerCase()) || base.startsWith('.')) {
    throw new IdentityError('invalid-name', `files called ${quoted(base)} would clash with those of the CA`, {
      cure: 'choose another name',
    });
  }
  return base;
}
