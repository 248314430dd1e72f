import { type HeaderField, headerField } from '../hpack/field.ts';
import { HeaderList } from '../hpack/headerlist.ts';

const PEER = 'hauberk-peer';
const SESSION = 'hauberk-session';

/** Apps behind CGI and its heirs cannot tell `_` from `-`. */
function saysWhoCalls({ name }: HeaderField): boolean {
  if (!name.startsWith('hauberk')) return false;
  const plain = name.replaceAll('_', '-');
  return plain === PEER || plain === SESSION;
}

/** The fields by which ingress tells an app who calls. */
export function callerFields(peer: string, sessionId: string): readonly HeaderField[] {
  return [headerField(PEER, peer), headerField(SESSION, sessionId)];
}

/** The list without what a caller says of itself in those fields, and `own` in their place; itself if that changes nothing. */
export function withCaller(list: HeaderList, own: readonly HeaderField[]): HeaderList {
  const given = list.fields;
  let left = 0;
  let size = 0;
  for (let i = 0; i < given.length; i++) {
    const field = given[i] as HeaderField;
    if (saysWhoCalls(field)) continue;
    left++;
    size += field.size;
  }
  if (own.length === 0 && left === given.length) return list;
  // Of the right length from the start: this is made for every call whose list is its own.
  const fields = new Array<HeaderField>(left + own.length);
  let at = 0;
  for (let i = 0; i < given.length; i++) {
    const field = given[i] as HeaderField;
    if (left === given.length || !saysWhoCalls(field)) fields[at++] = field;
  }
  for (let i = 0; i < own.length; i++) {
    const field = own[i] as HeaderField;
    fields[at++] = field;
    size += field.size;
  }
  return new HeaderList(fields, size, false);
}
