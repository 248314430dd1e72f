/** Service account tokens of the stub API server, and its answers to TokenReview. */
import { randomUUID } from 'node:crypto';
import type { TokenReview } from '../../src/kube/objects.ts';

export interface TokenClaims {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** `hauberk` by default. */
  readonly audiences?: readonly string[];
  /** The pod that it is bound to. */
  readonly pod?: { readonly name: string; readonly uid: string };
  /** Milliseconds since the epoch; in an hour by default. */
  readonly expiresAt?: number;
}

type Status = NonNullable<TokenReview['status']>;

export class ServiceAccountTokens {
  readonly #known = new Map<string, TokenClaims & { audiences: readonly string[]; uid: string }>();
  readonly #uids = new Map<string, string>();
  /** Changes an answer before it is given, for servers that answer strangely. */
  twist: ((status: Status) => Status) | undefined;

  /** A token in the form of a JWT; nobody checks its signature. */
  issue(claims: TokenClaims): string {
    const { namespace, serviceAccount, audiences = ['hauberk'], expiresAt = Date.now() + 3_600_000 } = claims;
    const sub = `system:serviceaccount:${namespace}:${serviceAccount}`;
    const uid = this.#uids.get(sub) ?? randomUUID();
    this.#uids.set(sub, uid);
    const encoded = (part: unknown) => Buffer.from(JSON.stringify(part)).toString('base64url');
    const payload = { aud: audiences, exp: Math.floor(expiresAt / 1000), sub, jti: randomUUID() };
    const token = `${encoded({ alg: 'RS256' })}.${encoded(payload)}.${encoded('stub signature')}`;
    this.#known.set(token, { ...claims, audiences, expiresAt, uid });
    return token;
  }

  /** As if its pod or service account had been deleted. */
  revoke(token: string): void {
    this.#known.delete(token);
  }

  review(asked: TokenReview): TokenReview {
    const status = this.#status(asked.spec?.token ?? '', asked.spec?.audiences ?? []);
    return { ...asked, metadata: asked.metadata ?? {}, status: this.twist?.(status) ?? status };
  }

  #status(token: string, asked: readonly string[]): Status {
    const claims = this.#known.get(token);
    if (claims === undefined) return { authenticated: false, error: 'invalid bearer token' };
    if ((claims.expiresAt ?? 0) <= Date.now()) {
      return { authenticated: false, error: 'invalid bearer token, token has expired' };
    }
    const audiences = claims.audiences.filter((audience) => asked.includes(audience));
    if (audiences.length === 0) {
      const [has, wants] = [claims.audiences, asked].map((names) => `[${names.map((name) => `"${name}"`)}]`);
      return {
        authenticated: false,
        error: `invalid bearer token, token audiences ${has} is invalid for the target audiences ${wants}`,
      };
    }
    const { namespace, serviceAccount, uid, pod } = claims;
    const extra = pod && {
      'authentication.kubernetes.io/pod-name': [pod.name],
      'authentication.kubernetes.io/pod-uid': [pod.uid],
    };
    return {
      authenticated: true,
      audiences,
      user: {
        username: `system:serviceaccount:${namespace}:${serviceAccount}`,
        uid,
        ...(extra !== undefined && { extra }),
      },
    };
  }
}
