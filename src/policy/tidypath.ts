/** What some servers tidy away before they look for the method. */
const UNTIDY = /[%#\\]|\/\/|\/\.{1,2}(?:\/|$)|.\/$/;
const ENCODED = /%([0-9A-Fa-f]{2})/g;
/** Servers decode once; one that is behind a proxy that does too, twice. */
const DECODINGS = 3;

/**
 * A path as the most obliging server would read it: without query and fragment, percent-decoded, backslashes as slashes,
 * empty and dot segments removed (RFC 3986 section 5.2.4), no slash at the end. The same string where there is nothing to
 * tidy, which is so for every method of gRPC.
 */
export function tidyPath(path: string): string {
  if (!UNTIDY.test(path)) return path;
  let text = path;
  for (let i = 0; i < DECODINGS && text.includes('%'); i++) {
    text = text.replace(ENCODED, (_all, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  }
  const end = text.search(/[?#]/); // a query may have come to light by the decoding
  if (end >= 0) text = text.slice(0, end);
  const segments: string[] = [];
  for (const segment of text.replaceAll('\\', '/').split('/')) {
    if (segment === '..') segments.pop();
    else if (segment !== '' && segment !== '.') segments.push(segment);
  }
  return `/${segments.join('/')}`;
}
