/** JSON pointers (RFC 6901): `/egress/routes/0/peer`; the root is the empty string. */
export function below(pointer: string, key: string | number): string {
  return `${pointer}/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`;
}

export function parent(pointer: string): string {
  return pointer.slice(0, Math.max(0, pointer.lastIndexOf('/')));
}

export function keysOf(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/** `egress.routes[0].peer`, for people. Keys that are not plain words are quoted. */
export function dotted(pointer: string): string {
  let text = '';
  for (const key of keysOf(pointer)) {
    if (/^[0-9]+$/.test(key) && text !== '') text += `[${key}]`;
    else text += `${text === '' ? '' : '.'}${/^[\w-]{1,64}$/.test(key) ? key : quote(key)}`;
  }
  return text;
}

const SHOWN = 60; // characters

/** One line without anything that a terminal would obey. */
export function printable(text: string): string {
  return text.replaceAll(
    /[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Text in quotes, printable and bounded. */
export function quote(text: string): string {
  return printable(JSON.stringify(text.length > SHOWN ? `${text.slice(0, SHOWN)}...` : text));
}
