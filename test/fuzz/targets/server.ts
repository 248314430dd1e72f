import {
  block,
  data,
  goaway,
  headers,
  ping,
  REQUEST,
  rst,
  settings,
  settingsAck,
  TRAILERS,
  windowUpdate,
} from '../../harness/http2-peer.ts';
import { mutateFrames } from '../framemutator.ts';
import { bulk, checkConnection, command, HEAD, someCommand } from '../h2endpoint.ts';
import type { Target } from '../target.ts';

const begin = (options: number): Buffer[] => [Buffer.from([options, 5]), settings(), settingsAck()];
const request = block(REQUEST);

export const target: Target = {
  name: 'server',
  claim:
    'a server’s connection ends by the typed errors only; what it writes is right by RFC 9113; windows, credit and streams add up; cuts between octets change nothing',
  seeds: [
    Buffer.concat([
      ...begin(2),
      headers(1, request),
      bulk(1, 16_384),
      bulk(1, 16_384),
      bulk(1, 9000),
      command('credit'),
      rst(1, 8),
      bulk(1, 16_384),
    ]),
    Buffer.concat([
      ...begin(0),
      headers(1, request),
      bulk(1, 16_384),
      bulk(1, 16_384),
      bulk(1, 16_384, 1),
      command('room'),
    ]),
    Buffer.concat([...begin(2), headers(1, request), data(1, 'hello'), rst(1, 8), headers(1, request)]),
    Buffer.concat([...begin(0), headers(1, request, 5), headers(3, request), data(3, 'hello', 1), rst(3, 8)]),
    Buffer.concat([
      ...begin(4),
      settings([4, 30], [5, 20_000]),
      headers(1, request, 5),
      windowUpdate(1, 70_000),
      ping(),
    ]),
    Buffer.concat([
      ...begin(2),
      headers(1, request),
      data(1, Buffer.alloc(300)),
      command('credit'),
      data(1, '', 1),
    ]),
    Buffer.concat([
      ...begin(1),
      headers(1, request),
      headers(1, block(TRAILERS), 5),
      command('drain'),
      command('finish'),
    ]),
    Buffer.concat([
      ...begin(128),
      headers(1, request.subarray(0, 9), 0),
      command('time', 7),
      goaway(1, 0, 'bye'),
    ]),
    Buffer.concat([
      ...begin(64),
      headers(1, request),
      data(1, 'x'),
      command('stop'),
      ping(),
      command('room'),
    ]),
    Buffer.concat([
      ...begin(8 + 16),
      headers(1, request),
      headers(3, request),
      headers(5, request),
      data(1, Buffer.alloc(20)),
    ]),
  ],
  maxLength: 3000,
  mutate: (random, input, other) => mutateFrames(random, input, other, HEAD, someCommand),
  run: (input) => checkConnection('server', input),
};
