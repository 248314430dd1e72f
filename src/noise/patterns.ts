/**
 * Handshake patterns as data: Noise revision 34, sections 7.4 (one-way) and 7.5 (interactive). handshakestate.ts runs
 * any of them in one loop.
 */

/** `e1` and `ekem1` are those of the KEM-based Hybrid Forward Secrecy extension, revision 1. */
export type Token = 'e' | 's' | 'ee' | 'es' | 'se' | 'ss' | 'psk' | 'e1' | 'ekem1';

export interface HandshakePattern {
  readonly name: string;
  /** Whether the initiator's static key is known to the responder beforehand (the pre-message `-> s`). */
  readonly initiatorKnown: boolean;
  /** Whether the responder's static key is known to the initiator beforehand (the pre-message `<- s`). */
  readonly responderKnown: boolean;
  /** The tokens of each message; the initiator sends the first, then they alternate. */
  readonly messages: readonly (readonly Token[])[];
}

function pattern(name: string, preMessages: '' | '-> s' | '<- s' | '-> s, <- s', ...messages: Token[][]) {
  return {
    name,
    initiatorKnown: preMessages.includes('-> s'),
    responderKnown: preMessages.includes('<- s'),
    messages,
  };
}

const ALL: readonly HandshakePattern[] = [
  pattern('N', '<- s', ['e', 'es']),
  pattern('K', '-> s, <- s', ['e', 'es', 'ss']),
  pattern('X', '<- s', ['e', 'es', 's', 'ss']),

  pattern('NN', '', ['e'], ['e', 'ee']),
  pattern('NK', '<- s', ['e', 'es'], ['e', 'ee']),
  pattern('NX', '', ['e'], ['e', 'ee', 's', 'es']),
  pattern('XN', '', ['e'], ['e', 'ee'], ['s', 'se']),
  pattern('XK', '<- s', ['e', 'es'], ['e', 'ee'], ['s', 'se']),
  pattern('XX', '', ['e'], ['e', 'ee', 's', 'es'], ['s', 'se']),
  pattern('KN', '-> s', ['e'], ['e', 'ee', 'se']),
  pattern('KK', '-> s, <- s', ['e', 'es', 'ss'], ['e', 'ee', 'se']),
  pattern('KX', '-> s', ['e'], ['e', 'ee', 'se', 's', 'es']),
  pattern('IN', '', ['e', 's'], ['e', 'ee', 'se']),
  pattern('IK', '<- s', ['e', 'es', 's', 'ss'], ['e', 'ee', 'se']),
  pattern('IX', '', ['e', 's'], ['e', 'ee', 'se', 's', 'es']),
];

/** By name. */
export const PATTERNS: ReadonlyMap<string, HandshakePattern> = new Map(ALL.map((each) => [each.name, each]));

/** Whether only the initiator sends, also after the handshake (section 7.4). */
export function isOneWay(pattern: HandshakePattern): boolean {
  return pattern.messages.length === 1;
}

/**
 * The pattern with the modifier `hfs` (HFS revision 1): e1 follows the initiator's e, ekem1 follows ee. Undefined for
 * one-way patterns, which have no ee.
 */
export function withHfs(pattern: HandshakePattern): HandshakePattern | undefined {
  if (isOneWay(pattern)) return undefined;
  const messages = pattern.messages.map((tokens, index) =>
    tokens.flatMap((token): Token[] => {
      if (token === 'e' && index === 0) return ['e', 'e1'];
      return token === 'ee' ? ['ee', 'ekem1'] : [token];
    }),
  );
  return { ...pattern, name: `${pattern.name}hfs`, messages };
}

/**
 * The pattern with the modifier `psk<place>` (section 9.4): 0 puts the token at the start of the first message, n at
 * the end of message n. Undefined if the pattern has no such message.
 */
export function withPsk(pattern: HandshakePattern, place: number): HandshakePattern | undefined {
  if (place > pattern.messages.length) return undefined;
  const messages = pattern.messages.map((tokens, index): readonly Token[] => {
    if (place === 0 && index === 0) return ['psk', ...tokens];
    return place === index + 1 ? [...tokens, 'psk'] : tokens;
  });
  return { ...pattern, name: `${pattern.name}psk${place}`, messages };
}
