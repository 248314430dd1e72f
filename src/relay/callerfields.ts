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
  const fields: HeaderField[] = [];
  let size = 0;
  for (const field of list.fields) {
    if (saysWhoCalls(field)) continue;
    fields.push(field);
    size += field.size;
  }
  if (own.length === 0 && fields.length === list.fields.length) return list;
  for (const field of own) {
    fields.push(field);
    size += field.size;
  }
  return new HeaderList(fields, size, false);
}
