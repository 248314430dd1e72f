import {
  block,
  data,
  goaway,
  headers,
  ping,
  RESPONSE,
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
const response = block(RESPONSE);
const interim = block([[':status', '103']]);

export const target: Target = {
  name: 'client',
  claim:
    'a client’s connection ends by the typed errors only; what it writes is right by RFC 9113; windows, credit and streams add up; cuts between octets change nothing',
  seeds: [
    Buffer.concat([
      ...begin(2),
      headers(1, response),
      bulk(1, 16_384),
      bulk(1, 16_384),
      bulk(1, 9000),
      command('credit'),
      rst(1, 8),
      bulk(1, 16_384),
    ]),
    Buffer.concat([
      ...begin(0),
      headers(1, response),
      bulk(1, 16_384),
      bulk(1, 16_384),
      bulk(1, 16_384, 1),
      command('room'),
    ]),
    Buffer.concat([...begin(2), headers(1, response), data(1, 'hello'), rst(1, 8), headers(1, response)]),
    Buffer.concat([
      ...begin(0),
      headers(1, interim),
      headers(1, response),
      data(1, 'hello'),
      headers(1, block(TRAILERS), 5),
    ]),
    Buffer.concat([
      ...begin(4),
      settings([3, 2], [4, 30]),
      windowUpdate(1, 70_000),
      rst(3, 7),
      command('open'),
    ]),
    Buffer.concat([
      ...begin(2),
      headers(1, response),
      data(1, Buffer.alloc(300), 1),
      command('credit'),
      command('end', 0),
    ]),
    Buffer.concat([...begin(1), goaway(1, 0, 'bye'), headers(1, response, 5), ping(), command('drain')]),
    Buffer.concat([
      ...begin(128),
      headers(
        5,
        block([
          [':status', '204'],
          ['content-length', '3'],
        ]),
        5,
      ),
      command('time', 7),
    ]),
    Buffer.concat([
      ...begin(8),
      headers(1, response),
      data(1, Buffer.alloc(20)),
      command('send', 1),
      command('reset', 0),
    ]),
  ],
  maxLength: 3000,
  mutate: (random, input, other) => mutateFrames(random, input, other, HEAD, someCommand),
  run: (input) => checkConnection('client', input),
};
