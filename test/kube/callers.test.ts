import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { expect, it } from 'vitest';
import { Callers } from '../../src/kube/controlapi/callers.ts';

class Connection extends EventEmitter {
  readonly remoteAddress: string;
  destroyed = false;

  constructor(remoteAddress: string) {
    super();
    this.remoteAddress = remoteAddress;
  }

  destroy(): void {
    this.destroyed = true;
    this.emit('close');
  }
}

function rig(max: number, maxPerAddress: number) {
  let ended = 0;
  const callers = new Callers(max, maxPerAddress, () => void ended++);
  return {
    callers,
    ended: () => ended,
    add: (address: string) => {
      const connection = new Connection(address);
      return { connection, refusal: callers.add(connection as unknown as Socket) };
    },
  };
}

it('a connection too many of one address is refused, and one that closes gives its place back', () => {
  const { add, callers } = rig(10, 2);
  const [first] = [add('10.1.0.1'), add('::ffff:10.1.0.1')];
  expect(add('10.1.0.1').refusal).toBe('address-limit');
  expect(add('10.1.0.2').refusal).toBeUndefined();
  first?.connection.destroy();
  expect(callers.open).toBe(2);
  expect(add('10.1.0.1').refusal).toBeUndefined();
});

it('pods of one IPv6 subnet are not one another', () => {
  const { add } = rig(10, 1);
  expect([add('2001:db8::1').refusal, add('2001:db8::2').refusal]).toEqual([undefined, undefined]);
  expect(add('2001:db8::1').refusal).toBe('address-limit');
});

it('when there are too many, one of whoever has most goes for one of whoever has fewer', () => {
  const { add, callers, ended } = rig(4, 10);
  const [oldest, ...others] = [1, 2, 3, 4].map(() => add('10.1.0.1').connection);
  expect(add('10.1.0.2').refusal).toBeUndefined();
  expect([oldest?.destroyed, ...others.map(({ destroyed }) => destroyed)]).toEqual([
    true,
    false,
    false,
    false,
  ]);
  expect([callers.open, ended()]).toEqual([4, 1]);
});

it('where everybody has one, the newcomer is refused, and nobody who is connected loses a connection', () => {
  const { add, callers, ended } = rig(4, 10);
  const all = [1, 2, 3, 4].map((i) => add(`10.1.0.${i}`).connection);
  for (let i = 5; i < 50; i++) expect(add(`10.1.0.${i}`).refusal).toBe('full');
  expect(add('10.1.0.1').refusal).toBe('full');
  expect(all.some(({ destroyed }) => destroyed)).toBe(false);
  expect([callers.open, ended()]).toEqual([4, 0]);
});
