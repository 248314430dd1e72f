import { inspect } from 'node:util';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { KubeClient } from '../../src/kube/client/client.ts';
import { openKubeClient } from '../../src/kube/client/httpsclient.ts';
import { type TokenOwner, type TokenRefusal, TokenReviewer } from '../../src/kube/tokenreview.ts';
import { silentLogger } from '../../src/telemetry/log.ts';
import { turns } from '../audit/collector.ts';
import { FakeClock } from '../harness/fake-clock.ts';
import { KubeApi } from '../harness/kubeapi.ts';

let api: KubeApi;
let client: KubeClient;
let clock: FakeClock;
let reviewer: TokenReviewer;

beforeEach(async () => {
  api = await KubeApi.start();
  clock = new FakeClock(Date.now());
  client = openKubeClient({ access: api.access, clock });
  reviewer = make();
});

const BOUNDS = { maxPerSecond: 10_000, maxWaiting: 4096, maxPerAddress: 10_000 };

const make = (bounds = BOUNDS): TokenReviewer =>
  new TokenReviewer({ client, clock, audience: 'hauberk', log: silentLogger, bounds });

const review = (token: string, caller = '10.1.0.1'): Promise<TokenOwner | TokenRefusal> =>
  reviewer.review(token, caller);

afterEach(async () => {
  client.close();
  await api.end();
});

const WEB = { namespace: 'shop', serviceAccount: 'web' };

it('a token is that of its service account, and of its pod', async () => {
  const pod = { name: 'web-1', uid: 'u-1' };
  const owner = await review(api.tokens.issue({ ...WEB, pod }));
  expect(owner).toMatchObject({ accepted: true, ...WEB, pod });
  expect(owner).toHaveProperty('uid', expect.stringMatching(/^[0-9a-f-]{36}$/));
  expect(await review(api.tokens.issue(WEB))).toMatchObject({
    accepted: true,
    ...WEB,
    pod: undefined,
  });
});

it.each(['', ' ', 'text', 'a.b', 'a.b.c.d', 'a.b.c\n', `a.${'b'.repeat(16 << 10)}.c`])(
  'what is no token at all is refused without asking: %#',
  async (text) => {
    expect(await review(text)).toMatchObject({ accepted: false, reason: 'no-token' });
    expect(api.asked).toHaveLength(0);
  },
);

it('a token of an audience other than ours is refused', async () => {
  const token = api.tokens.issue({ ...WEB, audiences: ['other'] });
  const verdict = await review(token);
  expect(verdict).toMatchObject({ accepted: false, reason: 'not-authenticated' });
  expect(verdict).toHaveProperty('message', expect.stringContaining('token audiences ["other"] is invalid'));
  expect(JSON.stringify(verdict)).not.toContain(token);
});

it.each([
  ['none', undefined],
  ['another', ['https://kubernetes.default.svc']],
  ['what is not a list', 'hauberk' as unknown as string[]],
])(
  'an authenticated token for which the server names %s as its audience is refused',
  async (_, audiences) => {
    api.tokens.twist = ({ audiences: __, ...rest }) => ({ ...rest, ...(audiences && { audiences }) });
    expect(await review(api.tokens.issue(WEB))).toMatchObject({
      accepted: false,
      reason: 'wrong-audience',
    });
  },
);

it.each([
  'admin',
  'system:serviceaccount:shop',
  'system:serviceaccount:shop:web:x',
  'system:serviceaccount:sh/op:web',
  'system:serviceaccount:shop:../web',
  'system:serviceaccount:Shop:web',
  'system:serviceaccount::web',
  'xsystem:serviceaccount:shop:web',
  'system:serviceaccount:shop:web\n',
  'system:node:a',
  '',
])('a token of %j, which is not a service account, is refused', async (username) => {
  api.tokens.twist = (status) => ({ ...status, user: { username } });
  const verdict = await review(api.tokens.issue(WEB));
  expect(verdict).toMatchObject({ accepted: false, reason: 'not-a-service-account' });
});

it.each([{}, { authenticated: false }, { authenticated: 'true' as unknown as boolean }])(
  'an answer that does not say that it is authenticated is a refusal: %j',
  async (part) => {
    api.tokens.twist = ({ authenticated: _, ...rest }) => ({ ...rest, ...part });
    expect(await review(api.tokens.issue(WEB))).toMatchObject({ reason: 'not-authenticated' });
  },
);

it('a good answer is remembered for 30 s, then a token whose pod was deleted is refused', async () => {
  const token = api.tokens.issue(WEB);
  await review(token);
  api.tokens.revoke(token);
  clock.advance(29_999);
  expect(await review(token)).toMatchObject({ accepted: true });
  expect(api.asked).toHaveLength(1);
  clock.advance(2);
  expect(await review(token)).toMatchObject({ accepted: false });
  expect(api.asked).toHaveLength(2);
});

it('a good answer is not remembered beyond the end of the token', async () => {
  const token = api.tokens.issue({ ...WEB, expiresAt: (Math.floor(clock.now() / 1000) + 11) * 1000 });
  await review(token);
  clock.advance(10_000);
  await review(token);
  expect(api.asked).toHaveLength(1);
  clock.advance(1001);
  await review(token);
  expect(api.asked).toHaveLength(2);
});

it('a refusal is remembered for 5 s', async () => {
  const token = api.tokens.issue({ ...WEB, audiences: ['other'] });
  await review(token);
  clock.advance(4999);
  await review(token);
  expect(api.asked).toHaveLength(1);
  clock.advance(2);
  await review(token);
  expect(api.asked).toHaveLength(2);
});

it('refused tokens push out no good one', async () => {
  const good = api.tokens.issue(WEB);
  await review(good);
  for (let i = 0; i < 1100; i += 50) {
    await Promise.all(Array.from({ length: 50 }, (_, j) => review(`a.b.${i + j}`)));
  }
  const asked = api.asked.length;
  expect(asked).toBe(1101);
  await review(good);
  expect(api.asked).toHaveLength(asked);
  // Of the refused ones the oldest are forgotten.
  await review('a.b.1099');
  expect(api.asked).toHaveLength(asked);
  await review('a.b.0');
  expect(api.asked).toHaveLength(asked + 1);
});

/** Holds all reviews; the function lets them go on. */
function hold(): () => void {
  let goOn = () => {};
  const held = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  api.hold = () => held;
  return goOn;
}

it('the same token at the same time is reviewed once', async () => {
  const goOn = hold();
  const token = api.tokens.issue(WEB);
  const reviews = [review(token), review(token)];
  goOn();
  expect((await Promise.all(reviews)).map(({ accepted }) => accepted)).toEqual([true, true]);
  expect(api.asked).toHaveLength(1);
});

it('a flood of tokens from one address holds up none from another, however slow the server is', async () => {
  const goOn = hold();
  const flood = Array.from({ length: 500 }, (_, i) => review(`a.b.${i}`));
  await expect.poll(() => api.asked.length).toBe(4);
  const good = Array.from({ length: 4 }, (_, i) => review(api.tokens.issue(WEB), `10.1.0.${i + 2}`));
  // They are asked about at once, though none of the flood has been answered.
  await expect.poll(() => api.asked.length).toBe(8);
  goOn();
  expect((await Promise.all(good)).map(({ accepted }) => accepted)).toEqual([true, true, true, true]);
  expect((await Promise.all(flood)).some(({ accepted }) => accepted)).toBe(false);
});

it('of too many that wait the newest of the address with the most are to come again, and that is no refusal', async () => {
  reviewer = make({ ...BOUNDS, maxWaiting: 16 });
  const goOn = hold();
  const flood = Array.from({ length: 21 }, (_, i) =>
    review(`a.b.${i}`).then(
      () => 'refused',
      ({ name, code, retryMs }) => `${name} ${code} ${retryMs}`,
    ),
  );
  const good = Array.from({ length: 20 }, (_, i) => review(api.tokens.issue(WEB), `10.1.0.${i + 2}`));
  await turns(4);
  goOn();
  expect((await Promise.all(good)).every(({ accepted }) => accepted)).toBe(true);
  expect((await Promise.all(flood)).filter((one) => one === 'ReviewPostponed busy 2000')).toHaveLength(9);
});

it('an address has so many reviews in a minute; what is remembered is free', async () => {
  reviewer = make({ ...BOUNDS, maxPerAddress: 2 });
  const token = api.tokens.issue(WEB);
  for (let i = 0; i < 5; i++) expect(await review(token)).toMatchObject({ accepted: true });
  await review('a.b.c');
  await expect(review('a.b.d')).rejects.toMatchObject({ code: 'address-limit', retryMs: 30_000 });
  expect(await review(token)).toMatchObject({ accepted: true });
  expect(await review('a.b.d', '10.1.0.2')).toMatchObject({ accepted: false });
  expect(api.asked).toHaveLength(3);
});

it('a server that cannot be asked is an error that nothing remembers', async () => {
  const token = api.tokens.issue(WEB);
  api.deny('create tokenreviews');
  const refused = review(token);
  await expect(refused).rejects.toThrow(
    'the verb "create" on the resource "tokenreviews" of the API group "authentication.k8s.io"',
  );
  await expect(refused).rejects.not.toThrow(token);
  api.allow('create tokenreviews');
  expect(await review(token)).toMatchObject({ accepted: true });
});

it('a token that the server repeats is in no message', async () => {
  const token = api.tokens.issue(WEB);
  api.fail({ status: 400, message: `bad token ${token}` });
  const error = await review(token).catch((failed: Error) => failed);
  expect(error).toHaveProperty('message', expect.stringContaining('bad token [secret]'));
  expect(inspect(error)).not.toContain(token);
  api.tokens.twist = () => ({ authenticated: false, error: `what is ${token}?` });
  const verdict = await review(token);
  expect(verdict).toHaveProperty('message', expect.stringContaining('what is [secret]?'));
  expect(JSON.stringify(verdict)).not.toContain(token);
});
