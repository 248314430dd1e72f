import { isIP } from 'node:net';

const MAX_AUTHORITY = 300; // characters
const NAME = /^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?$/;

/** What a client asks for, taken apart. */
export type Asked =
  | { readonly kind: 'address'; readonly address: string; readonly port: number }
  /** Labels of a name, without what Kubernetes puts behind the namespace. */
  | {
      readonly kind: 'name';
      readonly labels: readonly string[];
      /** It said `.svc`: the last label is a namespace, and nothing else. */
      readonly isFull: boolean;
      readonly port: number;
    };

/** A service that may be meant, and the host of it, for pods of headless ones. */
export interface Candidate {
  readonly namespace: string;
  readonly name: string;
  readonly host: string | undefined;
}

/** Undefined if it is no authority; `port` is what is meant where there is none. */
export function parseAsked(authority: string, port: number, clusterDomain: string): Asked | undefined {
  if (authority.length > MAX_AUTHORITY) return undefined;
  const parts = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::([0-9]{1,5}))?$/.exec(authority.toLowerCase());
  if (parts === null) return undefined;
  const [, v6, host = '', digits] = parts;
  const asked = digits === undefined ? port : Number(digits);
  if (asked > 65_535 || (digits !== undefined && asked === 0)) return undefined;
  if (v6 !== undefined) return isIP(v6) === 6 ? address(v6, asked) : undefined;
  if (isIP(host) === 4) return address(host, asked);
  return nameOf(host.endsWith('.') ? host.slice(0, -1) : host, asked, clusterDomain);
}

const address = (text: string, port: number): Asked => ({
  kind: 'address',
  address: canonicalAddress(text),
  port,
});

/** One spelling for each IPv6 address. */
export function canonicalAddress(text: string): string {
  return isIP(text) === 6 && !text.includes('%') ? new URL(`http://[${text}]`).hostname.slice(1, -1) : text;
}

function nameOf(host: string, port: number, clusterDomain: string): Asked | undefined {
  let text = host;
  let isFull = false;
  for (const suffix of [`.svc.${clusterDomain}`, '.svc']) {
    if (isFull || !text.endsWith(suffix)) continue;
    text = text.slice(0, -suffix.length);
    isFull = true;
  }
  const labels = text.split('.');
  return labels.every((label) => NAME.test(label)) ? { kind: 'name', labels, isFull, port } : undefined;
}

/** The services that a name may mean, in the order of their right; none if it has no form of Kubernetes. */
export function candidatesOf(
  { labels, isFull }: Extract<Asked, { kind: 'name' }>,
  namespace: string,
): Candidate[] {
  const [first = '', second = '', third = ''] = labels;
  const own = isFull || namespace === '' ? [] : [namespace];
  switch (labels.length) {
    case 1:
      return own.map((ns) => ({ namespace: ns, name: first, host: undefined }));
    case 2:
      return [
        { namespace: second, name: first, host: undefined },
        ...own.map((ns) => ({ namespace: ns, name: second, host: first })),
      ];
    case 3:
      return [{ namespace: third, name: second, host: first }];
    default:
      return [];
  }
}
