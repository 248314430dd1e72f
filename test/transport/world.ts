import { loadCryptoProvider } from '../../src/crypto/provider.ts';
import type { LocalIdentity } from '../../src/identity/local.ts';
import { CipherState } from '../../src/noise/cipherstate.ts';
import type { Established, HandshakeMachine, HandshakeStep } from '../../src/transport/handshake.ts';
import { Initiator, type InitiatorOptions } from '../../src/transport/initiator.ts';
import { DEFAULT_HANDSHAKE_LIMITS } from '../../src/transport/limits.ts';
import { MODES, type Mode } from '../../src/transport/mode.ts';
import { MAX_LENGTH } from '../../src/transport/record.ts';
import { Responder, type ResponderOptions } from '../../src/transport/responder.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { makeTrust, type Trust } from '../harness/trust.ts';

export const crypto = await loadCryptoProvider('native', { postQuantum: true });

/** Two services of one trust domain, and what their machines take. */
export async function makePair(modes: readonly Mode[] = MODES): Promise<{
  trust: Trust;
  web: LocalIdentity;
  greeter: LocalIdentity;
  initiator(overrides?: Partial<InitiatorOptions>): Initiator;
  responder(overrides?: Partial<ResponderOptions>): Responder;
}> {
  const clock = new FakeClock();
  const trust = await makeTrust({ clock });
  const [web, greeter] = await Promise.all([
    trust.identity('web'),
    trust.identity('greeter', { leafKey: 'ed25519' }),
  ]);
  const common = {
    crypto,
    modes,
    bundle: trust.bundle,
    now: () => clock.now(),
    limits: DEFAULT_HANDSHAKE_LIMITS,
    maxRecord: MAX_LENGTH,
    instance: undefined,
  };
  const keys = { web: crypto.generateX25519(), greeter: crypto.generateX25519() };
  return {
    trust,
    web,
    greeter,
    initiator: (overrides = {}) =>
      new Initiator({
        ...common,
        identity: web,
        staticKey: keys.web,
        expectedPeer: greeter.spiffeId,
        ...overrides,
      }),
    responder: (overrides = {}) =>
      new Responder({ ...common, identity: greeter, staticKey: keys.greeter, ...overrides }),
  };
}

/** What may be done to bytes on their way. `index` counts the flights from 0, both directions together. */
export type Tamper = (bytes: Buffer, index: number) => Buffer;

/** Runs two machines against each other. Throws what the first of them throws. */
export function shake(
  initiator: HandshakeMachine,
  responder: HandshakeMachine,
  {
    tamper = (bytes: Buffer) => bytes,
    pieces = Number.POSITIVE_INFINITY,
  }: { tamper?: Tamper; pieces?: number } = {},
): { initiator?: Established; responder?: Established; flights: Buffer[] } {
  const flights: Buffer[] = [];
  const done: { initiator?: Established; responder?: Established } = {};
  let turn: 'initiator' | 'responder' = 'initiator';
  let bytes = initiator.start();
  while (bytes !== undefined) {
    const flight = tamper(bytes, flights.length);
    flights.push(flight);
    turn = turn === 'initiator' ? 'responder' : 'initiator';
    const step = feed(turn === 'initiator' ? initiator : responder, flight, pieces);
    if (step?.established !== undefined) done[turn] = step.established;
    bytes = step?.send;
  }
  return { ...done, flights };
}

/** Gives a machine bytes in pieces; returns the step that came, and expects it with the last piece. */
export function feed(machine: HandshakeMachine, bytes: Buffer, pieces: number): HandshakeStep | undefined {
  let step: HandshakeStep | undefined;
  for (let at = 0; at < bytes.length; at += pieces) {
    if (step !== undefined) throw new RangeError(`a step came ${bytes.length - at} bytes early`);
    step = machine.receive(bytes.subarray(at, at + pieces));
  }
  return step;
}

/** Two cipher states of one key, as the two ends of a direction have them. */
export function cipherPair(): [CipherState, CipherState] {
  const key = crypto.randomBytes(32);
  return [new CipherState(crypto, key), new CipherState(crypto, key)];
}

/** The `code` (or `reason`) of what `run` throws. */
export function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    const { code, reason } = error as { code?: string; reason?: string };
    return code ?? reason ?? String(error);
  }
  return 'nothing was thrown';
}
