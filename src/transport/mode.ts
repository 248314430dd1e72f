import type { PostQuantumPolicy } from '../config/config.ts';

/** A row of the mode table (docs/protocol.md, "Modes"). */
export interface Mode {
  readonly id: ModeId;
  /** The Noise protocol that runs, named as Noise names it. */
  readonly protocol: string;
  /** What each message costs before its payload, bytes; message 1 is the initiator's. */
  readonly overhead: readonly number[];
}

export type ModeId = 0 | 1 | 2;

export const XX: Mode = { id: 0, protocol: 'Noise_XX_25519_AESGCM_SHA256', overhead: [32, 96, 64] };

/** With ML-KEM-768: what is recorded today stays closed to whoever breaks X25519 one day. */
export const XXHFS: Mode = {
  id: 1,
  protocol: 'Noise_XXhfs_25519+MLKEM768_AESGCM_SHA256',
  overhead: [1216, 1200, 64],
};

/** The full handshakes that this build does, the most preferred first. */
export const MODES: readonly Mode[] = [XXHFS, XX];

/** The full handshakes that a policy allows, the most preferred first. */
export function modesOf(postQuantum: PostQuantumPolicy): readonly Mode[] {
  if (postQuantum === 'required') return [XXHFS];
  return postQuantum === 'off' ? [XX] : MODES;
}

/** Resumption with a ticket. Policy does not list it: it is offered by whoever keeps tickets, and no RETRY names it. */
export const RESUMPTION: Mode = {
  id: 2,
  protocol: 'Noise_NNpsk0_25519_AESGCM_SHA256',
  overhead: [48, 48],
};

/** The offered-modes field of CLIENT_HELLO: bit n is mode n. */
export function offeredModes(modes: readonly Mode[]): number {
  return modes.reduce((bits, mode) => bits | (1 << mode.id), 0);
}

/** The mode `id`, if `modes` has it. */
export function findMode(modes: readonly Mode[], id: number): Mode | undefined {
  return modes.find((mode) => mode.id === id);
}
