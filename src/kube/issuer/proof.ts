import { KubeError } from '../client/errors.ts';
import { ReviewPostponed, type TokenRefusalReason, type TokenReviewer } from '../tokenreview.ts';
import { CertifyRefusal, type RefusalCode } from './errors.ts';

/** Whom a token has proved. */
interface PodProof {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** The pod that the token is bound to: it ends with that pod. */
  readonly pod: { readonly name: string; readonly uid: string };
}

const CODES: Readonly<Record<TokenRefusalReason, RefusalCode>> = {
  'no-token': 'bad-token',
  'not-authenticated': 'bad-token',
  'wrong-audience': 'wrong-audience',
  'not-a-service-account': 'not-a-service-account',
};

/** Rejects with CertifyRefusal if the token proves nothing, or nobody can tell. `caller`: as callerOf() has it. */
export async function proofOf(tokens: TokenReviewer, token: string, caller: string): Promise<PodProof> {
  const review = await tokens.review(token, caller).catch((error) => {
    if (error instanceof ReviewPostponed) {
      const { code, message, retryMs } = error;
      throw new CertifyRefusal(code, message, { retryMs, cause: error });
    }
    if (!(error instanceof KubeError)) throw error;
    throw new CertifyRefusal(
      'kubernetes-unavailable',
      'the API server cannot be asked about the token now; the SVID at hand stays good: come again later',
      { retryMs: error.retryAfterMs ?? 1_000, cause: error },
    );
  });
  if (!review.accepted) throw new CertifyRefusal(CODES[review.reason], review.message);
  const { namespace, serviceAccount, pod } = review;
  if (pod === undefined) {
    throw new CertifyRefusal(
      'not-bound',
      'the token is not bound to a pod: send one that was mounted by a projected volume',
    );
  }
  return { namespace, serviceAccount, pod };
}
