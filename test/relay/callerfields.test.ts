import { describe, expect, it } from 'vitest';
import { headerField } from '../../src/hpack/field.ts';
import { HeaderList } from '../../src/hpack/headerlist.ts';
import { callerFields, withCaller } from '../../src/relay/callerfields.ts';

const own = callerFields('spiffe://shop.example/ns/default/sa/web', 'a-session');
const listOf = (...names: string[]): HeaderList => HeaderList.of(names.map((name) => headerField(name, 'v')));
const namesOf = (list: HeaderList): string[] => list.fields.map(({ name }) => name);

describe('the fields that say who calls', () => {
  it('are those of the sidecar alone, however a caller spells its own', () => {
    const forged = ['hauberk-peer', 'hauberk_peer', 'hauberk-session', 'hauberk_session'];
    const list = withCaller(listOf(':path', ...forged, 'hauberk-peers', 'x'), own);
    expect(namesOf(list)).toEqual([':path', 'hauberk-peers', 'x', 'hauberk-peer', 'hauberk-session']);
    expect(list.get('hauberk-peer')).toBe('spiffe://shop.example/ns/default/sa/web');
  });

  it('have no place in trailers, which otherwise stay the same list', () => {
    expect(namesOf(withCaller(listOf('x', 'hauberk-peer'), []))).toEqual(['x']);
    const trailers = listOf('x', 'y');
    expect(withCaller(trailers, [])).toBe(trailers);
  });
});
