// Authorization: which peer may call which method. Rules are in the configuration (`ingress.allow`).
import { LRUCache } from 'lru-cache';
import type { AllowRule } from '../config/config.ts';
import { Glob } from './glob.ts';
import { tidyPath } from './tidypath.ts';

/** Remembered answers; a pair beyond costs a walk over the rules and drops the least recently used. */
const REMEMBERED = 4_096;
/** Longer pairs are judged but not remembered, so that what is kept stays below 4 MiB. */
const LONGEST = 512; // characters

/** What the policy says of a call. Immutable and shared between calls. */
export interface Decision {
  readonly allowed: boolean;
  /** Index of the rule that decided; absent when none matched. */
  readonly rule?: number;
  /** Allowed by nothing but an `audit` rule: let it pass, and record it. */
  readonly auditOnly?: boolean;
}

interface CompiledRule {
  readonly peer: Glob;
  readonly methods: readonly Glob[];
  readonly action: AllowRule['action'];
  readonly decision: Decision;
}

/** The order in which actions win, whatever the order of the rules. */
const PRECEDENCE = ['deny', 'allow', 'audit'] as const;

/**
 * Immutable; a changed policy is a new object. A rule matches when its peer glob and any of its method globs do.
 * Any matching `deny` beats every `allow`, which beats `audit`; among rules of one action the first in the file is
 * named. What no rule matches is denied in mode `enforce` and allowed in mode `open`; rules that deny hold in both.
 */
export class AccessPolicy {
  readonly mode: 'enforce' | 'open';
  readonly #rules: readonly CompiledRule[];
  readonly #otherwise: Decision;
  readonly #answers = new LRUCache<string, Decision>({ max: REMEMBERED });

  constructor(rules: readonly AllowRule[], mode: 'enforce' | 'open') {
    this.mode = mode;
    this.#otherwise = Object.freeze({ allowed: mode === 'open' });
    const compiled = rules.map(
      ({ peer, methods, action }, rule): CompiledRule => ({
        peer: new Glob(peer),
        methods: methods.map((method) => new Glob(method)),
        action,
        decision: Object.freeze({
          allowed: action !== 'deny',
          rule,
          ...(action === 'audit' ? { auditOnly: true } : {}),
        }),
      }),
    );
    this.#rules = PRECEDENCE.flatMap((action) => compiled.filter((rule) => rule.action === action));
  }

  /**
   * `peer` is the proven SPIFFE ID; `method` is the call's `:path`, which for gRPC is `/package.Service/Method`.
   * A query is no part of the method. A path that servers may read as another one has to be allowed as both.
   */
  check(peer: string, method: string): Decision {
    const query = method.indexOf('?');
    if (query >= 0) method = method.slice(0, query);
    // SPIFFE IDs hold no spaces, so that no two pairs share a key.
    if (peer.length + method.length > LONGEST) return this.#judge(peer, method);
    const key = `${peer} ${method}`;
    const known = this.#answers.get(key);
    if (known !== undefined) return known;
    const decision = this.#judge(peer, method);
    this.#answers.set(key, decision);
    return decision;
  }

  /** How many answers are remembered. */
  get remembered(): number {
    return this.#answers.size;
  }

  #judge(peer: string, method: string): Decision {
    const decision = this.#judgeAs(peer, method);
    const tidy = tidyPath(method);
    return tidy === method ? decision : stricter(decision, this.#judgeAs(peer, tidy));
  }

  #judgeAs(peer: string, method: string): Decision {
    for (const rule of this.#rules) {
      if (!rule.peer.matches(peer)) continue;
      for (const glob of rule.methods) if (glob.matches(method)) return rule.decision;
    }
    return this.#otherwise;
  }
}

function stricter(one: Decision, other: Decision): Decision {
  if (!one.allowed) return one;
  return !other.allowed || other.auditOnly === true ? other : one;
}
