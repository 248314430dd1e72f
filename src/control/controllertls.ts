import { createSecureContext, type PeerCertificate, type SecureContext } from 'node:tls';
import { MAX_CHAIN_CERTIFICATES } from '../identity/chain.ts';
import { IdentityError } from '../identity/errors.ts';
import { toPem } from '../identity/pem.ts';
import type { TrustBundle } from '../identity/trustbundle.ts';

/*
 * Who the controller is: its certificate is an SVID. OpenSSL sees to it that the chain leads to the bundle and that the other
 * end has the key; the path is then validated as that of any peer, and its SPIFFE ID is the name that counts. No DNS name
 * does: whoever has a certificate of the trust domain could be sent there by a forged answer of the DNS.
 */

/** What OpenSSL is to trust: the bundle and nothing else, also an intermediate CA in it by itself. */
export function controllerTls(bundle: TrustBundle): SecureContext {
  return createSecureContext({
    ca: bundle.certificates.map((der) => toPem('CERTIFICATE', der)),
    minVersion: 'TLSv1.3',
    allowPartialTrustChain: true,
  });
}

/** Why a server that OpenSSL has verified is not the controller; undefined if it is. */
export function controllerRefusal(
  certificate: PeerCertificate,
  bundle: TrustBundle,
  expected: string,
  nowMs: number,
): IdentityError | undefined {
  try {
    const { spiffeId } = bundle.verifyChain(chainOf(certificate), nowMs);
    if (spiffeId === expected) return undefined;
    return new IdentityError('other-identity', `it is ${spiffeId}, and the controller is ${expected}`, {
      cure: 'correct controller.address or controller.peer',
    });
  } catch (error) {
    if (error instanceof IdentityError) return error;
    return new IdentityError('malformed-certificate', 'its certificate cannot be read', { cause: error });
  }
}

/** DER, leaf first, as far as the chain of HBK/1 may be long; the last may be a CA of the bundle. */
function chainOf(leaf: PeerCertificate): Buffer[] {
  const chain: Buffer[] = [];
  let at: PeerCertificate | undefined = leaf;
  while (at?.raw !== undefined && chain.length < MAX_CHAIN_CERTIFICATES) {
    chain.push(at.raw);
    const issuer: PeerCertificate | undefined = (at as { issuerCertificate?: PeerCertificate })
      .issuerCertificate;
    if (issuer === at || issuer?.raw?.equals(at.raw) === true) break;
    at = issuer;
  }
  return chain;
}
