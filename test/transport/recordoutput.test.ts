import type { Socket } from 'node:net';
import { expect, it } from 'vitest';
import { RECORD_BUFFER, takeBuffer } from '../../src/transport/bufferpool.ts';
import { transportLimits } from '../../src/transport/limits.ts';
import { RecordOutput } from '../../src/transport/recordoutput.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { cipherPair } from './world.ts';

it('a writer that was told to wait is told so until the socket has drained, however much has gone meanwhile', () => {
  const { records } = transportLimits();
  const socket = { writableLength: 0, writableNeedDrain: false, write: () => true };
  const [cipher] = cipherPair();
  const tally = { recordsOut: 0 };
  const output = new RecordOutput(
    {
      ...{ socket: socket as unknown as Socket, cipher, clock: new FakeClock(), limits: records },
      onRekey: () => expect.unreachable('no rekey is due'),
      onExhausted: () => expect.unreachable('the key is new'),
    },
    tally,
  );
  const write = (): boolean => output.write(takeBuffer(RECORD_BUFFER), 5, 105);
  expect(write()).toBe(true);

  Object.assign(socket, { writableLength: records.backlog, writableNeedDrain: true });
  expect(write()).toBe(false);
  socket.writableLength = 1; // the kernel has taken almost all, and a frame that cannot wait follows
  expect(write()).toBe(false);

  Object.assign(socket, { writableLength: 0, writableNeedDrain: false });
  expect(output.drained()).toBe(true);
  expect(write()).toBe(true);
  expect(output.drained()).toBe(false);
  output.stop();
});
