import {
  block,
  data,
  frame,
  goaway,
  headers,
  REQUEST,
  rst,
  settings,
  settingsAck,
  TRAILERS,
  windowUpdate,
} from '../../harness/http2-peer.ts';
import { mutateFrames, someFrames } from '../framemutator.ts';
import { bulk, command, HEAD, someCommand } from '../h2endpoint.ts';
import { checkRelay, FROM_SERVER } from '../relayworld.ts';
import type { Target } from '../target.ts';

const begin = (options: number): Buffer[] => [Buffer.from([options, 0]), settings(), settingsAck()];
const server = (...frames: Buffer[]): Buffer => frame(FROM_SERVER, 0, 0, Buffer.concat(frames));
const request = block(REQUEST);
const timed = block([...REQUEST, ['grpc-timeout', '1S'], ['hauberk-peer', 'x'], ['x-bin', '\u00ff']]);
const posted = block([
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/x'],
  ['host', 'greeter'],
  ['content-length', '5'],
]);
const answer = block([
  [':status', '200'],
  ['content-type', 'application/grpc'],
]);

export const target: Target = {
  name: 'relay',
  claim:
    'whatever an app sends, and whatever a server answers, what goes on is right HTTP/2; every request that goes on was made, field for field and octet for octet',
  seeds: [
    Buffer.concat([
      ...begin(1),
      headers(1, posted),
      data(1, 'hello!', 1),
      headers(3, posted),
      data(3, 'hell', 1),
    ]),
    Buffer.concat([...begin(0), headers(1, request), data(1, 'hello', 1), headers(3, timed, 5)]),
    Buffer.concat([
      ...begin(1),
      headers(1, timed),
      data(1, 'hello', 1),
      headers(3, posted),
      data(3, 'hello', 1),
    ]),
    Buffer.concat([...begin(2), headers(1, request), bulk(1, 300), data(1, 'x', 1), rst(1, 8)]),
    Buffer.concat([
      ...begin(4),
      headers(1, request, 5),
      headers(3, request, 5),
      headers(5, timed),
      rst(3, 8),
    ]),
    Buffer.concat([
      ...begin(16),
      headers(1, request),
      server(headers(1, answer), data(1, 'abc')),
      server(headers(1, block(TRAILERS), 5)),
    ]),
    Buffer.concat([
      ...begin(17),
      headers(1, request, 5),
      server(headers(1, block([[':status', '100']])), goaway(1, 0)),
      command('gone'),
    ]),
    Buffer.concat([
      ...begin(128),
      headers(1, timed),
      data(1, 'early'),
      command('time', 1),
      headers(3, request, 5),
      command('open'),
    ]),
    Buffer.concat([
      ...begin(8),
      settings([4, 10]),
      headers(1, request, 5),
      command('drain'),
      windowUpdate(1, 20_000),
    ]),
    Buffer.concat([
      ...begin(16),
      headers(1, request),
      server(rst(1, 7)),
      headers(3, request),
      server(rst(3, 0)),
      command('finish'),
    ]),
    Buffer.concat([
      ...begin(1),
      headers(1, request),
      data(1, 'x'),
      headers(
        1,
        block([
          ['x-end', '1'],
          ['hauberk-session', 'y'],
        ]),
        5,
      ),
    ]),
    Buffer.concat([
      Buffer.from([32, 0]),
      Buffer.from('CONNECT greeter:80 HTTP/1.1\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
      settings(),
    ]),
  ],
  maxLength: 3000,
  mutate: (random, input, other) =>
    mutateFrames(random, input, other, HEAD, (with_) =>
      with_.chance(2) ? someCommand(with_) : server(someFrames(with_)),
    ),
  run: checkRelay,
};
