import { HandshakeError } from '../../../src/transport/errors.ts';
import type { HandshakeMachine } from '../../../src/transport/handshake.ts';
import { makePair } from '../../transport/world.ts';
import { mutateBytes } from '../mutator.ts';
import { claim, type Target } from '../target.ts';

/** An input is an octet, who receives it, and what comes first on a connection. */
const HEAD = 1;
const pair = await makePair();
const first = pair.initiator().start();
const answer = pair.responder().receive(first)?.send as Buffer;

/** What a machine makes of it: an error's code, or what it does. */
function outcome(make: () => HandshakeMachine, octets: Buffer, piece: number): string {
  const machine = make();
  machine.start();
  try {
    for (let at = 0; at < octets.length; at += piece) {
      const step = machine.receive(Buffer.from(octets.subarray(at, at + piece)));
      if (step === undefined) continue;
      claim(step.established === undefined, 'it was established by a stranger');
      return 'it answers';
    }
    return 'it waits';
  } catch (error) {
    claim(error instanceof HandshakeError, `it threw ${String(error)}`);
    claim(error.code !== 'internal-error', `internal-error: ${error.message}`);
    claim(/^[\x20-\x7e]*$/.test(error.message), 'a message that is not printable ASCII');
    return error.code;
  } finally {
    machine.abort();
  }
}

export function checkHello(input: Buffer, make: (initiator: boolean) => HandshakeMachine): void {
  const initiator = ((input[0] ?? 0) & 1) === 1;
  const octets = input.subarray(HEAD);
  const whole = outcome(() => make(initiator), octets, Number.MAX_SAFE_INTEGER);
  const pieces = outcome(() => make(initiator), octets, 1);
  // Octet by octet it answers before it can see that something follows.
  const early = whole === 'unexpected-bytes' && pieces !== 'it waits';
  claim(whole === pieces || early, `in one piece: ${whole}, octet by octet: ${pieces}`);
}

export const target: Target = {
  name: 'hello',
  claim: 'whatever comes first on a connection gets an answer or a typed error, the same however it is cut',
  seeds: [
    Buffer.concat([Buffer.from([0]), first]),
    Buffer.concat([Buffer.from([0]), first, Buffer.from('x')]),
    Buffer.concat([Buffer.from([1]), answer]),
    Buffer.from([1, 2, 0, 1, 0]),
    Buffer.from([1, 3, 0, 2, 1, 1]),
    Buffer.from('\0GET / HTTP/1.1\r\n\r\n'),
    Buffer.concat([
      Buffer.from([0]),
      Buffer.from('HBK1\x01\x02\x00\x05\0\0\0\0', 'latin1'),
      Buffer.alloc(16),
      first.subarray(12),
    ]),
  ],
  maxLength: 2000,
  mutate: mutateBytes,
  run: (input) => checkHello(input, (initiator) => (initiator ? pair.initiator() : pair.responder())),
};
