import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock/clock.ts';
import type { Logger } from '../telemetry/log.ts';
import { RefusalTally } from '../transport/refusaltally.ts';
import { Allowance } from './allowance.ts';
import type { KubeClient } from './client/client.ts';
import { KubeError, quotable } from './client/errors.ts';
import { collectionPath, TOKEN_REVIEWS } from './client/resource.ts';
import type { TokenReview } from './objects.ts';
import { Turns } from './turns.ts';

const MAX_TOKEN = 16 << 10; // octets; those of service accounts have 1 to 2 KiB
/** A pod that was deleted keeps what its token gives for at most so long. */
const ACCEPTED_MS = 30_000;
const REFUSED_MS = 5000;
const MAX_ACCEPTED = 10_000;
/** Apart from the others, so that strangers' tokens push out none that is good. */
const MAX_REFUSED = 1000;
/** Reviews at a time: half of the connections to the API server, so that a renewal of the Lease never waits behind them. */
const MAX_CONCURRENT = 16;
/** Of these, for one address, however long the API server takes. */
const MAX_CONCURRENT_PER_ADDRESS = 4;
const MINUTE_MS = 60_000;
const BUSY_RETRY_MS = 2_000;

/** Who a token belongs to. */
export interface TokenOwner {
  readonly accepted: true;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Of the service account. */
  readonly uid: string;
  /** The pod that the token is bound to. */
  readonly pod: { readonly name: string; readonly uid: string } | undefined;
}

export type TokenRefusalReason =
  | 'no-token' // empty, too long, or not in the form of a JWT
  | 'not-authenticated' // unknown, expired, its pod or service account deleted, another cluster's
  | 'wrong-audience'
  | 'not-a-service-account';

export interface TokenRefusal {
  readonly accepted: false;
  readonly reason: TokenRefusalReason;
  /** What is wrong and what to do, without the token. */
  readonly message: string;
}

export interface TokenReviewerOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  /** That tokens must be meant for. */
  readonly audience: string;
  readonly log: Logger;
  readonly bounds: ReviewBounds;
}

/** Of what has to be asked of the API server; what is remembered counts for nothing. */
export interface ReviewBounds {
  readonly maxPerSecond: number;
  readonly maxWaiting: number;
  /** In a minute. */
  readonly maxPerAddress: number;
}

/** A token that was not looked at, because too many are to be. It says nothing about the token. */
export class ReviewPostponed extends Error {
  override readonly name = 'ReviewPostponed';
  readonly code: 'address-limit' | 'busy';
  readonly retryMs: number;

  constructor(code: ReviewPostponed['code'], message: string, retryMs: number) {
    super(message);
    this.code = code;
    this.retryMs = retryMs;
  }
}

/**
 * Asks the API server whose a service account token is. Answers are remembered by the SHA-256 of the token: good ones
 * 30 s, and never beyond the end of the token, refusals 5 s. Whatever has to be asked takes turns by the address of whoever
 * sent the token, so that a flood of made-up ones holds up nobody else, over all services that review tokens. Throws
 * ReviewPostponed where too much is to be asked, and KubeError where the server cannot be: that says nothing about the token.
 */
export class TokenReviewer {
  readonly #options: TokenReviewerOptions;
  readonly #accepted = new LRUCache<string, Remembered>({ max: MAX_ACCEPTED });
  readonly #refused = new LRUCache<string, Remembered>({ max: MAX_REFUSED });
  readonly #underWay = new Map<string, Promise<TokenOwner | TokenRefusal>>();

  readonly #turns: Turns;
  readonly #addresses: Allowance;
  readonly #failures: RefusalTally;

  constructor(options: TokenReviewerOptions) {
    this.#options = options;
    const { clock, bounds } = options;
    const { maxPerSecond, maxWaiting, maxPerAddress } = bounds;
    const maxConcurrentPerKey = MAX_CONCURRENT_PER_ADDRESS;
    this.#turns = new Turns({
      clock,
      maxConcurrent: MAX_CONCURRENT,
      maxConcurrentPerKey,
      maxPerSecond,
      maxWaiting,
    });
    this.#addresses = new Allowance(clock, maxPerAddress, MINUTE_MS);
    this.#failures = new RefusalTally(clock);
  }

  /**
   * Of a token as its file holds it, sent by `caller` (as callerOf() has it). The same token, asked about at the same time,
   * is reviewed once.
   */
  async review(token: string, caller: string): Promise<TokenOwner | TokenRefusal> {
    if (token.length > MAX_TOKEN || !JWT.test(token)) {
      return refused(
        'no-token',
        'what was given is not a service account token; it is the text of the file of a projected volume',
      );
    }
    const hash = createHash('sha256').update(token).digest('base64');
    const known = this.#remembered(hash) ?? this.#underWay.get(hash);
    if (known !== undefined) return known;
    const waitMs = this.#addresses.use(caller);
    if (waitMs > 0) {
      throw new ReviewPostponed(
        'address-limit',
        'too many tokens from this address (issuer.maxPerAddress of the controller): come again later',
        waitMs,
      );
    }
    const review = this.#inTurn(token, hash, caller).finally(() => this.#underWay.delete(hash));
    this.#underWay.set(hash, review);
    return review;
  }

  async #inTurn(token: string, hash: string, caller: string): Promise<TokenOwner | TokenRefusal> {
    const turn = await this.#turns.take(caller);
    if (turn === undefined) {
      throw new ReviewPostponed(
        'busy',
        'the controller has more tokens to look at than it can: come again later',
        BUSY_RETRY_MS,
      );
    }
    try {
      return await this.#ask(token, hash);
    } catch (error) {
      if (error instanceof KubeError) this.#tell(error);
      throw error;
    } finally {
      turn.done();
    }
  }

  #tell({ reason, message: error }: KubeError): void {
    const tell = (count: number): void =>
      this.#options.log.warn({ error, count }, 'a token could not be checked');
    this.#failures.add(reason, tell);
  }

  async #ask(token: string, hash: string): Promise<TokenOwner | TokenRefusal> {
    const { client, audience, clock } = this.#options;
    const asked: TokenReview = {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenReview',
      metadata: {},
      spec: { token, audiences: [audience] },
    };
    const { status } = await client
      .create(collectionPath(TOKEN_REVIEWS), asked)
      .catch((error) => Promise.reject(withoutToken(error, token)));
    const verdict = verdictOf(status, audience, token);
    const until = clock.monotonic() + (verdict.accepted ? ACCEPTED_MS : REFUSED_MS);
    if (verdict.accepted) this.#accepted.set(hash, { verdict, until, expiresAt: expiryOf(token) });
    else this.#refused.set(hash, { verdict, until, expiresAt: Number.POSITIVE_INFINITY });
    return verdict;
  }

  #remembered(hash: string): TokenOwner | TokenRefusal | undefined {
    const { clock } = this.#options;
    const found = this.#accepted.get(hash) ?? this.#refused.get(hash);
    if (found === undefined) return undefined;
    if (clock.monotonic() < found.until && clock.now() < found.expiresAt) return found.verdict;
    this.#accepted.delete(hash);
    this.#refused.delete(hash);
    return undefined;
  }
}

interface Remembered {
  readonly verdict: TokenOwner | TokenRefusal;
  /** Of the monotonic clock. */
  readonly until: number;
  /** The end of the token, by the wall clock. */
  readonly expiresAt: number;
}

const JWT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;

/** Names as Kubernetes has them: of namespaces labels, of service accounts subdomains. */
const USERNAME =
  /^system:serviceaccount:([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?):([a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?)$/;

/** Should whoever answered repeat it. */
function withoutToken(error: unknown, token: string): unknown {
  if (!(error instanceof KubeError) || !error.message.includes(token)) return error;
  const { status, reason, retryAfterMs } = error;
  return new KubeError(error.message.replaceAll(token, '[secret]'), { status, reason, retryAfterMs });
}

function verdictOf(
  status: TokenReview['status'],
  audience: string,
  token: string,
): TokenOwner | TokenRefusal {
  if (status?.authenticated !== true) {
    const said = quotable(String(status?.error ?? '').replaceAll(token, '[secret]'));
    return refused(
      'not-authenticated',
      `the API server does not accept the token${said === '' ? '' : ` (${said})`}; it has to be one of this cluster, of a pod that exists, with the audience ${audience}`,
    );
  }
  // A server that knows nothing of audiences leaves the field out, and has checked none.
  if (!listOf(status.audiences).includes(audience)) {
    return refused(
      'wrong-audience',
      `the token is not meant for the audience ${audience}; set \`audience: ${audience}\` in the projected volume of the pod`,
    );
  }
  const { username, uid, extra } = status.user ?? {};
  const [, namespace, serviceAccount] = USERNAME.exec(String(username ?? '')) ?? [];
  if (namespace === undefined || serviceAccount === undefined) {
    return refused(
      'not-a-service-account',
      `the token is that of ${quotable(String(username ?? 'nobody')).slice(0, 128)}, not of a service account; give the sidecar the token of its pod`,
    );
  }
  const [podName] = listOf(extra?.['authentication.kubernetes.io/pod-name']);
  const [podUid] = listOf(extra?.['authentication.kubernetes.io/pod-uid']);
  const pod = podName !== undefined && podUid !== undefined ? { name: podName, uid: podUid } : undefined;
  return { accepted: true, namespace, serviceAccount, uid: String(uid ?? ''), pod };
}

const listOf = (value: unknown): string[] =>
  Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];

const refused = (reason: TokenRefusalReason, message: string): TokenRefusal => ({
  accepted: false,
  reason,
  message,
});

/** `exp` of a token that the server has accepted; where it cannot be read, the token is not remembered. */
function expiryOf(token: string): number {
  try {
    const payload = Buffer.from(token.split('.')[1] as string, 'base64url').toString('utf8');
    const { exp } = JSON.parse(payload) as { exp?: unknown };
    return typeof exp === 'number' ? exp * 1000 : 0;
  } catch {
    return 0;
  }
}
