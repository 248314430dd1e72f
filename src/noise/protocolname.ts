import { NoiseError } from './errors.ts';
import { type HandshakePattern, PATTERNS, withHfs, withPsk } from './patterns.ts';

/** `Noise_` pattern modifiers `_25519_AESGCM_SHA256` (Noise, section 8), or with a KEM (HFS revision 1). */
const PROTOCOL_NAME =
  /^Noise_([A-Z]+)(?:((?:psk[0-9]\+)*psk[0-9])?_25519|(hfs)_25519\+MLKEM768)_AESGCM_SHA256$/;

/**
 * The handshake pattern that a protocol name stands for, its modifiers applied. The suite is `25519_AESGCM_SHA256`,
 * with modifiers `psk0` to `psk4`, each once, ascending; or `25519+MLKEM768_AESGCM_SHA256`, with the modifier `hfs`.
 * Throws NoiseError `unknown-protocol`.
 */
export function parseProtocolName(protocol: string): HandshakePattern {
  const [, base = '', psks, hfs] = PROTOCOL_NAME.exec(protocol) ?? [];
  let pattern = PATTERNS.get(base);
  if (hfs !== undefined && pattern !== undefined) pattern = withHfs(pattern);
  let last = -1;
  for (const modifier of psks?.split('+') ?? []) {
    const place = Number(modifier.slice('psk'.length));
    pattern = pattern !== undefined && place > last ? withPsk(pattern, place) : undefined;
    last = place;
  }
  if (pattern === undefined) {
    throw new NoiseError(
      'unknown-protocol',
      'local',
      `No Noise protocol is called ${JSON.stringify(protocol.slice(0, 255))}: the name is Noise_, a fundamental ` +
        'pattern, then either ascending psk modifiers that it has messages for and _25519_AESGCM_SHA256, or ' +
        'hfs_25519+MLKEM768_AESGCM_SHA256',
    );
  }
  return pattern;
}
