// What the limits cost each call on the memory path: npx tsx bench/limit.bench.ts
import { systemClock } from '../src/clock/clock.ts';
import type { LimitConfig } from '../src/config/config.ts';
import { RateLimits } from '../src/limit/ratelimits.ts';

const CALLS = 1_000_000;
const ROUNDS = 5;
const BUDGET_NS = 1_000;
const PEERS = 8;
const SESSIONS = 64;

const HOUR = 3_600_000;
const session: LimitConfig = { scope: 'session', maxRequests: 2 ** 40, windowMs: HOUR };
const peer: LimitConfig = { scope: 'peer', maxRequests: 2 ** 40, windowMs: HOUR };
const tight: LimitConfig = { scope: 'session', maxRequests: 1, windowMs: HOUR };

const keys = Array.from({ length: SESSIONS }, (_, n) => ({
  session: `0190b5d4-0000-8000-8000-${String(n).padStart(12, '0')}`,
  peer: `spiffe://shop.example/ns/shop/sa/web-${n % PEERS}`,
}));

/** Nanoseconds a call, best of the rounds; calls come in turns of 32, as reads of a busy connection bring them. */
async function measure(limits: readonly LimitConfig[]): Promise<{ ns: number; waited: number }> {
  const rates = new RateLimits({ limits, clock: systemClock });
  let best = Number.POSITIVE_INFINITY;
  let waited = 0;
  for (let round = 0; round < ROUNDS; round++) {
    waited = 0;
    const start = performance.now();
    for (let n = 0; n < CALLS; ) {
      let last: unknown;
      for (const turn = n + 32; n < turn; n++) {
        const key = keys[n % SESSIONS]!;
        const verdict = rates.admit(key.session, key.peer);
        if (verdict instanceof Promise) {
          waited++;
          last = verdict;
        }
      }
      // Lets refills in the background come in, as the end of a read does.
      await last;
    }
    best = Math.min(best, ((performance.now() - start) * 1e6) / CALLS);
  }
  rates.close();
  return { ns: best, waited };
}

let failed = false;
for (const [name, limits] of [
  ['no limits', []],
  ['session', [session]],
  ['session + peer', [session, peer]],
  ['session, denied', [tight]],
] as const) {
  const { ns, waited } = await measure(limits);
  failed ||= ns > BUDGET_NS;
  const share = ((waited / CALLS) * 100).toFixed(3);
  console.log(`${name.padEnd(16)} ${ns.toFixed(0).padStart(5)} ns a call, ${share} % waited for a block`);
}
console.log(`budget: ${BUDGET_NS} ns`);
process.exitCode = failed ? 1 : 0;
