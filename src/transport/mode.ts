/** A row of the mode table (docs/protocol.md, "Modes"). */
export interface Mode {
  readonly id: ModeId;
  /** The Noise protocol that runs, named as Noise names it. */
  readonly protocol: string;
  /** What each message costs before its payload, bytes; message 1 is the initiator's. */
  readonly overhead: readonly number[];
}

export type ModeId = 0 | 1 | 2;

/** The last and always available choice; RETRY leads to it. */
export const XX: Mode = { id: 0, protocol: 'Noise_XX_25519_AESGCM_SHA256', overhead: [32, 96, 64] };

/** The modes that this build speaks, the most preferred first. */
export const MODES: readonly Mode[] = [XX];

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
