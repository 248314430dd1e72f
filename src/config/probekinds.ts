// What strings mean in `probes.apps`.
import { ValueError } from './errors.ts';

const PROBE_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\/(livez|readyz|startupz)$/;
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$/;
const MAX_PATH = 2048;
const MAX_VALUE = 4096;
const MAX_SERVICE = 255;

/** A container and what is asked of it. */
export function parseProbeName(text: string): string {
  if (PROBE_NAME.test(text)) return text;
  throw new ValueError(
    'is not the name of a probe: a container, and livez, readyz or startupz, as in app/readyz',
  );
}

export function parseHttpPath(text: string): string {
  if (text.startsWith('/') && text.length <= MAX_PATH && /^[\x21-\x7e]+$/.test(text) && !text.includes('#'))
    return text;
  throw new ValueError(
    `is not a path: it begins with a /, and has at most ${MAX_PATH} printable characters without spaces and #`,
  );
}

export function parseHeaderName(text: string): string {
  if (TOKEN.test(text)) return text;
  throw new ValueError('is not the name of a header field: letters, digits and dashes, as in x-probe');
}

export function parseHeaderValue(text: string): string {
  if (text.length <= MAX_VALUE && /^[\t\x20-\x7e]*$/.test(text)) return text;
  throw new ValueError(`is not the value of a header field: at most ${MAX_VALUE} printable characters`);
}

export function parseHealthService(text: string): string {
  if (text.length <= MAX_SERVICE && /^[\x20-\x7e]*$/.test(text)) return text;
  throw new ValueError(`is not the name of a service: at most ${MAX_SERVICE} printable characters`);
}
