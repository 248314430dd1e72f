import { NoiseError } from './errors.ts';
import { type HandshakePattern, PATTERNS, withPsk } from './patterns.ts';

/** `Noise_` pattern modifiers `_25519_AESGCM_SHA256` (Noise, section 8). */
const PROTOCOL_NAME = /^Noise_([A-Z]+)((?:psk[0-9]\+)*psk[0-9])?_25519_AESGCM_SHA256$/;

/**
 * The handshake pattern that a protocol name stands for, its modifiers applied. The suite is always
 * `25519_AESGCM_SHA256`; modifiers are `psk0` to `psk4`, each once, ascending. Throws NoiseError `unknown-protocol`.
 */
export function parseProtocolName(protocol: string): HandshakePattern {
  const [, base = '', modifiers = ''] = PROTOCOL_NAME.exec(protocol) ?? [];
  let pattern = PATTERNS.get(base);
  let last = -1;
  for (const modifier of modifiers === '' ? [] : modifiers.split('+')) {
    const place = Number(modifier.slice('psk'.length));
    pattern = pattern !== undefined && place > last ? withPsk(pattern, place) : undefined;
    last = place;
  }
  if (pattern === undefined) {
    throw new NoiseError(
      'unknown-protocol',
      'local',
      `No Noise protocol is called ${JSON.stringify(protocol.slice(0, 255))}: the name is Noise_, a fundamental ` +
        'pattern, ascending psk modifiers that it has messages for, and _25519_AESGCM_SHA256',
    );
  }
  return pattern;
}
