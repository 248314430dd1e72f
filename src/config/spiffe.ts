// SPIFFE ID standard, sections 2.1 to 2.3: trust domain names and paths.
import { ValueError } from './errors.ts';

const TRUST_DOMAIN = /^[a-z0-9._-]{1,255}$/;
const SCHEME = 'spiffe://';
const MAX_ID = 2048; // bytes
const SEGMENT = /^[A-Za-z0-9._-]+$/;
const SEGMENT_GLOB = /^[A-Za-z0-9._*-]+$/;

export function parseTrustDomain(text: string): string {
  if (TRUST_DOMAIN.test(text)) return text;
  if (text.startsWith(SCHEME)) {
    throw new ValueError(`is a SPIFFE ID: write the trust domain only, without ${SCHEME}`);
  }
  throw new ValueError(
    'is not a trust domain: lower-case letters, digits, dots, dashes and underscores, at most 255, as in shop.example',
  );
}

/** The trust domain of a SPIFFE ID or of a glob over them, unchecked. */
export function trustDomainOf(id: string): string {
  return id.slice(SCHEME.length).split('/', 1)[0];
}

function checkPath(text: string, segment: RegExp, sort: string): void {
  if (!text.startsWith(SCHEME)) {
    throw new ValueError(
      `is not a ${sort}: it begins with ${SCHEME}, as in spiffe://shop.example/ns/shop/sa/web`,
    );
  }
  if (text.length > MAX_ID) throw new ValueError(`is longer than ${MAX_ID} bytes`);
  const [, ...path] = text.slice(SCHEME.length).split('/');
  if (path.length === 0)
    throw new ValueError(`has no path: a workload's ID goes on, as in ${text}/ns/shop/sa/web`);
  for (const part of path) {
    if (part === '') throw new ValueError('has an empty path segment: remove the extra /');
    if (part === '.' || part === '..')
      throw new ValueError(`has the path segment ${part}, which is not allowed`);
    if (!segment.test(part)) {
      throw new ValueError(`has a character in ${JSON.stringify(part)} that SPIFFE IDs do not allow`);
    }
  }
}

/** A full SPIFFE ID of a workload, without globs. */
export function parseSpiffeId(text: string): string {
  if (text.includes('*')) {
    throw new ValueError(
      'has a *: the expected peer is one full SPIFFE ID, as in spiffe://shop.example/ns/shop/sa/web',
    );
  }
  checkPath(text, SEGMENT, 'SPIFFE ID');
  const domain = trustDomainOf(text);
  if (!TRUST_DOMAIN.test(domain))
    throw new ValueError(`has the invalid trust domain ${JSON.stringify(domain)}`);
  return text;
}

/** A glob over SPIFFE IDs; `*` does not cross a `/`. */
export function parseSpiffeGlob(text: string): string {
  if (/^\*+$/.test(text)) {
    throw new ValueError(
      'matches no SPIFFE ID, for * does not cross a /: write spiffe://shop.example/ns/*/sa/*',
    );
  }
  checkPath(text, SEGMENT_GLOB, 'glob over SPIFFE IDs');
  refuseDoubleStar(text);
  const domain = trustDomainOf(text);
  if (!TRUST_DOMAIN.test(domain.replaceAll('*', 'x'))) {
    throw new ValueError(`has the invalid trust domain ${JSON.stringify(domain)}`);
  }
  return text;
}

/** A glob over HTTP/2 `:path`s, mostly `/pkg.Service/Method`. */
export function parseMethodGlob(text: string): string {
  if (!text.startsWith('/')) {
    throw new ValueError(
      'is not a method: it begins with a /, as in /shop.Greeter/* or, for every method, /*/*',
    );
  }
  if (!/^[\x21-\x7e]+$/.test(text)) throw new ValueError('has a character other than printable ASCII');
  if (text.includes('?') || text.includes('#'))
    throw new ValueError('has a ? or #: methods are matched without a query');
  refuseDoubleStar(text);
  return text;
}

function refuseDoubleStar(text: string): void {
  if (text.includes('**'))
    throw new ValueError('has **: only a single * is known, and it does not cross a /');
}
