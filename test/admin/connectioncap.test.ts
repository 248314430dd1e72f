import { Socket } from 'node:net';
import { expect, it } from 'vitest';
import { ConnectionCap } from '../../src/admin/connectioncap.ts';

const sockets = (n: number): Socket[] => Array.from({ length: n }, () => new Socket());

it('when one connection too many comes, the oldest goes', () => {
  const cap = new ConnectionCap(3);
  const all = sockets(5);
  for (const socket of all) cap.add(socket);
  expect(all.map(({ destroyed }) => destroyed)).toEqual([true, true, false, false, false]);
  expect(cap.open).toBe(3);
});

it('a connection that has closed makes room', async () => {
  const cap = new ConnectionCap(2);
  const [a, b, c] = sockets(3) as [Socket, Socket, Socket];
  cap.add(a);
  cap.add(b);
  const closed = new Promise((resolve) => b.once('close', resolve));
  b.destroy();
  await closed;
  cap.add(c);
  expect([a.destroyed, c.destroyed, cap.open]).toEqual([false, false, 2]);
});

it('destroy ends all of them', () => {
  const cap = new ConnectionCap(2);
  const all = sockets(2);
  for (const socket of all) cap.add(socket);
  cap.destroy();
  expect(all.every(({ destroyed }) => destroyed)).toBe(true);
  expect(cap.open).toBe(0);
});
