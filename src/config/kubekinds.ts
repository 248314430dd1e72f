// What strings mean in the controller's file, beyond what a sidecar's has.
import { ValueError } from './errors.ts';

/** For editors, and for Helm; the parsers below have the last word. */
export const PATTERNS = {
  namespace: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
  name: '^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$',
  audience: '^[!-~]{1,253}$',
  cpu: '^([0-9]{1,9}m|[0-9]{1,6}(\\.[0-9]{1,3})?)$',
  memory: '^[0-9]{1,15}(\\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|k|M|G|T)?$',
} as const;

const LABEL = new RegExp(PATTERNS.namespace);
const CPU = new RegExp(PATTERNS.cpu);
const MEMORY = new RegExp(PATTERNS.memory);
const AUDIENCE = new RegExp(PATTERNS.audience);
const IMAGE =
  /^[a-zA-Z0-9][a-zA-Z0-9.-]*(:[0-9]{1,5})?(\/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?$/;

/** A namespace or another DNS label (RFC 1123). */
export function parseNamespace(text: string): string {
  if (LABEL.test(text)) return text;
  throw new ValueError(
    'is not the name of a namespace: lower-case letters, digits and dashes, at most 63, as in shop',
  );
}

/** A name as most kinds of objects have it: a DNS subdomain (RFC 1123). */
export function parseKubeName(text: string): string {
  if (text.length <= 253 && text.split('.').every((label) => LABEL.test(label))) return text;
  throw new ValueError(
    'is not a name that Kubernetes allows: lower-case letters, digits, dashes and dots, at most 253, as in hauberk-ca',
  );
}

export function parseAudience(text: string): string {
  if (AUDIENCE.test(text)) return text;
  throw new ValueError('is not an audience: 1 to 253 printable characters without spaces, as in hauberk');
}

export function parseImage(text: string): string {
  if (text.length <= 512 && IMAGE.test(text)) return text;
  throw new ValueError('is not an image: write registry/name:tag or registry/name@sha256:...');
}

/** `100m`, `0.5`, `2`. */
export function parseCpu(text: string): string {
  if (CPU.test(text) && Number.parseFloat(text) > 0) return text;
  throw new ValueError('is not an amount of CPU: write 100m for a tenth of a core, or "2" for two cores');
}

/** `128Mi`, `1Gi`, `500M`, a number of bytes. */
export function parseMemory(text: string): string {
  if (MEMORY.test(text) && Number.parseFloat(text) > 0) return text;
  throw new ValueError('is not an amount of memory: write a number and Mi or Gi, as in 128Mi');
}

export function parseHttpsUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'https:' || url.username !== '' || url.password !== '' || url.search !== '') {
    throw new ValueError('is not an HTTPS URL: write https://host:port, as in https://10.96.0.1:443');
  }
  return text.replace(/\/+$/, '');
}
