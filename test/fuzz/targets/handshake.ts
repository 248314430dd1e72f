import { HandshakeError } from '../../../src/transport/errors.ts';
import type { HandshakeMachine, HandshakeStep } from '../../../src/transport/handshake.ts';
import { makePair, shake } from '../../transport/world.ts';
import { EDIT, edited, mutateScript } from '../edits.ts';
import { claim, type Target } from '../target.ts';

/*
 * Two machines and what is between them. An input is two octets, how flights are cut and what is replayed, then edits, each
 * after the number of its flight: 0 message 1 with its hello, 1 message 2, 2 message 3.
 */
const HEAD = 2;
const ITEM = 1 + EDIT;

const pair = await makePair();
/** An earlier handshake, whose flights are replayed. */
const earlier = shake(pair.initiator(), pair.responder()).flights;

/** Gives a machine bytes in pieces, until it has something to say. */
function feed(machine: HandshakeMachine, bytes: Buffer, piece: number): HandshakeStep | undefined {
  for (let at = 0; at < bytes.length; at += piece) {
    const step = machine.receive(Buffer.from(bytes.subarray(at, at + piece)));
    // What has not been given yet is lost, as with a peer that hangs up.
    if (step !== undefined) return step;
  }
  return undefined;
}

export interface Machines {
  initiator(): HandshakeMachine;
  responder(): HandshakeMachine;
}

export function checkHandshake(input: Buffer, machines: Machines): void {
  const piece = 1 + (input[0] ?? 0) * 8;
  const replayed = (input[1] ?? 0) & 7;
  const scripts: Buffer[][] = [[], [], []];
  for (let at = HEAD; at + ITEM <= input.length; at += ITEM) {
    scripts[(input[at] as number) % 3]?.push(input.subarray(at + 1, at + ITEM));
  }
  const initiator = machines.initiator();
  const responder = machines.responder();
  let changed = false; // something that was not sent has been received
  let bytes = initiator.start();
  for (let flight = 0; bytes !== undefined && flight < 5; flight++) {
    const sent = flight === replayed ? (earlier[flight] ?? bytes) : bytes;
    const received = edited(sent, Buffer.concat(scripts[flight] ?? []));
    // What follows a message is not read with it, or belongs to the records and is judged there.
    if (!received.subarray(0, bytes.length).equals(bytes)) changed = true;
    const longer = received.length > bytes.length;
    const receiver = flight % 2 === 0 ? responder : initiator;
    let step: HandshakeStep | undefined;
    try {
      step = feed(receiver, received, piece);
    } catch (error) {
      claim(error instanceof HandshakeError, `it threw ${String(error)}`);
      claim(error.code !== 'internal-error', `internal-error: ${error.message}`);
      claim(changed || longer, `${error.code}, and nothing was changed: ${error.message}`);
      return;
    }
    claim(
      step?.established === undefined || !changed,
      `flight ${flight} was changed, and it was established`,
    );
    if (step?.established !== undefined) {
      const { peer } = step.established;
      const other = receiver === initiator ? pair.greeter : pair.web;
      claim(peer.spiffeId === other.spiffeId, `it takes the other for ${peer.spiffeId}`);
    }
    bytes = step?.send;
  }
  initiator.abort();
  responder.abort();
}

export const target: Target = {
  name: 'handshake',
  claim:
    'a handshake of which one octet was changed or replayed is never established; it ends by a typed error',
  seeds: [
    [40, 7],
    [255, 1],
    [0, 7],
    [255, 7, 0, 0, 0, 0, 1],
    [255, 7, 1, 1, 128, 0, 7],
    [255, 7, 2, 0, 255, 255, 1],
    [255, 7, 0, 7, 128, 0, 0],
    [255, 2],
    [255, 0],
  ].map((octets) => Buffer.from(octets)),
  maxLength: HEAD + 8 * ITEM,
  mutate: (random, input, other) => mutateScript(random, input, other, HEAD, ITEM),
  run: (input) => checkHandshake(input, pair),
};
